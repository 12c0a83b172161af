//! The other vCPUs: each waits, with interrupts let in, for a function to call.
#![expect(unsafe_code, reason = "functions are handed over as numbers")]

use core::sync::atomic::{AtomicUsize, Ordering};

use guest_rt::hypercall::yield_now;
use guest_rt::machine::{self as m, MAX_VCPUS, smp};
use guest_rt::tests::Tests;

const NOTHING: usize = 0;
const LEAVE: usize = 1;
static TASKS: [AtomicUsize; MAX_VCPUS] = [const { AtomicUsize::new(NOTHING) }; MAX_VCPUS];

/// How many vCPUs there are, the one that tests counted.
pub(crate) fn size() -> usize {
    m::platform().vcpus()
}

/// Starts all others.
pub(crate) fn start(t: &mut Tests) {
    for (vcpu, slot) in TASKS.iter().enumerate().take(size()).skip(1) {
        slot.store(NOTHING, Ordering::SeqCst);
        t.expect("a vCPU starts", smp::start(vcpu, serve), 0);
        t.check("a vCPU answers", run(vcpu, |_| ()));
    }
}

fn serve(me: usize) {
    m::unmask();
    loop {
        match TASKS[me].load(Ordering::SeqCst) {
            NOTHING => yield_now(),
            LEAVE => break,
            task => {
                // SAFETY: `ask` stored a function of this type.
                let task: fn(usize) = unsafe { core::mem::transmute(task as *const ()) };
                task(me);
                TASKS[me].store(NOTHING, Ordering::SeqCst);
            }
        }
    }
    m::mask();
    TASKS[me].store(NOTHING, Ordering::SeqCst);
}

/// Has another vCPU call a function.
pub(crate) fn ask(vcpu: usize, task: fn(usize)) {
    TASKS[vcpu].store(task as usize, Ordering::SeqCst);
}

/// Waits until it has; false if that takes too long.
pub(crate) fn done(vcpu: usize) -> bool {
    m::wait_for(|| TASKS[vcpu].load(Ordering::SeqCst) == NOTHING)
}

/// Both.
pub(crate) fn run(vcpu: usize, task: fn(usize)) -> bool {
    ask(vcpu, task);
    done(vcpu)
}

/// Has each vCPU call a function, the calling one last.
pub(crate) fn everybody(t: &mut Tests, task: fn(usize)) {
    for vcpu in 1..size() {
        t.check("a vCPU does its part", run(vcpu, task));
    }
    task(smp::index());
}

/// Sends all others away: they turn themselves off.
pub(crate) fn dismiss(t: &mut Tests) {
    for (vcpu, slot) in TASKS.iter().enumerate().take(size()).skip(1) {
        slot.store(LEAVE, Ordering::SeqCst);
        t.check("a vCPU leaves", m::wait_for(|| smp::is_off(vcpu)));
    }
}
