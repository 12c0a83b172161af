//! Builds the binaries and turns them into what boots: an ELF with its symbol table filled in, and a flat `Image`.

use crate::cli::{Arch, BuildArgs, BuildOptions};
use crate::paths::{self, Paths};
use crate::process;
use crate::ui::{self, say, warn};
use anyhow::{Context as _, Result, bail};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use std::path::PathBuf;
use std::process::Command;

/// The section the linker script reserves for the hypervisor's own symbol table.
const SYMBOLS: &str = ".oxen_symbols";
/// `OSYM` in the table's first word.
const SYMBOLS_MAGIC: u32 = 0x4d59_534f;
/// The symbol that offsets count from.
const IMAGE_START: &str = "__image_start";

/// Build products.
#[derive(Debug)]
pub(crate) struct Built {
    /// With symbols, for debuggers.
    pub elf: PathBuf,
    /// What boot loaders load.
    pub image: PathBuf,
}

/// `cargo xen build`.
pub(crate) fn command(paths: &Paths, args: &BuildArgs) -> Result<u8> {
    let built = hypervisor(paths, args.arch, &args.options)?;
    say!("{}", built.elf.display());
    if args.arch == Arch::Aarch64 {
        say!("{}", built.image.display());
    }
    if args.guests {
        for name in guest_names(paths)? {
            say!("{}", guest(paths, &name)?.image.display());
        }
    }
    Ok(0)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the hypervisor.
pub(crate) fn hypervisor(paths: &Paths, arch: Arch, options: &BuildOptions) -> Result<Built> {
    crate::setup::rust_target(arch.triple())?;
    let profile = if options.debug { "dev" } else { "release" };
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["build", "--quiet", "--package", "boot", "--bin", "oxen"])
        .args(["--target", arch.triple(), "--profile", profile]);
    if options.no_default_features {
        command.arg("--no-default-features");
    }
    if !options.features.is_empty() {
        command.arg("--features").arg(options.features.join(","));
    }
    {
        let _step = ui::Step::start(format!("building Oxen for {} ({profile})", arch.name()));
        process::run(&mut command)?;
    }
    let folder = if options.debug { "debug" } else { "release" };
    finish(
        paths,
        &paths.target.join(arch.triple()).join(folder).join("oxen"),
        arch,
        "oxen.elf",
        "Image",
    )
}

/// The kernels of tests/guests, by name.
pub(crate) fn guest_names(paths: &Paths) -> Result<Vec<String>> {
    let dir = paths.root.join("tests/guests/src/bin");
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?
    {
        let path = entry?.path();
        let is_kernel = path.is_dir() || path.extension().is_some_and(|e| e == "rs");
        if let (true, Some(stem)) = (is_kernel, path.file_stem().and_then(|s| s.to_str())) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds one kernel of tests/guests.
pub(crate) fn guest(paths: &Paths, name: &str) -> Result<Built> {
    let arch = Arch::Aarch64;
    crate::setup::rust_target(arch.triple())?;
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["build", "--quiet", "--package", "guests", "--bin", name])
        .args(["--target", arch.triple(), "--release"]);
    process::run(&mut command)?;
    let elf = paths.target.join(arch.triple()).join("release").join(name);
    finish(
        paths,
        &elf,
        arch,
        &format!("guests/{name}.elf"),
        &format!("guests/{name}"),
    )
}

/// Fills in the symbol table and writes ELF and image where they are kept.
fn finish(
    paths: &Paths,
    from: &std::path::Path,
    arch: Arch,
    elf: &str,
    image: &str,
) -> Result<Built> {
    let mut bytes = paths::read(from)?;
    if let Some((place, table)) = symbol_table(&bytes)? {
        bytes
            .get_mut(place)
            .context("the symbol section is outside the file")?
            .copy_from_slice(&table);
    }
    let dir = paths.out.join(arch.name());
    let built = Built {
        elf: dir.join(elf),
        image: dir.join(image),
    };
    if let Some(parent) = built.elf.parent() {
        paths::make_dir(parent)?;
    }
    paths::write(&built.elf, &bytes)?;
    if arch == Arch::Aarch64 {
        paths::write(&built.image, flatten(&bytes)?)?;
    }
    Ok(built)
}

/// The table of functions and the file range that it fills; `None` without a section for it.
fn symbol_table(bytes: &[u8]) -> Result<Option<(std::ops::Range<usize>, Vec<u8>)>> {
    let elf = ElfFile64::<Endianness>::parse(bytes).context("not a 64-bit ELF file")?;
    let Some(section) = elf.section_by_name(SYMBOLS) else {
        return Ok(None);
    };
    let (offset, size) = section
        .file_range()
        .context("the symbol section has no place in the file")?;
    let Some(start) = elf
        .symbols()
        .find(|s| s.name() == Ok(IMAGE_START))
        .map(|s| s.address())
    else {
        bail!("the binary has no {IMAGE_START}");
    };
    let mut functions: Vec<(u32, String)> = elf
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text)
        .filter_map(|s| {
            let offset = u32::try_from(s.address().checked_sub(start)?).ok()?;
            let name = s
                .name()
                .ok()
                .filter(|n| !n.is_empty() && !n.starts_with('$'))?;
            Some((offset, format!("{:#}", rustc_demangle::demangle(name))))
        })
        .collect();
    functions.sort();
    functions.dedup_by_key(|(offset, _)| *offset);
    let table = encode_symbols(&functions, usize::try_from(size)?);
    let offset = usize::try_from(offset)?;
    Ok(Some((offset..offset + table.len(), table)))
}

