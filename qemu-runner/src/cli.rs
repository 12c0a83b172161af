//! The command line.

use crate::units;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Builds, boots, tests and measures Oxen.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xen",
    bin_name = "cargo xen",
    version,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boot the hypervisor with a dom0 in QEMU.
    Run(RunArgs),
    /// Build the hypervisor (and the test guests) into bootable images.
    Build(BuildArgs),
    /// Boot halted, waiting for gdb.
    Debug(DebugArgs),
    /// Run the tests: on the host, and by booting.
    Test(TestArgs),
    /// Format, lints and documentation, for the host and the bare-metal targets.
    Check,
    /// Measure in instructions, beside Debian's Xen.
    Bench(BenchArgs),
    /// Check what is needed, and fetch or install what is missing.
    Setup(SetupArgs),
    /// Check what is needed, change nothing.
    Doctor,
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

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Hypervisor {
    /// The one in this tree.
    #[default]
    Oxen,
    /// Debian's own Xen 4.17, for comparison.
    Xen,
}

/// How the hypervisor is compiled.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BuildOptions {
    /// Cargo features of the hypervisor, beside the default ones.
    #[arg(long, value_delimiter = ',')]
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
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    #[command(flatten)]
    pub options: BuildOptions,
    /// Build the test guests too.
    #[arg(long)]
    pub guests: bool,
}

/// What is booted, and on which machine.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootArgs {
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    /// debian-11, debian-12, debian-13, builtin, guest:NAME (a kernel of tests/guests), or a kernel Image's path.
    #[arg(long, default_value = "debian-12")]
    pub dom0: Dom0,
    /// The dom0's initramfs; without it, Debian kernels get one made on the fly.
    #[arg(long, value_name = "PATH")]
    pub initrd: Option<PathBuf>,
    /// Words added to the hypervisor's command line.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub cmdline: String,
    /// Words added to the dom0 kernel's command line.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub dom0_cmdline: String,
    /// Physical CPUs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub smp: u32,
    /// The machine's RAM.
    #[arg(long, default_value = "2G", value_parser = size)]
    pub memory: u64,
    /// The dom0's RAM.
    #[arg(long, default_value = "512M", value_parser = size)]
    pub dom0_mem: u64,
    /// Version of the interrupt controller.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=3))]
    pub gic: u32,
    /// QEMU's CPU model.
    #[arg(long, default_value = "cortex-a57", value_name = "MODEL")]
    pub cpu: String,
    #[arg(long, value_enum, default_value_t)]
    pub hypervisor: Hypervisor,
    /// Count instructions: one virtual nanosecond each, so that two runs take the same path. One CPU only.
    #[arg(long)]
    pub icount: bool,
    /// Break something on the way, to see what the hypervisor says.
    #[arg(long, value_enum, hide = true)]
    pub damage: Option<Damage>,
    #[command(flatten)]
    pub build: BuildOptions,
}

/// What a broken boot loader or machine may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Damage {
    /// No boot modules.
    NoKernel,
    /// The device tree without its end.
    TruncatedTree,
    /// A device tree with wrong bytes.
    CorruptTree,
    /// A machine without EL2.
    NoVirtualization,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TestArgs {
    /// Run only tests whose name contains this; host tests are called host:CRATE.
    pub filter: Option<String>,
    /// List the tests.
    #[arg(long)]
    pub list: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub boot: BootArgs,
    /// Run a shell command in dom0 as root, print its output, power off, and exit with its status.
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    pub exec: Option<String>,
    /// Seconds after which the machine is ended (300 with --exec, otherwise none).
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// With --exec: show the whole console as it comes.
    #[arg(long, short)]
    pub verbose: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DebugArgs {
    #[command(flatten)]
    pub boot: BootArgs,
    /// Only wait for a debugger, even where gdb is installed.
    #[arg(long)]
    pub no_gdb: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetupArgs {
    /// Install without asking.
    #[arg(long, short)]
    pub yes: bool,
    /// Fetch only what the default dom0 needs.
    #[arg(long)]
    pub minimal: bool,
}

/// What boots as dom0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Dom0 {
    Debian(crate::debian::Suite),
    /// A binary of tests/guests.
    Guest(String),
    Kernel(PathBuf),
}

impl std::str::FromStr for Dom0 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "builtin" {
            return Ok(Self::Guest("builtin".to_owned()));
        }
        if let Some(name) = text.strip_prefix("guest:") {
            return if name.is_empty() {
                Err("guest: needs a name".to_owned())
            } else {
                Ok(Self::Guest(name.to_owned()))
            };
        }
        if text.starts_with("debian") {
            return crate::debian::Suite::from_dom0_name(text)
                .map(Self::Debian)
                .ok_or_else(|| format!("`{text}` is not one of debian-11, debian-12, debian-13"));
        }
        if text.is_empty() {
            Err("an empty path".to_owned())
        } else {
            Ok(Self::Kernel(PathBuf::from(text)))
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    units::parse_size(text).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::Suite;
    use clap::CommandFactory as _;

    fn run_args(args: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["cargo xen", "run"].iter().chain(args)).unwrap();
        match cli.command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let args = run_args(&[]);
        assert_eq!(args.boot.dom0, Dom0::Debian(Suite::Bookworm));
        assert_eq!(
            (args.boot.smp, args.boot.gic, args.boot.memory),
            (2, 3, 2 * units::GIB)
        );
        assert_eq!(args.boot.hypervisor, Hypervisor::Oxen);
        assert!(!args.boot.build.debug);
    }

    #[test]
    fn dom0_names() {
        assert_eq!("debian-11".parse(), Ok(Dom0::Debian(Suite::Bullseye)));
        assert_eq!("debian-13".parse(), Ok(Dom0::Debian(Suite::Trixie)));
        assert_eq!("builtin".parse(), Ok(Dom0::Guest("builtin".into())));
        assert_eq!("guest:timer".parse(), Ok(Dom0::Guest("timer".into())));
        assert_eq!("./Image".parse(), Ok(Dom0::Kernel("./Image".into())));
        for bad in ["debian-7", "debian", "guest:", ""] {
            assert!(bad.parse::<Dom0>().is_err(), "{bad}");
        }
    }

    #[test]
    fn options_take_values_that_look_like_options() {
        let args = run_args(&[
            "--exec",
            "-x",
            "--cmdline",
            "--odd",
            "--features",
            "a,b",
            "--memory",
            "1G",
            "--gic",
            "2",
        ]);
        assert_eq!(args.exec.as_deref(), Some("-x"));
        assert_eq!(args.boot.cmdline, "--odd");
        assert_eq!(args.boot.build.features, ["a", "b"]);
        assert_eq!(args.boot.memory, units::GIB);
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in [
            ["--gic", "4"],
            ["--smp", "0"],
            ["--memory", "lots"],
            ["--arch", "mips"],
            ["--dom0", "debian-1"],
        ] {
            assert!(
                Cli::try_parse_from(["cargo xen", "run"].iter().chain(&bad)).is_err(),
                "{bad:?}"
            );
        }
        assert!(Cli::try_parse_from(["cargo xen", "run", "--debug", "--release"]).is_err());
    }
}
