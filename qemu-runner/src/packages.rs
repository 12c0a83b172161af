//! Programs of the machine that the runner needs: found, installed where Debian's package client and the right to use
//! it are there, and otherwise described by the commands that a user has to type.

use crate::debian;
use crate::process::{self, find_program, quote};
use crate::ui::{self, say};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// The Debian release whose own QEMU is too old.
const OLD: &str = "bookworm";

/// Set by `--yes`.
static ASK_NOTHING: AtomicBool = AtomicBool::new(false);

/// From here on nothing is asked before it is installed.
pub(crate) fn ask_nothing() {
    ASK_NOTHING.store(true, Ordering::Relaxed);
}

/// Debian packages that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packages {
    /// What they are for, as a noun.
    pub what: &'static str,
    pub names: &'static [&'static str],
    /// Debian 12 has them new enough only in its backports.
    pub backports: bool,
    /// How other systems name them.
    pub elsewhere: &'static str,
}

/// The machine's Debian release, if it is Debian.
fn codename() -> Option<String> {
    codename_in(&std::fs::read_to_string("/etc/os-release").ok()?)
}

fn codename_in(os_release: &str) -> Option<String> {
    let debian = os_release.lines().any(|l| l == "ID=debian");
    let name = os_release
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    debian.then(|| name.trim_matches('"').to_owned())
}

/// Whether apt already reads the backports.
fn has_backports() -> bool {
    process::output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE)"]))
        .is_ok_and(|text| text.lines().any(|l| l == format!("{OLD}-backports")))
}

/// What has to be done for some packages on this machine.
#[derive(Debug, Eq, PartialEq)]
struct Plan {
    /// A source for apt: file and content.
    source: Option<(String, String)>,
    install: Vec<String>,
}

impl Plan {
    /// `backports`: the mirror and the keyring, where apt does not read them yet.
    fn new(packages: Packages, codename: &str, backports: Option<(String, String)>) -> Self {
        let mut install: Vec<String> = ["install", "-y", "--no-install-recommends"]
            .map(str::to_owned)
            .to_vec();
        let mut source = None;
        if packages.backports && codename == OLD {
            install.extend(["-t".to_owned(), format!("{OLD}-backports")]);
            source = backports.map(|(uri, keyring)| {
                (
                    format!("/etc/apt/sources.list.d/{OLD}-backports.sources"),
                    format!(
                        "Types: deb\nURIs: {uri}\nSuites: {OLD}-backports\nComponents: main\nSigned-By: {keyring}\n"
                    ),
                )
            });
        }
        install.extend(packages.names.iter().map(|n| (*n).to_owned()));
        Self { source, install }
    }

    /// The same as lines for root's shell.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((file, content)) = &self.source {
            let words: Vec<String> = content.lines().map(quote).collect();
            lines.push(format!(r"printf '%s\n' {} > {file}", words.join(" ")));
        }
        lines.push("apt-get update".to_owned());
        lines.push(format!("apt-get {}", self.install.join(" ")));
        lines
    }
}

fn plan(packages: Packages) -> Option<Plan> {
    let codename = codename()?;
    find_program("apt-get")?;
    let backports = (packages.backports && codename == OLD && !has_backports())
        .then(|| debian::archive().ok())
        .flatten()
        .map(|(uri, keyring)| (uri, keyring.display().to_string()));
    Some(Plan::new(packages, &codename, backports))
}

/// What the user can do to get `packages`, as lines to type where they are known.
pub(crate) fn advice(packages: Packages) -> String {
    let Some(plan) = plan(packages) else {
        return format!("install {}: {}", packages.what, packages.elsewhere);
    };
    let lines: Vec<String> = plan.lines().iter().map(|l| format!("\n    {l}")).collect();
    format!(
        "to install {}, type as root:{}",
        packages.what,
        lines.concat()
    )
}

/// Installs `packages` with Debian's package client, after asking if somebody can answer.
pub(crate) fn install(packages: Packages) -> Result<()> {
    let plan = plan(packages).filter(|_| nix::unistd::geteuid().is_root());
    let Some(plan) = plan else {
        bail!(advice(packages));
    };
    let names = packages.names.join(" ");
    if !ASK_NOTHING.load(Ordering::Relaxed)
        && !ui::agreed(&format!(
            "{} is needed. Install Debian's {names} on this machine?",
            packages.what
        ))
    {
        bail!(advice(packages));
    }
    if let Some((file, content)) = &plan.source {
        say!("adding {file}, since Debian 12's own packages are too old");
        std::fs::write(Path::new(file), content).with_context(|| format!("cannot write {file}"))?;
    }
    let _step = ui::Step::start(format!("installing {} ({names})", packages.what));
    let failed = || format!("cannot install by itself; {}", advice(packages));
    process::output(Command::new("apt-get").arg("update")).with_context(failed)?;
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(&plan.install);
    process::output(&mut command).map(drop).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: Packages = Packages {
        what: "an emulator",
        names: &["qemu-system-arm"],
        backports: true,
        elsewhere: "somehow",
    };

    #[test]
    fn only_debian_counts_as_debian() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename_in(debian).as_deref(), Some("bookworm"));
        assert_eq!(codename_in("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename_in("ID=debian\n"), None);
    }

    #[test]
    fn backports_are_used_on_debian_12_only() {
        let mirror = || Some(("http://m.example/debian".to_owned(), "/k.gpg".to_owned()));
        let lines = Plan::new(QEMU, "bookworm", mirror()).lines();
        assert_eq!(
            lines,
            [
                r"printf '%s\n' 'Types: deb' 'URIs: http://m.example/debian' 'Suites: bookworm-backports' 'Components: main' 'Signed-By: /k.gpg' > /etc/apt/sources.list.d/bookworm-backports.sources",
                "apt-get update",
                "apt-get install -y --no-install-recommends -t bookworm-backports qemu-system-arm",
            ]
        );
        let there_already = Plan::new(QEMU, "bookworm", None).lines();
        assert_eq!(there_already, lines[1..]);
        let trixie = Plan::new(QEMU, "trixie", mirror()).lines();
        assert_eq!(
            trixie[1],
            "apt-get install -y --no-install-recommends qemu-system-arm"
        );
        assert_eq!(trixie.len(), 2);
    }

    #[test]
    fn plain_packages_need_no_backports() {
        let plain = Packages {
            backports: false,
            ..QEMU
        };
        let plan = Plan::new(plain, "bookworm", Some(("u".into(), "k".into())));
        assert_eq!(plan.source, None);
        assert!(!plan.install.contains(&"-t".to_owned()));
    }
}
