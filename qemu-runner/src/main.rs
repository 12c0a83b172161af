//! `cargo xen`: the one command with which Oxen is built, booted, tested and measured.
//!
//! It is a host program and knows the hypervisor only by its binaries: it builds them, makes what they boot (device
//! tree, initramfs, Debian's own kernels fetched through apt) and reads their console.

mod bench;
mod build;
mod check;
mod cli;
mod console;
mod debian;
mod debug;
mod initramfs;
mod machine;
mod packages;
mod paths;
mod process;
mod pty;
mod run;
mod scenarios;
mod setup;
mod testing;
mod toolchain;
mod toolstack;
mod ui;
mod units;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if let cli::Command::Tether(args) = &cli.command {
        return ExitCode::from(process::tether(args.parent, &args.command));
    }
    let result = process::end_children_on_signals().and_then(|()| dispatch(cli));
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            ui::error(&error);
            ExitCode::from(process::interrupted_status().unwrap_or(1))
        }
    }
}

/// Runs one sub-command; its number is the exit status.
fn dispatch(cli: cli::Cli) -> anyhow::Result<u8> {
    let paths = paths::Paths::find()?;
    match cli.command {
        cli::Command::Run(args) => run::run(&paths, &args),
        cli::Command::Build(args) => build::command(&paths, &args),
        cli::Command::Debug(args) => debug::debug(&paths, &args),
        cli::Command::Test(args) => testing::command(&paths, &args),
        cli::Command::Check => check::command(&paths),
        cli::Command::Bench(args) => bench::command(&paths, &args),
        cli::Command::Setup(args) => setup::setup(&paths, &args),
        cli::Command::Doctor => setup::doctor(&paths),
        cli::Command::Tether(args) => Ok(process::tether(args.parent, &args.command)),
    }
}
