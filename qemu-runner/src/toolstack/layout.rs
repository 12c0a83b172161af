//! Which files of a toolstack's packages go into its root, and where.
//!
//! The root has the merged layout that Debian has today, whatever the packages have. Programs are taken with the libraries
//! that they need, and with those only.

use super::elf;
use crate::initramfs::Archive;
use crate::paths;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// Folders that are links to those of the same name below `usr`.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// The C library loads it by itself when a thread ends.
const UNWINDER: &str = "libgcc_s.so.1";
/// Where the hotplug scripts wait: `/etc/xen` is shared by all roots, and each sees its own scripts in it.
const SCRIPTS: &str = "etc/xen-scripts/";
/// What the programs read of themselves.
const XL_CONF: &str = "etc/xen/xl.conf";
/// Terminals on which dom0's console may be.
const TERMINALS: [&str; 4] = ["vt102", "linux", "xterm", "dumb"];

/// A root: names of files in it, and the files on this machine.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, PathBuf>,
    /// The folder with the release's own programs.
    own: String,
}

impl Tree {
    /// Plans the root of a release (such as `4.17`) from the folders of its unpacked packages.
    pub(super) fn plan(packages: &[PathBuf], release: &str) -> Result<Self> {
        let mut found = BTreeMap::new();
        for package in packages {
            for (name, file) in listed(package)? {
                found.insert(merged(&name), file);
            }
        }
        let mut tree = Self {
            files: BTreeMap::new(),
            own: format!("usr/lib/xen-{release}/bin/"),
        };
        let mut loaded = Vec::new();
        for (name, file) in &found {
            let Some(place) = tree.place(name) else {
                continue;
            };
            let bytes = paths::read(file)?;
            if elf::is_elf(&bytes) {
                loaded.push((name.clone(), bytes));
            } else if name.starts_with(&tree.own) {
                // Python, which is not there.
                continue;
            }
            tree.files.insert(place, file.clone());
        }
        if !tree.files.contains_key(&format!("{}xl", tree.own)) {
            bail!("there is no {}xl", tree.own);
        }
        tree.add_libraries(&found, loaded)?;
        Ok(tree)
    }

    /// Where a file of a package goes, if it is not one that only others need.
    fn place(&self, name: &str) -> Option<String> {
        if let Some(script) = name.strip_prefix("etc/xen/scripts/") {
            return Some(format!("{SCRIPTS}{script}"));
        }
        let folder_and_file = name.rsplit_once('/');
        let terminal = name.contains("/terminfo/")
            && folder_and_file.is_some_and(|(_, file)| TERMINALS.contains(&file));
        let wanted = name.starts_with(&self.own)
            || name.starts_with("usr/bin/xenstore")
            || name == "usr/bin/bash"
            || name == XL_CONF
            || terminal;
        wanted.then(|| name.to_owned())
    }

    /// Adds what the programs in `pending` need, and what that needs.
    fn add_libraries(
        &mut self,
        found: &BTreeMap<String, PathBuf>,
        mut pending: Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        let unwinder = library(found, UNWINDER);
        while let Some((name, bytes)) = pending.pop() {
            let needs = elf::needs(&bytes).with_context(|| format!("cannot read {name}"))?;
            let interpreter = needs.interpreter.map(|path| {
                let path = merged(path.trim_start_matches('/'));
                let file = path.rsplit('/').next().unwrap_or(&path);
                (
                    library(found, file).map(|(_, from)| (path.clone(), from)),
                    path,
                )
            });
            let libraries = needs
                .libraries
                .into_iter()
                .map(|library_name| (library(found, &library_name), library_name));
            for (place, needed) in libraries.chain(interpreter) {
                let (place, file) = place
                    .with_context(|| format!("{name} needs {needed}, which no package has"))?;
                if let Entry::Vacant(entry) = self.files.entry(place) {
                    pending.push((entry.key().clone(), paths::read(&file)?));
                    entry.insert(file);
                }
            }
        }
        if let Some((place, file)) = unwinder {
            self.files.insert(place, file);
        }
        Ok(())
    }

    /// The names of its programs.
    pub(super) fn programs(&self) -> impl Iterator<Item = String> {
        self.files.keys().filter_map(|name| {
            let program = name
                .strip_prefix(&self.own)
                .or_else(|| name.strip_prefix("usr/bin/").filter(|p| *p != "bash"));
            program.map(str::to_owned)
        })
    }

    /// The file with the settings of `xl`, which all roots share.
    pub(super) fn xl_conf(&self) -> Result<Vec<u8>> {
        let file = self.files.get(XL_CONF);
        paths::read(file.with_context(|| format!("there is no {XL_CONF}"))?)
    }

