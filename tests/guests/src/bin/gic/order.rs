//! Priorities, masks, preemption, ends: one vCPU that polls its CPU interface.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::gic::{self, Taken, bits};
use guest_rt::tests::Tests;

use super::arm64::SPARE;

/// Priority of nothing.
const IDLE: u8 = 0xff;

pub(crate) fn all(t: &mut Tests) {
    nothing(t);
    by_priority(t);
    preemption(t);
    binary_point(t);
    priority_mask(t);
    groups(t);
    pending_while_active(t);
    split_end(t);
    more_active_than_registers(t);
    withdrawn(t);
}

/// Makes a spare interrupt pending, of a priority.
fn raise(n: u32, priority: u8) -> u32 {
    let intid = SPARE + n;
    gic::set_edge(0, intid, true);
    gic::set_priority(0, intid, priority);
    gic::enable(0, intid);
    gic::set_bit(bits::SET_PENDING, 0, intid);
    intid
}

/// Takes one, which has to be `intid`.
fn take(t: &mut Tests, what: &str, intid: u32) -> Taken {
    let taken = gic::acknowledge();
    t.expect(what, taken.intid(), intid);
    taken
}

fn take_none(t: &mut Tests, what: &str) {
    let taken = gic::acknowledge();
    t.check(what, taken.is_none());
    if !taken.is_none() {
        gic::end(taken);
    }
}

/// Takes and ends one.
fn take_and_end(t: &mut Tests, what: &str, intid: u32) {
    let taken = take(t, what, intid);
    if !taken.is_none() {
        gic::end(taken);
    }
}

fn nothing(t: &mut Tests) {
    t.expect("nothing to take", gic::acknowledge().intid(), 1023);
    t.expect("nothing is next", gic::highest_pending().intid(), 1023);
    t.expect("nothing runs", gic::running(), IDLE);
}

fn by_priority(t: &mut Tests) {
    let middle = raise(0, 0xa0);
    let first = raise(1, 0x80);
    let last = raise(2, 0xc0);
    t.expect(
        "the most urgent is next",
        gic::highest_pending().intid(),
        first,
    );
    take_and_end(t, "the most urgent first", first);
    take_and_end(t, "then the middle one", middle);
    take_and_end(t, "then the last", last);
    take_none(t, "no more");
    // Of the same priority, the lowest number; Xen 4.17 goes by arrival.
    if !is_oxen() {
        return;
    }
    let high = raise(5, 0xa0);
    let low = raise(4, 0xa0);
    take_and_end(t, "the lower number", low);
    take_and_end(t, "the higher number", high);
}

fn preemption(t: &mut Tests) {
    let low = raise(0, 0xa0);
    let outer = take(t, "one of low priority", low);
    t.expect("its priority runs", gic::running(), 0xa0);
    raise(1, 0xa0);
    take_none(t, "its equal waits");
    let urgent = raise(2, 0x40);
    let inner = take(t, "a more urgent one does not", urgent);
    t.expect("its priority runs", gic::running(), 0x40);
    gic::end(inner);
    t.expect("back to the first", gic::running(), 0xa0);
    gic::end(outer);
    t.expect("back to nothing", gic::running(), IDLE);
    take_and_end(t, "its equal comes now", SPARE + 1);
}

fn binary_point(t: &mut Tests) {
    // Priorities count for preemption in steps of 0x20; group 0's binary point is one higher than group 1's.
    gic::set_binary_point(if gic::version() == 3 { 5 } else { 4 });
    raise(0, 0x90);
    let outer = take(t, "one", SPARE);
    let near = raise(1, 0x80);
    take_none(t, "a close one waits");
    raise(2, 0x78);
    let inner = take(t, "one that is far enough does not", SPARE + 2);
    gic::end(inner);
    gic::end(outer);
    take_and_end(t, "the close one comes now", near);
    // Close ones still come in their order.
    raise(1, 0x98);
    raise(0, 0x90);
    take_and_end(t, "the more urgent one", SPARE);
    take_and_end(t, "the other", SPARE + 1);
    gic::set_binary_point(0);
    t.check("the least binary point", gic::binary_point() <= 3);
}

fn priority_mask(t: &mut Tests) {
    gic::set_mask(0xa0);
    let intid = raise(0, 0xa0);
    take_none(t, "the mask keeps its own priority out");
    gic::set_mask(0xa8);
    take_and_end(t, "the next mask does not", intid);
    gic::set_mask(0);
    let intid = raise(0, 0x08);
    take_none(t, "a mask of 0 keeps all out");
    gic::set_mask(0xf0);
    take_and_end(t, "an open mask does not", intid);
}

