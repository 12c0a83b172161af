//! Programs the runner starts, and the promise that none outlives it.
//!
//! Every child is registered by its process id. A signal to the runner ends them; so does dropping the [`Child`]. Where
//! the runner itself is killed outright, the kernel ends those that were started [`tethered`].

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The signal that asked the runner to stop; 0 for none.
static INTERRUPTED: AtomicI32 = AtomicI32::new(0);
/// Whether a child on the terminal deals with Ctrl-C itself.
static CHILD_HAS_CTRL_C: AtomicBool = AtomicBool::new(false);
static CHILDREN: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// How long a child may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// Signals that come closer together are one.
const SAME: Duration = Duration::from_millis(500);
/// The status of a shell whose child a signal ended is this plus the signal's number.
const BY_SIGNAL: i32 = 128;
/// The status for a program that cannot be started, as shells have it.
const NOT_FOUND: u8 = 127;

/// Whether a signal asked the runner to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) != 0
}

/// The exit status that tells of the signal, if there was one.
pub(crate) fn interrupted_status() -> Option<u8> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        0 => None,
        signal => u8::try_from(BY_SIGNAL + signal).ok(),
    }
}

/// Ends all registered children when the runner is told to stop; whoever waits for them then sees them gone.
pub(crate) fn end_children_on_signals() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("cannot listen for signals")?;
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            if signal == SIGINT && CHILD_HAS_CTRL_C.load(Ordering::Relaxed) {
                continue;
            }
            // Some senders tell the process and then its group.
            let again = match first {
                Some(first) if first.elapsed() < SAME => continue,
                Some(_) => true,
                None => false,
            };
            first.get_or_insert_with(Instant::now);
            INTERRUPTED.store(signal, Ordering::Relaxed);
            let how = if again {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            };
            for pid in CHILDREN.lock().unwrap_or_else(|e| e.into_inner()).iter() {
                let _ = kill(Pid::from_raw(*pid), how);
            }
            if again {
                std::process::exit(BY_SIGNAL + signal);
            }
        }
    });
    Ok(())
}

