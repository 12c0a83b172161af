//! `cargo xen test`.

use crate::cli::{Cli, Command as Sub, RunArgs, TestArgs};
use crate::console::{self, Ending, Next};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::scenarios::{self, Expect, Scenario};
use crate::{build, check, run, ui};
use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The crates whose tests run on the host.
const HOST: [&str; 7] = [
    "xen-abi",
    "xen-core",
    "hypercalls",
    "arch-arm",
    "arch-x86",
    "boot",
    "qemu-runner",
];
/// Lines shown of a boot that failed.
const TAIL: usize = 40;

/// How many went well.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn one(result: &Result<()>) -> Self {
        if result.is_ok() {
            Self {
                passed: 1,
                failed: 0,
            }
        } else {
            Self {
                passed: 0,
                failed: 1,
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

pub(crate) fn command(paths: &Paths, args: &TestArgs) -> Result<u8> {
    let wanted = |name: &str| args.filter.as_deref().is_none_or(|f| name.contains(f));
    let guests = build::guest_names(paths).unwrap_or_default();
    let boots: Vec<Scenario> = scenarios::all(&guests)
        .into_iter()
        .filter(|s| wanted(&s.name))
        .collect();
    let hosts: Vec<&str> = HOST
        .into_iter()
        .filter(|c| wanted(&format!("host:{c}")))
        .collect();
    if args.list {
        hosts.iter().for_each(|c| println!("host:{c}"));
        println!("layers");
        boots.iter().for_each(|s| println!("{}", s.name));
        return Ok(0);
    }
    let mut tally = Tally::default();
    for name in hosts {
        let begun = Instant::now();
        match host(paths, name) {
            Ok(counts) => {
                println!(
                    "{:<40} {} passed, {} failed ({} s)",
                    format!("host:{name}"),
                    counts.passed,
                    counts.failed,
                    begun.elapsed().as_secs()
                );
                tally.add(counts);
            }
            Err(error) => {
                println!("{:<40} FAILED: {error:#}", format!("host:{name}"));
                tally.failed += 1;
            }
        }
    }
    if wanted("layers") {
        let result = check::layers(paths);
        report("layers", &result, Instant::now());
        tally.add(Tally::one(&result));
    }
    let bar = ui::progress(boots.len());
    for scenario in &boots {
        bar.set_message(scenario.name.clone());
        let begun = Instant::now();
        let result = boot(paths, scenario);
        bar.suspend(|| report(&scenario.name, &result, begun));
        tally.add(Tally::one(&result));
        bar.inc(1);
        if crate::process::interrupted() {
            bail!("interrupted");
        }
    }
    bar.finish_and_clear();
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(u8::from(tally.failed > 0 || tally.passed == 0))
}

fn report(name: &str, result: &Result<()>, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f32();
    match result {
        Ok(()) => println!("{name:<40} ok ({seconds:.1} s)"),
        Err(error) => println!("{name:<40} FAILED ({seconds:.1} s): {error:#}"),
    }
}

/// Runs a crate's tests on the host and counts them.
fn host(paths: &Paths, name: &str) -> Result<Tally> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&paths.root)
        .args(["test", "--quiet", "--package", name]);
    if name == "boot" {
        command.arg("--lib");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tally = count(&text);
    if !output.status.success() {
        eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        if tally.failed == 0 {
            bail!("`cargo test -p {name}` failed");
        }
    }
    if tally.passed + tally.failed == 0 {
        bail!("`cargo test -p {name}` ran no test");
    }
    Ok(tally)
}

/// Sums up what cargo's test programs say at their ends.
fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter(|l| l.starts_with("test result:")) {
        let number = |word: &str| {
            let before = line.split(word).next()?;
            before.split_whitespace().last()?.parse::<u64>().ok()
        };
        tally.passed += number(" passed").unwrap_or(0);
        tally.failed += number(" failed").unwrap_or(0);
    }
    tally
}

fn boot(paths: &Paths, scenario: &Scenario) -> Result<()> {
    let cli = Cli::try_parse_from(
        ["cargo xen", "run"]
            .into_iter()
            .chain(scenario.words.iter().map(String::as_str)),
    )?;
    let Sub::Run(RunArgs { boot, .. }) = cli.command else {
        bail!("not a run")
    };
    let scratch = paths.scratch(&scenario.name)?;
    let machine = Machine::prepare(paths, &boot, scenario.exec, &scratch)?;
    let log = paths.logs()?.join(format!("{}.log", scenario.name));
    let bound = Duration::from_secs(scenario.bound);
    let result = match &scenario.expect {
        Expect::Output(parts) => output(&machine, bound, &log, parts),
        Expect::Console { lines, ends } => lines_in_order(&machine, bound, &log, lines, *ends),
        Expect::Verdict => verdict(&machine, bound, &log),
    };
    let _ = std::fs::remove_dir_all(&scratch);
    result.with_context(|| format!("console in {}", log.display()))
}

fn output(machine: &Machine, bound: Duration, log: &std::path::Path, parts: &[&str]) -> Result<()> {
    let done = run::exec(machine, bound, log, false)?;
    if done.status != 0 {
        bail!("the command ended with status {}", done.status);
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
    log: &std::path::Path,
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
        eprint!("{}", transcript.tail(TAIL));
        bail!("the console never said {part:?}");
    }
    if ends && transcript.ending != Ending::PoweredOff {
        eprint!("{}", transcript.tail(TAIL));
        bail!("the machine did not end by itself");
    }
    Ok(())
}

fn verdict(machine: &Machine, bound: Duration, log: &std::path::Path) -> Result<()> {
    let transcript = console::watch(machine, &["-no-reboot"], bound, log, |_| Next::More)?;
    let last = transcript
        .lines
        .iter()
        .rev()
        .find_map(|l| l.split_once("TEST ").map(|(_, rest)| rest));
    let counts = last.map(|line| {
        count(&format!(
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
            eprint!("{}", transcript.tail(TAIL));
            bail!("the guest gave no verdict ({:?})", transcript.ending)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let text = "x\ntest result: ok. 16 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        let tally = count(text);
        assert_eq!((tally.passed, tally.failed), (17, 2));
    }

    #[test]
    fn every_scenario_is_a_valid_command_line() {
        for scenario in scenarios::all(&["hypercalls".to_owned(), "builtin".to_owned()]) {
            let words = ["cargo xen", "run"]
                .into_iter()
                .chain(scenario.words.iter().map(String::as_str));
            assert!(Cli::try_parse_from(words).is_ok(), "{}", scenario.name);
            assert!(scenario.bound > 0 && scenario.bound <= 300);
        }
    }
}
