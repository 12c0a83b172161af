//! vCPUs in loops without an end.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_rt::hypercall::{call, op, plain, yield_now};
use guest_rt::machine as m;
use guest_rt::tests::Tests;
use xen_abi::sched::{SchedOp, Watchdog};
use xen_abi::version::VersionOp;
use xen_abi::xen::Hypercall;

use super::arch;

/// Where nothing is mapped.
const NOWHERE: u64 = 0x70_0000_0000;

/// vCPUs that have begun their loop.
static BEGUN: AtomicU64 = AtomicU64::new(0);
/// Hypercalls made by the vCPU that makes nothing else.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Asks for the domain's end in so many seconds.
pub(crate) fn set_watchdog(seconds: u32) {
    let mut dog = Watchdog {
        id: 0,
        timeout: seconds,
    };
    op(Hypercall::SCHED_OP, SchedOp::WATCHDOG.0, &mut dog);
}

fn spinning(_: usize) {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    arch::spin();
}

fn aborting(_: usize) {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    arch::abort_for_ever();
}

fn calling(_: usize) {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    loop {
        // Every kind of ending: an answer, an error, an unknown number, a bad pointer.
        plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0);
        plain(Hypercall::XEN_VERSION, 99, 0);
        call(Hypercall(63), [0; 5]);
        plain(Hypercall::SCHED_OP, SchedOp::SHUTDOWN.0, NOWHERE);
        CALLS.fetch_add(4, Ordering::Relaxed);
    }
}

/// Starts a vCPU and waits until it runs.
pub(crate) fn launch(t: &mut Tests, index: usize, main: fn(usize)) {
    let before = BEGUN.load(Ordering::SeqCst);
    t.expect("a vCPU starts", m::smp::start(index, main), 0);
    while BEGUN.load(Ordering::SeqCst) == before {
        core::hint::spin_loop();
    }
}

/// Says that a vCPU of [`launch`] runs.
pub(crate) fn begun() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

/// This vCPU still gets its share, with and without giving way, and time goes on.
fn goes_on(t: &mut Tests, beside: &str) {
    let begun = m::ticks();
    let limit = begun + m::frequency() / 20;
    let mut rounds = 0u32;
    while m::ticks() < limit {
        core::hint::spin_loop();
        rounds += 1;
    }
    for _ in 0..20 {
        yield_now();
    }
    t.check(beside, rounds > 0 && m::ticks() > begun);
}

pub(crate) fn beside_spinning(t: &mut Tests) {
    launch(t, 1, spinning);
    goes_on(t, "beside a vCPU that spins");
}

pub(crate) fn beside_nested_aborts(t: &mut Tests) {
    launch(t, 2, aborting);
    goes_on(t, "beside a vCPU with nothing but aborts");
}

pub(crate) fn beside_hypercalls(t: &mut Tests) {
    launch(t, 3, calling);
    let before = CALLS.load(Ordering::Relaxed);
    goes_on(t, "beside a vCPU that makes hypercalls");
    while CALLS.load(Ordering::Relaxed) == before {
        yield_now();
    }
    t.check("which makes them", CALLS.load(Ordering::Relaxed) > before);
}
