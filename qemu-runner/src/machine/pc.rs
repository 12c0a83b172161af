//! QEMU's `q35` board: a multiboot kernel with dom0's kernel and initramfs as its modules.
//!
//! Source: Multiboot Specification 0.6.96; QEMU's `-kernel` and `-initrd`, whose list of modules is separated by commas,
//! each a file and, after a blank, its command line. [`pvh`] is QEMU's other way to start an ELF file, [`iso`] a CD with
//! GRUB for machines that have only their firmware.

mod iso;
mod pvh;

use super::{Payload, accel, common, copy, dom0_line, hypervisor_line};
use crate::cli::{BootArgs, Firmware, Hypervisor};
use crate::debian;
use crate::paths::{self, Paths};
use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Two bytes at the start of a gzip stream (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(super) fn args(
    paths: &Paths,
    boot: &BootArgs,
    qemu: &Path,
    hypervisor: &Path,
    payload: Option<Payload>,
    scratch: &Path,
) -> Result<Vec<String>> {
    let mut args = board(boot, accel::with_kvm(boot, qemu)?);
    let files = Files::gather(hypervisor, payload, scratch)?;
    match boot.firmware {
        Firmware::Kernel => args.extend(multiboot(boot, &files, scratch)?),
        Firmware::Pvh => args.extend(pvh::args(boot, &files, scratch)?),
        Firmware::Bios => args.extend(cd(&iso::make(boot, &files, scratch)?)),
        Firmware::Uefi => {
            let firmware = debian::firmware(paths, boot.arch)?;
            args.extend(["-bios".to_owned(), firmware.display().to_string()]);
            args.extend(cd(&iso::make(boot, &files, scratch)?));
        }
    }
    Ok(args)
}

/// What the machine boots, under the scratch folder.
struct Files {
    hypervisor: PathBuf,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
}

impl Files {
    fn gather(hypervisor: &Path, payload: Option<Payload>, scratch: &Path) -> Result<Self> {
        let mut files = Self {
            hypervisor: scratch.join("hypervisor"),
            kernel: None,
            initrd: None,
        };
        paths::write(&files.hypervisor, unpacked(paths::read(hypervisor)?)?)?;
        if let Some(payload) = payload {
            let kernel = scratch.join("kernel");
            copy(&payload.kernel, &kernel)?;
            files.kernel = Some(kernel);
            if let Some(initrd) = &payload.initrd {
                let module = scratch.join("initrd");
                copy(initrd, &module)?;
                files.initrd = Some(module);
            }
        }
        Ok(files)
    }
}

/// QEMU loads the hypervisor by multiboot, with its modules.
fn multiboot(boot: &BootArgs, files: &Files, scratch: &Path) -> Result<Vec<String>> {
    // A blank ends a file's name in QEMU's list of modules, and there is no way to quote it.
    if scratch.display().to_string().contains(' ') {
        bail!(
            "QEMU takes no boot modules from a path with blanks: {}; set CARGO_TARGET_DIR to another folder",
            scratch.display()
        );
    }
    let mut args = vec![
        "-kernel".to_owned(),
        files.hypervisor.display().to_string(),
        "-append".to_owned(),
        hypervisor_line(boot),
    ];
    let kernel = files.kernel.as_ref();
    let modules: Vec<String> = kernel
        .map(|kernel| format!("{} {}", kernel.display(), dom0_line(boot)))
        .into_iter()
        .chain(files.initrd.as_ref().map(|i| i.display().to_string()))
        .map(|module| module.replace(',', ",,"))
        .collect();
    if !modules.is_empty() {
        args.extend(["-initrd".to_owned(), modules.join(",")]);
    }
    Ok(args)
}

/// The machine boots from a CD.
fn cd(image: &Path) -> Vec<String> {
    ["-cdrom", &image.display().to_string(), "-boot", "d"]
        .map(str::to_owned)
        .to_vec()
}

fn board(boot: &BootArgs, kvm: bool) -> Vec<String> {
    let mut args = vec!["-M".to_owned(), "q35,kernel-irqchip=split".to_owned()];
    args.extend(common(boot, kvm));
    args.extend([
        "-accel".to_owned(),
        if kvm { "kvm" } else { "tcg" }.to_owned(),
    ]);
    if boot.hypervisor == Hypervisor::Xen {
        // Without an IOMMU Xen does not let a PVH dom0 see the firmware's tables. QEMU's of AMD's kind loses messages of
        // devices, and this one remaps none.
        args.extend(["-device".into(), "intel-iommu,intremap=off".into()]);
    }
    args
}

/// Debian compresses its Xen, and QEMU wants it plain.
fn unpacked(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    GzDecoder::new(&bytes[..])
        .read_to_end(&mut plain)
        .context("the hypervisor cannot be uncompressed")?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::super::boot;
    use super::*;
    use std::io::Write as _;

    #[test]
    fn modules_carry_their_lines_and_commas_are_doubled() {
        let dir = std::env::temp_dir().join(format!("oxen-pc-modules-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["xen", "vmlinuz", "ramdisk"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        let boot = boot(&["--arch", "x86_64", "--dom0-cmdline", "a=1,2"]);
        let payload = Payload {
            kernel: dir.join("vmlinuz"),
            initrd: Some(dir.join("ramdisk")),
        };
        let files = Files::gather(&dir.join("xen"), Some(payload), &dir).unwrap();
        let args = multiboot(&boot, &files, &dir).unwrap();
        let at = args.iter().position(|a| a == "-initrd").unwrap();
        let list = &args[at + 1];
        assert!(list.contains("/kernel console=hvc0"), "{list}");
        assert!(list.contains("a=1,,2,"), "{list}");
        assert!(list.ends_with("/initrd"), "{list}");
        assert_eq!(std::fs::read(dir.join("hypervisor")).unwrap(), b"xen");
        let files = Files::gather(&dir.join("xen"), None, &dir).unwrap();
        let args = multiboot(&boot, &files, &dir).unwrap();
        assert!(!args.contains(&"-initrd".to_owned()));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn boards_have_what_their_hypervisor_needs() {
        let xen = board(&boot(&["--arch", "x86_64", "--hypervisor", "xen"]), false);
        assert!(xen.iter().any(|w| w.starts_with("intel-iommu")));
        let oxen = board(&boot(&["--arch", "x86_64"]), false);
        assert!(oxen.windows(2).any(|w| w == ["-cpu", "max,-rdtscp"]));
        assert!(oxen.ends_with(&["-accel".into(), "tcg".into()]));
        assert!(!oxen.iter().any(|w| w.contains("iommu")));
        let kvm = board(&boot(&["--arch", "x86_64"]), true);
        assert!(kvm.windows(2).any(|w| w == ["-cpu", "host,+svm"]));
        assert!(kvm.ends_with(&["-accel".into(), "kvm".into()]));
    }

    #[test]
    fn compressed_hypervisors_are_unpacked() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"multiboot").unwrap();
        assert_eq!(unpacked(gzip.finish().unwrap()).unwrap(), b"multiboot");
        assert_eq!(unpacked(b"\x7fELF".to_vec()).unwrap(), b"\x7fELF");
        assert!(unpacked(b"\x1f\x8bjunk".to_vec()).is_err());
    }
}
