//! The guest that a toolstack creates: Debian's cloud kernel with a small initramfs, and its configuration.

use crate::cli::Arch;
use crate::debian::{self, Kernel};
use crate::initramfs::{Archive, Modules};
use crate::paths::{self, Paths};
use anyhow::Result;
use std::path::PathBuf;

/// Starts the line that the guest prints when it is up; more about it follows.
pub(super) const UP: &str = "guest is up:";
/// Drivers of the devices that dom0 may give it.
const DRIVERS: [&str; 2] = ["xen-blkfront", "xen-netfront"];
/// Where its files are in dom0.
const FOLDER: &str = "boot/guest";

const INIT: &str = include_str!("guest-init.sh");

pub(super) struct Guest {
    arch: Arch,
    kernel: Kernel,
    busybox: PathBuf,
}

impl Guest {
    pub(super) fn fetch(paths: &Paths, arch: Arch) -> Result<Self> {
        Ok(Self {
            arch,
            kernel: debian::guest_kernel(paths, arch)?,
            busybox: debian::busybox(paths, arch)?,
        })
    }

    /// Puts it into dom0's initramfs.
    pub(super) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        archive.file(
            &format!("{FOLDER}/vmlinuz"),
            0o644,
            &paths::read(&self.kernel.image)?,
        )?;
        archive.file(&format!("{FOLDER}/initrd.gz"), 0o644, &self.initramfs()?)?;
        let config = configuration(self.arch);
        archive.file("etc/xen/guest.cfg", 0o644, config.as_bytes())
    }

    fn initramfs(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for dir in ["bin", "dev", "lib/drivers"] {
            archive.folder(dir)?;
        }
        archive.file("bin/busybox", 0o755, &paths::read(&self.busybox)?)?;
        archive.file("init", 0o755, INIT.replace("@UP@", UP).as_bytes())?;
        let mut modules = Modules::in_folder(&self.kernel.modules)?;
        for name in DRIVERS {
            modules.load(name)?;
        }
        modules.add_to(&mut archive, "lib/drivers")?;
        archive.compressed()
    }
}

/// What `xl create` reads (xl.cfg(5)).
fn configuration(arch: Arch) -> String {
    let kind = match arch {
        // There is one type there, which goes without saying.
        Arch::Aarch64 => "",
        Arch::X86_64 => "type = \"pvh\"\n",
    };
    format!(
        "name = \"guest\"\n{kind}memory = 128\nvcpus = 1\nkernel = \"/{FOLDER}/vmlinuz\"\n\
         ramdisk = \"/{FOLDER}/initrd.gz\"\nextra = \"console=hvc0 quiet\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_the_documentation_says() {
        let lines = |arch| {
            let text = configuration(arch);
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let common = [
            "name = \"guest\"",
            "memory = 128",
            "vcpus = 1",
            "kernel = \"/boot/guest/vmlinuz\"",
            "ramdisk = \"/boot/guest/initrd.gz\"",
            "extra = \"console=hvc0 quiet\"",
        ];
        assert_eq!(lines(Arch::Aarch64), common);
        let mut x86 = lines(Arch::X86_64);
        assert_eq!(x86.remove(1), "type = \"pvh\"");
        assert_eq!(x86, common);
    }

    #[test]
    fn the_guest_says_that_it_is_up() {
        assert!(INIT.contains("@UP@"));
    }
}
