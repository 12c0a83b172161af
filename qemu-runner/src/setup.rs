//! What is needed, whether it is there, and how it gets there.

use crate::cli::{Arch, Firmware, SetupArgs};
use crate::debian::{self, Suite};
use crate::packages::{self, Packages};
use crate::paths::Paths;
use crate::process::{self, find_program};
use crate::toolchain::{self, Toolchain};
use crate::toolstack::{Release, Toolstacks};
use crate::ui::say;
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// The oldest QEMU that emulates what Oxen needs.
const QEMU_MAJOR: u32 = 8;

const QEMU_ARM: Packages = Packages {
    what: "QEMU 8 or later for arm64",
    names: &["qemu-system-arm"],
    backports: true,
    elsewhere: "Fedora: dnf install qemu-system-aarch64; Arch: pacman -S qemu-system-aarch64; macOS: brew install qemu",
};
const QEMU_X86: Packages = Packages {
    what: "QEMU 8 or later for x86-64",
    names: &["qemu-system-x86"],
    backports: true,
    elsewhere: "Fedora: dnf install qemu-system-x86; Arch: pacman -S qemu-system-x86; macOS: brew install qemu",
};

/// GRUB's maker of boot CDs with what it calls, and GRUB for both kinds of firmware.
const GRUB: Packages = Packages {
    what: "GRUB with its maker of CD images, for x86-64",
    names: &[
        "grub-common",
        "grub-pc-bin",
        "grub-efi-amd64-bin",
        "xorriso",
        "mtools",
    ],
    backports: false,
    elsewhere: "Fedora: dnf install grub2-tools-extra grub2-pc-modules grub2-efi-x64-modules xorriso mtools; \
                Arch: pacman -S grub libisoburn mtools",
};
/// Where distributions have GRUB's modules.
const GRUB_MODULES: [&str; 2] = ["/usr/lib/grub", "/usr/share/grub2"];

/// What makes a boot CD.
#[derive(Debug)]
pub(crate) struct GrubTools {
    pub mkrescue: PathBuf,
    /// The folder of the modules for a kind of firmware.
    pub platform: PathBuf,
}

fn qemu_packages(arch: Arch) -> Packages {
    match arch {
        Arch::Aarch64 => QEMU_ARM,
        Arch::X86_64 => QEMU_X86,
    }
}

fn qemu_program(arch: Arch) -> String {
    format!("qemu-system-{}", arch.name())
}

/// `cargo xen setup`.
pub(crate) fn setup(paths: &Paths, args: &SetupArgs) -> Result<u8> {
    if args.yes {
        packages::ask_nothing();
    }
    let arm = Arch::Aarch64;
    Toolchain::get(arm)?;
    qemu(arm)?;
    debian::busybox(paths, arm)?;
    debian::kernel(paths, Suite::Bookworm, arm)?;
    if !args.minimal {
        debian::xen(paths, arm)?;
        debian::firmware(paths, arm)?;
        debian::grub(paths)?;
        for suite in [Suite::Bullseye, Suite::Trixie] {
            debian::kernel(paths, suite, arm)?;
        }
        let x86 = Arch::X86_64;
        Toolchain::get(x86)?;
        qemu(x86)?;
        debian::busybox(paths, x86)?;
        debian::xen(paths, x86)?;
        debian::firmware(paths, x86)?;
        grub_tools(Firmware::Bios)?;
        for suite in [Suite::Bookworm, Suite::Trixie] {
            debian::kernel(paths, suite, x86)?;
        }
        for arch in [arm, x86] {
            Toolstacks::fetch(paths, arch, &Release::ALL)?;
        }
    }
    say!("everything is there");
    Ok(0)
}

/// What `doctor` found.
#[derive(Default)]
struct Findings {
    missing: u32,
}

impl Findings {
    fn add(&mut self, what: &str, found: Result<String, String>) {
        match found {
            Ok(how) if how.is_empty() => println!("ok       {what}"),
            Ok(how) => println!("ok       {what}: {how}"),
            Err(problem) => {
                self.missing += 1;
                println!("MISSING  {what}: {problem}");
            }
        }
    }

    /// Something that only some commands need.
    fn optional(&mut self, what: &str, found: Result<String, String>) {
        match found {
            Err(problem) => println!("optional {what}: {problem}"),
            found => self.add(what, found),
        }
    }
}

