//! `cargo xen bench`: what things cost, in instructions, beside Debian's Xen.
//!
//! The same bare-metal guest runs on both under QEMU's `-icount`, where one instruction takes one virtual nanosecond,
//! so a count of timer ticks is a count of instructions and two runs agree.

use crate::cli::{Arch, BenchArgs, Cli, Command as Sub, RunArgs};
use crate::console::{self, Next};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::ui::{Step, warn};
use anyhow::{Result, bail};
use clap::Parser as _;
use std::fmt;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(300);
/// Virtual nanoseconds, hence instructions, in a second.
const PER_SECOND: f64 = 1e9;

/// What the guest measures, in its order.
const ROWS_ARM: [&str; 7] = [
    "boot",
    "null-hypercall",
    "device-page-fault",
    "yield-alone",
    "vcpu-switch-and-back",
    "sgi-to-waiting-sibling",
    "event-to-waiting-vcpu",
];
const ROWS_X86: [&str; 10] = [
    "boot",
    "null-hypercall",
    "cpuid-exit",
    "msr-exit",
    "port-exit",
    "nested-page-fault",
    "yield-alone",
    "vcpu-switch-and-back",
    "ipi-to-waiting-sibling",
    "event-to-waiting-vcpu",
];

fn rows(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Aarch64 => &ROWS_ARM,
        Arch::X86_64 => &ROWS_X86,
    }
}

/// What the test suite allows a figure to be, in relation to Xen's.
const TEST_RATIO: f64 = 1.0;

/// What one hypervisor did in one row.
#[derive(Clone, Debug, PartialEq)]
enum Figure {
    /// Instructions per operation.
    Instructions(f64),
    /// Why there is no figure.
    Missing(String),
}

impl Figure {
    fn instructions(&self) -> Option<f64> {
        match self {
            Self::Instructions(n) => Some(*n),
            Self::Missing(_) => None,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instructions(n) => f.pad(&format!("{n:.0}")),
            Self::Missing(_) => f.pad("-"),
        }
    }
}

/// A row of the table: Oxen beside Xen.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: &'static str,
    oxen: Figure,
    xen: Figure,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let theirs = self.xen.instructions().filter(|n| *n > 0.0)?;
        Some(self.oxen.instructions()? / theirs)
    }
}

/// `cargo xen bench`: 1 if Oxen leaves a row out, or a ratio is above the limit that was asked for.
pub(crate) fn command(paths: &Paths, args: &BenchArgs) -> Result<u8> {
    let rows = compare(paths, args.arch)?;
    let xen = match args.arch {
        Arch::Aarch64 => "Xen 4.17",
        Arch::X86_64 => "Xen 4.20",
    };
    println!(
        "{:<32} {:>14} {:>14} {:>7}",
        "instructions per", "Oxen", xen, "ratio"
    );
    for row in &rows {
        let Row { name, oxen, xen } = row;
        let ratio = row.ratio().map_or("-".to_owned(), |r| format!("{r:.2}"));
        println!("{name:<32} {oxen:>14} {xen:>14} {ratio:>7}");
    }
    for row in &rows {
        for (who, figure) in [("Oxen", &row.oxen), ("Xen", &row.xen)] {
            if let Figure::Missing(why) = figure {
                println!("{} is not measured on {who}: {why}", row.name);
            }
        }
    }
    let faults = faults(&rows, args.max_ratio);
    faults.iter().for_each(|fault| warn!("{fault}"));
    Ok(u8::from(!faults.is_empty()))
}

/// The test suite's look at it: every row is there, and none costs more than on Xen.
pub(crate) fn test(paths: &Paths, arch: Arch) -> Result<()> {
    let faults = faults(&compare(paths, arch)?, Some(TEST_RATIO));
    if faults.is_empty() {
        Ok(())
    } else {
        bail!(faults.join("; "))
    }
}

/// What is wrong with a table. A row that Xen alone leaves out is not Oxen's fault.
fn faults(rows: &[Row], max_ratio: Option<f64>) -> Vec<String> {
    rows.iter()
        .filter_map(|row| match (&row.oxen, row.ratio(), max_ratio) {
            (Figure::Missing(why), ..) => Some(format!("{} is not measured: {why}", row.name)),
            (_, Some(ratio), Some(most)) if ratio > most => Some(format!(
                "{} takes {ratio:.3} times what Xen takes, more than {most}",
                row.name
            )),
            _ => None,
        })
        .collect()
}

fn compare(paths: &Paths, arch: Arch) -> Result<Vec<Row>> {
    let oxen = measure(paths, arch, "oxen")?;
    let xen = measure(paths, arch, "xen")?;
    Ok(rows(arch)
        .iter()
        .map(|name| Row {
            name,
            oxen: find(&oxen, name),
            xen: find(&xen, name),
        })
        .collect())
}

/// A row's figure in what a guest said.
fn find(said: &[(String, Figure)], name: &str) -> Figure {
    said.iter().find(|(n, _)| n == name).map_or_else(
        || Figure::Missing("the guest did not get that far".to_owned()),
        |(_, figure)| figure.clone(),
    )
}

