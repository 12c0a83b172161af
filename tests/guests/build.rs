//! Links the kernels: flat, relocatable images on arm64, ELF files at a fixed address on x86-64.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    println!("cargo::rerun-if-changed=guest.ld");
    println!("cargo::rerun-if-changed=guest-x86_64.ld");
    if target("OS") != "none" {
        return;
    }
    let (script, args): (_, &[&str]) = match target("ARCH").as_str() {
        "x86_64" => ("guest-x86_64.ld", &["--no-pie", "-zmax-page-size=4096"]),
        _ => (
            "guest.ld",
            &[
                "-pie",
                "--no-dynamic-linker",
                "-znotext",
                "-zmax-page-size=4096",
            ],
        ),
    };
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    println!("cargo::rustc-link-arg-bins=-T{dir}/{script}");
}
