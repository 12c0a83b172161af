//! A Rust that compiles for bare metal: the user's own with rustup's prebuilt libraries, else Debian's compiler, which
//! brings the library's source and compiles it too.

use crate::cli::Arch;
use crate::packages::{self, Packages};
use crate::process::{self, find_program, is_executable};
use crate::ui::{self, say};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// `rustup` or `debian`: take this one and no other.
const VARIABLE: &str = "OXEN_TOOLCHAIN";

const DEBIAN: Packages = Packages {
    what: "a Rust compiler with its library source",
    names: &["rustc-web", "cargo-web", "rust-web-src", "lld-22"],
    backports: false,
    elsewhere: "rustup (https://rustup.rs) is the simplest way",
};
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/ld.lld-22";
/// Below the sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";
/// The oldest release that compiles Oxen: `rust-version` in Cargo.toml.
const OLDEST: u32 = 88;

/// How bare-metal code is compiled for one architecture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Toolchain {
    /// The compiler in use has the target's libraries.
    Prebuilt,
    /// Debian's compiler; `core` and `alloc` are compiled from source.
    Debian,
}

/// Which ones may be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Choice {
    Any,
    OnlyPrebuilt,
    OnlyDebian,
}

impl Choice {
    fn from(value: Option<&str>) -> Result<Self> {
        match value {
            None | Some("") => Ok(Self::Any),
            Some("rustup") => Ok(Self::OnlyPrebuilt),
            Some("debian") => Ok(Self::OnlyDebian),
            Some(other) => bail!("{VARIABLE} is `{other}`; it can be `rustup` or `debian`"),
        }
    }

    fn get() -> Result<Self> {
        Self::from(std::env::var(VARIABLE).ok().as_deref())
    }
}

impl Toolchain {
    /// The toolchain that is there; `None` if one has to be installed. Changes nothing.
    pub(crate) fn find(arch: Arch) -> Result<Option<Self>> {
        let choice = Choice::get()?;
        if choice != Choice::OnlyDebian && has_target(arch.triple()) {
            return Ok(Some(Self::Prebuilt));
        }
        if choice != Choice::OnlyPrebuilt && debian_is_there() {
            return Ok(Some(Self::Debian));
        }
        Ok(None)
    }

    /// Finds or installs a toolchain: targets that are there, then rustup, then Debian's packages, then the user.
    pub(crate) fn get(arch: Arch) -> Result<Self> {
        let triple = arch.triple();
        let choice = Choice::get()?;
        if choice != Choice::OnlyDebian && (has_target(triple) || add_target(triple)) {
            return Ok(Self::Prebuilt);
        }
        if choice != Choice::OnlyPrebuilt {
            if debian_is_there() {
                say!("compiling with Debian's Rust, its library too");
                return Ok(Self::Debian);
            }
            match packages::install(DEBIAN) {
                Ok(()) if debian_is_there() => return Ok(Self::Debian),
                Ok(()) => bail!("Debian's Rust was installed, but {DEBIAN_RUSTC} cannot be used"),
                Err(error) if choice == Choice::OnlyDebian => return Err(error),
                // Its words are what `help` says too, or why apt failed.
                Err(error) => bail!(
                    "Rust cannot compile for {triple}. {}\nWithout, {error:#}",
                    with_rustup(triple)
                ),
            }
        }
        bail!("Rust cannot compile for {triple}. {}", with_rustup(triple))
    }

    /// `cargo SUBCOMMAND` for the architecture's bare-metal target.
    pub(crate) fn cargo(&self, subcommand: &str, arch: Arch) -> Command {
        let mut command = match self {
            Self::Prebuilt => {
                Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            }
            Self::Debian => Command::new(DEBIAN_CARGO),
        };
        command.args([subcommand, "--target", arch.triple()]);
        if *self == Self::Debian {
            let variable = arch.triple().to_ascii_uppercase().replace('-', "_");
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTDOC", "/usr/bin/rustdoc")
                // A released compiler takes -Z only with this.
                .env("RUSTC_BOOTSTRAP", "1")
                .env(format!("CARGO_TARGET_{variable}_LINKER"), DEBIAN_LINKER)
                // Those are rustup's, for another compiler.
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("LD_LIBRARY_PATH")
                .args([
                    "-Zbuild-std=core,alloc,compiler_builtins",
                    "-Zbuild-std-features=compiler-builtins-mem",
                ]);
        }
        command
    }

