//! QEMU's loader by the PVH entry.
//!
//! QEMU starts an ELF file by its PVH note only if it has no multiboot header, so this boots a copy whose header does not
//! count any more. The one module that QEMU hands over is dom0's kernel, and its command line, which QEMU does not
//! pass on, stays empty.

use super::{BootArgs, Files, hypervisor_line};
use crate::paths;
use anyhow::{Context as _, Result};
use std::path::Path;

/// The first word of a multiboot header, and where it is looked for (Multiboot Specification 0.6.96, section 3.1).
const MAGIC: [u8; 4] = 0x1bad_b002u32.to_le_bytes();
const SEARCHED: usize = 8192;

pub(super) fn args(boot: &BootArgs, files: &Files, scratch: &Path) -> Result<Vec<String>> {
    let copy = scratch.join("hypervisor-pvh");
    let bytes = without_multiboot(paths::read(&files.hypervisor)?)?;
    paths::write(&copy, bytes)?;
    let mut args = vec![
        "-kernel".to_owned(),
        copy.display().to_string(),
        "-append".to_owned(),
        hypervisor_line(boot),
    ];
    if let Some(kernel) = &files.kernel {
        args.extend(["-initrd".to_owned(), kernel.display().to_string()]);
    }
    Ok(args)
}

/// The file without a multiboot header: its first word is wiped, at each place where there is one.
fn without_multiboot(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let searched = bytes.len().min(SEARCHED);
    let headers: Vec<usize> = (0..searched.saturating_sub(12))
        .step_by(4)
        .filter(|at| is_header(&bytes[*at..*at + 12]))
        .collect();
    headers
        .first()
        .context("the hypervisor has no multiboot header, so this is not its file")?;
    for at in headers {
        bytes[at..at + 4].fill(0);
    }
    Ok(bytes)
}

/// Whether three words are magic, flags, and a checksum that makes their sum zero.
fn is_header(words: &[u8]) -> bool {
    let sum = words
        .chunks_exact(4)
        .filter_map(|w| w.try_into().ok().map(u32::from_le_bytes))
        .fold(0, u32::wrapping_add);
    words.starts_with(&MAGIC) && sum == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_goes_and_the_rest_stays() {
        let mut file = vec![0x90; 64];
        let flags = 0x1_0003u32;
        file[16..20].copy_from_slice(&MAGIC);
        file[20..24].copy_from_slice(&flags.to_le_bytes());
        let sum = 0u32
            .wrapping_sub(0x1bad_b002)
            .wrapping_sub(flags)
            .to_le_bytes();
        file[24..28].copy_from_slice(&sum);
        let bare = without_multiboot(file.clone()).unwrap();
        assert_eq!(bare[16..20], [0; 4]);
        assert_eq!((&bare[..16], &bare[20..]), (&file[..16], &file[20..]));
        // The magic alone, as an instruction may hold it, is no header.
        file[24] ^= 1;
        assert!(without_multiboot(file).is_err());
    }
}
