//! The registers: what they read as, which bits they keep, which widths they have.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::gic::{self, bits};
use guest_rt::machine::{
    self as m, catch, peek, peek8, peek16, peek64, poke, poke8, poke16, poke64,
};
use guest_rt::tests::Tests;

use super::arm64::{SPARE, vcpus};

const TYPER: u64 = 0x004;
const IIDR: u64 = 0x008;

/// Whether an implementer is named: Oxen's and version 2 of Xen's is Arm (JEP106), version 3 of Xen's another.
fn has_implementer(iidr: u32) -> bool {
    const ARM: u32 = 0x43b;
    if is_oxen() {
        iidr & 0xfff == ARM
    } else {
        iidr & 0xfff != 0
    }
}

/// A shared interrupt that no device has, at the beginning of a word of bits.
const FIRST: u32 = SPARE.next_multiple_of(32);

pub(crate) fn all(t: &mut Tests) {
    identity(t);
    control(t);
    enable(t);
    priority(t);
    config(t);
    pending_and_active(t);
    widths(t);
    reserved(t);
    if gic::version() == 3 {
        routes(t);
        redistributors(t);
    } else {
        targets(t);
        sources(t);
        cpu_interface(t);
    }
}

fn identity(t: &mut Tests) {
    let base = gic::distributor();
    let (pidr2, architecture) = if gic::version() == 3 {
        (base + 0xffe8, 3)
    } else {
        (base + 0xfe8, 2)
    };
    // Xen 4.17 refuses to show version 2's.
    let shows = is_oxen() || gic::version() == 3;
    if shows {
        t.expect(
            "architecture in GICD_PIDR2",
            peek(pidr2) >> 4 & 0xf,
            architecture,
        );
    }
    t.check(
        "GICD_IIDR's implementer",
        has_implementer(peek(base + IIDR)),
    );
    let kind = peek(base + TYPER);
    t.check("GICD_TYPER has lines", kind & 0x1f >= 1);
    t.expect("no second security state", kind >> 10 & 1, 0);
    if gic::version() == 3 {
        t.check("GICD_TYPER has bits of INTID", kind >> 19 & 0x1f >= 9);
        t.expect("no LPIs", kind >> 17 & 1, 0);
    } else {
        t.expect(
            "GICD_TYPER counts vCPUs",
            (kind >> 5 & 7) as usize,
            vcpus() - 1,
        );
    }
    // They are not written.
    for at in [base + TYPER, base + IIDR, pidr2]
        .into_iter()
        .take(if shows { 3 } else { 2 })
    {
        let before = peek(at);
        poke(at, !before);
        t.expect("an identification register stays", peek(at), before);
    }
}

fn control(t: &mut Tests) {
    let base = gic::distributor();
    let on = peek(base);
    if gic::version() == 3 {
        const ROUTING: u32 = 1 << 4;
        const GROUP_1: u32 = 1 << 1;
        t.expect(
            "routing and group 1 are on",
            on & (ROUTING | GROUP_1),
            ROUTING | GROUP_1,
        );
        poke(base, ROUTING);
        t.expect("group 1 goes off", peek(base) & GROUP_1, 0);
        poke(base, GROUP_1);
        t.expect("routing stays", peek(base) & ROUTING, ROUTING);
        t.expect("no write is in progress", peek(base) >> 31, 0);
        poke(base, ROUTING | GROUP_1);
    } else {
        t.expect("forwarding is on", on & 1, 1);
        poke(base, 0);
        t.expect("forwarding goes off", peek(base) & 1, 0);
        poke(base, 1);
    }
    t.expect("all as before", peek(base), on);
}

/// Both registers of a pair, as they read.
fn pair(set: u64, clear: u64, intid: u32) -> (bool, bool) {
    (gic::bit(set, 0, intid), gic::bit(clear, 0, intid))
}

