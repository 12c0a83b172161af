//! `cargo xen run`.

use crate::cli::RunArgs;
use crate::console::{self, Ending, Next};
use crate::initramfs::{END, START};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::process::{self, Child};
use crate::ui::{self, say};
use anyhow::{Result, bail};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds that a boot with --exec may take unless told otherwise.
const EXEC_BOUND: u64 = 300;
/// The status for a time-out, as timeout(1) has it.
pub(crate) const TIMED_OUT: u8 = 124;
/// The status for a machine that ended before the command in dom0 did.
pub(crate) const DIED: u8 = 125;
/// Lines shown of a machine that did not do what it should.
const TAIL: usize = 40;
/// Typed before x, ends QEMU: Ctrl-]. Its usual Ctrl-a is the hypervisor's.
const ESCAPE: &str = "0x1d";

pub(crate) fn run(paths: &Paths, args: &RunArgs) -> Result<u8> {
    let scratch = paths.scratch("run")?;
    let machine = Machine::prepare(paths, &args.boot, args.exec.as_deref(), &scratch.dir)?;
    if args.exec.is_none() {
        return interactive(&machine, args.timeout);
    }
    let bound = Duration::from_secs(args.timeout.unwrap_or(EXEC_BOUND));
    let log = match &args.log {
        Some(log) => log.clone(),
        None => paths.logs()?.join("run.log"),
    };
    let step = ui::Step::start("booting");
    let done = exec(&machine, bound, &log, |line| {
        if args.verbose {
            step.line(line);
        }
        step.note(line);
    })?;
    drop(step);
    print!("{}", done.output);
    if let Some(trouble) = &done.trouble {
        if !args.verbose {
            eprint!("{}", done.tail);
        }
        say!("{trouble}; the whole console is in {}", log.display());
    }
    Ok(done.status)
}

/// The terminal's settings, put back at the end: QEMU cannot do it where it is killed.
struct Saved(Option<Termios>);

impl Saved {
    fn now() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, settings);
        }
    }
}

/// The terminal is the machine's serial line.
fn interactive(machine: &Machine, timeout: Option<u64>) -> Result<u8> {
    say!(
        "Ctrl-] x ends QEMU; Ctrl-a three times switches between dom0 and the hypervisor's debug keys"
    );
    let saved = Saved::now();
    let mut child = Child::spawn(&mut machine.command(&["-serial", "mon:stdio", "-echr", ESCAPE]))?;
    let deadline = timeout.map(|s| Instant::now() + Duration::from_secs(s));
    let ended = child.wait_until(deadline)?;
    child.end();
    drop(saved);
    if process::interrupted() {
        bail!("interrupted");
    }
    match ended {
        Some(status) => Ok(status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .unwrap_or(1)),
        None => {
            say!(
                "timed out: the machine was ended after {} s",
                timeout.unwrap_or(0)
            );
            Ok(TIMED_OUT)
        }
    }
}

/// What a command in dom0 printed, and its status.
#[derive(Debug)]
pub(crate) struct Done {
    pub output: String,
    pub status: u8,
    /// Why the status is not the command's.
    pub trouble: Option<String>,
    /// The last lines of the console, if there was trouble.
    pub tail: String,
}

/// Boots a machine whose initramfs runs a command, hands each line of the console to `each`, and waits for the end.
pub(crate) fn exec(
    machine: &Machine,
    bound: Duration,
    log: &Path,
    mut each: impl FnMut(&str),
) -> Result<Done> {
    let mut reader = Reader::default();
    let transcript = console::watch(machine, &["-no-reboot"], bound, log, |line| {
        each(line);
        reader.line(line);
        Next::More
    })?;
    let (status, trouble) = judge(reader.status, transcript.ending, bound.as_secs());
    Ok(Done {
        output: reader.output,
        status,
        tail: if trouble.is_some() {
            transcript.tail(TAIL)
        } else {
            String::new()
        },
        trouble,
    })
}

/// The exit status of a boot with a command, and what went wrong if it is not the command's own.
fn judge(status: Option<u8>, ending: Ending, seconds: u64) -> (u8, Option<String>) {
    match (status, ending) {
        (Some(status), Ending::PoweredOff) => (status, None),
        (Some(status), _) => (
            TIMED_OUT,
            Some(format!(
                "timed out: the command ended with status {status}, but the machine did not power off within {seconds} s"
            )),
        ),
        (None, Ending::PoweredOff) => (
            DIED,
            Some("the machine ended before the command did".to_owned()),
        ),
        (None, _) => (
            TIMED_OUT,
            Some(format!(
                "timed out: the command did not end within {seconds} s"
            )),
        ),
    }
}

/// Finds the command's output on the console.
#[derive(Default)]
struct Reader {
    inside: bool,
    output: String,
    status: Option<u8>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if line.ends_with(START) {
            self.inside = true;
        } else if let Some((before, status)) = line.split_once(END).filter(|_| self.inside) {
            self.inside = false;
            // The command's last line may lack its end.
            if !before.is_empty() {
                self.output.push_str(before);
                self.output.push('\n');
            }
            self.status = status.trim().parse().ok();
        } else if self.inside && !line.starts_with("(XEN) ") {
            self.output.push_str(line);
            self.output.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_what_stands_between_the_markers() {
        let mut reader = Reader::default();
        for line in [
            "boot",
            START,
            "one",
            "(XEN) noise",
            "two",
            &format!("three{END}7"),
            "after",
        ] {
            reader.line(line);
        }
        assert_eq!(reader.output, "one\ntwo\nthree\n");
        assert_eq!(reader.status, Some(7));
    }

    #[test]
    fn without_an_end_there_is_no_status() {
        let mut reader = Reader::default();
        reader.line(START);
        reader.line("x");
        assert_eq!(reader.status, None);
    }

    #[test]
    fn only_an_orderly_end_gives_the_commands_status() {
        assert_eq!(judge(Some(7), Ending::PoweredOff, 5), (7, None));
        let (status, trouble) = judge(None, Ending::PoweredOff, 5);
        assert_eq!(status, DIED);
        assert!(trouble.unwrap().contains("before the command did"));
        let (status, trouble) = judge(None, Ending::TimedOut, 5);
        assert_eq!(status, TIMED_OUT);
        assert!(trouble.unwrap().contains("within 5 s"));
        assert_eq!(judge(Some(0), Ending::TimedOut, 5).0, TIMED_OUT);
    }
}
