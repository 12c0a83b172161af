//! Which interrupts a vCPU took, in their order.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use guest_rt::hypercall::yield_now;
use guest_rt::machine::{self as m, MAX_VCPUS, smp};

/// Entries that are kept of each vCPU.
const KEPT: usize = 12;
/// Added to a vector: the handler is through.
pub(crate) const END: u16 = 0x100;

static ENTRIES: [[AtomicUsize; KEPT]; MAX_VCPUS] =
    [const { [const { AtomicUsize::new(0) }; KEPT] }; MAX_VCPUS];
static USED: [AtomicUsize; MAX_VCPUS] = [const { AtomicUsize::new(0) }; MAX_VCPUS];
/// The counter when the last entry was made.
static LAST: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

/// Notes something of the calling vCPU.
pub(crate) fn note(what: u16) {
    let me = smp::index() % MAX_VCPUS;
    LAST[me].store(m::ticks(), Ordering::SeqCst);
    let used = USED[me].fetch_add(1, Ordering::SeqCst);
    if let Some(place) = ENTRIES[me].get(used) {
        place.store(what.into(), Ordering::SeqCst);
    }
}

/// A handler that notes its vector.
pub(crate) fn vector(vector: u8) {
    note(vector.into());
}

/// Entries of a vCPU.
pub(crate) fn count(vcpu: usize) -> usize {
    USED[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// The counter at the last entry of a vCPU.
pub(crate) fn last(vcpu: usize) -> u64 {
    LAST[vcpu % MAX_VCPUS].load(Ordering::SeqCst)
}

/// The entries of a vCPU, with 0 behind the last one; they are forgotten.
pub(crate) fn take(vcpu: usize) -> [u16; KEPT] {
    let vcpu = vcpu % MAX_VCPUS;
    let used = USED[vcpu].swap(0, Ordering::SeqCst);
    core::array::from_fn(|n| {
        let entry = ENTRIES[vcpu][n].load(Ordering::SeqCst) as u16;
        if n < used { entry } else { 0 }
    })
}

/// What [`take`] is if these are the entries.
pub(crate) fn just(entries: &[u16]) -> [u16; KEPT] {
    core::array::from_fn(|n| entries.get(n).copied().unwrap_or(0))
}

/// Lets interrupts in until the calling vCPU has `n` entries; false if it does not get them.
pub(crate) fn arrive(n: usize) -> bool {
    let me = smp::index();
    m::unmask();
    let arrived = m::wait_for(|| count(me) >= n);
    m::mask();
    arrived
}

/// Lets interrupts in for a moment.
pub(crate) fn settle() {
    m::unmask();
    for _ in 0..3 {
        yield_now();
    }
    m::mask();
}
