//! A CD with GRUB, the hypervisor and dom0, for firmware of either kind.
//!
//! GRUB's own `grub-mkrescue` makes it. It is given one platform's modules only, so that a machine cannot boot the CD in
//! another way than the one that was asked for.

use super::{BootArgs, Files, dom0_line, hypervisor_line};
use crate::cli::Firmware;
use crate::machine::copy;
use crate::machine::grub::words;
use crate::paths;
use crate::process;
use crate::setup;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What GRUB needs of its modules to read the CD and start a hypervisor, whatever the firmware.
const MODULES: &str = "iso9660 multiboot2 normal echo serial terminal boot";

/// Makes the image, and returns its place.
pub(super) fn make(boot: &BootArgs, files: &Files, scratch: &Path) -> Result<PathBuf> {
    let tools = setup::grub_tools(boot.firmware)?;
    let root = scratch.join("cd");
    // A boot of the same name may have left one.
    let _ = std::fs::remove_dir_all(&root);
    paths::make_dir(&root.join("boot/grub"))?;
    let sources = [
        (Some(&files.hypervisor), "hypervisor"),
        (files.kernel.as_ref(), "kernel"),
        (files.initrd.as_ref(), "initrd"),
    ];
    for (file, name) in sources {
        if let Some(file) = file {
            copy(file, &root.join(name))?;
        }
    }
    paths::write(&root.join("boot/grub/grub.cfg"), script(boot, files)?)?;
    let image = scratch.join("boot.iso");
    let mut command = Command::new(&tools.mkrescue);
    command
        .arg("-d")
        .arg(&tools.platform)
        .arg("-o")
        .arg(&image)
        .arg(format!("--install-modules={}", modules(boot.firmware)))
        .args(["--fonts=", "--themes=", "--locales="])
        .arg(&root);
    process::output(&mut command)?;
    Ok(image)
}

fn modules(firmware: Firmware) -> String {
    match firmware {
        Firmware::Bios => format!("biosdisk {MODULES}"),
        _ => MODULES.to_owned(),
    }
}

/// GRUB's configuration.
fn script(boot: &BootArgs, files: &Files) -> Result<String> {
    // GRUB's messages go where the hypervisor's go; a BIOS would not send them there.
    let mut text = String::from("serial --unit=0 --speed=115200\n");
    if boot.firmware == Firmware::Bios {
        text.push_str("terminal_output serial\n");
    }
    text.push_str("set timeout=0\nset gfxpayload=text\n");
    let line = words(&hypervisor_line(boot));
    writeln!(text, "multiboot2 /hypervisor {line}")?;
    if files.kernel.is_some() {
        writeln!(text, "module2 /kernel {}", words(&dom0_line(boot)))?;
        if files.initrd.is_some() {
            // Linux unpacks it itself.
            writeln!(text, "module2 --nounzip /initrd")?;
        }
    }
    text.push_str("boot\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::super::boot;
    use super::*;

    fn files(kernel: bool) -> Files {
        Files {
            hypervisor: "h".into(),
            kernel: kernel.then(|| "k".into()),
            initrd: kernel.then(|| "i".into()),
        }
    }

    #[test]
    fn the_script_starts_the_hypervisor_with_its_modules() {
        let words = ["--arch", "x86_64", "--firmware", "bios", "--cmdline", "a;b"];
        let text = script(&boot(&words), &files(true)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.iter().position(|l| l.starts_with("multiboot2"));
        let [hypervisor, kernel, initrd, last] = lines[from.unwrap()..] else {
            panic!("{text}");
        };
        assert!(hypervisor.starts_with("multiboot2 /hypervisor console=com1"));
        assert!(hypervisor.ends_with(" 'a;b'"), "{hypervisor}");
        assert!(kernel.starts_with("module2 /kernel console=hvc0"));
        assert_eq!((initrd, last), ("module2 --nounzip /initrd", "boot"));
        assert!(text.contains("terminal_output serial"));
    }

    #[test]
    fn without_a_kernel_there_are_no_modules() {
        let words = ["--arch", "x86_64", "--firmware", "uefi"];
        let text = script(&boot(&words), &files(false)).unwrap();
        assert!(!text.contains("module2"));
        assert!(!text.contains("terminal_output"));
    }

    #[test]
    fn only_a_bios_has_biosdisk() {
        assert!(modules(Firmware::Bios).contains("biosdisk"));
        assert!(!modules(Firmware::Uefi).contains("biosdisk"));
    }
}