    /// Puts it into an archive, below `root`.
    pub(super) fn add_to(&self, archive: &mut Archive, root: &str) -> Result<()> {
        for folder in MERGED {
            archive.folder(&format!("{root}/usr/{folder}"))?;
            archive.link(&format!("{root}/{folder}"), &format!("usr/{folder}"))?;
        }
        archive.link(&format!("{root}/var/run"), "/run")?;
        archive.link(&format!("{root}/var/lock"), "/run/lock")?;
        for (name, file) in &self.files {
            // Whether it is executable is not known of each file in a cache, and does no harm.
            archive.file(&format!("{root}/{name}"), 0o755, &paths::read(file)?)?;
        }
        Ok(())
    }
}

/// A library by the name under which it is loaded: its place, and the file.
fn library(found: &BTreeMap<String, PathBuf>, name: &str) -> Option<(String, PathBuf)> {
    found
        .iter()
        .find(|(path, _)| {
            path.starts_with("usr/lib") && path.rsplit('/').next().is_some_and(|f| f == name)
        })
        .map(|(path, file)| (path.clone(), file.clone()))
}

/// A name as it is in the merged layout.
fn merged(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{name}"),
        _ => name.to_owned(),
    }
}

/// All files below a folder with their names in it, links to files included.
fn listed(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(folder) = pending.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let Ok(kind) = path.metadata() else {
                // A link that leads out of the package.
                continue;
            };
            if path.is_symlink() && kind.is_dir() {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else if let Some(name) = path.strip_prefix(dir)?.to_str() {
                found.push((name.to_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packages: a release's programs in one, libraries in the layout that was usual before in the other.
    fn packages(name: &str, libraries: &[&str]) -> (PathBuf, Vec<PathBuf>) {
        let dir = std::env::temp_dir().join(format!("oxen-layout-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let put = |name: &str, bytes: &[u8]| {
            let file = dir.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        };
        let program = std::fs::read("/proc/self/exe").unwrap();
        put("a/usr/lib/xen-4.17/bin/xl", &program);
        put("a/usr/lib/xen-4.17/bin/pygrub", b"#!/usr/bin/python3\n");
        put("a/usr/bin/xenstore-ls", &program);
        put("a/usr/bin/other", &program);
        put("a/etc/xen/scripts/block", b"#!/bin/bash\n");
        put("a/lib/terminfo/v/vt102", b"terminal");
        put("a/lib/terminfo/w/wy50", b"terminal");
        put("a/etc/xen/xl.conf", b"# nothing\n");
        put("a/SHA256SUMS", b"");
        let library = b"\x7fELF, and linked to nothing";
        put("b/lib/triplet/no-library", b"");
        for name in libraries {
            put(&format!("b/lib/triplet/{name}"), &static_elf(library));
        }
        let folders = ["a", "b"].map(|n| dir.join(n)).to_vec();
        (dir, folders)
    }

    /// A file header without segments and sections (System V ABI, "ELF Header").
    fn static_elf(rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[52..54].copy_from_slice(&64u16.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    /// What the program of this test needs, as names of libraries.
    fn needed() -> Vec<String> {
        let needs = elf::needs(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
        let interpreter = needs.interpreter.unwrap();
        let file = interpreter.rsplit('/').next().unwrap();
        needs
            .libraries
            .into_iter()
            .chain([file.to_owned()])
            .collect()
    }

    #[test]
    fn programs_come_with_what_they_need_and_nothing_else() {
        let needed = needed();
        let mut libraries: Vec<&str> = needed.iter().map(String::as_str).collect();
        libraries.push("libunused.so.1");
        let (dir, folders) = packages("plan", &libraries);
        let tree = Tree::plan(&folders, "4.17").unwrap();
        let names: Vec<&str> = tree.files.keys().map(String::as_str).collect();
        for name in [
            "usr/lib/xen-4.17/bin/xl",
            "usr/bin/xenstore-ls",
            "etc/xen-scripts/block",
            "usr/lib/terminfo/v/vt102",
            "usr/lib/triplet/libc.so.6",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        for name in ["unused", "pygrub", "other", "wy50", "SHA256SUMS"] {
            assert!(!names.iter().any(|n| n.contains(name)), "{name}");
        }
        let programs: Vec<String> = tree.programs().collect();
        assert_eq!(programs, ["xenstore-ls", "xl"]);
        assert_eq!(tree.xl_conf().unwrap(), b"# nothing\n");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let (dir, folders) = packages("missing", &[]);
        let error = Tree::plan(&folders, "4.17").unwrap_err();
        assert!(
            format!("{error:#}").contains("which no package has"),
            "{error:#}"
        );
        let error = Tree::plan(&folders, "4.20").unwrap_err();
        assert!(format!("{error:#}").contains("usr/lib/xen-4.20/bin/xl"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn old_layouts_are_merged() {
        assert_eq!(merged("lib/x/libc.so.6"), "usr/lib/x/libc.so.6");
        assert_eq!(merged("bin/bash"), "usr/bin/bash");
        assert_eq!(merged("usr/lib/x"), "usr/lib/x");
        assert_eq!(merged("etc/xen/xl.conf"), "etc/xen/xl.conf");
    }
}
