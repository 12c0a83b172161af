//! What is different on arm64.

use guest_rt::machine::{faults, jump, peek, poke};
use guest_rt::tests::Tests;

/// Not this kernel's memory, nor anything it needs.
pub(crate) const ELSEWHERE: u64 = 0x10_0000;

pub(crate) fn wrong_addresses(t: &mut Tests) {
    /// Beyond every device and all memory.
    const NOWHERE: u64 = 0x70_0000_0000;
    t.check(
        "a load from nowhere is an exception",
        faults(|| {
            peek(NOWHERE);
        }),
    );
    t.check(
        "a store to nowhere is an exception",
        faults(|| poke(NOWHERE, 1)),
    );
    t.check(
        "a jump to nowhere is an exception",
        faults(|| jump(NOWHERE)),
    );
    t.check("all goes on", !faults(|| ()));
}

/// Keeps a hypercall from ending the test rightly.
pub(crate) const fn tame(_: u64, _: &mut [u64; 5]) {}