fn enable(t: &mut Tests) {
    let timer = m::platform().virtual_timer.map_or(27, |i| i.intid);
    for intid in [timer, SPARE] {
        let read = || pair(bits::SET_ENABLE, bits::CLEAR_ENABLE, intid);
        t.expect("disabled", read(), (false, false));
        gic::enable(0, intid);
        t.expect("enabled", read(), (true, true));
        let word = u64::from(intid / 32) * 4;
        poke(gic::frame(0, intid) + bits::CLEAR_ENABLE + word, 0);
        poke(gic::frame(0, intid) + bits::SET_ENABLE + word, 0);
        t.expect("zeros change nothing", read(), (true, true));
        gic::disable(0, intid);
        t.expect("disabled again", read(), (false, false));
    }
    // What is not there stays off.
    let beyond = gic::lines();
    if beyond < 992 {
        let at = gic::distributor() + bits::SET_ENABLE + u64::from(beyond / 32) * 4;
        poke(at, u32::MAX);
        t.expect("no interrupts beyond the last", peek(at), 0);
    }
}

fn priority(t: &mut Tests) {
    let timer = m::platform().virtual_timer.map_or(27, |i| i.intid);
    for intid in [3, timer, SPARE, SPARE + 1] {
        let at = gic::frame(0, intid) + gic::PRIORITY + u64::from(intid);
        for value in [0x00, 0x58, 0xf8, gic::DEFAULT_PRIORITY] {
            poke8(at, value);
            t.expect("priority as a byte", peek8(at), value);
        }
    }
    let at = gic::distributor() + gic::PRIORITY + u64::from(FIRST);
    poke(at, 0x40_30_20_10);
    t.expect("priorities as a word", peek(at), 0x40_30_20_10);
    t.expect("the lowest byte first", peek8(at + 1), 0x20);
    poke8(at + 2, 0x88);
    t.expect("a byte of the word", peek(at), 0x40_88_20_10);
    poke(at, u32::from_ne_bytes([gic::DEFAULT_PRIORITY; 4]));
}

fn config(t: &mut Tests) {
    // Xen 4.17 forgets the configuration of private interrupts, and keeps reserved bits.
    let shows = is_oxen();
    let private = gic::private(0);
    if shows {
        t.expect(
            "SGIs are edge-triggered",
            peek(private + gic::CONFIG),
            0xaaaa_aaaa,
        );
        poke(private + gic::CONFIG, 0);
        t.expect("and stay so", peek(private + gic::CONFIG), 0xaaaa_aaaa);
    }
    let at = gic::distributor() + gic::CONFIG + u64::from(FIRST / 16) * 4;
    let before = peek(at);
    poke(at, 0xaaaa_aaaa);
    t.expect("SPIs can be edge-triggered", peek(at), 0xaaaa_aaaa);
    poke(at, 0x2222_0000);
    t.expect("each its own way", peek(at), 0x2222_0000);
    if shows {
        poke(at, u32::MAX);
        t.expect("the low bits are reserved", peek(at), 0xaaaa_aaaa);
    }
    poke(at, before);
}

fn pending_and_active(t: &mut Tests) {
    // Xen 4.17 lets these be read and written as far as nothing comes of it: pending can be set, but is not shown.
    if !is_oxen() {
        return;
    }
    let timer = m::platform().virtual_timer.map_or(27, |i| i.intid);
    for intid in [timer, SPARE] {
        let pending = || pair(bits::SET_PENDING, bits::CLEAR_PENDING, intid);
        let active = || pair(bits::SET_ACTIVE, bits::CLEAR_ACTIVE, intid);
        t.expect(
            "idle",
            (pending(), active()),
            ((false, false), (false, false)),
        );
        gic::set_bit(bits::SET_PENDING, 0, intid);
        t.expect(
            "pending",
            (pending(), active()),
            ((true, true), (false, false)),
        );
        gic::set_bit(bits::SET_ACTIVE, 0, intid);
        t.expect(
            "and active",
            (pending(), active()),
            ((true, true), (true, true)),
        );
        gic::set_bit(bits::CLEAR_PENDING, 0, intid);
        t.expect(
            "active alone",
            (pending(), active()),
            ((false, false), (true, true)),
        );
        gic::set_bit(bits::CLEAR_ACTIVE, 0, intid);
        t.expect(
            "idle again",
            (pending(), active()),
            ((false, false), (false, false)),
        );
        // The same while it is enabled, so that it is in a list register.
        gic::enable(0, intid);
        gic::set_bit(bits::SET_PENDING, 0, intid);
        t.expect("pending, enabled", pending(), (true, true));
        t.expect(
            "the CPU interface has it",
            gic::highest_pending().intid(),
            intid,
        );
        gic::set_bit(bits::CLEAR_PENDING, 0, intid);
        t.expect("withdrawn", pending(), (false, false));
        t.check(
            "the CPU interface has nothing",
            gic::highest_pending().is_none(),
        );
        t.check("nothing to take", gic::acknowledge().is_none());
        gic::disable(0, intid);
    }
}