    /// For people.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Prebuilt => "prebuilt libraries",
            Self::Debian => "Debian's compiler, compiling the library",
        }
    }
}

/// The commands with which a user gets a toolchain.
pub(crate) fn help(triple: &str) -> String {
    format!(
        "{}\nWithout, {}",
        with_rustup(triple),
        packages::advice(DEBIAN)
    )
}

fn with_rustup(triple: &str) -> String {
    format!("With rustup:\n    rustup target add {triple}")
}

/// Whether the compiler in PATH has the target's library.
fn has_target(triple: &str) -> bool {
    let libraries = process::output(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        triple,
    ]));
    libraries.is_ok_and(|dir| has_core(Path::new(dir.trim())))
}

fn has_core(libraries: &Path) -> bool {
    std::fs::read_dir(libraries).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// Installs a target with rustup, if rustup is there and can.
fn add_target(triple: &str) -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    let _step = ui::Step::start(format!("installing Rust's target {triple}"));
    match process::output(Command::new("rustup").args(["target", "add", triple])) {
        Ok(_) => has_target(triple),
        Err(error) => {
            say!("{error:#}");
            false
        }
    }
}

fn debian_is_there() -> bool {
    [DEBIAN_CARGO, DEBIAN_LINKER]
        .iter()
        .all(|f| is_executable(Path::new(f)))
        && release(&command_output(DEBIAN_RUSTC, &["--version"])).is_some_and(|r| r >= OLDEST)
        && PathBuf::from(command_output(DEBIAN_RUSTC, &["--print", "sysroot"]).trim())
            .join(LIBRARY)
            .is_file()
}

fn command_output(program: &str, args: &[&str]) -> String {
    process::output(
        Command::new(program)
            .args(args)
            .env_remove("LD_LIBRARY_PATH"),
    )
    .unwrap_or_default()
}

/// The 96 of `rustc 1.96.0 (...)`.
fn release(version: &str) -> Option<u32> {
    version
        .strip_prefix("rustc 1.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        assert_eq!(Choice::from(None).unwrap(), Choice::Any);
        assert_eq!(Choice::from(Some("rustup")).unwrap(), Choice::OnlyPrebuilt);
        assert_eq!(Choice::from(Some("debian")).unwrap(), Choice::OnlyDebian);
        let error = Choice::from(Some("gcc")).unwrap_err().to_string();
        assert!(error.contains("gcc") && error.contains("debian"));
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(release("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some(96));
        assert_eq!(release("rustc 1.63.0"), Some(63));
        assert_eq!(release(""), None);
    }

    #[test]
    fn an_empty_folder_is_no_target() {
        let dir = std::env::temp_dir().join(format!("oxen-target-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(!has_core(&dir));
        std::fs::write(dir.join("libcore-0123.rlib"), "").unwrap();
        assert!(has_core(&dir));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn debians_compiler_builds_the_library_too() {
        let line = process::show(&Toolchain::Debian.cargo("build", Arch::X86_64));
        for part in [
            "RUSTC=/usr/bin/rustc",
            "RUSTC_BOOTSTRAP=1",
            "CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER=/usr/bin/ld.lld-22",
            "/usr/bin/cargo build --target x86_64-unknown-none",
            "-Zbuild-std=core,alloc,compiler_builtins",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn the_user_is_told_what_to_type() {
        assert!(help("x86_64-unknown-none").contains("rustup target add x86_64-unknown-none"));
    }
}
