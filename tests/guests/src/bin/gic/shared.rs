//! Shared interrupts: to the vCPU that they are routed to.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::gic::{self, bits};
use guest_rt::machine::{self as m, MAX_VCPUS, poke, poke8, smp};
use guest_rt::tests::Tests;

use super::arm64::{SPARE, counted, vcpus};

const INTID: u32 = SPARE + 20;

pub(crate) fn all(t: &mut Tests) {
    gic::set_edge(0, INTID, true);
    gic::enable(0, INTID);
    to_each(t);
    moved_while_pending(t);
    if is_oxen() {
        nowhere(t);
    }
    gic::disable(0, INTID);
    gic::set_target(INTID, 0);
}

fn counts() -> [u32; MAX_VCPUS] {
    core::array::from_fn(|vcpu| counted(vcpu, INTID))
}

/// Waits for one more on `vcpu`, and none elsewhere.
fn comes_to(t: &mut Tests, what: &str, before: [u32; MAX_VCPUS], vcpu: usize) {
    let mut wanted = before;
    wanted[vcpu] += 1;
    m::wait_for(|| counts() == wanted);
    t.expect(what, counts(), wanted);
}

/// Waits until the vCPU that has counted it has ended it, too: as long as it has not, the next one is Xen's to send to
/// it. Xen 4.17 does not show whether it has.
fn ended() {
    let later = m::ticks() + m::frequency() / 200;
    m::wait_for(|| {
        if is_oxen() {
            !gic::is_active(0, INTID)
        } else {
            m::ticks() > later
        }
    });
}

fn to_each(t: &mut Tests) {
    for vcpu in 0..vcpus() {
        ended();
        let before = counts();
        gic::set_target(INTID, vcpu);
        gic::set_bit(bits::SET_PENDING, 0, INTID);
        comes_to(t, "to the vCPU it is routed to", before, vcpu);
    }
}

fn moved_while_pending(t: &mut Tests) {
    for vcpu in 1..vcpus() {
        ended();
        gic::set_target(INTID, 0);
        let before = counts();
        m::mask();
        gic::set_bit(bits::SET_PENDING, 0, INTID);
        t.expect("it is next here", gic::highest_pending().intid(), INTID);
        if is_oxen() {
            gic::set_target(INTID, vcpu);
            comes_to(t, "pending, it moves", before, vcpu);
            t.check("it is gone here", gic::highest_pending().is_none());
            m::unmask();
        } else {
            // Xen 4.17 leaves it where it is.
            m::unmask();
            comes_to(t, "pending, it stays", before, 0);
        }
    }
}

/// Routed to no vCPU it waits.
fn nowhere(t: &mut Tests) {
    let before = counts();
    if gic::version() == 3 {
        poke(
            gic::distributor() + gic::ROUTER + u64::from(INTID) * 8,
            0x00ff_ff00,
        );
    } else {
        poke8(gic::distributor() + gic::TARGETS + u64::from(INTID), 0);
    }
    gic::set_bit(bits::SET_PENDING, 0, INTID);
    t.check("pending at nobody's", gic::is_pending(0, INTID));
    t.expect("nobody takes it", counts(), before);
    gic::set_target(INTID, vcpus() - 1);
    comes_to(t, "it has waited", before, vcpus() - 1);
    // Any vCPU may take it: one does.
    if gic::version() == 3 {
        let before: u32 = counts().iter().sum();
        m::poke64(
            gic::distributor() + gic::ROUTER + u64::from(INTID) * 8,
            1 << 31 | smp::affinity(0),
        );
        gic::set_bit(bits::SET_PENDING, 0, INTID);
        let sum = || counts().iter().sum::<u32>();
        t.check("one of all takes it", m::wait_for(|| sum() == before + 1));
    }
}