/// `cargo xen doctor`.
pub(crate) fn doctor(paths: &Paths) -> Result<u8> {
    const FETCHED: &str =
        "not fetched yet; `cargo xen setup` does, and so does the command that needs it";
    let mut findings = Findings::default();
    for arch in [Arch::Aarch64, Arch::X86_64] {
        let found = match Toolchain::find(arch) {
            Ok(Some(toolchain)) => Ok(toolchain.describe().to_owned()),
            Ok(None) => Err(toolchain::help(arch.triple())),
            Err(error) => Err(format!("{error:#}")),
        };
        findings.add(&format!("Rust for {}", arch.triple()), found);
        let found = usable_qemu(arch)
            .map(|(path, version)| format!("{} (version {version})", path.display()))
            .map_err(|e| format!("{e:#}; {}", packages::advice(qemu_packages(arch))));
        findings.add(&format!("QEMU for {}", arch.name()), found);
    }
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let found = usable_grub(firmware)
            .map(|tools| tools.platform.display().to_string())
            .map_err(|e| format!("{e:#}; {}", packages::advice(GRUB)));
        findings.optional(&format!("GRUB for x86_64 ({firmware:?})"), found);
    }
    if let Ok((qemu, _)) = usable_qemu(Arch::X86_64) {
        let found = crate::machine::kvm_obstacle(&qemu).map_or(Ok(String::new()), Err);
        findings.optional("KVM for x86_64, for speed", found);
    }
    let mirror = debian::archive().map(|(uri, _)| uri);
    findings.add(
        "Debian's archive",
        match debian::obstacle() {
            Some(problem) => Err(problem),
            None => mirror.map_err(|e| format!("{e:#}")),
        },
    );
    findings.optional(
        "gdb for arm64",
        crate::debug::gdb()
            .map(|p| p.display().to_string())
            .ok_or_else(|| packages::advice(crate::debug::GDB)),
    );
    let cached = |there: bool| {
        if there {
            Ok(String::new())
        } else {
            Err(FETCHED.to_owned())
        }
    };
    for (arch, suites) in [
        (Arch::Aarch64, &Suite::ALL[..]),
        (Arch::X86_64, &[Suite::Bookworm, Suite::Trixie]),
    ] {
        for suite in suites {
            findings.optional(
                &format!("kernel of {} for {}", suite.dom0_name(), arch.name()),
                cached(debian::has_kernel(paths, *suite, arch)),
            );
        }
        for release in Release::ALL {
            findings.optional(
                &format!("toolstack of Xen {} for {}", release.number(), arch.name()),
                cached(release.is_cached(paths, arch)),
            );
        }
    }
    println!("cache    {}", paths.cache.display());
    Ok(u8::from(findings.missing > 0))
}

/// What makes a CD with GRUB for `firmware`, installed if it is missing and can be installed.
pub(crate) fn grub_tools(firmware: Firmware) -> Result<GrubTools> {
    match usable_grub(firmware) {
        Ok(found) => Ok(found),
        Err(problem) => {
            packages::install(GRUB).with_context(|| format!("{problem:#}"))?;
            usable_grub(firmware)
        }
    }
}

fn usable_grub(firmware: Firmware) -> Result<GrubTools> {
    let mkrescue = ["grub-mkrescue", "grub2-mkrescue"]
        .iter()
        .find_map(|name| find_program(name))
        .context("grub-mkrescue is missing")?;
    for tool in ["xorriso", "mformat"] {
        find_program(tool)
            .with_context(|| format!("{tool}, which grub-mkrescue calls, is missing"))?;
    }
    let platform = match firmware {
        Firmware::Uefi => "x86_64-efi",
        _ => "i386-pc",
    };
    let folders = GRUB_MODULES
        .iter()
        .map(|dir| PathBuf::from(dir).join(platform));
    let platform = folders
        .into_iter()
        .find(|dir| dir.join("multiboot2.mod").is_file())
        .with_context(|| format!("GRUB's modules for {platform} are missing"))?;
    Ok(GrubTools { mkrescue, platform })
}

/// QEMU for an architecture, installed if it is missing or too old and can be installed.
pub(crate) fn qemu(arch: Arch) -> Result<PathBuf> {
    let found = match usable_qemu(arch) {
        Ok(found) => found,
        Err(problem) => {
            packages::install(qemu_packages(arch)).with_context(|| format!("{problem:#}"))?;
            usable_qemu(arch)?
        }
    };
    Ok(found.0)
}

/// QEMU for an architecture and its version.
fn usable_qemu(arch: Arch) -> Result<(PathBuf, u32)> {
    let program = qemu_program(arch);
    let path = find_program(&program).with_context(|| format!("{program} is missing"))?;
    let text = process::output(Command::new(&path).arg("--version"))?;
    let version = version(&text).with_context(|| format!("{program} does not tell its version"))?;
    if version < QEMU_MAJOR {
        bail!(
            "{} has version {version}, and {QEMU_MAJOR} is needed",
            path.display()
        );
    }
    Ok((path, version))
}

fn version(text: &str) -> Option<u32> {
    text.split("version ")
        .nth(1)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"),
            Some(10)
        );
        assert_eq!(version("something else"), None);
    }
}
