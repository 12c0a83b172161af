//! What is booted, and on which machine: the options that `run` and `debug` share.

use super::{Arch, BuildOptions};
use crate::debian::Suite;
use crate::toolstack::Release;
use crate::ui::warn;
use crate::units;
use anyhow::bail;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    /// QEMU's CPU model [default: cortex-a57; on x86_64 max,-rdtscp, and host,+svm with KVM].
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// What executes the machine's instructions.
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// Which hypervisor to boot.
    #[arg(long, value_enum, default_value_t)]
    pub hypervisor: Hypervisor,
    /// Who loads the hypervisor.
    #[arg(long, value_enum, default_value_t)]
    pub firmware: Firmware,
    /// A disk for dom0, passed through: a raw image, or a size such as 64M for an empty one that is gone afterwards.
    #[arg(long, value_name = "PATH|SIZE")]
    pub disk: Option<Disk>,
    /// What the disk is.
    #[arg(long, value_enum, default_value_t)]
    pub disk_model: DiskModel,
    /// A network card for dom0, passed through, on a network of QEMU's own: dom0 may be 10.0.2.15, the gateway is
    /// 10.0.2.2.
    #[arg(long)]
    pub network: bool,
    /// What the network card is.
    #[arg(long, value_enum, default_value_t)]
    pub network_model: NetworkModel,
    /// Count instructions: one virtual nanosecond each, so that two runs take the same path. One CPU only.
    #[arg(long)]
    pub icount: bool,
    /// Put Debian's own toolstack of this release of Xen into dom0: 4.14, 4.17 or 4.20 (of Debian 11, 12 and 13). Its
    /// daemons run, and `xl create /etc/xen/guest.cfg` boots Debian's cloud kernel. With several, separated by commas, plain
    /// commands and the daemons are the first one's, and `with 4.20 xl info` is another's; more below.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RELEASES")]
    pub toolstack: Vec<Release>,
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

    /// QEMU's CPU model; `kvm`: the machine's own CPU executes.
    pub(crate) fn cpu(&self, kvm: bool) -> &str {
        self.cpu
            .as_deref()
            .unwrap_or(match (self.arch, kvm, self.icount) {
                (Arch::Aarch64, ..) => "cortex-a57",
                (Arch::X86_64, true, _) => "host,+svm",
                // The emulator reports an intercepted RDTSCP as something else.
                (Arch::X86_64, false, false) => "max,-rdtscp",
                // Whose timers Xen sets up in ways that the counter of instructions does not follow.
                (Arch::X86_64, false, true) => "max,-rdtscp,-x2apic,-tsc-deadline",
            })
    }

    /// What no machine can be, said before anything is fetched or built. `exec`: a command is to run in dom0.
    pub(crate) fn check(&self, exec: bool) -> anyhow::Result<()> {
        if self.arch == Arch::X86_64 && self.gic.is_some() {
            bail!("--gic is for arm64 only: x86-64 has no GIC");
        }
        if self.arch == Arch::Aarch64 {
            match self.firmware {
                Firmware::Bios => bail!("--firmware bios is for x86-64 only"),
                Firmware::Pvh => bail!("--firmware pvh is for x86-64 only"),
                Firmware::Kernel | Firmware::Uefi => {}
            }
        }
        if self.firmware == Firmware::Pvh {
            self.check_pvh(exec)?;
        }
        if self.accel == Accel::Kvm && (self.arch != Arch::X86_64 || self.icount) {
            bail!("--accel kvm is for x86-64 without --icount only");
        }
        if self.disk.is_none() && self.disk_model != DiskModel::default() {
            bail!("--disk-model says what --disk is: say --disk too");
        }
        if !self.network && self.network_model != NetworkModel::default() {
            bail!("--network-model says what --network is: say --network too");
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
        self.check_toolstack()?;
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

    /// A toolstack lives in the initramfs that the runner makes.
    fn check_toolstack(&self) -> anyhow::Result<()> {
        let mut rest = &self.toolstack[..];
        while let [release, others @ ..] = rest {
            if others.contains(release) {
                bail!("--toolstack names {} twice", release.number());
            }
            rest = others;
        }
        if self.toolstack.is_empty() {
            return Ok(());
        }
        if self.initrd.is_some() {
            bail!("--toolstack needs the initramfs that the runner makes: leave --initrd out");
        }
        if matches!(self.dom0(), Dom0::Guest(_)) {
            bail!("--toolstack needs a Linux kernel as dom0, and this one is a test guest");
        }
        if self.firmware == Firmware::Pvh {
            bail!(
                "--firmware pvh: QEMU hands over one module, so dom0 has no initramfs for --toolstack"
            );
        }
        Ok(())
    }

    /// QEMU's loader gives a PVH kernel one module, and dom0's kernel is that.
    fn check_pvh(&self, exec: bool) -> anyhow::Result<()> {
        if self.hypervisor == Hypervisor::Xen {
            bail!("--firmware pvh: Debian's Xen cannot be started by the PVH entry");
        }
        if exec || self.initrd.is_some() {
            bail!(
                "--firmware pvh: QEMU hands over one module, so dom0 has no initramfs for --exec or --initrd"
            );
        }
        if !self.dom0_cmdline.is_empty() {
            bail!("--firmware pvh: QEMU hands over no --dom0-cmdline");
        }
        Ok(())
    }
}

/// What a broken boot loader or machine may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Damage {
    /// No boot modules.
    NoKernel,
    /// dom0's kernel with wrong bytes.
    CorruptKernel,
    /// A kernel for dom0 without a PVH entry (x86-64).
    NoPvhEntry,
    /// The device tree without its end.
    TruncatedTree,
    /// A device tree with wrong bytes.
    CorruptTree,
    /// A machine without EL2, or without SVM.
    NoVirtualization,
    /// UEFI firmware that has ACPI and no device tree.
    NoDeviceTree,
    /// UEFI firmware starts the hypervisor itself, without a boot loader that brings the modules.
    NoLoader,
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
    /// QEMU's -kernel, as a simple boot loader does it: a Linux Image on arm64, multiboot on x86-64.
    #[default]
    #[value(alias = "direct")]
    Kernel,
    /// UEFI firmware (EDK II) with GRUB; on x86-64 from a CD, by multiboot 2.
    Uefi,
    /// A BIOS (SeaBIOS) with GRUB, from a CD, by multiboot 2 (x86-64 only).
    Bios,
    /// QEMU's -kernel, by the PVH entry: one module, so dom0 has no initramfs (x86-64 only).
    Pvh,
}

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Accel {
    /// KVM where it works and offers SVM to the machine, otherwise QEMU's emulator.
    #[default]
    Auto,
    /// KVM; an error where it does not work.
    Kvm,
    /// QEMU's emulator.
    Tcg,
}

/// What a disk looks like to dom0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum DiskModel {
    /// virtio-blk, with MSI-X.
    #[default]
    Virtio,
    /// NVMe, with MSI-X.
    Nvme,
    /// SATA behind an AHCI controller, with MSI.
    Ahci,
}

/// What a network card looks like to dom0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum NetworkModel {
    /// virtio-net, with MSI-X.
    #[default]
    Virtio,
    /// Intel 82540EM, with a level interrupt.
    E1000,
    /// Intel 82574L, with MSI-X.
    E1000e,
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
