//! Aborts: of stage 2, which the hypervisor turns into external ones, and of stage 1, which it never sees.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine as m;
use guest_rt::tests::Tests;

use crate::trap::{ALIAS, Attempt, attempt, map, probe, return_to};

/// Guest-physical, beyond every device and all memory.
const NOWHERE: u64 = 0x70_0000_0000;
const IL: u64 = 1 << 25;
const DATA_ABORT: u64 = 0x25 << 26 | IL;
const FETCH_ABORT: u64 = 0x21 << 26 | IL;
/// Synchronous external abort.
const EXTERNAL: u64 = 0x10;
const WRITE: u64 = 1 << 6;
/// Cache maintenance, which counts as a write.
const MAINTENANCE: u64 = 1 << 8;

/// The bits of a data abort's syndrome that say what happened: class, length, direction, status.
const WHAT: u64 = 0xfe00_0000 | WRITE | 0x3f;

/// The bits to compare: Xen leaves status and direction of the aborts that it makes at 0.
fn visible(esr: u64) -> u64 {
    if esr & 0x3f == EXTERNAL && !is_oxen() {
        WHAT & !0x7f
    } else {
        WHAT
    }
}

impl Attempt {
    /// That it was an abort with this syndrome, of this address, at the right place.
    pub(crate) fn aborts(&self, t: &mut Tests, what: &str, esr: u64, far: u64) {
        let trap = &self.trap;
        let mask = visible(esr);
        let found = (trap.count, trap.vector, trap.esr & mask, trap.far, trap.elr);
        t.expect(what, found, (1, 4, esr & mask, far, self.at));
    }
}

pub(crate) fn run(t: &mut Tests) {
    nowhere(t);
    stage1(t);
    others(t);
}

fn nowhere(t: &mut Tests) {
    let (load, store) = (DATA_ABORT | EXTERNAL, DATA_ABORT | EXTERNAL | WRITE);
    macro_rules! each {
        ($esr:expr, $($line:literal $offset:literal,)*) => {
            $( attempt!(NOWHERE, $line).aborts(t, $line, $esr, NOWHERE + $offset); )*
        };
    }
    each! { load,
        "ldrb w1, [x0]" 0, "ldrsh x1, [x0, #2]" 2, "ldr w1, [x0, #4]" 4, "ldr x1, [x0, #8]" 8,
        "ldp x1, x2, [x0]" 0, "ldr w1, [x0], #4" 0, "ldr w1, [x0, #16]!" 16, "ldxr x1, [x0]" 0,
        "ldar w1, [x0]" 0, ".inst 0x3dc00000" 0, "ldr xzr, [x0]" 0,
    }
    each! { store,
        "strb w1, [x0, #1]" 1, "str xzr, [x0]" 0, "stp x1, x2, [x0, #16]" 16, "str w1, [x0, #8]!" 8,
        "stlr x1, [x0]" 0, ".inst 0x3d800000" 0,
    }
    let clean = attempt!(NOWHERE, "dc civac, x0");
    if clean.trap.count != 0 {
        // A CPU may let it pass, since nothing is cached there.
        clean.aborts(t, "DC CIVAC nowhere", store, NOWHERE);
        t.check(
            "not described",
            clean.trap.esr & (1 << 24 | MAINTENANCE) <= MAINTENANCE,
        );
    }
    // The base register is as it was: the instruction has not happened.
    let back = attempt!(NOWHERE, "ldr w1, [x0], #4").value;
    t.expect("no writeback", back, NOWHERE);

    let jump = probe(|| m::jump(NOWHERE));
    let mask = visible(EXTERNAL);
    let expected = (FETCH_ABORT | EXTERNAL) & mask;
    t.expect(
        "a jump to nowhere",
        (jump.count, jump.vector, jump.esr & mask, jump.far, jump.elr),
        (1, 4, expected, NOWHERE, NOWHERE),
    );
    t.expect("all goes on", probe(|| ()).count, 0);
}

