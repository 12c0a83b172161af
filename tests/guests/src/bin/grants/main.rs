//! Everything that a domain can do with its own grant table: granting to itself, mapping, copying, both versions.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_rt::{Boot, kernel};

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod copy;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod map;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod table;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod version2;

kernel!(start);

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn start(boot: Boot) {
    use guest_rt::hypercall::op;
    use guest_rt::tests::Tests;
    use xen_abi::memory::MemoryOp;
    use xen_abi::xen::{DOMID_SELF, Hypercall};

    let mut t = Tests::new("grants");
    let mut me = DOMID_SELF;
    let mut pages = || {
        op(
            Hypercall::MEMORY_OP,
            MemoryOp::CURRENT_RESERVATION.0,
            &mut me,
        )
    };
    let before = pages();
    table::sizes(&mut t);
    table::batches(&mut t);
    map::run(&mut t);
    map::over_memory(&mut t);
    map::cache(&mut t);
    copy::run(&mut t);
    version2::run(&mut t, boot.says(b"grants-v2"));
    t.expect("memory afterwards", pages(), before);
    t.finish();
}

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn start(_: Boot) {}
