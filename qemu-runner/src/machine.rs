//! The machine: QEMU's command line, and what is placed where.
//!
//! [`virt`] is the arm64 board with a device tree that describes the boot modules, [`uefi`] the same board with firmware
//! and GRUB, [`pc`] the x86-64 board with multiboot or PVH modules, or with a CD that has GRUB.

mod accel;
mod damage;
mod devices;
mod grub;
mod pc;
mod uefi;
mod virt;

pub(crate) use accel::obstacle as kvm_obstacle;

use crate::cli::{Arch, BootArgs, Damage, Dom0, Firmware, Hypervisor};
use crate::paths::Paths;
use crate::process::tethered;
use crate::toolstack::{self, Toolstacks};
use crate::units::format_size;
use crate::{build, debian, initramfs};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine that can be started.
pub(crate) struct Machine {
    qemu: PathBuf,
    args: Vec<String>,
    /// The hypervisor's ELF file, for debuggers.
    pub elf: Option<PathBuf>,
}

/// What dom0 is made of.
struct Payload {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
}

impl Machine {
    /// Builds and collects everything that `boot` asks for. With `exec`, dom0 runs that command and powers off.
    ///
    /// What the machine boots is in `scratch` or in the cache, so that later builds do not change it.
    pub(crate) fn prepare(
        paths: &Paths,
        boot: &BootArgs,
        exec: Option<&str>,
        scratch: &Path,
    ) -> Result<Self> {
        boot.check(exec.is_some())?;
        let qemu = crate::setup::qemu(boot.arch)?;
        let (hypervisor, elf) = match boot.hypervisor {
            Hypervisor::Oxen => {
                let built = build::hypervisor_in(paths, boot.arch, &boot.build, scratch)?;
                (built.image, Some(built.elf))
            }
            Hypervisor::Xen => (debian::xen(paths, boot.arch)?, None),
        };
        let payload = if boot.damage == Some(Damage::NoKernel) {
            None
        } else {
            Some(Payload::make(paths, boot, exec, scratch)?)
        };
        let mut args = match boot.arch {
            Arch::Aarch64 => virt::args(paths, boot, &qemu, &hypervisor, payload, scratch)?,
            Arch::X86_64 => pc::args(paths, boot, &qemu, &hypervisor, payload, scratch)?,
        };
        args.extend(devices::args(boot, scratch)?);
        Ok(Self { qemu, args, elf })
    }

    /// QEMU, with `extra` options for its serial line; it ends with the thread that starts it.
    pub(crate) fn command(&self, extra: &[&str]) -> Command {
        let mut command = tethered(&self.qemu);
        command.args(&self.args).args(extra);
        command
    }
}

impl Payload {
    fn make(paths: &Paths, boot: &BootArgs, exec: Option<&str>, scratch: &Path) -> Result<Self> {
        let dom0 = boot.dom0();
        let (kernel, debian_kernel) = match &dom0 {
            Dom0::Guest(name) => {
                let guests = scratch.join("guest");
                crate::paths::make_dir(&guests)?;
                (
                    build::guest_in(paths, name, boot.arch, &guests)?.image,
                    None,
                )
            }
            Dom0::Kernel(path) => (path.clone(), None),
            Dom0::Debian(suite) => {
                let kernel = debian::kernel(paths, *suite, boot.arch)?;
                (kernel.image.clone(), Some(kernel))
            }
        };
        let initrd = match (&boot.initrd, &dom0) {
            (Some(initrd), _) => Some(initrd.clone()),
            (None, Dom0::Guest(_)) => None,
            // There is no way to hand it over.
            (None, _) if boot.firmware == Firmware::Pvh => None,
            (None, _) => {
                let initrd = scratch.join("initrd.gz");
                let busybox = debian::busybox(paths, boot.arch)?;
                let mut drivers = devices::drivers(boot);
                let toolstacks = if boot.toolstack.is_empty() {
                    None
                } else {
                    drivers.extend(toolstack::DRIVERS);
                    Some(Toolstacks::fetch(paths, boot.arch, &boot.toolstack)?)
                };
                initramfs::Contents {
                    busybox: &busybox,
                    kernel: debian_kernel.as_ref(),
                    drivers: &drivers,
                    toolstacks: toolstacks.as_ref(),
                    exec,
                }
                .make(&initrd)?;
                Some(initrd)
            }
        };
        let kernel = damage::kernel(boot.damage, kernel, scratch)?;
        Ok(Self { kernel, initrd })
    }
}

