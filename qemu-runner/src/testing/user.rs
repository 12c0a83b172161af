//! `cargo xen run` as a user has it: a process of its own, on a terminal or not.

use crate::process::{self, tethered};
use crate::pty::Session;
use crate::scenarios::Scenario;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Characters of a terminal's last output that a failure shows.
const TAIL: usize = 3000;

/// The runner itself, with a scenario's words.
pub(super) fn runner(subcommand: &str, scenario: &Scenario) -> Command {
    let mut command = tethered("/proc/self/exe");
    command
        .arg(subcommand)
        .args(&scenario.words)
        // The same on each machine: no moving bars.
        .env("CI", "true");
    command
}

/// Expects an exit status, and words on either stream.
pub(super) fn exit(
    scenario: &Scenario,
    bound: Duration,
    log: &Path,
    status: u8,
    says: &[&str],
) -> Result<()> {
    let mut command = runner("run", scenario);
    command.arg("--log").arg(log);
    if !scenario.words.iter().any(|w| w == "--timeout") {
        command.args(["--timeout", &bound.as_secs().to_string()]);
    }
    if let Some(exec) = scenario.exec {
        command.args(["--exec", exec]);
    }
    let done = process::capture(&mut command)?;
    let text = format!("{}{}", done.stdout, done.stderr);
    if done.status.code() != Some(status.into()) {
        bail!(
            "it ended with {}, not with status {status}:\n{text}",
            done.status
        );
    }
    match says.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => bail!("it never said {part:?}:\n{text}"),
    }
}

/// Types what a script says, then expects an orderly end.
pub(super) fn script(
    scenario: &Scenario,
    bound: Duration,
    log: &Path,
    keys: &[(&str, &str)],
) -> Result<()> {
    let deadline = Instant::now() + bound;
    let mut session = Session::start(runner("run", scenario))?;
    let mut play = || -> Result<()> {
        for (text, keys) in keys {
            session.expect(text, deadline)?;
            session.send(keys)?;
        }
        match session.finish(deadline)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("it ended with {status}"),
            None => bail!("it did not end by itself"),
        }
    };
    let result = play();
    kept(&session, log, result)
}

/// Keeps what a terminal showed, and adds its end to an error.
pub(super) fn kept(session: &Session, log: &Path, result: Result<()>) -> Result<()> {
    let printed = session.printed();
    crate::paths::write(log, printed)?;
    result.map_err(|error| {
        let from = printed.len().saturating_sub(TAIL);
        let tail: String = printed.chars().skip(from).collect();
        error.context(format!("the terminal showed:\n{tail}"))
    })
}
