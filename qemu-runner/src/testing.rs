//! `cargo xen test`.

mod boots;
mod debugger;
mod user;

use crate::cli::{Arch, BuildOptions, TestArgs};
use crate::paths::Paths;
use crate::scenarios::{self, Scenario};
use crate::{bench, build, check, process, ui};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
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
    let guests = |arch| build::guest_names(paths, arch).unwrap_or_default();
    let boots: Vec<Scenario> = scenarios::all(&guests(Arch::Aarch64), &guests(Arch::X86_64))
        .into_iter()
        .filter(|s| wanted(&s.name) && (args.all || args.filter.is_some() || !s.long))
        .collect();
    let benches = [("bench", Arch::Aarch64), ("bench-x86", Arch::X86_64)];
    let hosts: Vec<&str> = HOST
        .into_iter()
        .filter(|c| wanted(&format!("host:{c}")))
        .collect();
    if args.list {
        hosts.iter().for_each(|c| println!("host:{c}"));
        ["layers"]
            .into_iter()
            .chain(benches.map(|(name, _)| name))
            .filter(|name| wanted(name))
            .for_each(|name| println!("{name}"));
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
        let begun = Instant::now();
        let result = check::layers(paths);
        report("layers", &result, begun.elapsed());
        tally.add(Tally::one(&result));
    }
    for (name, arch) in benches.into_iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        let result = bench::test(paths, arch);
        report(name, &result, begun.elapsed());
        tally.add(Tally::one(&result));
    }
    if !boots.is_empty() {
        // So that it is seen, and seen first, if Oxen does not compile.
        for arch in [Arch::Aarch64, Arch::X86_64] {
            build::hypervisor(paths, arch, &BuildOptions::default())?;
        }
        ui::be_quiet();
        in_parallel(
            &boots,
            jobs(args),
            |scenario| boots::boot(paths, scenario),
            &mut tally,
        )?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(u8::from(tally.failed > 0 || tally.passed == 0))
}

/// How many boots at the same time.
fn jobs(args: &TestArgs) -> usize {
    let wanted = args.jobs.and_then(|n| usize::try_from(n).ok());
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Boots `jobs` scenarios at a time, and reports them in their order.
fn in_parallel(
    boots: &[Scenario],
    jobs: usize,
    boot: impl Fn(&Scenario) -> Result<()> + Sync,
    tally: &mut Tally,
) -> Result<()> {
    let bar = ui::progress(boots.len());
    let running = Mutex::new(Vec::<String>::new());
    let show = |change: &dyn Fn(&mut Vec<String>)| {
        let mut names = running.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut names);
        bar.set_message(names.join(", "));
    };
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, boots.len()) {
            let (sender, next, show, boot) = (sender.clone(), &next, &show, &boot);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = boots.get(n).filter(|_| !process::interrupted()) else {
                        break;
                    };
                    show(&|names| names.push(scenario.name.clone()));
                    let begun = Instant::now();
                    let result = boot(scenario);
                    show(&|names| names.retain(|name| *name != scenario.name));
                    if sender.send((n, result, begun.elapsed())).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut reported = 0;
        for (n, result, took) in results {
            early.insert(n, (result, took));
            while let Some((result, took)) = early.remove(&reported) {
                bar.suspend(|| report(&boots[reported].name, &result, took));
                tally.add(Tally::one(&result));
                bar.inc(1);
                reported += 1;
            }
        }
    });
    bar.finish_and_clear();
    if process::interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

fn report(name: &str, result: &Result<()>, took: Duration) {
    let seconds = took.as_secs_f32();
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
    match name {
        "boot" => drop(command.arg("--lib")),
        // What is optional there is data, which nothing else tests.
        "xen-abi" => drop(command.arg("--all-features")),
        _ => {}
    }
    let output = process::capture(&mut command)?;
    let text = &output.stdout;
    let tally = count(text);
    if !output.status.success() {
        eprintln!("{text}{}", output.stderr);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn all_of(guests: &[&str]) -> Vec<Scenario> {
        let guests: Vec<String> = guests.iter().map(|g| (*g).to_owned()).collect();
        scenarios::all(&guests, &guests)
    }

    #[test]
    fn results_are_added_up() {
        let text = "x\ntest result: ok. 16 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        let tally = count(text);
        assert_eq!((tally.passed, tally.failed), (17, 2));
    }

    #[test]
    fn every_scenario_is_a_valid_command_line() {
        let kernels = ["hypercalls", "builtin", "grants", "sysregs", "loops"];
        for scenario in all_of(&kernels) {
            let words = ["cargo xen", "run"]
                .into_iter()
                .chain(scenario.words.iter().map(String::as_str));
            assert!(Cli::try_parse_from(words).is_ok(), "{}", scenario.name);
            let most = if scenario.long { 900 } else { 300 };
            assert!(scenario.bound > 0 && scenario.bound <= most);
        }
    }

    #[test]
    fn kernels_are_booted_where_they_run() {
        let list = scenarios::all(&["gic".to_owned()], &["apic".to_owned()]);
        let booted = |name: &str| list.iter().any(|s| s.name == name);
        assert!(booted("x86-guest-apic") && !booted("guest-apic-gicv3"));
        assert!(booted("guest-gic-gicv3") && !booted("x86-guest-gic"));
    }

    #[test]
    fn names_are_used_once() {
        let mut names: Vec<String> = all_of(&["a", "builtin"])
            .into_iter()
            .map(|s| s.name)
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_boot_runs_once_however_many_at_a_time() {
        let boots = all_of(&[]);
        for jobs in [1, 3, 1000] {
            let ran = Mutex::new(Vec::new());
            let mut tally = Tally::default();
            let boot = |scenario: &Scenario| {
                ran.lock().unwrap().push(scenario.name.clone());
                if scenario.name == "bad-no-kernel" {
                    bail!("on purpose");
                }
                Ok(())
            };
            in_parallel(&boots, jobs, boot, &mut tally).unwrap();
            let mut ran = ran.into_inner().unwrap();
            let mut names: Vec<String> = boots.iter().map(|b| b.name.clone()).collect();
            ran.sort();
            names.sort();
            assert_eq!(ran, names);
            assert_eq!((tally.passed, tally.failed), (names.len() as u64 - 1, 1));
        }
    }
}
