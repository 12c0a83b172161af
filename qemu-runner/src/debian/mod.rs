//! What the runner takes from Debian: kernels, Debian's Xen, busybox, firmware, GRUB; none installed on this machine.
//!
//! The packages come through apt with a configuration of its own ([`apt`]), so the archive's signature is checked by
//! apt, and are unpacked into the cache by [`deb`], which knows the checksums of everything it unpacked.

mod apt;
mod deb;
mod toolstack;

pub(crate) use deb::files;
pub(crate) use toolstack::{guest_kernel, has_toolstack, toolstack};

use crate::cli::Arch;
use crate::paths::Paths;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// A Debian release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suite {
    Bullseye,
    Bookworm,
    Trixie,
}

impl Suite {
    pub(crate) const ALL: [Self; 3] = [Self::Bullseye, Self::Bookworm, Self::Trixie];

    /// The name in the archive.
    pub(crate) fn codename(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The name as `--dom0` takes it.
    pub(crate) fn dom0_name(self) -> &'static str {
        match self {
            Self::Bullseye => "debian-11",
            Self::Bookworm => "debian-12",
            Self::Trixie => "debian-13",
        }
    }

    pub(crate) fn from_dom0_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.dom0_name() == name)
    }
}

/// A kernel from Debian's archive.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// The folder with the loadable modules the runner keeps (`lib/modules/RELEASE`).
    pub modules: PathBuf,
}

/// The parts of a kernel package that are unpacked: a whole one is 300 MB.
const KERNEL_PARTS: &[&str] = &[
    "./boot/vmlinuz-*",
    "*/modules.order",
    "*/modules.builtin",
    "*/drivers/xen/*",
    "*/xen-netback*",
    "*/xen-blkback*",
    "*/drivers/virtio/*",
    "*/virtio_blk.ko*",
    "*/virtio_net.ko*",
    "*/net_failover.ko*",
    "*/core/failover.ko*",
    // What a release has built in, another has as a module: these match something in each.
    "*/drivers/nvme/*",
    "*/drivers/ata/*ahci*",
    "*/libata.ko*",
    "*/drivers/scsi/scsi_*",
    "*/sd_mod.ko*",
    "*/ethernet/intel/e1000*",
    "*/drivers/ptp/*",
    "*/drivers/pps/*",
    "*/kernel/block/*",
    "*/kernel/fs/ext4/*",
    "*/kernel/fs/jbd2/*",
    "*/kernel/fs/mbcache*",
    "*/kernel/*crc*",
];

/// Debian's name of an architecture.
pub(crate) fn deb_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 => "arm64",
        Arch::X86_64 => "amd64",
    }
}

fn kernel_package(arch: Arch) -> String {
    format!("linux-image-{}", deb_arch(arch))
}

/// The kernel that `suite` has now, or the one the cache has already.
pub(crate) fn kernel(paths: &Paths, suite: Suite, arch: Arch) -> Result<Kernel> {
    kernel_in(paths, suite, arch, &kernel_package(arch), KERNEL_PARTS)
}

/// `parts` of the kernel that a package without a version stands for.
fn kernel_in(
    paths: &Paths,
    suite: Suite,
    arch: Arch,
    package: &str,
    parts: &[&str],
) -> Result<Kernel> {
    // It is an empty one that depends on the current kernel.
    let dir = deb::unpacked(paths, suite, arch, package, parts, |apt| {
        let depends = apt.show(package)?.depends;
        versioned_kernel(&depends)
            .with_context(|| format!("{package} depends on no kernel: `{depends}`"))
    })?;
    let image = single_match(&dir.join("boot"), "vmlinuz-")?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .iter()
        .find_map(|lib| single_match(&dir.join(lib), "").ok())
        .with_context(|| format!("no modules in {}", dir.display()))?;
    Ok(Kernel { image, modules })
}

/// `parts` of a package, in the cache.
fn package(paths: &Paths, suite: Suite, arch: Arch, name: &str, parts: &[&str]) -> Result<PathBuf> {
    deb::unpacked(paths, suite, arch, name, parts, |_| Ok(name.to_owned()))
}

