//! Interrupts between vCPUs: each way of saying to whom.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::interrupts::register;
use guest_rt::machine::lapic::{self, Target, registers as r};
use guest_rt::machine::{self as m, MAX_VCPUS};
use guest_rt::println;
use guest_rt::tests::Tests;

use super::modes::Mode;
use super::{crew, log};

const VECTOR: u8 = 0x73;
/// Less urgent: who has taken it has taken the other one.
const FENCE: u8 = 0x23;
const ASSERT: u32 = 1 << 14;
const LOGICAL: u32 = 1 << 11;
const LOWEST: u32 = 1 << 8;
const SELF: u32 = 1 << 18;
const ALL: u32 = 2 << 18;
const OTHERS: u32 = 3 << 18;
/// Random commands of each vCPU.
const STORM: u32 = 300;

/// Logical destinations, as each vCPU reads its own.
static LOGICALS: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
/// Interrupts of the storm that a vCPU took.
static STORMED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

pub(crate) fn test(t: &mut Tests, mode: Mode) {
    register(VECTOR, log::vector);
    register(FENCE, log::vector);
    physical(t, mode);
    match mode {
        Mode::Memory => {
            flat(t);
            cluster(t);
        }
        Mode::Msrs => as_x2apic(t),
    }
    lowest(t, mode);
    not_meant(t);
    storm(t);
}

/// All vCPUs, a bit for each.
fn everyone() -> u32 {
    (1 << crew::size()) - 1
}

/// Checks who takes the interrupts that `send` sends.
fn goes_to(t: &mut Tests, what: &str, whom: u32, send: impl FnOnce()) {
    for vcpu in 0..crew::size() {
        log::take(vcpu);
    }
    send();
    let mut taken = 0;
    for vcpu in 0..crew::size() {
        lapic::send(
            FENCE,
            if vcpu == 0 {
                Target::Me
            } else {
                Target::One(vcpu)
            },
        );
        let came = if vcpu == 0 {
            // Both are requested by now.
            log::arrive(1)
        } else {
            let fence = log::just(&[FENCE.into()]);
            let both = log::just(&[VECTOR.into(), FENCE.into()]);
            let last = if whom >> vcpu & 1 == 0 { fence } else { both };
            let wanted = last.iter().filter(|v| **v != 0).count();
            m::wait_for(|| log::count(vcpu) >= wanted)
        };
        t.expect("the fence comes", (what, came), (what, true));
        log::settle();
        let entries = log::take(vcpu);
        if entries[0] == u16::from(VECTOR) {
            taken |= 1 << vcpu;
        }
        let number = entries.iter().filter(|v| **v == u16::from(VECTOR)).count();
        t.check("once at most", number <= 1);
    }
    t.expect("who takes it", (what, taken), (what, whom));
}

fn command(destination: u32, low: u32) {
    lapic::command(destination, low | ASSERT | u32::from(VECTOR));
}

fn physical(t: &mut Tests, mode: Mode) {
    goes_to(t, "to itself", 1, || command(0, SELF));
    goes_to(t, "to all", everyone(), || command(0, ALL));
    goes_to(t, "to the others", everyone() & !1, || command(0, OTHERS));
    let broadcast = if mode == Mode::Memory { 0xff } else { u32::MAX };
    goes_to(t, "to everyone's identifier", everyone(), || {
        command(broadcast, 0)
    });
    for (vcpu, id) in m::platform().cpus().iter().enumerate() {
        goes_to(t, "to one", 1 << vcpu, || command(*id, 0));
        goes_to(t, "to one, level-triggered by name", 1 << vcpu, || {
            command(*id, 1 << 15)
        });
    }
    goes_to(t, "to nobody", 0, || command(0x77, 0));
    if mode == Mode::Msrs {
        goes_to(t, "to itself, by its register", 1, || {
            lapic::write(r::SELF, VECTOR.into())
        });
    }
}

/// Each vCPU has a bit of eight.
fn flat(t: &mut Tests) {
    crew::everybody(t, |me| {
        lapic::write(r::DESTINATION_FORMAT, u32::MAX);
        lapic::write(r::LOGICAL_DESTINATION, 1 << (24 + me));
    });
    for whom in [1, everyone(), 0b10, 0b110, 0b1010] {
        let whom = whom & everyone();
        goes_to(t, "flat", whom, || command(whom, LOGICAL));
    }
    goes_to(t, "flat, all bits", everyone(), || command(0xff, LOGICAL));
    goes_to(t, "flat, no bit", 0, || command(0, LOGICAL));
    goes_to(t, "flat, nobody's bit", 0, || {
        command(0x80 & !everyone(), LOGICAL)
    });
    // A vCPU may have more bits, or none.
    lapic::write(r::LOGICAL_DESTINATION, 0xc000_0000);
    let whom = 1 | (0x40 & everyone());
    goes_to(t, "flat, one of two bits", whom, || command(0x40, LOGICAL));
    lapic::write(r::LOGICAL_DESTINATION, 0);
    goes_to(t, "flat, without a bit", everyone() & !1, || {
        command(0xff, LOGICAL)
    });
}

