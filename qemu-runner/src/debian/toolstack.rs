//! Debian's toolstack of a release of Xen, and a kernel for the guests that it creates.

use super::{Kernel, Suite, deb, deb_arch, kernel_in, package};
use crate::cli::Arch;
use crate::paths::Paths;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a guest's kernel needs: its own image, and the drivers of disks and network cards.
const GUEST_PARTS: &[&str] = &["./boot/vmlinuz-*", "*/xen-blkfront*", "*/xen-netfront*"];

/// The folders of all packages that the toolstack of `release` (such as `4.17`) consists of, as `suite` has them: its
/// programs, the shell for its scripts, descriptions of terminals, and every library that one of them depends on.
pub(crate) fn toolstack(
    paths: &Paths,
    suite: Suite,
    arch: Arch,
    release: &str,
) -> Result<Vec<PathBuf>> {
    let mut names: Vec<String> = [
        &format!("xen-utils-{release}"),
        "xenstore-utils",
        "xen-utils-common",
        "bash",
        "ncurses-base",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut seen: BTreeSet<String> = names.iter().cloned().collect();
    let mut folders = Vec::new();
    while let Some(name) = names.pop() {
        let folder = package(paths, suite, arch, &name, parts(&name)).with_context(|| {
            format!(
                "{name} is part of the toolstack of Xen {release} (Debian {})",
                suite.codename()
            )
        })?;
        for needed in deb::depends(&folder)? {
            if is_library(&needed) && seen.insert(needed.clone()) {
                names.push(needed);
            }
        }
        folders.push(folder);
    }
    folders.sort();
    Ok(folders)
}

/// Whether its programs are in the cache, without looking at their checksums.
pub(crate) fn has_toolstack(paths: &Paths, suite: Suite, arch: Arch, release: &str) -> bool {
    deb::is_cached(paths, suite, arch, &format!("xen-utils-{release}"))
}

/// A kernel that boots as a guest of each toolstack: compressed in a way that the oldest of them can undo.
pub(crate) fn guest_kernel(paths: &Paths, arch: Arch) -> Result<Kernel> {
    let package = format!("linux-image-cloud-{}", deb_arch(arch));
    kernel_in(paths, Suite::Bookworm, arch, &package, GUEST_PARTS)
}

/// Which files of a package are unpacked.
fn parts(package: &str) -> &'static [&'static str] {
    match package {
        "xen-utils-common" => &["./etc/xen/*"],
        "ncurses-base" => &["*/terminfo/*"],
        name if is_library(name) => &["*.so*"],
        _ => &["*bin/*"],
    }
}

/// Whether a package has shared libraries, going by its name: the toolstack depends on nothing else that runs.
fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package == "zlib1g"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_followed_and_interpreters_are_not() {
        for name in ["libc6", "libxenmisc4.17", "zlib1g", "libext2fs2t64"] {
            assert!(is_library(name) && parts(name) == ["*.so*"], "{name}");
        }
        for name in ["python3", "udev", "ucf", "xen-utils-4.14", "bash"] {
            assert!(!is_library(name), "{name}");
        }
        assert_eq!(parts("xen-utils-4.14"), ["*bin/*"]);
    }
}
