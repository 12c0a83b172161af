//! QEMU's arm64 board with UEFI: a disk that has GRUB, its configuration, the hypervisor and dom0.
//!
//! GRUB's `xen_hypervisor` and `xen_module` add the modules to the firmware's device tree by Xen's multiboot binding and
//! start the hypervisor as a UEFI application.

use super::grub::words;
use super::{Payload, copy, dom0_line, hypervisor_line, in_option};
use crate::cli::{BootArgs, Damage};
use crate::debian;
use crate::paths::{self, Paths};
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// The program that firmware starts from a disk without a boot entry (UEFI Specification 2.10, section 3.5.1.1).
const BOOT: &str = "EFI/BOOT/BOOTAA64.EFI";
/// Where Debian's monolithic GRUB looks for its configuration, and for modules it was built without.
const GRUB: &str = "EFI/debian";
const GRUB_MODULES: &str = "EFI/debian/arm64-efi";

/// QEMU's options for firmware and disk.
pub(super) fn args(
    paths: &Paths,
    boot: &BootArgs,
    hypervisor: &Path,
    payload: Option<Payload>,
    scratch: &Path,
) -> Result<Vec<String>> {
    let disk = scratch.join("esp");
    // A boot of the same name may have left one.
    let _ = std::fs::remove_dir_all(&disk);
    for dir in ["EFI/BOOT", GRUB_MODULES] {
        paths::make_dir(&disk.join(dir))?;
    }
    // GRUB itself gives up without a device tree, so that it takes the direct way to hear the hypervisor.
    if matches!(boot.damage, Some(Damage::NoLoader | Damage::NoDeviceTree)) {
        copy(hypervisor, &disk.join(BOOT))?;
    } else {
        let grub = debian::grub(paths)?;
        copy(&grub.program, &disk.join(BOOT))?;
        for module in ["xen_boot.mod", "fdt.mod"] {
            copy(
                &grub.modules.join(module),
                &disk.join(GRUB_MODULES).join(module),
            )?;
        }
        copy(hypervisor, &disk.join("oxen"))?;
        if let Some(payload) = &payload {
            copy(&payload.kernel, &disk.join("vmlinuz"))?;
            if let Some(initrd) = &payload.initrd {
                copy(initrd, &disk.join("initrd"))?;
            }
        }
        let script = script(boot, payload.as_ref())?;
        paths::write(&disk.join(GRUB).join("grub.cfg"), script)?;
    }
    Ok(vec![
        "-bios".into(),
        debian::firmware(paths, boot.arch)?.display().to_string(),
        "-drive".into(),
        // GRUB may write, but what it writes is of no use to anybody.
        format!("file=fat:rw:{},format=raw,if=virtio", in_option(&disk)),
    ])
}

/// GRUB's configuration.
fn script(boot: &BootArgs, payload: Option<&Payload>) -> Result<String> {
    let mut text = String::from("insmod xen_boot\n");
    writeln!(
        text,
        "xen_hypervisor /oxen {}",
        words(&hypervisor_line(boot))
    )?;
    if let Some(payload) = payload {
        writeln!(text, "xen_module /vmlinuz {}", words(&dom0_line(boot)))?;
        if payload.initrd.is_some() {
            // Linux unpacks it itself.
            writeln!(text, "xen_module --nounzip /initrd")?;
        }
    }
    text.push_str("boot\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_starts_the_hypervisor_with_its_modules() {
        let boot = super::super::boot(&["--firmware", "uefi", "--cmdline", "dtuart=serial0;x"]);
        let payload = Payload {
            kernel: "k".into(),
            initrd: Some("i".into()),
        };
        let text = script(&boot, Some(&payload)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "insmod xen_boot");
        assert!(lines[1].starts_with("xen_hypervisor /oxen console=dtuart dom0_mem=512M"));
        assert!(lines[1].ends_with(" 'dtuart=serial0;x'"), "{}", lines[1]);
        assert!(lines[2].starts_with("xen_module /vmlinuz console=hvc0 earlycon=xenboot"));
        assert_eq!(lines[3..], ["xen_module --nounzip /initrd", "boot"]);
    }

    #[test]
    fn without_a_kernel_there_are_no_modules() {
        let text = script(&super::super::boot(&[]), None).unwrap();
        assert!(!text.contains("xen_module"));
    }
}