/// Whether an access is answered by an exception.
fn refused(f: impl FnOnce()) -> bool {
    /// A data abort without a change of exception level.
    const DATA_ABORT: u64 = 0x25;
    m::class(catch(f)) == DATA_ABORT
}

fn widths(t: &mut Tests) {
    let base = gic::distributor();
    let enable = base + bits::SET_ENABLE + 4;
    let priority = base + gic::PRIORITY + u64::from(FIRST);
    for at in [base, base + TYPER, enable, base + gic::CONFIG + 8] {
        t.check("no byte of a word register", refused(|| _ = peek8(at)));
        t.check("no half of a word register", refused(|| _ = peek16(at)));
        t.check("no byte is written", refused(|| poke8(at, 0)));
        t.check("no half is written", refused(|| poke16(at, 0)));
    }
    t.check("no half of priorities", refused(|| _ = peek16(priority)));
    t.check(
        "no half of priorities is written",
        refused(|| poke16(priority, 0)),
    );
    t.check(
        "two enable words at once",
        refused(|| _ = peek64(enable + 4)),
    );
    t.check(
        "two enable words are written at once",
        refused(|| poke64(enable + 4, 0)),
    );
    t.expect(
        "nothing has changed",
        peek(priority),
        u32::from_ne_bytes([gic::DEFAULT_PRIORITY; 4]),
    );
}

fn reserved(t: &mut Tests) {
    let base = gic::distributor();
    // Reserved, then implementation defined.
    for at in [base + 0x00c, base + 0x020, base + 0x03c] {
        t.check("a reserved word can be read", !refused(|| _ = peek(at)));
        t.check("and written", !refused(|| poke(at, u32::MAX)));
        t.expect("it is zero", peek(at), 0);
    }
    // Version 3 has groups of its own accord; version 2 without security extensions has none.
    if gic::version() == 2 && !is_oxen() {
        let group = base + bits::GROUP + 4;
        poke(group, u32::MAX);
        t.expect("no groups", peek(group), 0);
    }
}

fn routes(t: &mut Tests) {
    let at = gic::distributor() + gic::ROUTER + u64::from(SPARE) * 8;
    let last = m::smp::affinity(vcpus() - 1);
    poke64(at, last);
    t.expect("a route as two words", peek64(at), last);
    t.expect("its low word", peek(at), last as u32);
    t.expect("its high word", peek(at + 4), 0);
    poke64(at, 0);
    if is_oxen() {
        poke(at, last as u32);
        poke(at + 4, 0x12);
        t.expect("written in halves", peek64(at), 0x12 << 32 | last);
        poke64(at, u64::MAX);
        t.expect("reserved bits of a route", peek64(at), 0xff_80ff_ffff);
        poke64(at, 0);
    }
    t.check("no byte of a route", refused(|| _ = peek8(at)));
}

