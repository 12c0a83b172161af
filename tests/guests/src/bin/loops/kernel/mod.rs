//! The vCPUs, and how they end.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;
mod forever;
mod long;

use guest_rt::hypercall::shutdown;
use guest_rt::tests::Tests;
use guest_rt::{Boot, println};
use xen_abi::sched::ShutdownReason;

pub(crate) fn start(boot: Boot) {
    if boot.says(b"loops-crash") {
        println!("crashing, as asked");
        shutdown(ShutdownReason::CRASH);
    }
    if boot.says(b"loops-watchdog") {
        forever::set_watchdog(1);
        println!("spinning under a watchdog");
        arch::spin();
    }
    if boot.says(b"loops-nested") {
        forever::set_watchdog(1);
        println!("no handler for what happens next");
        arch::abort_for_ever();
    }
    arch::other_ends(&boot);
    let mut t = Tests::new("loops");
    // From here on they run to the end, which has to come in spite of them.
    forever::beside_spinning(&mut t);
    forever::beside_nested_aborts(&mut t);
    forever::beside_hypercalls(&mut t);
    long::run(&mut t);
    t.finish();
}