/// Each vCPU has a bit of four in a cluster of fifteen; here two of them share one.
fn cluster(t: &mut Tests) {
    crew::everybody(t, |me| {
        lapic::write(r::DESTINATION_FORMAT, 0);
        let logical = (me / 2) << 4 | 1 << (me % 2);
        lapic::write(r::LOGICAL_DESTINATION, (logical as u32) << 24);
    });
    goes_to(t, "first cluster", 0b11 & everyone(), || {
        command(0x03, LOGICAL)
    });
    goes_to(t, "first of it", 0b1, || command(0x01, LOGICAL));
    goes_to(t, "second cluster", 0b1100 & everyone(), || {
        command(0x13, LOGICAL)
    });
    goes_to(t, "second of it", 0b1000 & everyone(), || {
        command(0x12, LOGICAL)
    });
    goes_to(t, "a cluster of nobody's", 0, || command(0x5f, LOGICAL));
    let all = if is_oxen() { everyone() } else { 0 };
    goes_to(t, "all clusters", all, || command(0xff, LOGICAL));
    crew::everybody(t, |me| {
        lapic::write(r::DESTINATION_FORMAT, u32::MAX);
        lapic::write(r::LOGICAL_DESTINATION, 1 << (24 + me));
    });
}

/// The cluster is the upper half, the bit in the lower half.
fn as_x2apic(t: &mut Tests) {
    crew::everybody(t, |me| {
        LOGICALS[me].store(lapic::read(r::LOGICAL_DESTINATION), Ordering::SeqCst);
    });
    let logical = |vcpu: usize| LOGICALS[vcpu].load(Ordering::SeqCst);
    for vcpu in 0..crew::size() {
        goes_to(t, "its logical destination", 1 << vcpu, || {
            command(logical(vcpu), LOGICAL)
        });
    }
    let mut whom = 0;
    for vcpu in 0..crew::size() {
        if logical(vcpu) >> 16 == logical(0) >> 16 {
            whom |= 1 << vcpu;
        }
    }
    let all = logical(0) | 0xffff;
    goes_to(t, "its cluster", whom, || command(all, LOGICAL));
    goes_to(t, "a cluster of nobody's", 0, || {
        command(0x1234_ffff, LOGICAL)
    });
    let everyone = if is_oxen() { everyone() } else { 0 };
    goes_to(t, "everyone", everyone, || command(u32::MAX, LOGICAL));
}

/// Of several exactly one takes it, which is one of those with the lowest priority.
fn lowest(t: &mut Tests, mode: Mode) {
    let (destination, among) = match mode {
        Mode::Memory => (0xff, everyone()),
        Mode::Msrs => {
            let logical = |vcpu: usize| LOGICALS[vcpu].load(Ordering::SeqCst);
            let mut among = 0;
            let mut bits = 0;
            for vcpu in 0..crew::size() {
                if logical(vcpu) >> 16 == logical(0) >> 16 {
                    among |= 1 << vcpu;
                    bits |= logical(vcpu);
                }
            }
            (bits, among)
        }
    };
    for _ in 0..4 {
        for vcpu in 0..crew::size() {
            log::take(vcpu);
        }
        command(destination, LOGICAL | LOWEST);
        log::settle();
        let taken = |vcpu: &usize| log::count(*vcpu) > 0;
        let came = m::wait_for(|| (0..crew::size()).any(|vcpu| taken(&vcpu)));
        t.check("somebody takes it", came);
        log::settle();
        let who: u32 = (0..crew::size()).filter(taken).map(|vcpu| 1 << vcpu).sum();
        t.check("one of those that were named", who & !among == 0);
        t.expect("one", who.count_ones(), 1);
    }
}

/// What is sent with a vector that there is not, or to a vCPU whose switch is off, comes nowhere.
fn not_meant(t: &mut Tests) {
    if crew::size() < 2 {
        return;
    }
    let off = |_: usize| lapic::write(r::SPURIOUS, 0xff);
    t.check("switched off", crew::run(1, off));
    log::take(1);
    lapic::send(VECTOR, Target::One(1));
    t.check(
        "it runs",
        crew::run(1, |_| guest_rt::hypercall::yield_now()),
    );
    t.expect("nothing comes", log::take(1), log::just(&[]));
    t.check("switched on", crew::run(1, |_| lapic::switch_on()));
    lapic::send(5, Target::One(1));
    t.check(
        "it runs",
        crew::run(1, |_| guest_rt::hypercall::yield_now()),
    );
    t.expect("nothing comes", log::take(1), log::just(&[]));
    lapic::send(VECTOR, Target::One(1));
    t.check("this does", m::wait_for(|| log::count(1) == 1));
    log::take(1);
}

fn stormed(_: u8) {
    STORMED[m::smp::index() % MAX_VCPUS].fetch_add(1, Ordering::SeqCst);
}

/// Every vCPU sends to every other, and each waits for the answers of its own: none is lost.
fn storm(t: &mut Tests) {
    const PING: u8 = 0x81;
    register(PING, stormed);
    for count in &STORMED {
        count.store(0, Ordering::SeqCst);
    }
    let part = |me: usize| {
        for n in 0..STORM {
            let next = (me + 1) % crew::size();
            let before = STORMED[next].load(Ordering::SeqCst);
            lapic::send(PING, Target::One(next));
            m::unmask();
            // Nobody else sends to it.
            if !m::wait_for(|| STORMED[next].load(Ordering::SeqCst) != before) {
                println!("vCPU {me} waits for interrupt {n} of vCPU {next}");
                return;
            }
        }
    };
    for vcpu in 1..crew::size() {
        crew::ask(vcpu, part);
    }
    part(0);
    for vcpu in 1..crew::size() {
        t.check("the storm ends", crew::done(vcpu));
    }
    m::mask();
    for count in STORMED.iter().take(crew::size()) {
        t.expect("none is lost", count.load(Ordering::SeqCst), STORM);
    }
}