fn redistributors(t: &mut Tests) {
    let mut last = 0;
    for vcpu in 0..vcpus() {
        let base = gic::redistributor(vcpu);
        let kind = peek64(base + 8);
        t.expect("affinity in GICR_TYPER", kind >> 32, m::smp::affinity(vcpu));
        t.expect(
            "its high word alone",
            u64::from(peek(base + 12)),
            kind >> 32,
        );
        t.expect("number in GICR_TYPER", kind >> 8 & 0xffff, vcpu as u64);
        t.expect(
            "the last one says so",
            kind >> 4 & 1 != 0,
            vcpu + 1 == vcpus(),
        );
        t.expect("no LPIs", kind & 1, 0);
        t.expect(
            "architecture in GICR_PIDR2",
            peek(base + 0xffe8) >> 4 & 0xf,
            3,
        );
        t.check("GICR_IIDR's implementer", has_implementer(peek(base + 4)));
        t.expect("GICR_CTLR", peek(base) & 1, 0);
        last = last.max(base);
    }
    t.check(
        "nothing behind the last",
        refused(|| _ = peek(last + 0x2_0000 + 8)),
    );
    // The SGI frame of another vCPU is everybody's.
    let other = gic::private(vcpus() - 1);
    poke8(other + gic::PRIORITY + 5, 0x48);
    t.expect(
        "another vCPU's priorities",
        peek8(other + gic::PRIORITY + 5),
        0x48,
    );
    poke8(other + gic::PRIORITY + 5, gic::DEFAULT_PRIORITY);
    // With affinity routing the distributor has no private interrupts; Xen 4.17 has some.
    if is_oxen() {
        let enable = gic::distributor() + bits::SET_ENABLE;
        poke(enable, u32::MAX);
        t.expect("GICD_ISENABLER0 is empty", peek(enable), 0);
    }
    t.check(
        "no byte of GICR_TYPER",
        refused(|| _ = peek8(gic::redistributor(0) + 8)),
    );
    t.check(
        "no half of an enable word",
        refused(|| _ = peek16(gic::private(0) + bits::SET_ENABLE)),
    );
}

fn targets(t: &mut Tests) {
    let base = gic::distributor() + gic::TARGETS;
    t.expect("private interrupts are mine", peek(base), 0x0101_0101);
    poke(base, 0);
    t.expect("and stay so", peek(base + 28), 0x0101_0101);
    let at = base + u64::from(FIRST);
    let last = 1 << (vcpus() - 1);
    poke8(at + 1, last);
    t.expect("a target as a byte", peek8(at + 1), last);
    t.expect(
        "a target in a word",
        peek(at),
        u32::from_ne_bytes([1, last, 1, 1]),
    );
    poke(at, 0x0101_0101);
    if is_oxen() && vcpus() < 8 {
        poke8(at, 0xff);
        t.expect(
            "no vCPUs that are not there",
            peek8(at),
            (1u16 << vcpus()) as u8 - 1,
        );
        poke8(at, 0);
        t.expect("no target at all", peek8(at), 0);
        poke8(at, 1);
    }
    t.check("no half of targets", refused(|| _ = peek16(at)));
}

fn sources(t: &mut Tests) {
    /// GICD_CPENDSGIR and GICD_SPENDSGIR.
    const CLEAR: u64 = 0xf10;
    const SET: u64 = 0xf20;
    // Xen 4.17 has neither.
    if !is_oxen() {
        return;
    }
    let base = gic::distributor();
    gic::disable(0, 3);
    poke8(base + SET + 3, 1);
    t.expect(
        "a source",
        (peek8(base + SET + 3), peek8(base + CLEAR + 3)),
        (1, 1),
    );
    t.check("is pending", gic::is_pending(0, 3));
    gic::set_bit(bits::CLEAR_PENDING, 0, 3);
    t.check("GICD_ICPENDR0 leaves it", gic::is_pending(0, 3));
    poke8(base + CLEAR + 3, 1);
    t.expect("no source", peek8(base + SET + 3), 0);
    t.check("not pending", !gic::is_pending(0, 3));
}

fn cpu_interface(t: &mut Tests) {
    let base = gic::cpu_interface();
    t.expect(
        "GICC_IIDR's architecture",
        peek(base + gic::cpu::IIDR) >> 16 & 0xf,
        2,
    );
    gic::set_mask(0xff);
    t.check("five bits of priority at least", gic::mask() & 0xf8 == 0xf8);
    gic::set_mask(0xf0);
    t.expect("the mask as written", gic::mask(), 0xf0);
}
