//! What a program or a library needs to be loaded.
//!
//! Source: System V ABI, "Program Interpreter" and "Dynamic Section".

use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

/// The start of each ELF file.
const MAGIC: &[u8] = b"\x7fELF";

/// The files that one needs; names without folders for libraries, a whole path for the interpreter.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Needs {
    pub interpreter: Option<String>,
    pub libraries: Vec<String>,
}

pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads them from a 64-bit ELF file. One that is linked statically needs nothing.
pub(super) fn needs(bytes: &[u8]) -> Result<Needs> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(text(path)?);
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries {
            if entry.tag(endian) == DT_NEEDED {
                needs.libraries.push(text(entry.string(endian, strings)?)?);
            }
        }
    }
    Ok(needs)
}

fn text(bytes: &[u8]) -> Result<String> {
    let name = str::from_utf8(bytes).context("a file's name in an ELF file is not text")?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_runs_needs_a_c_library() {
        let itself = std::fs::read("/proc/self/exe").unwrap();
        assert!(is_elf(&itself));
        let needs = needs(&itself).unwrap();
        assert!(
            needs.libraries.iter().any(|l| l.starts_with("libc.so")),
            "{needs:?}"
        );
        assert!(needs.interpreter.unwrap().contains("/ld"));
    }

    #[test]
    fn other_files_need_nothing_that_could_be_known() {
        assert!(!is_elf(b"#!/bin/sh\n"));
        assert!(needs(b"#!/bin/sh\n").is_err());
        assert!(needs(b"\x7fELF\x02\x01\x01").is_err());
    }
}
