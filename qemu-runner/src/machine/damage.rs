//! A kernel for dom0 that is not what it should be.

use crate::cli::Damage;
use crate::paths;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The head of the ELF note with the PVH entry: the name's size, the content's in one of the sizes in use, the type (18,
/// `XEN_ELFNOTE_PHYS32_ENTRY`), the name.
const ENTRY_NOTES: [&[u8; 16]; 2] = [
    b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0",
    b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0",
];
/// What the last byte of the note's name becomes.
const OTHER_NAME: u8 = b'!';

/// The kernel to boot: `kernel`, or a damaged copy of it in `scratch`.
pub(super) fn kernel(damage: Option<Damage>, kernel: PathBuf, scratch: &Path) -> Result<PathBuf> {
    let damaged = match damage {
        Some(Damage::CorruptKernel) => corrupt(paths::read(&kernel)?),
        Some(Damage::NoPvhEntry) => without_entry(paths::read(&kernel)?)?,
        _ => return Ok(kernel),
    };
    let file = scratch.join("damaged-kernel");
    paths::write(&file, damaged)?;
    Ok(file)
}

/// Wrong bytes in the middle, where a compressed kernel has its data.
fn corrupt(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    for byte in bytes.iter_mut().skip(middle).take(64) {
        *byte = !*byte;
    }
    bytes
}

/// The PVH entry's note becomes somebody else's.
fn without_entry(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut found = false;
    for note in ENTRY_NOTES {
        let Some(at) = bytes.windows(note.len()).position(|w| w == note) else {
            continue;
        };
        bytes[at + note.len() - 1] = OTHER_NAME;
        found = true;
    }
    if !found {
        bail!("the kernel has no PVH entry that could be taken away; a compressed one hides it");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_damaged_and_the_head_is_not() {
        let damaged = corrupt(vec![0; 4096]);
        assert_eq!(damaged[..2048], [0; 2048]);
        assert_eq!(damaged[2048], 0xff);
        assert_eq!(damaged.len(), 4096);
    }

    #[test]
    fn the_entry_note_is_taken_away() {
        let mut kernel = b"\x7fELF....".to_vec();
        kernel.extend(ENTRY_NOTES[1]);
        let len = kernel.len();
        let damaged = without_entry(kernel).unwrap();
        assert_eq!(&damaged[len - 4..], b"Xen!");
        assert!(without_entry(b"\x7fELF".to_vec()).is_err());
    }

    #[test]
    fn without_damage_the_kernel_is_not_even_read() {
        let kernel = PathBuf::from("/no/such/kernel");
        let same = super::kernel(None, kernel.clone(), Path::new("/nowhere")).unwrap();
        assert_eq!(same, kernel);
    }
}
