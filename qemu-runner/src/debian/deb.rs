//! Packages unpacked into the cache, and checked before every use.
//!
//! A .deb is compared with the SHA256 of the signed index before it is unpacked. Of each unpacked file the SHA256 is
//! written beside it, so that a damaged cache is noticed and made anew instead of booting something odd.

use super::apt::Apt;
use super::{Suite, deb_arch};
use crate::cli::Arch;
use crate::paths::{self, Paths};
use crate::process::{self, show};
use crate::ui::{self, say, warn};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUMS: &str = "SHA256SUMS";
/// What the package needs, as its control file has it.
const DEPENDS: &str = "DEPENDS";

/// The folder with `parts` of a package, fetched where the cache lacks it. `resolve` turns `name`, under which the
/// result is remembered, into the package to fetch.
pub(super) fn unpacked(
    paths: &Paths,
    suite: Suite,
    arch: Arch,
    name: &str,
    parts: &[&str],
    resolve: impl FnOnce(&Apt) -> Result<String>,
) -> Result<PathBuf> {
    paths::make_dir(&paths.cache)?;
    let lock =
        File::create(paths.cache.join("lock")).context("cannot make the cache's lock file")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("cannot lock the cache")?;
    let pointer = pointer(paths, suite, arch, name);
    // A folder with other parts of the package will not do.
    let parts_line = parts.join(" ");
    let known = std::fs::read_to_string(&pointer).unwrap_or_default();
    if let Some((folder, _)) = known
        .split_once('\n')
        .filter(|(_, unpacked)| *unpacked == parts_line)
    {
        let dir = paths.cache.join("unpacked").join(folder);
        match verify(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) => warn!("{} is fetched again: {error:#}", dir.display()),
        }
    }
    let apt = Apt::open(paths, suite, arch)?;
    let package = resolve(&apt)?;
    let (deb, folder) = fetch(paths, &apt, &package)?;
    let dir = paths.cache.join("unpacked").join(&folder);
    unpack(&deb, &dir, parts)?;
    if let Some(parent) = pointer.parent() {
        paths::make_dir(parent)?;
    }
    paths::write(&pointer, format!("{folder}\n{parts_line}"))?;
    Ok(dir)
}

/// Whether a package was unpacked before.
pub(super) fn is_cached(paths: &Paths, suite: Suite, arch: Arch, name: &str) -> bool {
    pointer(paths, suite, arch, name).is_file()
}

/// The file that names the folder in use for a package, and on a second line its parts.
fn pointer(paths: &Paths, suite: Suite, arch: Arch, name: &str) -> PathBuf {
    paths
        .cache
        .join("current")
        .join(format!("{}-{}-{name}", suite.codename(), deb_arch(arch)))
}

/// The checked .deb of a package, and the name of the folder its content goes to.
fn fetch(paths: &Paths, apt: &Apt, package: &str) -> Result<(PathBuf, String)> {
    let mut record = apt.show(package)?;
    let debs = paths.cache.join("debs");
    paths::make_dir(&debs)?;
    let mut deb = debs.join(&record.file_name);
    if !deb.is_file() || sha256(&deb)? != record.sha256 {
        let partial = debs.join("partial");
        let _ = std::fs::remove_dir_all(&partial);
        paths::make_dir(&partial)?;
        if let Err(error) = apt.download(package, &record, &partial) {
            // The mirror may have replaced the version that an old index names.
            say!("{error:#}; trying again with a fresh index");
            apt.update()?;
            record = apt.show(package)?;
            deb = debs.join(&record.file_name);
            apt.download(package, &record, &partial)?;
        }
        let file = super::single_match(&partial, package)?;
        let found = sha256(&file)?;
        if found != record.sha256 {
            bail!(
                "{package} {} has SHA256 {found}, but the signed index says {}",
                record.version,
                record.sha256
            );
        }
        std::fs::rename(&file, &deb).with_context(|| format!("cannot move {}", file.display()))?;
    }
    let folder = record
        .file_name
        .trim_end_matches(".deb")
        .replace(['%', ':'], "_");
    Ok((deb, folder))
}

