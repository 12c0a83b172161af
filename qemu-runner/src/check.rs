//! `cargo xen check`: format, lints and documentation for every target and feature set, and the layers.

use crate::cli::Arch;
use crate::paths::Paths;
use crate::process;
use crate::toolchain::Toolchain;
use crate::ui;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;

/// Feature sets of the arm64 hypervisor beside the default one.
const FEATURES: [&str; 7] = [
    "",
    "gicv2",
    "gicv3",
    "gicv2,gicv3,sched_null",
    "gicv3,sched_fair,debug_keys",
    "gicv2,gicv3,sched_fair,sched_null,multicall,vm_assist,debug_keys",
    "gicv2,gicv3,mgmt_hypercalls",
];

/// `cargo xen check`.
pub(crate) fn command(paths: &Paths) -> Result<u8> {
    for arch in [Arch::Aarch64, Arch::X86_64] {
        Toolchain::get(arch)?;
    }
    let mut failures = Vec::new();
    let mut step = |name: &str, result: Result<()>| match result {
        Ok(()) => println!("{name:<60} ok"),
        Err(error) => {
            println!("{name:<60} FAILED: {error:#}");
            failures.push(name.to_owned());
        }
    };
    step("format", cargo(paths, None, "fmt", &["--all", "--check"]));
    step("layers", layers(paths));
    step(
        "lints: host",
        clippy(paths, None, &["--workspace", "--all-targets"]),
    );
    let (arm, x86) = (Some(Arch::Aarch64), Some(Arch::X86_64));
    step(
        "lints: arm64",
        clippy(
            paths,
            arm,
            &["-p", "boot", "-p", "arch-arm", "-p", "guests"],
        ),
    );
    for features in FEATURES {
        let name = format!("lints: arm64, only [{features}]");
        let args = [
            "-p",
            "boot",
            "--bin",
            "oxen",
            "--no-default-features",
            "--features",
            features,
        ];
        step(&name, clippy(paths, arm, &args));
    }
    step(
        "lints: x86-64",
        clippy(
            paths,
            x86,
            &["-p", "boot", "-p", "arch-x86", "-p", "guests"],
        ),
    );
    for features in ["", "svm", "vmx"] {
        let name = format!("lints: x86-64, only [{features}]");
        let args = [
            "-p",
            "boot",
            "--bin",
            "oxen",
            "--no-default-features",
            "--features",
            features,
        ];
        step(&name, clippy(paths, x86, &args));
    }
    step(
        "documentation: host",
        doc(paths, None, &["--workspace", "--exclude", "arch-arm"]),
    );
    step(
        "documentation: arm64",
        doc(paths, arm, &["-p", "boot", "-p", "arch-arm"]),
    );
    step(
        "documentation: x86-64",
        doc(paths, x86, &["-p", "boot", "-p", "arch-x86"]),
    );
    let failed = failures.len();
    if failed > 0 {
        println!("{failed} checks failed: {}", failures.join("; "));
    }
    Ok(u8::from(failed > 0))
}

/// cargo, for the host or for bare metal.
fn command_line(paths: &Paths, target: Option<Arch>, subcommand: &str) -> Result<Command> {
    let mut command = match target {
        Some(arch) => Toolchain::get(arch)?.cargo(subcommand, arch),
        None => {
            let mut command =
                Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.arg(subcommand);
            command
        }
    };
    command.current_dir(&paths.root);
    Ok(command)
}

fn cargo(paths: &Paths, target: Option<Arch>, subcommand: &str, args: &[&str]) -> Result<()> {
    let _step = ui::Step::start(format!("cargo {subcommand} {}", args.join(" ")));
    process::output(command_line(paths, target, subcommand)?.args(args)).map(drop)
}

fn clippy(paths: &Paths, target: Option<Arch>, args: &[&str]) -> Result<()> {
    let args = [&["--quiet"], args, &["--", "-D", "warnings"]].concat();
    cargo(paths, target, "clippy", &args)
}

fn doc(paths: &Paths, target: Option<Arch>, args: &[&str]) -> Result<()> {
    let _step = ui::Step::start(format!("cargo doc {}", args.join(" ")));
    let mut command = command_line(paths, target, "doc")?;
    command
        .args(["--quiet", "--no-deps", "--document-private-items"])
        .args(args)
        .env("RUSTDOCFLAGS", "-D warnings");
    process::output(&mut command).map(drop)
}