/// A child that is ended when this is dropped.
pub(crate) struct Child {
    inner: std::process::Child,
    pid: i32,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` such that it cannot outlive this value, or the runner's orderly end.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut children = CHILDREN.lock().unwrap_or_else(|e| e.into_inner());
        if interrupted() {
            bail!("interrupted");
        }
        let inner = command
            .spawn()
            .with_context(|| format!("cannot start {}", show(command)))?;
        let pid = i32::try_from(inner.id()).context("process id out of range")?;
        children.push(pid);
        Ok(Self {
            inner,
            pid,
            status: None,
        })
    }

    pub(crate) fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.inner.stdout.take()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.inner.stderr.take()
    }

    /// The exit status, if the child has ended.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            // Under the lock, so that a signal never goes to a process that got the number after this one.
            let mut children = CHILDREN.lock().unwrap_or_else(|e| e.into_inner());
            self.status = self.inner.try_wait().context("cannot wait for a child")?;
            if self.status.is_some() {
                children.retain(|pid| *pid != self.pid);
            }
        }
        Ok(self.status)
    }

    /// Waits until the child ends or `deadline` passes.
    pub(crate) fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks the child to end, then makes it.
    pub(crate) fn end(&mut self) {
        for how in [Signal::SIGTERM, Signal::SIGKILL] {
            if let Ok(Some(_)) = self.try_wait() {
                return;
            }
            let _ = kill(Pid::from_raw(self.pid), how);
            let _ = self.wait_until(Some(Instant::now() + GRACE));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command for `program` that the kernel ends when the thread that starts it ends, and so when the runner is killed.
///
/// A process can ask for that only itself, so the runner starts itself again as [`tether`].
pub(crate) fn tethered(program: impl AsRef<OsStr>) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    // Not the file's name: cargo may have put a newer runner there.
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["tether", &std::process::id().to_string()])
        .arg(program);
    command
}

/// Becomes `command`, which is killed when the process `parent` ends. Returns only on failure.
pub(crate) fn tether(parent: i32, command: &[OsString]) -> u8 {
    use std::os::unix::process::CommandExt as _;
    #[cfg(target_os = "linux")]
    if let Err(errno) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("cargo xen: warning: cannot tie the program to this one: {errno}");
    }
    if nix::unistd::getppid() != Pid::from_raw(parent) {
        // The parent ended before the kernel was asked.
        return NOT_FOUND;
    }
    let Some((program, args)) = command.split_first() else {
        return NOT_FOUND;
    };
    let error = Command::new(program).args(args).exec();
    eprintln!(
        "cargo xen: error: cannot start {}: {error}",
        program.display()
    );
    NOT_FOUND
}

/// The first executable called `name` in PATH, or in the folders for administration that a user's PATH may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a command to its end; its output is the user's to see.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut child = Child::spawn(command)?;
    let status = child.wait_until(None)?.context("the child is gone")?;
    if interrupted() {
        bail!("interrupted");
    }
    if !status.success() {
        bail!("{} failed ({status})", show(command));
    }
    Ok(())
}

/// Like [`run`], for a command for which Ctrl-C does not mean its end.
pub(crate) fn run_interactive(command: &mut Command) -> Result<()> {
    CHILD_HAS_CTRL_C.store(true, Ordering::Relaxed);
    let result = run(command);
    CHILD_HAS_CTRL_C.store(false, Ordering::Relaxed);
    result
}

/// What a command printed, and how it ended.
pub(crate) struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end and keeps what it prints.
pub(crate) fn capture(command: &mut Command) -> Result<Finished> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Child::spawn(command)?;
    let stdout = reader(child.take_stdout());
    let stderr = reader(child.take_stderr());
    let status = child.wait_until(None)?.context("the child is gone")?;
    if interrupted() {
        bail!("interrupted");
    }
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn reader(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Runs a command and returns what it printed on stdout; what it printed on stderr is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = capture(command)?;
    if !done.status.success() {
        bail!(
            "{} failed ({}): {}",
            show(command),
            done.status,
            done.stderr.trim()
        );
    }
    Ok(done.stdout)
}

/// The command as a line that a shell understands.
pub(crate) fn show(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line.push_str(&format!(
                "{}={} ",
                name.display(),
                quote(&value.to_string_lossy())
            ));
        }
    }
    line.push_str(&quote(&command.get_program().to_string_lossy()));
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quote(&arg.to_string_lossy()));
    }
    line
}

/// One shell word.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_needed() {
        assert_eq!(quote("gic-version=3"), "gic-version=3");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn lines_carry_the_environment_they_need() {
        let mut command = Command::new("cargo");
        command.env("RUSTC", "/usr/bin/rustc").arg("a b");
        assert_eq!(show(&command), "RUSTC=/usr/bin/rustc cargo 'a b'");
    }

    #[test]
    fn programs_are_found_in_path_only() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
    }

    #[test]
    fn output_of_a_failing_command_is_an_error_with_its_message() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(format!("{error:#}").contains("why"));
    }

    #[test]
    fn much_output_on_both_streams_is_kept() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo line; echo line >&2; i=$((i+1)); done";
        let done = capture(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!((done.stdout.len(), done.stderr.len()), (100_000, 100_000));
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Child::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = child.pid;
        drop(child);
        assert!(kill(Pid::from_raw(pid), None).is_err());
    }

    #[test]
    fn a_child_that_will_not_end_is_made_to() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo; while :; do sleep 1; done"]);
        let mut child = Child::spawn(command.stdout(Stdio::piped())).unwrap();
        // The trap is set once it has spoken.
        let mut byte = [0];
        child.take_stdout().unwrap().read_exact(&mut byte).unwrap();
        let pid = child.pid;
        child.end();
        assert!(kill(Pid::from_raw(pid), None).is_err());
    }
}
