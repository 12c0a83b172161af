//! The local timer in its three modes. Nothing here asks how long something takes, only what comes before what.

use guest_rt::hypercall::yield_now;
use guest_rt::machine::lapic::{self, DEADLINE, Target, lvt, registers as r};
use guest_rt::machine::{self as m, cpu, ticks};
use guest_rt::tests::Tests;

use super::log;
use super::modes::{self, Mode};

const VECTOR: u8 = 0x61;
/// Ticks of the TSC as a count or a deadline: well within what a test can wait for.
const SHORT: u64 = 5_000_000;
/// Divisors by their bits.
const DIVISORS: [(u32, u64); 8] = [
    (0b1011, 1),
    (0b0000, 2),
    (0b0001, 4),
    (0b0010, 8),
    (0b0011, 16),
    (0b1000, 32),
    (0b1001, 64),
    (0b1010, 128),
];

pub(crate) fn test(t: &mut Tests, mode: Mode) {
    m::interrupts::register(VECTOR, log::vector);
    modes::enter(mode);
    log::take(0);
    let speed = counting(t);
    divisors(t);
    one_shot(t, speed);
    periodic(t, speed);
    masked(t, speed);
    if cpu::cpuid(1, 0).ecx >> 24 & 1 != 0 {
        deadline(t);
        switching(t, speed);
    }
    lapic::write(r::TIMER, lvt::MASKED);
    lapic::write(r::INITIAL, 0);
}

fn spin(ticks_more: u64) {
    let end = ticks() + ticks_more;
    while ticks() < end {
        yield_now();
    }
}

fn stop() {
    lapic::write(r::INITIAL, 0);
    lapic::write(r::TIMER, lvt::MASKED);
    log::settle();
    log::take(0);
}

/// How fast the count is.
#[derive(Clone, Copy, Debug)]
struct Speed {
    /// A count that takes about [`SHORT`].
    count: u32,
    /// What it takes at least.
    at_least: u64,
}

/// The count falls, and starts again from what is written.
fn counting(t: &mut Tests) -> Speed {
    lapic::write(r::TIMER, lvt::MASKED | u32::from(VECTOR));
    lapic::write(r::DIVIDE, DIVISORS[0].0);
    lapic::write(r::INITIAL, u32::MAX);
    let first = lapic::read(r::CURRENT);
    let before = ticks();
    spin(8 * SHORT);
    let after = ticks();
    let counted = u64::from(first - lapic::read(r::CURRENT));
    // It counted for longer than from `before` to `after`, if the CPU was somewhere else: then it is this fast at most.
    let count = counted * SHORT / (after - before);
    t.check("it counts", count > 0);
    let mut last = lapic::read(r::CURRENT);
    for _ in 0..100 {
        let now = lapic::read(r::CURRENT);
        t.check("it falls", now <= last);
        last = now;
    }
    t.expect("what it started from", lapic::read(r::INITIAL), u32::MAX);
    lapic::write(r::INITIAL, u32::MAX);
    t.check("it starts again", lapic::read(r::CURRENT) > last);
    lapic::write(r::INITIAL, 0);
    t.expect("0 stops it", lapic::read(r::CURRENT), 0);
    Speed {
        count: count.clamp(1, (u32::MAX / 4).into()) as u32,
        at_least: SHORT / 4 * 3,
    }
}

/// Tries something that has to be done before a short count ends, until it was.
fn in_time(mut f: impl FnMut()) {
    for _ in 0..1000 {
        let before = ticks();
        f();
        if ticks() - before < SHORT / 2 {
            return;
        }
        // It may have been too late.
        stop();
    }
}

/// Counts in 2^32 ticks: at least, and at most.
fn speed() -> (u64, u64) {
    loop {
        lapic::write(r::INITIAL, u32::MAX);
        let outer = ticks();
        let first = lapic::read(r::CURRENT);
        let inner = ticks();
        spin(SHORT / 2);
        let inner = ticks() - inner;
        let counted = u64::from(first - lapic::read(r::CURRENT)) << 32;
        let outer = ticks() - outer;
        // Otherwise the CPU was somewhere else.
        if outer < 2 * inner {
            return (counted / outer, counted / inner);
        }
    }
}

/// A larger divisor counts more slowly.
fn divisors(t: &mut Tests) {
    let mut last = u64::MAX;
    for (bits, by) in DIVISORS.iter().step_by(3) {
        lapic::write(r::DIVIDE, *bits);
        t.expect("divisor", lapic::read(r::DIVIDE), *bits);
        let (least, most) = speed();
        t.expect("slower by its divisor", (by, most < last), (by, true));
        last = least;
    }
    lapic::write(r::DIVIDE, DIVISORS[0].0);
    lapic::write(r::INITIAL, 0);
}

fn one_shot(t: &mut Tests, speed: Speed) {
    lapic::write(r::TIMER, VECTOR.into());
    let before = ticks();
    lapic::write(r::INITIAL, speed.count);
    t.check("one shot", log::arrive(1));
    t.check("not early", log::last(0) - before >= speed.at_least);
    spin(2 * SHORT);
    log::settle();
    t.expect("just one", log::take(0), log::just(&[VECTOR.into()]));
    t.expect("it ended", lapic::read(r::CURRENT), 0);
    t.expect("what it started from", lapic::read(r::INITIAL), speed.count);
    // The last count written is the one that counts.
    lapic::write(r::INITIAL, u32::MAX);
    lapic::write(r::INITIAL, 1);
    t.check("a short one", log::arrive(1));
    stop();
    in_time(|| {
        lapic::write(r::TIMER, VECTOR.into());
        lapic::write(r::INITIAL, speed.count);
        lapic::write(r::INITIAL, 0);
    });
    spin(2 * SHORT);
    log::settle();
    t.expect("stopped before", log::take(0), log::just(&[]));
}

