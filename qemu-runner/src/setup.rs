//! What is needed, whether it is there, and how it gets there.

use crate::cli::{Arch, SetupArgs};
use crate::debian::{self, Suite};
use crate::paths::Paths;
use crate::process::{self, find_program};
use crate::ui::{self, say};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// The oldest QEMU that emulates what Oxen needs.
const QEMU_MAJOR: u32 = 8;
const QEMU: &str = "qemu-system-aarch64";

/// `cargo xen setup`.
pub(crate) fn setup(paths: &Paths, args: &SetupArgs) -> Result<u8> {
    for arch in [Arch::Aarch64, Arch::X86_64] {
        rust_target(arch.triple())?;
    }
    if let Err(error) = qemu() {
        if !args.yes && ui::animated() {
            say!("{error:#}");
            bail!("`cargo xen setup --yes` installs it");
        }
        install_qemu()?;
        qemu()?;
    }
    debian::busybox(paths)?;
    debian::kernel(paths, Suite::Bookworm)?;
    if !args.minimal {
        debian::xen(paths)?;
        for suite in [Suite::Bullseye, Suite::Trixie] {
            debian::kernel(paths, suite)?;
        }
    }
    say!("everything is there");
    Ok(0)
}

/// `cargo xen doctor`.
pub(crate) fn doctor(paths: &Paths) -> Result<u8> {
    let mut missing = 0;
    let mut report = |what: &str, problem: Option<String>| match problem {
        None => println!("ok       {what}"),
        Some(problem) => {
            missing += 1;
            println!("MISSING  {what}: {problem}");
        }
    };
    for arch in [Arch::Aarch64, Arch::X86_64] {
        let triple = arch.triple();
        let problem = (!has_target(triple)).then(|| format!("`rustup target add {triple}`"));
        report(&format!("Rust target {triple}"), problem);
    }
    report(QEMU, qemu().err().map(|e| format!("{e:#}")));
    report("Debian's archive", debian::obstacle());
    for suite in Suite::ALL {
        let problem =
            (!debian::has_kernel(paths, suite)).then(|| "`cargo xen setup` fetches it".to_owned());
        report(&format!("kernel of {}", suite.dom0_name()), problem);
    }
    Ok(u8::from(missing > 0))
}

/// Whether the compiler has the target's library.
fn has_target(triple: &str) -> bool {
    let sysroot = process::output(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        triple,
    ]));
    sysroot.is_ok_and(|dir| PathBuf::from(dir.trim()).is_dir())
}

/// Makes sure that the compiler can build for a bare-metal target.
pub(crate) fn rust_target(triple: &str) -> Result<()> {
    if has_target(triple) {
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", triple]);
    if find_program("rustup").is_some() {
        let _step = ui::Step::start(format!("installing Rust's target {triple}"));
        if process::output(&mut command).is_ok() && has_target(triple) {
            return Ok(());
        }
    }
    bail!(
        "Rust cannot build for {triple}. With rustup:\n  {}\nWithout, a distribution's compiler with its library source can \
         (on Debian: apt-get install rustc-web cargo-web rust-web-src lld-22):\n  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
         /usr/bin/cargo build -Zbuild-std=core,alloc,compiler_builtins \
         -Zbuild-std-features=compiler-builtins-mem --package boot --bin oxen --release --target {triple}",
        process::show(&command)
    );
}

/// QEMU for arm64.
pub(crate) fn qemu() -> Result<PathBuf> {
    let path = find_program(QEMU).with_context(|| format!("{QEMU} is missing: {}", advice()))?;
    let text = process::output(Command::new(&path).arg("--version"))?;
    let major = version(&text).with_context(|| format!("{QEMU} does not tell its version"))?;
    if major < QEMU_MAJOR {
        bail!(
            "{QEMU} is version {major}, and {QEMU_MAJOR} is needed: {}",
            advice()
        );
    }
    Ok(path)
}

fn version(text: &str) -> Option<u32> {
    text.split("version ")
        .nth(1)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn advice() -> String {
    "install QEMU 8 or later for arm64 (Debian 13: apt-get install qemu-system-arm; Debian 12: the same from \
     bookworm-backports; Fedora: dnf install qemu-system-aarch64; macOS: brew install qemu)"
        .to_owned()
}

fn codename() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let debian = text.lines().any(|l| l == "ID=debian");
    let name = text
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    debian.then(|| name.trim_matches('"').to_owned())
}

/// Installs QEMU with Debian's package client.
fn install_qemu() -> Result<()> {
    let Some(codename) = codename() else {
        bail!("{QEMU} is missing: {}", advice())
    };
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "{QEMU} is missing and only root can install it: sudo cargo xen setup --yes, or {}",
            advice()
        );
    }
    let backports = format!("{codename}-backports");
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "-y",
        "--no-install-recommends",
    ]);
    if codename == "bookworm" {
        let (uri, keyring) = debian::archive()?;
        let source = format!(
            "Types: deb\nURIs: {uri}\nSuites: {backports}\nComponents: main\nSigned-By: {}\n",
            keyring.display()
        );
        let file = format!("/etc/apt/sources.list.d/{backports}.sources");
        say!("adding {file}, since Debian 12's own QEMU is too old");
        std::fs::write(&file, source).with_context(|| format!("cannot write {file}"))?;
        install.args(["-t", &backports]);
    }
    install.arg("qemu-system-arm");
    let _step = ui::Step::start("installing QEMU for arm64");
    process::output(Command::new("apt-get").arg("update"))?;
    process::output(&mut install).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"),
            Some(10)
        );
        assert_eq!(version("something else"), None);
    }
}