/// Unpacks `parts` (tar's wildcards) of a .deb into `dir`, and writes down their checksums.
fn unpack(deb: &Path, dir: &Path, parts: &[&str]) -> Result<()> {
    let _step = ui::Step::start(format!(
        "unpacking {}",
        deb.file_name().unwrap_or_default().to_string_lossy()
    ));
    let partial = dir.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    let _ = std::fs::remove_dir_all(dir);
    paths::make_dir(&partial)?;
    let mut source = Command::new("dpkg-deb");
    source
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = source
        .spawn()
        .with_context(|| format!("cannot start {}", show(&source)))?;
    let pipe = child.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = Command::new("tar");
    tar.arg("-x")
        .arg("-C")
        .arg(&partial)
        .args(["--no-same-owner", "--wildcards"])
        .args(parts)
        .stdin(pipe);
    let status = tar
        .status()
        .with_context(|| format!("cannot start {}", show(&tar)))?;
    let source_status = child.wait()?;
    if !status.success() || !source_status.success() {
        bail!(
            "cannot unpack {}: {} ({source_status}), {} ({status})",
            deb.display(),
            show(&source),
            show(&tar)
        );
    }
    let depends = process::output(
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(deb)
            .args(["Depends", "Pre-Depends"]),
    )?;
    paths::write(&partial.join(DEPENDS), depends)?;
    let mut sums = String::new();
    for file in files(&partial)? {
        let name = file.strip_prefix(&partial)?.display().to_string();
        writeln!(sums, "{}  {name}", sha256(&file)?)?;
    }
    paths::write(&partial.join(SUMS), sums)?;
    std::fs::rename(&partial, dir).with_context(|| format!("cannot move {}", partial.display()))
}

/// The packages that an unpacked one depends on; of alternatives the first, without versions.
pub(super) fn depends(dir: &Path) -> Result<Vec<String>> {
    let file = dir.join(DEPENDS);
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(names_in(&text))
}

fn names_in(fields: &str) -> Vec<String> {
    fields
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, list)| list.split(','))
        .filter_map(|dependency| dependency.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

/// Compares every file of an unpacked package with what was unpacked.
fn verify(dir: &Path) -> Result<()> {
    let list = dir.join(SUMS);
    let sums = std::fs::read_to_string(&list)
        .with_context(|| format!("cannot read {}", list.display()))?;
    if sums.is_empty() {
        bail!("{} is empty", list.display());
    }
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .with_context(|| format!("{} is damaged", list.display()))?;
        if sha256(&dir.join(name))? != sum {
            bail!("{name} is not what was unpacked");
        }
    }
    Ok(())
}

/// All regular files below `dir`, sorted.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in
            std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The SHA256 of a file, in lower-case hexadecimal.
fn sha256(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut reader = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    std::io::copy(&mut reader, &mut HashWriter(&mut hash))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("oxen-deb-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn known_checksum() {
        let dir = scratch("sum");
        std::fs::write(dir.join("abc"), "abc").unwrap();
        assert_eq!(
            sha256(&dir.join("abc")).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256(&dir.join("none")).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn dependencies_are_names() {
        let text = "Depends: libc6 (>= 2.38), python3:any, lsb-base (>= 3) | sysvinit-utils\nPre-Depends: libz1\n";
        assert_eq!(names_in(text), ["libc6", "python3", "lsb-base", "libz1"]);
        assert!(names_in("").is_empty());
    }

    #[test]
    fn a_changed_or_missing_file_is_noticed() {
        let dir = scratch("verify");
        std::fs::write(dir.join("k"), "abc").unwrap();
        assert!(verify(&dir).is_err(), "no list");
        std::fs::write(
            dir.join(SUMS),
            format!("{}  k\n", sha256(&dir.join("k")).unwrap()),
        )
        .unwrap();
        verify(&dir).unwrap();
        std::fs::write(dir.join("k"), "abd").unwrap();
        assert!(verify(&dir).is_err(), "changed");
        std::fs::remove_file(dir.join("k")).unwrap();
        assert!(verify(&dir).is_err(), "missing");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
