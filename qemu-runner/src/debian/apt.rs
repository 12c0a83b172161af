//! apt with a configuration of its own: another suite and architecture than the machine's, no root, nothing installed.
//!
//! apt still does what it is for: it checks the archive's signature against Debian's keyring and every file against
//! the signed index. Only the mirror's address and the machine's network settings (proxies) are taken over.

use super::Suite;
use crate::paths::{self, Paths};
use crate::process::{find_program, output};
use crate::ui;
use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR_VARIABLE: &str = "OXEN_DEBIAN_MIRROR";

/// apt, looking at one suite for arm64.
pub(super) struct Apt {
    dir: PathBuf,
    suite: Suite,
}

/// What the signed index says about a package.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub version: String,
    pub sha256: String,
    pub file_name: String,
    pub depends: String,
}

/// What stands in the way of using apt here.
pub(super) fn obstacle() -> Option<String> {
    for program in ["apt-get", "apt-cache", "apt-config", "dpkg-deb", "tar"] {
        if find_program(program).is_none() {
            return Some(format!(
                "`{program}` is missing: Debian's kernels are fetched with Debian's tools"
            ));
        }
    }
    archive().err().map(|error| format!("{error:#}"))
}

/// The Debian archive this machine uses: its URI and the keyring that signs it.
pub(super) fn archive() -> Result<(String, PathBuf)> {
    let keyring = PathBuf::from(KEYRING);
    if !keyring.is_file() {
        bail!("{KEYRING} is missing: install it with `apt-get install debian-archive-keyring`");
    }
    if let Ok(uri) = std::env::var(MIRROR_VARIABLE) {
        return Ok((uri, keyring));
    }
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let uri = mirror_in(&targets).with_context(|| {
        format!("this machine's package sources name no Debian archive; set {MIRROR_VARIABLE} to the URI of a Debian mirror")
    })?;
    Ok((uri, keyring))
}

/// The URI of the first source that carries a whole Debian release.
fn mirror_in(targets: &str) -> Option<String> {
    const RELEASES: &[&str] = &[
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ];
    targets.lines().find_map(
        |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [uri, release, "main"] if RELEASES.contains(&release) => {
                Some(uri.trim_end_matches('/').to_owned())
            }
            _ => None,
        },
    )
}