/// A statically linked busybox.
pub(crate) fn busybox(paths: &Paths, arch: Arch) -> Result<PathBuf> {
    let dir = package(
        paths,
        Suite::Bookworm,
        arch,
        "busybox-static",
        &["*/bin/busybox"],
    )?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|file| dir.join(file))
        .find(|file| file.is_file())
        .with_context(|| format!("no busybox in {}", dir.display()))
}

/// Debian's Xen: 4.17 for arm64, 4.20 for x86-64, where 4.17 cannot run a PVH dom0 on this QEMU.
pub(crate) fn xen(paths: &Paths, arch: Arch) -> Result<PathBuf> {
    let (suite, name) = match arch {
        Arch::Aarch64 => (Suite::Bookworm, "xen-hypervisor-4.17-arm64"),
        Arch::X86_64 => (Suite::Trixie, "xen-hypervisor-4.20-amd64"),
    };
    let dir = package(paths, suite, arch, name, &["./boot/xen-*"])?;
    let file = match arch {
        Arch::Aarch64 => "xen-4.17-arm64",
        Arch::X86_64 => "xen-4.20-amd64.gz",
    };
    Ok(dir.join("boot").join(file))
}

/// EDK II for QEMU's board: a machine with UEFI.
pub(crate) fn firmware(paths: &Paths, arch: Arch) -> Result<PathBuf> {
    let (name, file) = match arch {
        Arch::Aarch64 => ("qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
        Arch::X86_64 => ("ovmf", "usr/share/ovmf/OVMF.fd"),
    };
    let dir = package(paths, Suite::Bookworm, arch, name, &[&format!("./{file}")])?;
    Ok(dir.join(file))
}

/// GRUB as an EFI application, and its folder of modules.
#[derive(Debug)]
pub(crate) struct Grub {
    pub program: PathBuf,
    pub modules: PathBuf,
}

/// GRUB for arm64 UEFI machines, with the modules that load a hypervisor.
pub(crate) fn grub(paths: &Paths) -> Result<Grub> {
    let dir = package(
        paths,
        Suite::Bookworm,
        Arch::Aarch64,
        "grub-efi-arm64-bin",
        &[
            "*/monolithic/grubaa64.efi",
            "*/arm64-efi/xen_boot.mod",
            "*/arm64-efi/fdt.mod",
        ],
    )?;
    let modules = dir.join("usr/lib/grub/arm64-efi");
    Ok(Grub {
        program: modules.join("monolithic/grubaa64.efi"),
        modules,
    })
}

/// Whether `suite`'s kernel is in the cache, without looking at its checksums.
pub(crate) fn has_kernel(paths: &Paths, suite: Suite, arch: Arch) -> bool {
    deb::is_cached(paths, suite, arch, &kernel_package(arch))
}

/// What stands in the way of fetching from Debian, if anything does.
pub(crate) fn obstacle() -> Option<String> {
    apt::obstacle()
}

/// The repository this machine takes Debian packages from: URI and keyring.
pub(crate) fn archive() -> Result<(String, PathBuf)> {
    apt::archive()
}

/// The package a kernel metapackage stands for: the first dependency that names a version.
fn versioned_kernel(depends: &str) -> Option<String> {
    depends
        .split([',', '|'])
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| {
            name.strip_prefix("linux-image-")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(str::to_owned)
}

/// The one entry of `dir` whose name starts with `prefix`.
fn single_match(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    entries
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("no {prefix}* in {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metapackages_resolve_to_the_versioned_kernel() {
        assert_eq!(
            versioned_kernel("linux-image-6.1.0-50-arm64 (= 6.1.176-1)").as_deref(),
            Some("linux-image-6.1.0-50-arm64")
        );
        assert_eq!(
            versioned_kernel("kmod, linux-image-6.12.107+deb13-arm64 (= 6.12.107-1)").as_deref(),
            Some("linux-image-6.12.107+deb13-arm64")
        );
        assert_eq!(versioned_kernel("kmod, linux-base (>= 4.3~)"), None);
    }

    #[test]
    fn suites_have_one_dom0_name_each() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_dom0_name(suite.dom0_name()), Some(suite));
        }
        assert_eq!(Suite::from_dom0_name("bookworm"), None);
    }
}
