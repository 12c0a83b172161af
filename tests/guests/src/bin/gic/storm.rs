//! Many interrupts: none is lost, none comes twice.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::machine::gic::{self, Target, bits};
use guest_rt::machine::{self as m, smp};
use guest_rt::tests::Tests;

use super::arm64::{SPARE, SPARES, count, counted, vcpus};

/// Interrupts that a vCPU sends to itself.
const SELF: u32 = 10_000;
/// Interrupts that each vCPU sends to its neighbour.
const ROUND: u32 = 300;
/// The one that goes round.
const SGI: u32 = 8;

/// The order in which a vCPU took what was pending.
static ORDER: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
static TAKEN: AtomicU32 = AtomicU32::new(0);
static WORK: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);

pub(crate) fn all(t: &mut Tests) {
    to_itself(t);
    more_than_registers(t);
    around(t);
}

fn to_itself(t: &mut Tests) {
    let before = counted(0, SGI);
    let spurious = gic::spurious(0);
    let mut late = 0;
    for n in 1..=SELF {
        gic::send(SGI, Target::Me);
        if counted(0, SGI) != before + n && !m::wait_for(|| counted(0, SGI) == before + n) {
            late += 1;
            break;
        }
    }
    t.expect(
        "each was taken",
        (late, counted(0, SGI) - before),
        (0, SELF),
    );
    t.expect(
        "no exception without an interrupt",
        gic::spurious(0),
        spurious,
    );
}

fn note(taken: gic::Taken) {
    let place = TAKEN.fetch_add(1, Ordering::SeqCst) as usize;
    if let Some(to) = ORDER.get(place) {
        to.store(taken.intid(), Ordering::SeqCst);
    }
    count(taken);
}

/// Fills the list registers several times over, with interrupts of all priorities.
fn more_than_registers(t: &mut Tests) {
    let ids = || (0..16).chain(SPARE..SPARE + SPARES);
    let priority = |intid: u32| 0x20 + (intid * 5 % 24) as u8 * 8;
    for round in 0..10 {
        TAKEN.store(0, Ordering::SeqCst);
        m::mask();
        for intid in ids() {
            gic::register(intid, note);
            gic::set_priority(0, intid, priority(intid));
            if intid < 16 {
                gic::send(intid, Target::Me);
            } else {
                gic::set_target(intid, 0);
                // Now by an edge, now by a level that nobody holds.
                gic::set_edge(0, intid, round % 2 == 0);
                gic::enable(0, intid);
                gic::set_bit(bits::SET_PENDING, 0, intid);
            }
        }
        let total = ids().count() as u32;
        m::unmask();
        t.check(
            "all came",
            m::wait_for(|| TAKEN.load(Ordering::SeqCst) >= total),
        );
        t.expect("once each", TAKEN.load(Ordering::SeqCst), total);
        let order = ORDER[..total as usize]
            .iter()
            .map(|o| o.load(Ordering::SeqCst));
        t.check(
            "the most urgent first",
            order.clone().map(priority).is_sorted(),
        );
        t.check(
            "each of them",
            ids().all(|id| order.clone().any(|o| o == id)),
        );
    }
    for intid in ids() {
        gic::register(intid, count);
        gic::set_priority(0, intid, gic::DEFAULT_PRIORITY);
        if intid >= 16 {
            gic::disable(0, intid);
        }
    }
}

/// Whether the calling vCPU is asked for its part.
pub(crate) fn has_work() -> bool {
    WORK.load(Ordering::SeqCst) >> smp::index() & 1 != 0
}

/// Another vCPU's part of [`around`].
pub(crate) fn work() {
    let me = smp::index();
    if has_work() {
        pass_on();
        WORK.fetch_and(!(1 << me), Ordering::SeqCst);
    }
}

/// Sends to the neighbour, and waits each time until that has taken it.
fn pass_on() {
    let next = (smp::index() + 1) % vcpus();
    for _ in 0..ROUND {
        let before = counted(next, SGI);
        gic::send(SGI, Target::One(next));
        if !m::wait_for(|| counted(next, SGI) > before) {
            LOST.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

/// All vCPUs at once.
fn around(t: &mut Tests) {
    let before: u32 = (0..vcpus()).map(|v| counted(v, SGI)).sum();
    WORK.store((1 << vcpus()) - 2, Ordering::SeqCst);
    gic::send(2, Target::Others);
    pass_on();
    t.check(
        "all are through",
        m::wait_for(|| WORK.load(Ordering::SeqCst) == 0),
    );
    t.expect("none was lost", LOST.load(Ordering::SeqCst), 0);
    let after: u32 = (0..vcpus()).map(|v| counted(v, SGI)).sum();
    t.expect("each came once", after - before, ROUND * vcpus() as u32);
}
