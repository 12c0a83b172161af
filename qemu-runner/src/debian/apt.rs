//! apt with a configuration of its own: another suite and architecture than the machine's, no root, nothing installed.
//!
//! apt still does what it is for: it checks the archive's signature against Debian's keyring and every file against
//! the signed index. Only the mirror's address and the machine's network settings (proxies) are taken over.

use super::{Suite, deb_arch};
use crate::cli::Arch;
use crate::paths::{self, Paths};
use crate::process::{Child, find_program, interrupted, output, show};
use crate::ui;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR_VARIABLE: &str = "OXEN_DEBIAN_MIRROR";

/// The folders whose configuration and index this process has looked at: doing it again for each package takes long.
static OPENED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// apt, looking at one suite for one architecture.
pub(super) struct Apt {
    dir: PathBuf,
    suite: Suite,
    arch: Arch,
}

/// What the signed index says about a package.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub version: String,
    pub sha256: String,
    pub file_name: String,
    /// Bytes of the package.
    pub size: u64,
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
    pub(super) fn open(paths: &Paths, suite: Suite, arch: Arch) -> Result<Self> {
        let dir = paths
            .cache
            .join("apt")
            .join(format!("{}-{}", suite.codename(), deb_arch(arch)));
        let apt = Self { dir, suite, arch };
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.contains(&apt.dir) {
            return Ok(apt);
        }
        for sub in ["state/lists/partial", "cache/archives/partial", "empty"] {
            paths::make_dir(&apt.dir.join(sub))?;
        }
        let (uri, keyring) = archive()?;
        let source = format!(
            "deb [arch={} signed-by={}] {uri} {} main\n",
            deb_arch(arch),
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
            configuration(&apt.dir, arch, &network)?,
        )?;
        if changed || apt.show("busybox-static").is_err() {
            apt.update()?;
        }
        opened.insert(apt.dir.clone());
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
            "fetching the package index of Debian {} for {}",
            self.suite.codename(),
            deb_arch(self.arch)
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

    /// Downloads a package into `dir`, which is empty.
    pub(super) fn download(&self, package: &str, record: &Record, dir: &Path) -> Result<()> {
        let version = &record.version;
        let step = ui::Step::bytes(
            format!(
                "downloading {package} {version} (Debian {})",
                self.suite.codename()
            ),
            record.size,
        );
        let mut command = self.command("apt-get");
        command
            .current_dir(dir)
            .args(["download", &format!("{package}={version}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command)?;
        let stderr = child.take_stderr();
        let words = std::thread::spawn(move || {
            let mut words = String::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_string(&mut words);
            }
            words
        });
        let status = loop {
            let soon = Instant::now() + Duration::from_millis(100);
            if let Some(status) = child.wait_until(Some(soon))? {
                break status;
            }
            step.reached(total_size(dir));
        };
        if interrupted() {
            bail!("interrupted");
        }
        if !status.success() {
            let words = words.join().unwrap_or_default();
            bail!("{} failed ({status}): {}", show(&command), words.trim());
        }
        Ok(())
    }
}

/// Bytes in the files of a folder.
fn total_size(dir: &Path) -> u64 {
    std::fs::read_dir(dir).map_or(0, |entries| {
        entries
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .map(|m| m.len())
            .sum()
    })
}

/// apt's configuration: nothing of the machine's own state, but its way to the network.
fn configuration(dir: &Path, arch: Arch, machine: &str) -> Result<String> {
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
        ("APT::Architecture", deb_arch(arch).to_owned()),
        ("APT::Architectures", deb_arch(arch).to_owned()),
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
        size: field("Size").and_then(|s| s.parse().ok()).unwrap_or(0),
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
        let text = "Package: a\nVersion: 1:2.0-1\nDepends: b (= 1), c\nFilename: pool/main/a/a_2.0-1_arm64.deb\nSize: 77\nSHA256: 00ff\n\nPackage: a\nVersion: 1\n";
        let record = parse_record(text).unwrap();
        assert_eq!(
            (record.version.as_str(), record.sha256.as_str()),
            ("1:2.0-1", "00ff")
        );
        assert_eq!(record.file_name, "a_2.0-1_arm64.deb");
        assert_eq!(record.depends, "b (= 1), c");
        assert_eq!(record.size, 77);
        assert_eq!(parse_record("Package: a\nVersion: 1\n"), None);
    }

    #[test]
    fn proxies_are_kept_and_the_machine_state_is_not() {
        let machine = "Acquire::http::Proxy \"http://p.example:3128\";\nDir::State \"/var/lib/apt\";\nAcquire::IndexTargets::deb::DEP-11 \"\";\n";
        let text = configuration(Path::new("/c"), Arch::X86_64, machine).unwrap();
        assert!(text.contains("p.example"));
        assert!(!text.contains("/var/lib/apt") && !text.contains("DEP-11"));
        assert!(text.contains("Dir::State \"/c/state\";"));
        assert!(text.contains("APT::Architecture \"amd64\";"));
    }
}