/// Options of every machine. `kvm`: the CPU that this runs on executes.
fn common(boot: &BootArgs, kvm: bool) -> Vec<String> {
    let mut args: Vec<String> = [
        "-cpu",
        boot.cpu(kvm),
        "-smp",
        &boot.smp().to_string(),
        "-m",
        &format_size(boot.memory),
        "-display",
        "none",
        "-monitor",
        "none",
    ]
    .map(str::to_owned)
    .to_vec();
    if boot.icount {
        args.extend(["-icount".into(), "shift=0,sleep=off".into()]);
    }
    args
}

/// The hypervisor's command line.
fn hypervisor_line(boot: &BootArgs) -> String {
    let dom0_mem = format_size(boot.dom0_mem);
    let line = match (boot.arch, boot.hypervisor) {
        (Arch::Aarch64, _) => format!("console=dtuart dom0_mem={dom0_mem} bootscrub=0"),
        (Arch::X86_64, Hypervisor::Oxen) => {
            format!("console=com1 com1=115200,8n1 dom0_mem={dom0_mem}")
        }
        (Arch::X86_64, Hypervisor::Xen) => {
            format!("console=com1 com1=115200,8n1 dom0_mem={dom0_mem} dom0=pvh")
        }
    };
    format!("{line} {}", boot.cmdline).trim_end().to_owned()
}

/// dom0's command line.
fn dom0_line(boot: &BootArgs) -> String {
    let console = match (boot.dom0(), boot.arch) {
        (Dom0::Guest(_), _) => "",
        (_, Arch::Aarch64) => "console=hvc0 earlycon=xenboot quiet panic=1 ",
        (_, Arch::X86_64) => "console=hvc0 earlyprintk=xen quiet panic=1 ",
    };
    format!("{console}{}", boot.dom0_cmdline)
        .trim_end()
        .to_owned()
}

/// A file's name inside one of QEMU's comma-separated options.
fn in_option(file: &Path) -> String {
    file.display().to_string().replace(',', ",,")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// What `cargo xen run` would boot with these words.
#[cfg(test)]
fn boot(words: &[&str]) -> BootArgs {
    use clap::Parser as _;
    match crate::cli::Cli::parse_from(["cargo xen", "run"].iter().chain(words)).command {
        crate::cli::Command::Run(args) => args.boot,
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_file_names_survive() {
        assert_eq!(in_option(Path::new("/a,b/c")), "/a,,b/c");
    }

    #[test]
    fn lines_name_the_console_of_the_architecture() {
        let arm = boot(&["--cmdline", "loglvl=all", "--dom0-mem", "1G"]);
        assert_eq!(
            hypervisor_line(&arm),
            "console=dtuart dom0_mem=1G bootscrub=0 loglvl=all"
        );
        let x86 = boot(&["--arch", "x86_64", "--dom0-cmdline", "debug"]);
        assert!(hypervisor_line(&x86).starts_with("console=com1"));
        assert!(!hypervisor_line(&x86).contains("dom0=pvh"));
        assert!(dom0_line(&x86).ends_with("panic=1 debug"));
        assert_eq!(dom0_line(&boot(&["--dom0", "builtin"])), "");
    }

    #[test]
    fn counting_instructions_needs_one_cpu() {
        let args = common(&boot(&["--icount"]), false);
        assert!(args.windows(2).any(|w| w == ["-smp", "1"]));
        assert!(args.windows(2).any(|w| w[0] == "-icount"));
    }
}
