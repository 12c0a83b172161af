//! The command line.

use crate::debian::Suite;
use crate::ui::warn;
use crate::units;
use anyhow::bail;
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
    cargo xen run --hypervisor xen                      the same boot on Debian's Xen";

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

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Hypervisor {
    /// The one in this tree.
    #[default]
    Oxen,
    /// Debian's own Xen, for comparison: 4.17 on arm64, 4.20 on x86-64.
    Xen,
}

/// Who loads the hypervisor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Firmware {
    /// QEMU itself, as a simple boot loader would.
    #[default]
    Direct,
    /// UEFI firmware (EDK II) with GRUB (arm64 only).
    Uefi,
}

/// A disk of the machine's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Disk {
    /// A raw image.
    Image(PathBuf),
    /// An empty one of this many bytes.
    Empty(u64),
}

impl std::str::FromStr for Disk {
    type Err = std::convert::Infallible;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match size(s) {
            Ok(bytes) => Self::Empty(bytes),
            Err(_) => Self::Image(s.into()),
        })
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

/// What is booted, and on which machine.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootArgs {
    /// The architecture of the machine.
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    /// What boots as dom0: debian-11, debian-12 or debian-13 (Debian's kernels), builtin (a tiny test guest that needs no
    /// download), guest:NAME (a kernel of tests/guests), or the path of a kernel [default: debian-12; debian-13 on x86_64].
    #[arg(long, value_name = "DOM0")]
    dom0: Option<Dom0>,
    /// dom0's initramfs. Without this, Linux kernels get one made on the fly that starts a shell or runs --exec.
    #[arg(long, value_name = "PATH")]
    pub initrd: Option<PathBuf>,
    /// Words added to the hypervisor's command line.
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub cmdline: String,
    /// Words added to the dom0 kernel's command line.
    #[arg(
        long,
        value_name = "WORDS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub dom0_cmdline: String,
    /// The machine's physical CPUs; dom0 gets as many vCPUs unless --cmdline dom0_max_vcpus=N says otherwise
    /// [default: 2; 1 on x86_64].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    smp: Option<u32>,
    /// The machine's RAM, such as 2G or 1536M.
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = size)]
    pub memory: u64,
    /// dom0's share of it.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size)]
    pub dom0_mem: u64,
    /// Version of the Arm interrupt controller, 2 or 3 [default: 3].
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(2..=3))]
    gic: Option<u32>,
    /// QEMU's CPU model [default: cortex-a57; max,-rdtscp on x86_64].
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Which hypervisor to boot.
    #[arg(long, value_enum, default_value_t)]
    pub hypervisor: Hypervisor,
    /// Who loads the hypervisor.
    #[arg(long, value_enum, default_value_t)]
    pub firmware: Firmware,
    /// A virtio disk for dom0, passed through: a raw image, or a size such as 64M for an empty one that is gone afterwards.
    #[arg(long, value_name = "PATH|SIZE")]
    pub disk: Option<Disk>,
    /// A virtio network card for dom0, passed through, on a network of QEMU's own: dom0 may be 10.0.2.15, the gateway is
    /// 10.0.2.2.
    #[arg(long)]
    pub network: bool,
    /// Count instructions: one virtual nanosecond each, so that two runs take the same path. One CPU only.
    #[arg(long)]
    pub icount: bool,
    /// Break something on the way, to see what the hypervisor says.
    #[arg(long, value_enum, hide = true)]
    pub damage: Option<Damage>,
    #[command(flatten)]
    pub build: BuildOptions,
}

impl BootArgs {
    pub(crate) fn dom0(&self) -> Dom0 {
        self.dom0.clone().unwrap_or(Dom0::Debian(match self.arch {
            Arch::Aarch64 => Suite::Bookworm,
            Arch::X86_64 => Suite::Trixie,
        }))
    }

    /// Physical CPUs. Counting instructions takes one.
    pub(crate) fn smp(&self) -> u32 {
        match (self.icount, self.arch) {
            (true, _) => 1,
            (false, Arch::Aarch64) => self.smp.unwrap_or(2),
            (false, Arch::X86_64) => self.smp.unwrap_or(1),
        }
    }

    pub(crate) fn gic(&self) -> u32 {
        self.gic.unwrap_or(3)
    }

    pub(crate) fn cpu(&self) -> &str {
        self.cpu.as_deref().unwrap_or(match self.arch {
            Arch::Aarch64 => "cortex-a57",
            Arch::X86_64 => "max,-rdtscp",
        })
    }

    /// What no machine can be, said before anything is fetched or built. `exec`: a command is to run in dom0.
    pub(crate) fn check(&self, exec: bool) -> anyhow::Result<()> {
        if self.arch == Arch::X86_64 {
            if self.gic.is_some() {
                bail!("--gic is for arm64 only: x86-64 has no GIC");
            }
            if self.firmware == Firmware::Uefi {
                bail!("--firmware uefi is for arm64 only so far");
            }
        }
        if self.icount && self.smp.is_some_and(|n| n > 1) {
            bail!("--icount goes with one CPU only: leave --smp out, or say --smp 1");
        }
        if exec && self.initrd.is_some() {
            bail!("--exec needs the initramfs that the runner makes: leave --initrd out");
        }
        if exec && matches!(self.dom0(), Dom0::Guest(_)) {
            bail!("--exec needs a Linux kernel as dom0, and this one is a test guest");
        }
        for (option, file) in [
            ("--initrd", self.initrd.clone()),
            (
                "--disk",
                match &self.disk {
                    Some(Disk::Image(path)) => Some(path.clone()),
                    _ => None,
                },
            ),
            (
                "--dom0",
                match self.dom0() {
                    Dom0::Kernel(path) => Some(path),
                    _ => None,
                },
            ),
        ] {
            if let Some(file) = file.filter(|f| !f.is_file()) {
                bail!("{option} {}: there is no such file", file.display());
            }
        }
        if self.dom0_mem >= self.memory && self.damage.is_none() {
            warn!(
                "dom0 is to have all of the machine's memory or more: see --memory and --dom0-mem"
            );
        }
        Ok(())
    }
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
    /// UEFI firmware that has ACPI and no device tree.
    NoDeviceTree,
    /// UEFI firmware starts the hypervisor itself, without a boot loader that brings the modules.
    NoLoader,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TestArgs {
    /// Run only tests whose name contains this; the host tests of a crate are called host:CRATE.
    pub filter: Option<String>,
    /// List the tests and run none.
    #[arg(long)]
    pub list: bool,
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
mod tests;
