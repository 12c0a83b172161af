//! Software-generated interrupts between vCPUs.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::gic::{self, Target, bits};
use guest_rt::machine::{self as m, MAX_VCPUS};
use guest_rt::tests::Tests;

use super::arm64::{counted, last_source, vcpus};

pub(crate) fn all(t: &mut Tests) {
    for sgi in [0, 7, 15] {
        to_me(t, sgi);
        to_each(t, sgi);
        to_others(t, sgi);
    }
    nobody(t);
    masked(t);
    disabled(t);
}

/// Counts of an interrupt on all vCPUs.
fn counts(intid: u32) -> [u32; MAX_VCPUS] {
    core::array::from_fn(|vcpu| counted(vcpu, intid))
}

/// Sends, waits until the counts have risen by one where `expected` says so, and looks that no other has.
fn send(t: &mut Tests, what: &str, sgi: u32, to: Target, expected: impl Fn(usize) -> bool) {
    let mut wanted = counts(sgi);
    for (vcpu, count) in wanted.iter_mut().enumerate().take(vcpus()) {
        *count += u32::from(expected(vcpu));
    }
    gic::send(sgi, to);
    m::wait_for(|| counts(sgi) == wanted);
    t.expect(what, counts(sgi), wanted);
}

fn to_me(t: &mut Tests, sgi: u32) {
    send(t, "to the sender", sgi, Target::Me, |vcpu| vcpu == 0);
    send(t, "to the sender by name", sgi, Target::One(0), |vcpu| {
        vcpu == 0
    });
    t.expect("from itself", last_source(0), 0);
}

fn to_each(t: &mut Tests, sgi: u32) {
    for other in 1..vcpus() {
        send(t, "to one", sgi, Target::One(other), |vcpu| vcpu == other);
        t.expect("from the first", last_source(other), 0);
    }
}

fn to_others(t: &mut Tests, sgi: u32) {
    send(t, "to all others", sgi, Target::Others, |vcpu| vcpu != 0);
}

fn nobody(t: &mut Tests) {
    // Xen 4.17 takes the first range for every range.
    if !is_oxen() {
        return;
    }
    let before = counts(4);
    if gic::version() == 3 {
        // An affinity, a range and a list that name nobody.
        m::icc::send_sgi(4 << 24 | 0x77 << 16 | 1);
        m::icc::send_sgi(4 << 24 | 1 << 44 | 1);
        m::icc::send_sgi(4 << 24);
    } else {
        // No list, and the reserved filter.
        m::poke(gic::distributor() + 0xf00, 4);
        m::poke(gic::distributor() + 0xf00, 3 << 24 | 0xff << 16 | 4);
    }
    // What comes later comes later.
    send(t, "to all others", 5, Target::Others, |vcpu| vcpu != 0);
    t.expect("to nobody", counts(4), before);
}

fn masked(t: &mut Tests) {
    let before = counted(0, 3);
    m::mask();
    gic::send(3, Target::Me);
    gic::send(3, Target::Me);
    t.expect("nothing while masked", counted(0, 3), before);
    t.expect("it is next", gic::highest_pending().intid(), 3);
    m::unmask();
    t.check("once unmasked", m::wait_for(|| counted(0, 3) == before + 1));
    send(t, "another one", 6, Target::Me, |vcpu| vcpu == 0);
    t.expect("two are one", counted(0, 3), before + 1);
}

fn disabled(t: &mut Tests) {
    // Whether SGIs can be disabled is up to version 2's implementation.
    if gic::version() != 3 {
        return;
    }
    let before = counted(0, 9);
    gic::disable(0, 9);
    t.check("disabled", !gic::bit(bits::SET_ENABLE, 0, 9));
    gic::send(9, Target::Me);
    send(t, "another one", 6, Target::Me, |vcpu| vcpu == 0);
    t.expect("not while disabled", counted(0, 9), before);
    gic::enable(0, 9);
    t.check("once enabled", m::wait_for(|| counted(0, 9) == before + 1));
}