fn periodic(t: &mut Tests, speed: Speed) {
    lapic::write(r::TIMER, lvt::PERIODIC | u32::from(VECTOR));
    lapic::write(r::INITIAL, speed.count);
    t.check("again and again", log::arrive(4));
    t.check("it counts", lapic::read(r::CURRENT) <= speed.count);
    // While nothing can be taken, it is one that waits.
    m::mask();
    log::take(0);
    t.check("one waits", m::wait_for(|| lapic::is_requested(VECTOR)));
    // The same entry without the period: what runs is the last one.
    lapic::write(r::TIMER, VECTOR.into());
    t.check("the last ones", log::arrive(1));
    t.check("it ends", m::wait_for(|| lapic::read(r::CURRENT) == 0));
    log::settle();
    let last = log::count(0);
    t.check("two at most", last <= 2);
    stop();
}

fn masked(t: &mut Tests, speed: Speed) {
    lapic::write(r::TIMER, lvt::MASKED | u32::from(VECTOR));
    lapic::write(r::INITIAL, speed.count / 4);
    t.check("it ends", m::wait_for(|| lapic::read(r::CURRENT) == 0));
    t.check("nothing is requested", !lapic::is_requested(VECTOR));
    lapic::write(r::TIMER, VECTOR.into());
    spin(SHORT);
    log::settle();
    t.expect("nothing comes later", log::take(0), log::just(&[]));
    // Masked while it runs.
    in_time(|| {
        lapic::write(r::TIMER, VECTOR.into());
        lapic::write(r::INITIAL, speed.count);
        lapic::write(r::TIMER, lvt::MASKED | u32::from(VECTOR));
    });
    spin(2 * SHORT);
    log::settle();
    t.expect("masked in time", log::take(0), log::just(&[]));
    // Unmasked in time.
    in_time(|| {
        lapic::write(r::TIMER, lvt::MASKED | u32::from(VECTOR));
        lapic::write(r::INITIAL, speed.count);
        lapic::write(r::TIMER, VECTOR.into());
    });
    t.check("unmasked in time", log::arrive(1));
    stop();
}

fn deadline(t: &mut Tests) {
    lapic::write(r::TIMER, lvt::DEADLINE | u32::from(VECTOR));
    t.expect("no deadline", cpu::read_msr(DEADLINE), 0);
    lapic::write(r::INITIAL, 1000);
    t.expect("no count", lapic::read(r::CURRENT), 0);
    for more in [1_000_000, 5_000_000, 1] {
        let due = ticks() + more;
        cpu::write_msr(DEADLINE, due);
        t.check("at a deadline", log::arrive(1));
        t.check("not early", log::last(0) >= due);
        t.expect("no deadline any more", cpu::read_msr(DEADLINE), 0);
        log::settle();
        t.expect("once", log::take(0), log::just(&[VECTOR.into()]));
    }
    cpu::write_msr(DEADLINE, 1);
    t.check("a deadline that is past", log::arrive(1));
    log::take(0);
    // Far away; it reads back, and another one replaces it.
    let far = ticks() + (1 << 44);
    cpu::write_msr(DEADLINE, far);
    t.expect("it reads back", cpu::read_msr(DEADLINE), far);
    cpu::write_msr(DEADLINE, ticks() + 1_000_000);
    t.check("replaced", log::arrive(1));
    log::take(0);
    in_time(|| {
        lapic::write(r::TIMER, lvt::DEADLINE | u32::from(VECTOR));
        cpu::write_msr(DEADLINE, ticks() + SHORT);
        cpu::write_msr(DEADLINE, 0);
    });
    spin(2 * SHORT);
    log::settle();
    t.expect("taken back", log::take(0), log::just(&[]));
    stop();
}

/// Another mode forgets what was armed.
fn switching(t: &mut Tests, speed: Speed) {
    in_time(|| {
        lapic::write(r::TIMER, VECTOR.into());
        lapic::write(r::INITIAL, speed.count);
        lapic::write(r::TIMER, lvt::DEADLINE | u32::from(VECTOR));
    });
    spin(2 * SHORT);
    log::settle();
    t.expect("from a count to a deadline", log::take(0), log::just(&[]));
    in_time(|| {
        lapic::write(r::TIMER, lvt::DEADLINE | u32::from(VECTOR));
        cpu::write_msr(DEADLINE, ticks() + SHORT);
        lapic::write(r::TIMER, VECTOR.into());
    });
    t.expect("no deadline in this mode", cpu::read_msr(DEADLINE), 0);
    cpu::write_msr(DEADLINE, ticks() + 1);
    t.expect("none can be set", cpu::read_msr(DEADLINE), 0);
    spin(2 * SHORT);
    log::settle();
    t.expect("from a deadline to a count", log::take(0), log::just(&[]));
    lapic::send(VECTOR, Target::Me);
    t.check("its vector is not lost", log::arrive(1));
    stop();
}
