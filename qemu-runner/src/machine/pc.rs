//! QEMU's `q35` board: a multiboot kernel with dom0's kernel and initramfs as its modules.
//!
//! Source: Multiboot Specification 0.6.96; QEMU's `-kernel` and `-initrd`, whose list of modules is separated by commas,
//! each a file and, after a blank, its command line.

use super::{Payload, common, copy, dom0_line, hypervisor_line};
use crate::cli::{BootArgs, Hypervisor};
use crate::paths;
use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use std::io::Read as _;
use std::path::Path;

/// Two bytes at the start of a gzip stream (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(super) fn args(
    boot: &BootArgs,
    hypervisor: &Path,
    payload: Option<Payload>,
    scratch: &Path,
) -> Result<Vec<String>> {
    // A blank ends a file's name in QEMU's list of modules, and there is no way to quote it.
    if scratch.display().to_string().contains(' ') {
        bail!(
            "QEMU takes no boot modules from a path with blanks: {}; set CARGO_TARGET_DIR to another folder",
            scratch.display()
        );
    }
    let mut args = board(boot);
    let kernel = scratch.join("hypervisor");
    paths::write(&kernel, unpacked(paths::read(hypervisor)?)?)?;
    args.extend([
        "-kernel".into(),
        kernel.display().to_string(),
        "-append".into(),
        hypervisor_line(boot),
    ]);
    if let Some(payload) = payload {
        let mut modules = Vec::new();
        let module = scratch.join("kernel");
        copy(&payload.kernel, &module)?;
        modules.push(format!("{} {}", module.display(), dom0_line(boot)));
        if let Some(initrd) = &payload.initrd {
            let module = scratch.join("initrd");
            copy(initrd, &module)?;
            modules.push(module.display().to_string());
        }
        let modules: Vec<String> = modules.iter().map(|m| m.replace(',', ",,")).collect();
        args.extend(["-initrd".into(), modules.join(",")]);
    }
    Ok(args)
}

fn board(boot: &BootArgs) -> Vec<String> {
    let mut args = vec!["-M".to_owned(), "q35,kernel-irqchip=split".to_owned()];
    args.extend(common(boot));
    if boot.hypervisor == Hypervisor::Xen {
        args.extend(["-device".into(), "amd-iommu".into()]);
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
    use super::*;
    use std::io::Write as _;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("oxen-pc-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn modules_carry_their_lines_and_commas_are_doubled() {
        let dir = scratch("modules");
        for name in ["xen", "vmlinuz", "ramdisk"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        let boot = super::super::boot(&["--arch", "x86_64", "--dom0-cmdline", "a=1,2"]);
        let payload = Payload {
            kernel: dir.join("vmlinuz"),
            initrd: Some(dir.join("ramdisk")),
        };
        let args = args(&boot, &dir.join("xen"), Some(payload), &dir).unwrap();
        let at = args.iter().position(|a| a == "-initrd").unwrap();
        let list = &args[at + 1];
        assert!(list.contains("/kernel console=hvc0"), "{list}");
        assert!(list.contains("a=1,,2,"), "{list}");
        assert!(list.ends_with("/initrd"), "{list}");
        assert_eq!(std::fs::read(dir.join("hypervisor")).unwrap(), b"xen");
        std::fs::remove_dir_all(dir).unwrap();
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