fn groups(t: &mut Tests) {
    gic::set_group_enabled(false);
    let intid = raise(0, 0xa0);
    take_none(t, "a closed group");
    gic::set_group_enabled(true);
    take_and_end(t, "an open group", intid);
    if is_oxen() {
        let base = gic::distributor();
        let on = guest_rt::machine::peek(base);
        guest_rt::machine::poke(base, 0);
        let intid = raise(0, 0xa0);
        take_none(t, "the distributor is off");
        guest_rt::machine::poke(base, on);
        take_and_end(t, "the distributor is on", intid);
    }
}

fn pending_while_active(t: &mut Tests) {
    for edge in [true, false] {
        let intid = SPARE + 3;
        raise(3, 0xa0);
        gic::set_edge(0, intid, edge);
        let first = take(t, "taken", intid);
        if is_oxen() {
            t.check("active", gic::is_active(0, intid));
            t.check("not pending", !gic::is_pending(0, intid));
        }
        gic::set_bit(bits::SET_PENDING, 0, intid);
        take_none(t, "pending again, but active");
        if is_oxen() {
            t.check(
                "active and pending",
                gic::is_active(0, intid) && gic::is_pending(0, intid),
            );
        }
        gic::end(first);
        take_and_end(t, "once more", intid);
        take_none(t, "and no more");
    }
}

fn split_end(t: &mut Tests) {
    gic::split_end(true);
    let one = raise(0, 0xa0);
    let first = take(t, "taken", one);
    gic::end(first);
    t.expect("its priority is dropped", gic::running(), IDLE);
    if is_oxen() {
        t.check("it is active still", gic::is_active(0, one));
    }
    gic::set_bit(bits::SET_PENDING, 0, one);
    take_none(t, "it does not come again");
    let two = raise(1, 0xa0);
    let second = take(t, "its equal comes", two);
    gic::end(second);
    // The other way round.
    gic::deactivate(first);
    let again = take(t, "it comes again", one);
    gic::end(again);
    gic::deactivate(again);
    gic::deactivate(second);
    take_none(t, "all is done");
    if is_oxen() {
        t.check(
            "nothing is active",
            !gic::is_active(0, one) && !gic::is_active(0, two),
        );
    }
    gic::split_end(false);
}

/// More handlers nested than there are list registers on most machines (4); Xen 4.17 nests as many as there are.
fn more_active_than_registers(t: &mut Tests) {
    const DEEP: u32 = 12;
    const SHALLOW: u32 = 4;
    let deep = is_oxen();
    let mut nest = [Taken { raw: 0 }; DEEP as usize];
    let nest = if deep {
        &mut nest[..]
    } else {
        &mut nest[..SHALLOW as usize]
    };
    let depth = nest.len() as u32;
    for (n, taken) in (0..).zip(&mut *nest) {
        let intid = raise(n, 0xc0 - 8 * n as u8);
        *taken = take(t, "one deeper", intid);
    }
    if deep {
        let active = (0..depth).filter(|n| gic::is_active(0, SPARE + n)).count();
        t.expect("all are active", active, nest.len());
    }
    for taken in nest.iter().rev() {
        gic::end(*taken);
    }
    t.expect("all have ended", gic::running(), IDLE);
    if deep {
        let active = (0..depth).filter(|n| gic::is_active(0, SPARE + n)).count();
        t.expect("none is active", active, 0);
    }
    for n in 0..depth {
        let intid = raise(n, 0xa0);
        take_and_end(t, "each comes again", intid);
    }
    take_none(t, "none is left");
}

fn withdrawn(t: &mut Tests) {
    let intid = raise(0, 0xa0);
    gic::disable(0, intid);
    if is_oxen() {
        take_none(t, "disabled while pending");
        t.check("still pending", gic::is_pending(0, intid));
    }
    gic::enable(0, intid);
    take_and_end(t, "enabled again", intid);
    // More urgent while it waits.
    let one = raise(0, 0xa0);
    raise(1, 0xb0);
    gic::set_priority(0, SPARE + 1, 0x60);
    if is_oxen() {
        take_and_end(t, "a priority changes what waits", SPARE + 1);
        take_and_end(t, "the other", one);
    } else {
        gic::serve();
    }
}
