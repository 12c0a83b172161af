//! The boots of a test run, and what each has to show.

use super::{Tally, debugger, user};
use crate::cli::{Cli, Command as Sub, RunArgs};
use crate::console::{self, Ending, Next};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::run;
use crate::scenarios::{Expect, Scenario};
use crate::ui::warn;
use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use std::path::Path;
use std::time::Duration;

/// Lines shown of a boot that failed.
const TAIL: usize = 40;

/// What Oxen says where QEMU's emulator, with several threads, put the hypervisor's registers in place of a guest's: once in
/// hundreds of boots, and nothing that a hypervisor could do about.
const EMULATOR: &str = "an emulator's defect";
/// How often a scenario is booted for it.
const BOOTS: usize = 3;

/// Boots what a scenario describes; the error says what was not as it should be. A boot that the emulator spoilt says so, and is
/// made again.
pub(super) fn boot(paths: &Paths, scenario: &Scenario) -> Result<()> {
    let log = paths.logs()?.join(format!("{}.log", scenario.name));
    for _ in 1..BOOTS {
        let result = once(paths, scenario, &log);
        let console = std::fs::read(&log).unwrap_or_default();
        if result.is_ok() || !String::from_utf8_lossy(&console).contains(EMULATOR) {
            return result;
        }
        warn!("{}: spoilt by {EMULATOR}, booted again", scenario.name);
    }
    once(paths, scenario, &log)
}

fn once(paths: &Paths, scenario: &Scenario, log: &Path) -> Result<()> {
    let bound = Duration::from_secs(scenario.bound);
    match &scenario.expect {
        Expect::Exit { status, says } => user::exit(scenario, bound, log, *status, says),
        Expect::Script(keys) => user::script(scenario, bound, log, keys),
        Expect::Debugger => debugger::session(scenario, bound, log),
        expect => watched(paths, scenario, expect, bound, log),
    }
    .with_context(|| format!("console in {}", log.display()))
}

/// Boots in this process.
fn watched(
    paths: &Paths,
    scenario: &Scenario,
    expect: &Expect,
    bound: Duration,
    log: &Path,
) -> Result<()> {
    let cli = Cli::try_parse_from(
        ["cargo xen", "run"]
            .into_iter()
            .chain(scenario.words.iter().map(String::as_str)),
    )?;
    let Sub::Run(RunArgs { boot, .. }) = cli.command else {
        bail!("not a run")
    };
    let scratch = paths.scratch(&scenario.name)?;
    let machine = Machine::prepare(paths, &boot, scenario.exec, &scratch.dir)?;
    match expect {
        Expect::Output(parts) => output(&machine, bound, log, parts),
        Expect::Console { lines, ends } => lines_in_order(&machine, bound, log, lines, *ends),
        Expect::Verdict => verdict(&machine, bound, log),
        other => bail!("{other:?} is not looked for on the console"),
    }
}

fn output(machine: &Machine, bound: Duration, log: &Path, parts: &[&str]) -> Result<()> {
    let done = run::exec(machine, bound, log, |_| {})?;
    if let Some(trouble) = done.trouble {
        bail!("{trouble}\n{}", done.tail);
    }
    if done.status != 0 {
        bail!(
            "the command ended with status {}:\n{}",
            done.status,
            done.output
        );
    }
    // So that a line can be asked for as a whole.
    let text = format!("\n{}", done.output);
    match parts.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => bail!("the output has no {part:?}:\n{}", done.output),
    }
}

fn lines_in_order(
    machine: &Machine,
    bound: Duration,
    log: &Path,
    parts: &[&str],
    ends: bool,
) -> Result<()> {
    let mut left = parts.iter().copied().peekable();
    let transcript = console::watch(machine, &["-no-reboot"], bound, log, |line| {
        while left.next_if(|part| line.contains(part)).is_some() {}
        if left.peek().is_none() && !ends {
            Next::Stop
        } else {
            Next::More
        }
    })?;
    if let Some(part) = left.peek() {
        bail!("the console never said {part:?}\n{}", transcript.tail(TAIL));
    }
    if ends && transcript.ending != Ending::PoweredOff {
        bail!(
            "the machine did not end by itself\n{}",
            transcript.tail(TAIL)
        );
    }
    Ok(())
}

fn verdict(machine: &Machine, bound: Duration, log: &Path) -> Result<()> {
    let transcript = console::watch(machine, &["-no-reboot"], bound, log, |_| Next::More)?;
    // With -no-reboot QEMU ends after a crash as after a power-off.
    if let Some(line) = transcript.lines.iter().find(|l| ended_badly(l)) {
        bail!("{line}\n{}", transcript.tail(TAIL));
    }
    let last = transcript
        .lines
        .iter()
        .rev()
        .find_map(|l| l.split_once("TEST ").map(|(_, rest)| rest));
    let counts = last.map(|line| {
        super::count(&format!(
            "test result: {}",
            line.split_once(": ").map_or("", |(_, c)| c)
        ))
    });
    match counts {
        Some(Tally { passed, failed: 0 })
            if passed > 0 && transcript.ending == Ending::PoweredOff =>
        {
            Ok(())
        }
        Some(Tally { failed, .. }) if failed > 0 => {
            let failures: Vec<&str> = transcript
                .lines
                .iter()
                .map(String::as_str)
                .filter(|l| l.contains("FAIL"))
                .collect();
            bail!(
                "{failed} of the guest's tests failed:\n{}",
                failures.join("\n")
            )
        }
        _ => {
            bail!(
                "the guest gave no verdict ({:?})\n{}",
                transcript.ending,
                transcript.tail(TAIL)
            )
        }
    }
}

/// Whether a line says that the hypervisor ended, or that it ended the guest.
fn ended_badly(line: &str) -> bool {
    line.starts_with("(XEN) ")
        && [
            "Hardware domain crashed",
            "Hardware domain watchdog",
            "PANIC on CPU",
        ]
        .iter()
        .any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_does_not_outweigh_a_crash() {
        assert!(ended_badly(
            "(XEN) Hardware domain crashed: rebooting machine"
        ));
        assert!(!ended_badly("(XEN) Hardware domain halted: powering off"));
        assert!(!ended_badly("FAIL a guest says PANIC on CPU"));
    }
}
