//! All of it, in order.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;
mod copy;
mod map;
mod table;
mod version2;

use guest_rt::Boot;
use guest_rt::hypercall::op;
use guest_rt::tests::Tests;
use xen_abi::memory::MemoryOp;
use xen_abi::xen::{DOMID_SELF, Hypercall};

pub(crate) fn start(boot: Boot) {
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
    arch::others(&mut t);
    copy::run(&mut t);
    if arch::maps_own_grants() {
        version2::run(&mut t, boot.says(b"grants-v2"));
    }
    t.expect("memory afterwards", pages(), before);
    t.finish();
}