fn measure(paths: &Paths, arch: Arch, hypervisor: &str) -> Result<Vec<(String, Figure)>> {
    let words = [
        "cargo xen",
        "run",
        "--arch",
        arch.name(),
        "--dom0",
        "guest:bench",
        "--icount",
        "--hypervisor",
        hypervisor,
    ];
    let line = match arch {
        Arch::Aarch64 => "dom0_max_vcpus=2",
        Arch::X86_64 => "dom0_max_vcpus=2 console_timestamps=raw",
    };
    let extra = ["--cmdline", line];
    let Sub::Run(RunArgs { boot, .. }) =
        Cli::try_parse_from(words.into_iter().chain(extra))?.command
    else {
        bail!("not a run")
    };
    let name = format!("bench-{}-{hypervisor}", arch.name());
    let scratch = paths.scratch(&name)?;
    let machine = Machine::prepare(paths, &boot, None, &scratch)?;
    let log = paths.logs()?.join(format!("{name}.log"));
    let _step = Step::start(format!("measuring {hypervisor} ({})", arch.name()));
    let mut figures = Vec::new();
    let mut stamp = None;
    let transcript = console::watch(&machine, &["-no-reboot"], BOUND, &log, |line| {
        if figures.is_empty() {
            stamp = raw_stamp(line).or(stamp);
        }
        figures.extend(parse(line));
        // An idle machine under -icount does not end.
        if line.contains("BENCH end") || line.contains("TEST bench") {
            Next::Stop
        } else {
            Next::More
        }
    })?;
    if figures.is_empty() {
        eprint!("{}", transcript.tail(40));
        bail!(
            "the benchmark printed nothing on {hypervisor}; console in {}",
            log.display()
        );
    }
    if arch == Arch::X86_64 {
        // Which a guest cannot measure: the clocks that it sees need not count from power-on. The counter does, and the
        // guest starts right after the hypervisor's last message.
        let boot = stamp.map_or(
            Figure::Missing("the hypervisor's messages have no time stamps".to_owned()),
            Figure::Instructions,
        );
        figures.insert(0, ("boot".to_owned(), boot));
    }
    Ok(figures)
}

/// The counter in a message of the hypervisor with `console_timestamps=raw`: 16 hexadecimal digits in brackets. Under
/// `-icount` it counts instructions, from power-on.
fn raw_stamp(line: &str) -> Option<f64> {
    let (digits, _) = line.strip_prefix("(XEN) [")?.split_once(']')?;
    let ticks = u64::from_str_radix(digits, 16).ok();
    ticks.filter(|_| digits.len() == 16).map(|n| n as f64)
}

/// `BENCH name ticks ticks n iterations hz hz`, or `BENCH name not measured: reason`.
fn parse(line: &str) -> Option<(String, Figure)> {
    let said = line.split_once("BENCH ")?.1;
    let words: Vec<&str> = said.split_whitespace().collect();
    if let [name, "not", "measured:", ..] = words[..] {
        let reason = said.split_once("measured:")?.1.trim().to_owned();
        return Some((name.to_owned(), Figure::Missing(reason)));
    }
    let [name, ticks, "ticks", count, "iterations", hz, "hz"] = words[..] else {
        return None;
    };
    let (ticks, count, hz): (f64, f64, f64) =
        (ticks.parse().ok()?, count.parse().ok()?, hz.parse().ok()?);
    (count > 0.0 && hz > 0.0).then(|| {
        let each = ticks * (PER_SECOND / hz) / count;
        (name.to_owned(), Figure::Instructions(each))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        for arch in [Arch::Aarch64, Arch::X86_64] {
            let mut names = rows(arch).to_vec();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), rows(arch).len());
            assert_eq!(rows(arch)[0], "boot");
        }
    }

    fn row(name: &'static str, oxen: f64, xen: Option<f64>) -> Row {
        Row {
            name,
            oxen: Figure::Instructions(oxen),
            xen: xen.map_or(Figure::Missing("why".into()), Figure::Instructions),
        }
    }

    #[test]
    fn figures_are_instructions_per_iteration() {
        assert_eq!(
            parse("(d0) BENCH null-hypercall 6250 ticks 1000 iterations 62500000 hz"),
            Some(("null-hypercall".into(), Figure::Instructions(100.0)))
        );
        assert_eq!(parse("BENCH end"), None);
        assert_eq!(parse("BENCH x 1 ticks 0 iterations 62500000 hz"), None);
    }

    #[test]
    fn raw_time_stamps_are_counters() {
        let line = "(XEN) [0000000019fe87b0] Freed 656kB init memory";
        assert_eq!(raw_stamp(line), Some(436_111_280.0));
        assert_eq!(raw_stamp("(XEN) Freed 656kB init memory"), None);
        assert_eq!(raw_stamp("(XEN) [    0.1] x"), None);
        assert_eq!(raw_stamp("[0000000019fe87b0] a guest"), None);
    }

    #[test]
    fn what_is_not_measured_says_why() {
        let said = [parse("BENCH events not measured: no interrupt came").unwrap()];
        assert_eq!(
            find(&said, "events"),
            Figure::Missing("no interrupt came".into())
        );
        assert!(find(&said, "boot").instructions().is_none());
    }

    #[test]
    fn a_row_that_oxen_leaves_out_or_a_ratio_above_the_limit_is_a_fault() {
        let good = [row("a", 50.0, Some(100.0)), row("b", 7.0, None)];
        assert_eq!(good[0].ratio(), Some(0.5));
        assert!(faults(&good, Some(0.5)).is_empty());
        assert_eq!(faults(&good, Some(0.49)).len(), 1);
        assert!(faults(&good, None).is_empty());
        let mut bad = row("c", 0.0, Some(1.0));
        bad.oxen = Figure::Missing("it died".into());
        assert_eq!(faults(&[bad], None), ["c is not measured: it died"]);
    }
}
