//! Links the kernels as flat, relocatable images.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=guest.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for arg in [
            "-pie",
            "--no-dynamic-linker",
            "-znotext",
            "-zmax-page-size=4096",
        ] {
            println!("cargo::rustc-link-arg-bins={arg}");
        }
        println!("cargo::rustc-link-arg-bins=-T{dir}/guest.ld");
    }
}
