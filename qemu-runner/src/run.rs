//! `cargo xen run`.

use crate::cli::{Dom0, RunArgs};
use crate::console::{self, Ending, Next};
use crate::initramfs::{END, START};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::process::Child;
use crate::ui::say;
use anyhow::{Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds that a boot with --exec may take unless told otherwise.
const EXEC_BOUND: u64 = 300;
/// The status for a time-out, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// Lines shown of a machine that did not do what it should.
const TAIL: usize = 40;
/// Typed before x, ends QEMU: Ctrl-]. Its usual Ctrl-a is the hypervisor's.
const ESCAPE: &str = "0x1d";

pub(crate) fn run(paths: &Paths, args: &RunArgs) -> Result<u8> {
    let scratch = paths.scratch("run")?;
    let machine = Machine::prepare(paths, &args.boot, args.exec.as_deref(), &scratch)?;
    let status = match &args.exec {
        Some(_) => {
            if !matches!(args.boot.dom0, Dom0::Debian(_)) && args.boot.initrd.is_some() {
                bail!("--exec needs the runner's own initramfs");
            }
            let bound = Duration::from_secs(args.timeout.unwrap_or(EXEC_BOUND));
            let done = exec(
                &machine,
                bound,
                &paths.logs()?.join("run.log"),
                args.verbose,
            )?;
            print!("{}", done.output);
            done.status
        }
        None => interactive(&machine, args.timeout)?,
    };
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(status)
}

/// The terminal is the machine's serial line.
fn interactive(machine: &Machine, timeout: Option<u64>) -> Result<u8> {
    say!(
        "Ctrl-] x ends QEMU; Ctrl-a three times switches between dom0 and the hypervisor's debug keys"
    );
    let mut child = Child::spawn(&mut machine.command(&["-serial", "mon:stdio", "-echr", ESCAPE]))?;
    let deadline = timeout.map(|s| Instant::now() + Duration::from_secs(s));
    match child.wait_until(deadline)? {
        Some(status) => Ok(status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .unwrap_or(1)),
        None => {
            child.end();
            say!("the machine was ended after {} s", timeout.unwrap_or(0));
            Ok(TIMED_OUT)
        }
    }
}

/// What a command in dom0 printed, and its status.
#[derive(Debug)]
pub(crate) struct Done {
    pub output: String,
    pub status: u8,
}

/// Boots a machine whose initramfs runs a command, and waits for its end.
pub(crate) fn exec(machine: &Machine, bound: Duration, log: &Path, verbose: bool) -> Result<Done> {
    let mut reader = Reader::default();
    let transcript = console::watch(machine, &["-no-reboot"], bound, log, |line| {
        if verbose {
            eprintln!("{line}");
        }
        reader.line(line);
        Next::More
    })?;
    match (reader.status, transcript.ending) {
        (Some(status), Ending::PoweredOff) => Ok(Done {
            output: reader.output,
            status,
        }),
        (status, ending) => {
            eprint!("{}", transcript.tail(TAIL));
            let what = match (status, ending) {
                (Some(_), _) => "the machine did not power off",
                (None, Ending::TimedOut) => "the command did not end in time",
                (None, _) => "the machine ended before the command did",
            };
            say!("{what}; the whole console is in {}", log.display());
            Ok(Done {
                output: reader.output,
                status: if ending == Ending::TimedOut {
                    TIMED_OUT
                } else {
                    1
                },
            })
        }
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
}