impl Apt {
    /// Prepares the private configuration, and fetches the index where there is none.
    pub(super) fn open(paths: &Paths, suite: Suite) -> Result<Self> {
        let dir = paths
            .cache
            .join("apt")
            .join(format!("{}-arm64", suite.codename()));
        let apt = Self { dir, suite };
        for sub in ["state/lists/partial", "cache/archives/partial", "empty"] {
            paths::make_dir(&apt.dir.join(sub))?;
        }
        let (uri, keyring) = archive()?;
        let source = format!(
            "deb [arch=arm64 signed-by={}] {uri} {} main\n",
            keyring.display(),
            suite.codename()
        );
        let sources = apt.dir.join("sources.list");
        let changed = std::fs::read_to_string(&sources).ok().as_deref() != Some(&source);
        paths::write(&sources, &source)?;
        paths::write(&apt.dir.join("status"), "")?;
        let network = output(Command::new("apt-config").arg("dump"))?;
        paths::write(
            &apt.dir.join("apt.conf"),
            configuration(&apt.dir, &network)?,
        )?;
        if changed || apt.show("busybox-static").is_err() {
            apt.update()?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }

    /// Fetches the signed index.
    pub(super) fn update(&self) -> Result<()> {
        let _step = ui::Step::start(format!(
            "fetching the package index of Debian {} for arm64",
            self.suite.codename()
        ));
        output(self.command("apt-get").args(["--error-on=any", "update"]))
            .map(drop)
            .with_context(|| format!("Debian {} cannot be read from this mirror (set {MIRROR_VARIABLE} to use another)", self.suite.codename()))
    }

    pub(super) fn show(&self, package: &str) -> Result<Record> {
        let text = output(
            self.command("apt-cache")
                .args(["show", "--no-all-versions", package]),
        )?;
        parse_record(&text)
            .with_context(|| format!("apt knows no {package} in {}", self.suite.codename()))
    }

    /// Downloads a package into `dir`.
    pub(super) fn download(&self, package: &str, version: &str, dir: &Path) -> Result<()> {
        let _step = ui::Step::start(format!(
            "downloading {package} {version} (Debian {})",
            self.suite.codename()
        ));
        output(
            self.command("apt-get")
                .current_dir(dir)
                .arg("download")
                .arg(format!("{package}={version}")),
        )
        .map(drop)
    }
}

/// apt's configuration: nothing of the machine's own state, but its way to the network.
fn configuration(dir: &Path, machine: &str) -> Result<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut text = String::new();
    for line in machine.lines().filter(|line| line.starts_with("Acquire::")) {
        if ![
            "Acquire::IndexTargets",
            "Acquire::Languages",
            "Acquire::Changelogs",
        ]
        .iter()
        .any(|skip| line.starts_with(skip))
        {
            writeln!(text, "{line}")?;
        }
    }
    for (key, value) in [
        ("Dir::State", at("state")),
        ("Dir::State::status", at("status")),
        ("Dir::Cache", at("cache")),
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", at("empty")),
        ("Dir::Etc::parts", at("empty")),
        ("Dir::Etc::main", "/dev/null".to_owned()),
        ("Dir::Etc::preferences", "/dev/null".to_owned()),
        ("Dir::Etc::preferencesparts", at("empty")),
        ("Acquire::Languages", "none".to_owned()),
        ("APT::Architecture", "arm64".to_owned()),
        ("APT::Architectures", "arm64".to_owned()),
        // The download goes to the user's own folder, where apt's own user may not write.
        ("APT::Sandbox::User", String::new()),
    ] {
        writeln!(text, "{key} \"{value}\";")?;
    }
    Ok(text)
}

/// The first paragraph of `apt-cache show`.
fn parse_record(text: &str) -> Option<Record> {
    let paragraph = text.split("\n\n").next()?;
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(|value| value.trim().to_owned())
    };
    Some(Record {
        version: field("Version")?,
        sha256: field("SHA256")?,
        file_name: field("Filename")?.rsplit('/').next()?.to_owned(),
        depends: field("Depends").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_with_the_release_itself() {
        let targets = "http://m.example/debian/ bookworm-backports main\nhttp://s.example/debian-security/ bookworm-security main\n\
                       http://m.example/debian/ bookworm contrib\nhttp://m.example/debian/ bookworm main\n";
        assert_eq!(
            mirror_in(targets).as_deref(),
            Some("http://m.example/debian")
        );
        assert_eq!(mirror_in("http://u.example/ubuntu/ noble main\n"), None);
        assert_eq!(mirror_in(""), None);
    }

    #[test]
    fn records_are_read_from_the_first_paragraph() {
        let text = "Package: a\nVersion: 1:2.0-1\nDepends: b (= 1), c\nFilename: pool/main/a/a_2.0-1_arm64.deb\nSHA256: 00ff\n\nPackage: a\nVersion: 1\n";
        let record = parse_record(text).unwrap();
        assert_eq!(
            (record.version.as_str(), record.sha256.as_str()),
            ("1:2.0-1", "00ff")
        );
        assert_eq!(record.file_name, "a_2.0-1_arm64.deb");
        assert_eq!(record.depends, "b (= 1), c");
        assert_eq!(parse_record("Package: a\nVersion: 1\n"), None);
    }

    #[test]
    fn proxies_are_kept_and_the_machine_state_is_not() {
        let machine = "Acquire::http::Proxy \"http://p.example:3128\";\nDir::State \"/var/lib/apt\";\nAcquire::IndexTargets::deb::DEP-11 \"\";\n";
        let text = configuration(Path::new("/c"), machine).unwrap();
        assert!(text.contains("p.example"));
        assert!(!text.contains("/var/lib/apt") && !text.contains("DEP-11"));
        assert!(text.contains("Dir::State \"/c/state\";"));
    }
}
