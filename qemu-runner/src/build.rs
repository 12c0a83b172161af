//! Builds the binaries and turns them into what boots: an ELF with its symbol table filled in, and a flat `Image`.

use crate::cli::{Arch, BuildArgs, BuildOptions};
use crate::paths::{self, Paths};
use crate::process;
use crate::toolchain::Toolchain;
use crate::ui::{self, warn};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use std::fs::File;
use std::path::{Path, PathBuf};
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
    /// What boot loaders load: a flat image on arm64, the ELF file on x86-64.
    pub image: PathBuf,
}

/// `cargo xen build`.
pub(crate) fn command(paths: &Paths, args: &BuildArgs) -> Result<u8> {
    let built = hypervisor(paths, args.arch, &args.options)?;
    println!("{:<20} {}", "with symbols, for gdb", built.elf.display());
    if args.arch == Arch::Aarch64 {
        println!("{:<20}  {}", "for boot loaders", built.image.display());
    }
    if args.guests {
        for name in guest_names(paths, args.arch)? {
            let built = guest(paths, &name, args.arch)?;
            println!("guest {name:<15} {}", built.image.display());
        }
    }
    Ok(0)
}

/// Only one build at a time writes the images: their names do not tell features and profiles apart. Whoever boots one
/// takes a copy before the lock is gone.
fn exclusive(paths: &Paths) -> Result<Flock<File>> {
    paths::make_dir(&paths.out)?;
    let file =
        File::create(paths.out.join("build.lock")).context("cannot make the build's lock")?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("cannot lock the build")
}

/// Builds the hypervisor and puts it into `to`, where no later build changes it.
pub(crate) fn hypervisor_in(
    paths: &Paths,
    arch: Arch,
    options: &BuildOptions,
    to: &Path,
) -> Result<Built> {
    let _lock = exclusive(paths)?;
    copied(hypervisor_locked(paths, arch, options)?, to)
}

/// Builds a kernel of tests/guests and puts it into `to`.
pub(crate) fn guest_in(paths: &Paths, name: &str, arch: Arch, to: &Path) -> Result<Built> {
    let _lock = exclusive(paths)?;
    copied(guest_locked(paths, name, arch)?, to)
}

fn copied(built: Built, to: &Path) -> Result<Built> {
    let copy = |from: PathBuf| -> Result<PathBuf> {
        let target = to.join(from.file_name().context("a build product without a name")?);
        std::fs::copy(&from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(target)
    };
    let image = if built.image == built.elf {
        None
    } else {
        Some(copy(built.image)?)
    };
    let elf = copy(built.elf)?;
    Ok(Built {
        image: image.unwrap_or_else(|| elf.clone()),
        elf,
    })
}

/// Builds the hypervisor.
pub(crate) fn hypervisor(paths: &Paths, arch: Arch, options: &BuildOptions) -> Result<Built> {
    let _lock = exclusive(paths)?;
    hypervisor_locked(paths, arch, options)
}

fn hypervisor_locked(paths: &Paths, arch: Arch, options: &BuildOptions) -> Result<Built> {
    check_features(paths, &options.features)?;
    let profile = if options.debug { "dev" } else { "release" };
    let mut command = Toolchain::get(arch)?.cargo("build", arch);
    command
        .current_dir(&paths.root)
        .args(["--quiet", "--package", "boot", "--bin", "oxen"])
        .args(["--profile", profile]);
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

/// Refuses features that the hypervisor does not have, with those that it has.
fn check_features(paths: &Paths, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut metadata = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    metadata.current_dir(&paths.root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let json = serde_json::from_str(&process::output(&mut metadata)?)
        .context("cargo's metadata cannot be read")?;
    let known = features(&json);
    match wanted.iter().find(|w| !known.contains(&w.as_str())) {
        None => Ok(()),
        Some(unknown) => bail!(
            "Oxen has no feature `{unknown}`; it has {}",
            known.join(", ")
        ),
    }
}

/// The features of the package `boot`.
fn features(metadata: &serde_json::Value) -> Vec<&str> {
    let packages = metadata["packages"].as_array().map_or(&[][..], |p| p);
    let Some(boot) = packages.iter().find(|p| p["name"] == "boot") else {
        return Vec::new();
    };
    boot["features"].as_object().map_or(Vec::new(), |features| {
        features
            .keys()
            .map(String::as_str)
            .filter(|name| *name != "default")
            .collect()
    })
}

/// The kernels of tests/guests that are for an architecture, by name.
pub(crate) fn guest_names(paths: &Paths, arch: Arch) -> Result<Vec<String>> {
    let dir = paths.root.join("tests/guests/src/bin");
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?
    {
        let path = entry?.path();
        let main = if path.is_dir() {
            path.join("main.rs")
        } else {
            path.clone()
        };
        let is_kernel = main.extension().is_some_and(|e| e == "rs");
        if let (true, Some(stem)) = (is_kernel, path.file_stem().and_then(|s| s.to_str()))
            && is_for(&std::fs::read_to_string(&main).unwrap_or_default(), arch)
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a kernel, by its main file, is for an architecture: `kernel!(only "x86_64", ...)` is for that one alone.
fn is_for(main: &str, arch: Arch) -> bool {
    match main.split_once("kernel!(only \"") {
        Some((_, rest)) => rest.starts_with(&format!("{}\"", arch.name())),
        None => true,
    }
}

/// Builds one kernel of tests/guests.
pub(crate) fn guest(paths: &Paths, name: &str, arch: Arch) -> Result<Built> {
    let _lock = exclusive(paths)?;
    guest_locked(paths, name, arch)
}

fn guest_locked(paths: &Paths, name: &str, arch: Arch) -> Result<Built> {
    let known = guest_names(paths, arch)?;
    if !known.iter().any(|k| k == name) {
        bail!(
            "tests/guests has no `{name}` for {}; it has {}",
            arch.name(),
            known.join(", ")
        );
    }
    let mut command = Toolchain::get(arch)?.cargo("build", arch);
    command.current_dir(&paths.root).args([
        "--quiet",
        "--package",
        "guests",
        "--bin",
        name,
        "--release",
    ]);
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
fn finish(paths: &Paths, from: &Path, arch: Arch, elf: &str, image: &str) -> Result<Built> {
    let mut bytes = paths::read(from)?;
    if let Some((place, table)) = symbol_table(&bytes)? {
        bytes
            .get_mut(place)
            .context("the symbol section is outside the file")?
            .copy_from_slice(&table);
    }
    let dir = paths.out.join(arch.name());
    let elf = dir.join(elf);
    let built = Built {
        image: match arch {
            Arch::Aarch64 => dir.join(image),
            Arch::X86_64 => elf.clone(),
        },
        elf,
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
    fn features_are_those_of_the_binary() {
        let metadata = serde_json::json!({"packages": [
            {"name": "xen-core", "features": {"std": []}},
            {"name": "boot", "features": {"default": ["gicv3"], "gicv3": [], "svm": []}},
        ]});
        assert_eq!(features(&metadata), ["gicv3", "svm"]);
    }

    #[test]
    fn kernels_say_what_they_are_for() {
        let common = "guest_rt::kernel!(kernel::start);";
        let x86 = "guest_rt::kernel!(only \"x86_64\", kernel::start);";
        for arch in [Arch::Aarch64, Arch::X86_64] {
            assert!(is_for(common, arch));
            assert_eq!(is_for(x86, arch), arch == Arch::X86_64);
        }
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(flatten(b"MZ").is_err());
        assert!(symbol_table(&[0; 64]).is_err());
    }
}
