//! Xen's toolstack in dom0: Debian's own programs of one or more releases, and a guest for them.
//!
//! Each release has a root of its own below `/toolstack`, with its own C library, so that several do not disturb each other
//! ([`layout`] says what is in it). What dom0 shares with them is bound into these roots by `start.sh`, which also runs the
//! daemons; `run.sh` stands for each of their programs in dom0's own `PATH`. [`guest`] is what they create.

mod elf;
mod guest;
mod layout;

use crate::cli::Arch;
use crate::debian::{self, Suite};
use crate::initramfs::Archive;
use crate::paths::{self, Paths};
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use guest::Guest;
use layout::Tree;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Modules of dom0's kernel for the devices that it gives to guests.
pub(crate) const DRIVERS: [&str; 2] = ["xen-netback", "xen-blkback"];

/// Programs of dom0 itself.
const SCRIPTS: [(&str, &str); 5] = [
    ("toolstack/start", include_str!("toolstack/start.sh")),
    ("toolstack/run", include_str!("toolstack/run.sh")),
    ("usr/bin/with", include_str!("toolstack/with.sh")),
    (
        "usr/bin/guest-wait",
        include_str!("toolstack/guest-wait.sh"),
    ),
    (
        "usr/bin/guest-send",
        include_str!("toolstack/guest-send.sh"),
    ),
];

/// A release of Xen whose toolstack Debian has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Release {
    /// Debian 11.
    #[value(name = "4.14")]
    V4_14,
    /// Debian 12.
    #[value(name = "4.17")]
    V4_17,
    /// Debian 13.
    #[value(name = "4.20")]
    V4_20,
}

impl Release {
    pub(crate) const ALL: [Self; 3] = [Self::V4_14, Self::V4_17, Self::V4_20];

    /// As in the names of Debian's packages.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::V4_14 => "4.14",
            Self::V4_17 => "4.17",
            Self::V4_20 => "4.20",
        }
    }

    /// Whether its programs were fetched before.
    pub(crate) fn is_cached(self, paths: &Paths, arch: Arch) -> bool {
        debian::has_toolstack(paths, self.suite(), arch, self.number())
    }

    /// The Debian release that has it.
    fn suite(self) -> Suite {
        match self {
            Self::V4_14 => Suite::Bullseye,
            Self::V4_17 => Suite::Bookworm,
            Self::V4_20 => Suite::Trixie,
        }
    }
}

/// Toolstacks, and a guest for them, ready to be put into an initramfs.
pub(crate) struct Toolstacks {
    /// The first is the one that runs the daemons.
    trees: Vec<(Release, Tree)>,
    guest: Guest,
    busybox: PathBuf,
}

impl Toolstacks {
    /// Collects what `releases`, of which there is at least one, need.
    pub(crate) fn fetch(paths: &Paths, arch: Arch, releases: &[Release]) -> Result<Self> {
        let mut trees = Vec::new();
        for release in releases {
            let number = release.number();
            let packages = debian::toolstack(paths, release.suite(), arch, number)?;
            let tree = Tree::plan(&packages, number)
                .with_context(|| format!("the toolstack of Xen {number} is not complete"))?;
            trees.push((*release, tree));
        }
        Ok(Self {
            trees,
            guest: Guest::fetch(paths, arch)?,
            busybox: debian::busybox(paths, arch)?,
        })
    }

    /// Puts all of it into dom0's initramfs.
    pub(crate) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        let busybox = paths::read(&self.busybox)?;
        let mut programs = BTreeSet::new();
        if let Some((_, first)) = self.trees.first() {
            archive.file("etc/xen/xl.conf", 0o644, &first.xl_conf()?)?;
        }
        for (release, tree) in &self.trees {
            let root = format!("toolstack/{}", release.number());
            tree.add_to(archive, &root)?;
            archive.file(&format!("{root}/usr/bin/busybox"), 0o755, &busybox)?;
            programs.extend(tree.programs());
        }
        let numbers: Vec<&str> = self.trees.iter().map(|(r, _)| r.number()).collect();
        for (name, text) in SCRIPTS {
            archive.file(name, 0o755, filled_in(text, &numbers).as_bytes())?;
        }
        for program in programs {
            archive.link(&format!("usr/sbin/{program}"), "/toolstack/run")?;
        }
        self.guest.add_to(archive)
    }
}

/// A script with the names of the releases in it.
fn filled_in(script: &str, numbers: &[&str]) -> String {
    script
        .replace("@RELEASES@", &numbers.join(" "))
        .replace("@DEFAULT@", numbers.first().unwrap_or(&""))
        .replace("@UP@", guest::UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_called_as_in_debians_packages() {
        for release in Release::ALL {
            assert_eq!(Release::from_str(release.number(), false), Ok(release));
        }
        assert_eq!(Release::V4_14.suite(), Suite::Bullseye);
        assert_eq!(Release::V4_20.suite(), Suite::Trixie);
    }

    #[test]
    fn scripts_know_their_releases() {
        for (name, text) in SCRIPTS {
            let text = filled_in(text, &["4.17", "4.20"]);
            assert!(text.starts_with("#!/bin/busybox sh\n"), "{name}");
            assert!(!text.contains('@') || text.contains("\"$@\""), "{name}");
            assert!(!text.contains("@RELEASES@") && !text.contains("@DEFAULT@"));
        }
        assert!(filled_in(SCRIPTS[2].1, &["4.17", "4.20"]).contains("4.17 4.20"));
        assert!(filled_in(SCRIPTS[1].1, &["4.17", "4.20"]).contains(":-4.17}"));
    }
}
