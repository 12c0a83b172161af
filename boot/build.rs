//! Hands the linker script of the architecture to the linker when the bare-metal binary is built.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") != "none" {
        return;
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let script = Path::new(&variable("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(&arch)
        .join("link.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    // An architecture whose entry code is not there yet still compiles, for checks.
    if script.exists() {
        println!("cargo:rustc-link-arg-bin=oxen=-T{}", script.display());
        println!("cargo:rustc-link-arg-bin=oxen=-zmax-page-size=4096");
        println!("cargo:rustc-link-arg-bin=oxen=--no-eh-frame-hdr");
    }
}