/// What each crate may depend on, of this workspace: arrows point down.
const ARROWS: [(&str, &[&str]); 9] = [
    ("xen-abi", &[]),
    ("xen-core", &["xen-abi"]),
    ("hypercalls", &["xen-abi", "xen-core"]),
    ("arch-arm", &["xen-abi", "xen-core"]),
    ("arch-x86", &["xen-abi", "xen-core"]),
    (
        "boot",
        &["xen-abi", "xen-core", "hypercalls", "arch-arm", "arch-x86"],
    ),
    ("guest-rt", &["xen-abi"]),
    ("guests", &["xen-abi", "guest-rt"]),
    ("qemu-runner", &[]),
];
/// Where unsafe code may be: hardware, and the core's frame memory.
const UNSAFE: [&str; 7] = [
    "arch-arm/",
    "arch-x86/",
    "boot/src/aarch64/",
    "boot/src/x86_64/",
    "xen-core/src/mem/",
    "tests/guest-rt/",
    "tests/guests/",
];
/// Where code may ask for which architecture it is compiled.
const ARCH: [&str; 5] = [
    "arch-arm/",
    "arch-x86/",
    "boot/",
    "tests/guest-rt/",
    "tests/guests/",
];
/// No file is longer.
const LONGEST: usize = 600;

/// Holds the layers: dependencies, unsafe code and conditional compilation only where they belong, short files.
pub(crate) fn layers(paths: &Paths) -> Result<()> {
    let mut wrong = Vec::new();
    let mut metadata = command_line(paths, None, "metadata")?;
    let text = process::output(metadata.args(["--format-version", "1", "--no-deps", "--offline"]))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).context("cargo's metadata cannot be read")?;
    wrong.extend(wrong_arrows(&json));
    for dir in [
        "arch-arm",
        "arch-x86",
        "boot",
        "hypercalls",
        "qemu-runner",
        "tests",
        "xen-core",
    ] {
        for file in crate::debian::files(&paths.root.join(dir))? {
            if file.extension().is_some_and(|e| e == "rs") {
                let name = file.strip_prefix(&paths.root)?.display().to_string();
                let text = std::fs::read_to_string(&file)?;
                wrong.extend(wrong_in_file(&name, &text));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("{}", wrong.join("\n"))
    }
}

fn wrong_arrows(metadata: &serde_json::Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(n, _)| *n == name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&on) && on != name && !allowed.contains(&on) {
                wrong.push(format!("{name} must not depend on {on}"));
            }
        }
    }
    wrong
}

fn wrong_in_file(name: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let within = |places: &[&str]| places.iter().any(|p| name.starts_with(p));
    // This file names what it looks for.
    let itself = Path::new(name).ends_with("qemu-runner/src/check.rs");
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    if !within(&UNSAFE)
        && !itself
        && code
            .clone()
            .any(|l| l.contains("unsafe ") || l.contains("unsafe_code, reason"))
    {
        wrong.push(format!("{name} has unsafe code"));
    }
    if !within(&ARCH) && !itself && code.clone().any(|l| l.contains("target_arch")) {
        wrong.push(format!("{name} asks for the architecture"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        wrong.push(format!("{name} has {lines} lines, more than {LONGEST}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arrows_are_found() {
        let metadata = serde_json::json!({"packages": [
            {"name": "xen-core", "dependencies": [{"name": "hypercalls"}, {"name": "spin"}, {"name": "xen-abi"}]},
            {"name": "hypercalls", "dependencies": []},
            {"name": "xen-abi", "dependencies": []},
        ]});
        assert_eq!(
            wrong_arrows(&metadata),
            ["xen-core must not depend on hypercalls"]
        );
    }

    #[test]
    fn what_is_out_of_place_is_found() {
        assert_eq!(
            wrong_in_file("hypercalls/src/a.rs", "unsafe fn f() {}\n").len(),
            1
        );
        assert_eq!(
            wrong_in_file("xen-core/src/mem/a.rs", "unsafe { f() }\n").len(),
            0
        );
        assert_eq!(
            wrong_in_file("xen-core/src/a.rs", "#[cfg(target_arch = \"x\")]\n").len(),
            1
        );
        assert_eq!(
            wrong_in_file("xen-core/src/a.rs", "// unsafe and target_arch\n").len(),
            0
        );
        assert_eq!(wrong_in_file("boot/src/a.rs", &"\n".repeat(601)).len(), 1);
    }
}