/// The table in its on-image form, exactly `size` bytes: what does not fit is left out from the end.
fn encode_symbols(functions: &[(u32, String)], size: usize) -> Vec<u8> {
    const HEAD: usize = 8;
    const ENTRY: usize = 8;
    let mut count = functions.len();
    let needed = |n: usize| {
        HEAD + n * ENTRY
            + functions
                .iter()
                .take(n)
                .map(|(_, name)| name.len() + 1)
                .sum::<usize>()
    };
    while count > 0 && needed(count) > size {
        count -= 1;
    }
    if count < functions.len() {
        warn!(
            "{} of {} symbols do not fit into the image",
            functions.len() - count,
            functions.len()
        );
    }
    let mut table = Vec::with_capacity(size);
    let mut names = Vec::new();
    table.extend(SYMBOLS_MAGIC.to_le_bytes());
    table.extend((count as u32).to_le_bytes());
    for (offset, name) in functions.iter().take(count) {
        table.extend(offset.to_le_bytes());
        table.extend((names.len() as u32).to_le_bytes());
        names.extend(name.bytes());
        names.push(0);
    }
    table.extend(names);
    table.resize(size, 0);
    table
}

/// The loaded bytes in the order of their physical addresses, as a boot loader places them.
fn flatten(bytes: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let loads: Vec<_> = header
        .program_headers(endian, bytes)?
        .iter()
        .filter(|p| p.p_type(endian) == PT_LOAD && p.p_filesz(endian) > 0)
        .collect();
    let base = loads
        .iter()
        .map(|p| p.p_paddr(endian))
        .min()
        .context("the binary has nothing to load")?;
    let mut image = Vec::new();
    for load in loads {
        let at = usize::try_from(load.p_paddr(endian) - base)?;
        let data = load
            .data(endian, bytes)
            .map_err(|()| anyhow::anyhow!("a segment is outside the file"))?;
        if image.len() < at + data.len() {
            image.resize(at + data.len(), 0);
        }
        image[at..at + data.len()].copy_from_slice(data);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_encoded_as_the_hypervisor_reads_them() {
        let functions = [(0x10, "a".to_owned()), (0x20, "bc".to_owned())];
        let table = encode_symbols(&functions, 40);
        assert_eq!(table.len(), 40);
        assert_eq!(table[..8], [b'O', b'S', b'Y', b'M', 2, 0, 0, 0]);
        assert_eq!(
            table[8..24],
            [0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 2, 0, 0, 0]
        );
        assert_eq!(&table[24..29], b"a\0bc\0");
    }

    #[test]
    fn symbols_that_do_not_fit_are_left_out() {
        let functions = [(0x10, "a".to_owned()), (0x20, "bc".to_owned())];
        let table = encode_symbols(&functions, 20);
        assert_eq!(table.len(), 20);
        assert_eq!(table[4], 1);
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(flatten(b"MZ").is_err());
        assert!(symbol_table(&[0; 64]).is_err());
    }
}
