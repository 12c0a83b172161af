//! Programs the runner starts, and the promise that none outlives it.
//!
//! Every long-lived child is registered by its process id. A signal to the runner ends them; so does dropping the
//! [`Child`]. Where the runner itself is killed outright, the kernel ends them: they are started through `setpriv
//! --pdeathsig`, which needs no unsafe code here.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static CHILDREN: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// How long a child may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// Whether a signal asked the runner to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends all registered children when the runner is told to stop; whoever waits for them then sees them gone.
pub(crate) fn end_children_on_signals() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let again = INTERRUPTED.swap(true, Ordering::Relaxed);
            let how = if again {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            };
            for pid in CHILDREN.lock().unwrap_or_else(|e| e.into_inner()).iter() {
                let _ = kill(Pid::from_raw(*pid), how);
            }
            if again {
                std::process::exit(130);
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
    /// Starts `command` such that it cannot outlive the runner.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        if interrupted() {
            bail!("interrupted");
        }
        let mut children = CHILDREN.lock().unwrap_or_else(|e| e.into_inner());
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
            self.status = self.inner.try_wait().context("cannot wait for a child")?;
            if self.status.is_some() {
                self.forget();
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
        if let Ok(Some(_)) = self.try_wait() {
            return;
        }
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        if !matches!(self.wait_until(Some(Instant::now() + GRACE)), Ok(Some(_))) {
            let _ = self.inner.kill();
            self.status = self.inner.wait().ok();
            self.forget();
        }
    }

    fn forget(&self) {
        CHILDREN
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .retain(|pid| *pid != self.pid);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command for `program` that the kernel ends when the runner dies, where the system has `setpriv`.
pub(crate) fn tethered(program: impl AsRef<OsStr>) -> Command {
    match find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The first executable called `name` in PATH, or in the folders for administration that a user's PATH may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
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

/// Runs a command and returns what it printed on stdout; what it printed on stderr is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if interrupted() {
        bail!("interrupted");
    }
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            show(command),
            output.status,
            stderr.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a line that a shell understands.
pub(crate) fn show(command: &Command) -> String {
    let mut line = quote(&command.get_program().to_string_lossy());
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
    fn a_dropped_child_is_gone() {
        let child = Child::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = child.pid;
        drop(child);
        assert!(kill(Pid::from_raw(pid), None).is_err());
    }
}
