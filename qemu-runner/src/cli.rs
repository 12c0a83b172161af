//! The command line.

mod boot;

pub(crate) use boot::{
    Accel, BootArgs, Damage, Disk, DiskModel, Dom0, Firmware, Hypervisor, NetworkModel,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Builds, boots, tests and measures Oxen.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xen",
    bin_name = "cargo xen",
    version,
    max_term_width = 110,
    after_help = "Start with `cargo xen run`: it builds Oxen and boots it in QEMU with a Debian dom0, and fetches what that \
                  takes. `cargo xen help COMMAND` explains a command."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Shown below the options of `run`.
const EXAMPLES: &str = "Examples:\n  \
    cargo xen run                                       a shell in dom0; Ctrl-] x ends QEMU\n  \
    cargo xen run --exec 'dmesg | grep -i xen; nproc'   one command, its output, its exit status\n  \
    cargo xen run --smp 4 --gic 2 --dom0 debian-13      another machine, another kernel\n  \
    cargo xen run --firmware uefi                       the same from UEFI firmware, by GRUB\n  \
    cargo xen run --arch x86_64 --disk 1G --network     x86-64, with PCI devices for dom0\n  \
    cargo xen run --hypervisor xen                      the same boot on Debian's Xen\n  \
    cargo xen run --toolstack 4.17 --exec 'xl create /etc/xen/guest.cfg && guest-wait && xl list'\n\n\
    In dom0 with --toolstack:\n  \
    xl, xentop, xenstore-ls ...        Debian's unmodified programs; each release has a root of its own, /toolstack/RELEASE\n  \
    with RELEASE COMMAND...            COMMAND with the toolstack of RELEASE; the daemons stay those of the first one\n  \
    guest-wait [TEXT [SECONDS [NAME]]] wait until the guest prints TEXT, each time after the line found before; without TEXT\n  \
    \x20                                  until it is up; the whole console is in /var/log/xen/console/guest-NAME.log\n  \
    guest-send TEXT [NAME]             type a line on the guest's console\n  \
    /etc/xen/guest.cfg                 128 MiB, 1 vCPU, Debian 12's cloud kernel with a shell in a small initramfs\n\
    dom0's usual 512 MiB are enough for it; guests have what is left of --memory. Debian's Xen runs guests on an emulated\n\
    x86-64 machine best with --icount, and only with --cmdline spec-ctrl=eager-fpu.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boot the hypervisor with a dom0 in QEMU: a shell in dom0, or one command with --exec.
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Build the hypervisor (and the test guests) into bootable images, and say where they are.
    Build(BuildArgs),
    /// Boot a machine that is halted before its first instruction, and start gdb or wait for it.
    Debug(DebugArgs),
    /// Run the tests: those of every crate on this machine, then the boots.
    Test(TestArgs),
    /// Check format, lints, documentation and layers, for the host and the bare-metal targets.
    Check,
    /// Measure what things cost in instructions, beside Debian's Xen.
    Bench(BenchArgs),
    /// Fetch or install all that the other commands need (which they also do by themselves).
    Setup(SetupArgs),
    /// Say what is there and what is missing; change nothing.
    Doctor,
    /// Become another program that ends with this one.
    #[command(hide = true)]
    Tether(TetherArgs),
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Arch {
    #[default]
    Aarch64,
    #[value(name = "x86_64", alias = "x86-64")]
    X86_64,
}

impl Arch {
    /// The folder name under `target/oxen`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Rust's target without floating point.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-none-softfloat",
            Self::X86_64 => "x86_64-unknown-none",
        }
    }
}

/// How the hypervisor is compiled.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BuildOptions {
    /// Cargo features of the hypervisor, beside the default ones; separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "FEATURES")]
    pub features: Vec<String>,
    /// Leave the default features out.
    #[arg(long)]
    pub no_default_features: bool,
    /// Compile with optimisation (this is the default).
    #[arg(long, conflicts_with = "debug")]
    pub release: bool,
    /// Compile with the dev profile: overflow checks and debug assertions.
    #[arg(long)]
    pub debug: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BuildArgs {
    /// The architecture of the machine.
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    #[command(flatten)]
    pub options: BuildOptions,
    /// Build the test guests (tests/guests) too.
    #[arg(long)]
    pub guests: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TestArgs {
    /// Run only tests whose name contains this; the host tests of a crate are called host:CRATE.
    pub filter: Option<String>,
    /// List the tests and run none.
    #[arg(long)]
    pub list: bool,
    /// Run the long boots too, which are left out otherwise unless the filter names one.
    #[arg(long)]
    pub all: bool,
    /// Boots at the same time [default: as many as this machine has CPUs].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: Option<u32>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// The architecture of the machine.
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    /// Fail if a figure is more than so many times Xen's.
    #[arg(long, value_name = "R")]
    pub max_ratio: Option<f64>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub boot: BootArgs,
    /// Run a shell command in dom0 as root, print its output, power off, and exit with its status.
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    pub exec: Option<String>,
    /// Seconds after which the machine is ended, with status 124 [default: 300 with --exec, otherwise none].
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// With --exec: show the whole console as it comes, on stderr.
    #[arg(long, short)]
    pub verbose: bool,
    /// With --exec: keep the whole console in this file [default: target/oxen/logs/run.log].
    #[arg(long, value_name = "PATH")]
    pub log: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DebugArgs {
    #[command(flatten)]
    pub boot: BootArgs,
    /// Only wait for a debugger, even where gdb is installed.
    #[arg(long)]
    pub no_gdb: bool,
    /// The TCP port, on this machine only, at which QEMU answers gdb; 0 takes a free one.
    #[arg(long, default_value_t = 1234)]
    pub port: u16,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetupArgs {
    /// Install without asking.
    #[arg(long, short)]
    pub yes: bool,
    /// Fetch only what `cargo xen run` without options needs.
    #[arg(long)]
    pub minimal: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TetherArgs {
    /// The process that has to be this one's parent.
    pub parent: i32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests;