/// Faults of the guest's own tables.
fn stage1(t: &mut Tests) {
    /// Beyond the 39 bits of TTBR0's part, with TTBR1's walks off.
    const HOLE: u64 = 3 << 39;
    let fault = attempt!(HOLE, "ldr w1, [x0]");
    t.expect(
        "a hole of stage 1",
        fault.trap.esr & WHAT & !3,
        DATA_ABORT | 4,
    );
    t.expect(
        "its address",
        (fault.trap.far, fault.trap.elr),
        (HOLE, fault.at),
    );
    let fetch = probe(|| m::jump(HOLE));
    t.expect("a jump into it", fetch.esr & WHAT & !3, FETCH_ABORT | 4);
    t.expect("its address", (fetch.far, fetch.elr), (HOLE, HOLE));
    // The second mapping of this kernel is read-only.
    let here = run as *const () as u64;
    let again = here & 0x3fff_ffff | ALIAS;
    let same = attempt!(again, "ldr w0, [x0]").works(t, "the kernel's text, read a second time");
    t.expect("it is the same", same as u32, m::peek(here));
    attempt!(again, "str w1, [x0]").aborts(t, "a store to it", DATA_ABORT | WRITE | 0xd, again);
    // Devices are never executable here: a permission fault of level 1.
    let device = m::gic::distributor();
    let fetch = probe(|| m::jump(device));
    t.expect(
        "a jump to a device",
        (fetch.esr & WHAT, fetch.far),
        (FETCH_ABORT | 0xd, device),
    );
    // An access flag that is clear, and an empty entry.
    const SPARE: u64 = 510;
    let gib = here & !0x3fff_ffff;
    map(SPARE, gib | 1 | 1 << 2 | 3 << 8);
    attempt!(SPARE << 30, "ldr w1, [x0]").aborts(t, "the access flag", DATA_ABORT | 9, SPARE << 30);
    map(SPARE, 0);
    attempt!(SPARE << 30, "ldr w1, [x0]").aborts(t, "an empty entry", DATA_ABORT | 5, SPARE << 30);
    // A table that is not there: the walk itself has nowhere to go.
    map(SPARE, NOWHERE | 3);
    let walk = attempt!((SPARE << 30) + 0x1238, "ldr w1, [x0]");
    let status = walk.trap.esr & 0x3f;
    t.check(
        "a table that is nowhere is an external abort",
        !is_oxen() || status == EXTERNAL || status & 0x3c == 0x14,
    );
    let found = (walk.trap.esr >> 25, walk.trap.far, walk.trap.elr);
    let expected = (DATA_ABORT >> 25, (SPARE << 30) + 0x1238, walk.at);
    t.expect("of the access's address", found, expected);
    map(SPARE, SPARE << 30 | 1 | 1 << 10 | 3 << 53);
}

/// Exceptions that have nothing to do with memory.
fn others(t: &mut Tests) {
    let at = |attempt: Attempt| {
        (
            attempt.trap.count,
            attempt.trap.esr,
            attempt.trap.elr - attempt.at,
        )
    };
    t.expect("BRK", at(attempt!(0, "brk #7")), (1, 0xf200_0007, 0));
    t.expect("SVC", at(attempt!(0, "svc #5")), (1, 0x5600_0005, 4));
    let here = others as *const () as u64 + 2;
    let odd = probe(|| m::jump(here));
    t.expect("a misaligned PC", (odd.esr >> 26, odd.far), (0x22, here));
    let sctlr = m::sctlr();
    m::set_sctlr(sctlr | 1 << 3);
    let stack = attempt!(0, "mov x1, sp", "nop");
    stack.works(t, "an aligned stack");
    m::set_sctlr(sctlr | 1 << 1);
    let word = m::ttbr0() + 1;
    let unaligned = attempt!(word, "ldr w1, [x0]");
    t.expect(
        "an unaligned load, where it is not allowed",
        (unaligned.trap.esr & WHAT, unaligned.trap.far),
        (DATA_ABORT | 0x21, word),
    );
    m::set_sctlr(sctlr);
    attempt!(word, "ldr w1, [x0]").works(t, "an unaligned load, where it is");
    // EL2 is no place to return to: the state becomes illegal, and the next instruction says so.
    let (here, el2h) = (others as *const () as u64, 0x3c9);
    let illegal = probe(|| return_to(here, el2h));
    t.expect(
        "an illegal return",
        (illegal.count, illegal.esr >> 26),
        (1, 0x0e),
    );
    t.expect(
        "at its target",
        (illegal.elr, illegal.spsr & 0xf),
        (here, 5),
    );
    for hint in [
        attempt!(0, "sevl", "wfe"),
        attempt!(0, "yield"),
        attempt!(0, "dmb sy", "dsb sy", "isb"),
        attempt!(0, ".inst 0xd503201f", ".inst 0xd503229f"), // NOP, CSDB
        attempt!(0, "sev", "wfe"),
    ] {
        hint.works(t, "a hint");
    }
    if is_oxen() {
        let version = attempt!(0x8400_0000, "smc #0").works(t, "firmware by SMC");
        t.check("is PSCI 1", version >> 16 == 1);
    }
}
