//! vCPUs that never give anything back: whatever they do for ever, the others go on, and so does the hypervisor.
//!
//! Words on the command line choose an end other than a verdict: `loops-crash`, `loops-watchdog`, `loops-nested`.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_rt::{Boot, kernel};

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod forever;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod long;

kernel!(start);

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn start(boot: Boot) {
    use guest_rt::hypercall::shutdown;
    use guest_rt::println;
    use guest_rt::tests::Tests;
    use xen_abi::sched::ShutdownReason;

    if boot.says(b"loops-crash") {
        println!("crashing, as asked");
        shutdown(ShutdownReason::CRASH);
    }
    if boot.says(b"loops-watchdog") {
        forever::set_watchdog(1);
        println!("spinning under a watchdog");
        forever::spin();
    }
    if boot.says(b"loops-nested") {
        forever::set_watchdog(1);
        println!("no handler for what happens next");
        forever::abort_for_ever();
    }
    let mut t = Tests::new("loops");
    // From here on they run to the end, which has to come in spite of them.
    forever::beside_spinning(&mut t);
    forever::beside_nested_aborts(&mut t);
    forever::beside_hypercalls(&mut t);
    long::run(&mut t);
    t.finish();
}

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn start(_: Boot) {}
