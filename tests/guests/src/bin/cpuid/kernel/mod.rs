//! Leaves of CPUID, then what they promise, then every register.

mod features;
mod leaves;
mod msrs;
mod xstate;

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::Boot;
use guest_rt::machine as m;
use guest_rt::tests::Tests;

static WRONG: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("cpuid");
    leaves::all(&mut t);
    t.expect("this vCPU's numbers", leaves::wrong_numbers(0), 0);
    others(&mut t);
    features::all(&mut t);
    xstate::all(&mut t);
    msrs::all(&mut t);
    t.finish();
}

/// Every other vCPU looks at its own numbers.
fn others(t: &mut Tests) {
    let vcpus = m::platform().vcpus();
    for vcpu in 1..vcpus {
        let look = |index| {
            WRONG.fetch_add(leaves::wrong_numbers(index), Ordering::SeqCst);
            DONE.fetch_add(1, Ordering::SeqCst);
        };
        t.expect("start a vCPU", m::smp::start(vcpu, look), 0);
    }
    let all = || DONE.load(Ordering::SeqCst) as usize == vcpus - 1;
    t.check("all have looked", m::wait_for(all));
    t.expect("their numbers", WRONG.load(Ordering::SeqCst), 0);
}
