//! `cargo xen bench`: what things cost, in instructions, beside Debian's Xen.
//!
//! The same bare-metal guest runs on both under QEMU's `-icount`, where one instruction takes one virtual nanosecond,
//! so a count of timer ticks is a count of instructions and two runs agree.

use crate::cli::{Arch, BenchArgs, Cli, Command as Sub, RunArgs};
use crate::console::{self, Next};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::ui::Step;
use anyhow::{Result, bail};
use clap::Parser as _;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(300);
/// Virtual nanoseconds, hence instructions, in a second.
const PER_SECOND: f64 = 1e9;

/// One figure of the guest: `BENCH name ticks ticks n iterations hz hz`.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    instructions: f64,
}

pub(crate) fn command(paths: &Paths, args: &BenchArgs) -> Result<u8> {
    if args.arch != Arch::Aarch64 {
        bail!("there is nothing to measure on x86_64 yet");
    }
    let oxen = measure(paths, "oxen")?;
    let xen = measure(paths, "xen")?;
    println!(
        "{:<32} {:>14} {:>14} {:>7}",
        "instructions per", "Oxen", "Xen 4.17", "ratio"
    );
    for figure in &oxen {
        let other = xen
            .iter()
            .find(|f| f.name == figure.name)
            .map(|f| f.instructions);
        let (theirs, ratio) = match other {
            Some(n) if n > 0.0 => (format!("{n:.0}"), format!("{:.2}", figure.instructions / n)),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{:<32} {:>14.0} {theirs:>14} {ratio:>7}",
            figure.name, figure.instructions
        );
    }
    Ok(0)
}

fn measure(paths: &Paths, hypervisor: &str) -> Result<Vec<Figure>> {
    let words = [
        "cargo xen",
        "run",
        "--dom0",
        "guest:bench",
        "--icount",
        "--hypervisor",
        hypervisor,
    ];
    let extra = ["--cmdline", "dom0_max_vcpus=2"];
    let Sub::Run(RunArgs { boot, .. }) =
        Cli::try_parse_from(words.into_iter().chain(extra))?.command
    else {
        bail!("not a run")
    };
    let scratch = paths.scratch(&format!("bench-{hypervisor}"))?;
    let machine = Machine::prepare(paths, &boot, None, &scratch)?;
    let log = paths.logs()?.join(format!("bench-{hypervisor}.log"));
    let _step = Step::start(format!("measuring {hypervisor}"));
    let mut figures = Vec::new();
    let transcript = console::watch(&machine, &["-no-reboot"], BOUND, &log, |line| {
        figures.extend(parse(line));
        // An idle machine under -icount does not end.
        if line.contains("BENCH end") || line.contains("TEST bench") {
            Next::Stop
        } else {
            Next::More
        }
    })?;
    let _ = std::fs::remove_dir_all(&scratch);
    if figures.is_empty() {
        eprint!("{}", transcript.tail(40));
        bail!(
            "the benchmark printed nothing on {hypervisor}; console in {}",
            log.display()
        );
    }
    Ok(figures)
}

fn parse(line: &str) -> Option<Figure> {
    let words: Vec<&str> = line.split_once("BENCH ")?.1.split_whitespace().collect();
    match words[..] {
        [name, ticks, "ticks", count, "iterations", hz, "hz"] => {
            let (ticks, count, hz): (f64, f64, f64) =
                (ticks.parse().ok()?, count.parse().ok()?, hz.parse().ok()?);
            (count > 0.0 && hz > 0.0).then(|| Figure {
                name: name.to_owned(),
                instructions: ticks * (PER_SECOND / hz) / count,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_instructions_per_iteration() {
        let figure =
            parse("(d0) BENCH null-hypercall 6250 ticks 1000 iterations 62500000 hz").unwrap();
        assert_eq!(
            figure,
            Figure {
                name: "null-hypercall".into(),
                instructions: 100.0
            }
        );
        assert_eq!(parse("BENCH end"), None);
        assert_eq!(parse("BENCH x 1 ticks 0 iterations 62500000 hz"), None);
    }
}
