//! Loads and stores of every kind to an emulated device: the interrupt controller's distributor.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine as m;
use guest_rt::tests::Tests;

use crate::trap::attempt;

/// Offsets of the distributor: priorities of SPIs, a byte each; type; identification.
const PRIORITY: u64 = 0x440;
const TYPE: u64 = 0x4;
/// Routes of SPIs of a GICv3, 8 bytes each.
const ROUTE: u64 = 0x6100;
const EXTERNAL: u64 = 0x25 << 26 | 1 << 25 | 0x10;
const WRITE: u64 = 1 << 6;

pub(crate) fn run(t: &mut Tests) {
    let base = m::gic::distributor();
    let at = base + PRIORITY;
    let kind = attempt!(base + TYPE, "ldr w0, [x0]").works(t, "a word");
    t.check("some SPIs", kind & 0x1f >= 1);
    let before = m::peek(at);
    attempt!(at, "mov w1, #0x20", "strb w1, [x0]").works(t, "a byte is written");
    attempt!(at, "mov w1, #0xf0", "strb w1, [x0, #1]").works(t, "the next one");
    macro_rules! loads {
        ($($line:literal $value:expr,)*) => {
            $( attempt!(at, $line).reads(t, $line, $value); )*
        };
    }
    // The guest's view has at least 4 bits of priority.
    loads! {
        "ldrb w0, [x0]" 0x20, "ldrb w0, [x0, #1]" 0xf0,
    "ldrsb x0, [x0, #1]" 0xffff_ffff_ffff_fff0, "ldurb w0, [x0, #1]" 0xf0,
    }
    if is_oxen() {
        // Xen 4.17 lets the sign reach the upper half of the register.
        attempt!(at, "ldrsb w0, [x0, #1]").reads(t, "ldrsb w0, [x0, #1]", 0xffff_fff0);
    }
    let word = m::peek(at);
    t.expect("as one word", word & 0xffff, 0xf020);
    attempt!(at, "mov w1, #0x80000000", "str w1, [x0]").works(t, "a word is written");
    loads! {
        "ldr w0, [x0]" 0x8000_0000, "ldrsw x0, [x0]" 0xffff_ffff_8000_0000, "ldar w0, [x0]" 0x8000_0000,
    }
    attempt!(at, "str wzr, [x0]").works(t, "zero is written");
    t.expect("and read", m::peek(at), 0);
    attempt!(at, "mov w1, #0x40", "stlrb w1, [x0]").works(t, "a release");
    attempt!(at, "ldr wzr, [x0]").works(t, "a load to nowhere");
    t.expect("is there", m::peek(at), 0x40);
    if m::gic::version() == 3 {
        let route = base + ROUTE;
        let old = m::peek64(route);
        attempt!(route, "mov x1, #1", "str x1, [x0]").works(t, "two words are written");
        t.expect("and read", m::peek64(route), 1);
        t.expect("the low one", m::peek(route), 1);
        m::poke64(route, old);
    }
    if is_oxen() {
        refused(t, at);
    }
    m::poke(at, before);
}

/// What the CPU does not describe well enough to be done for the guest: an external abort, and no effect.
fn refused(t: &mut Tests, at: u64) {
    macro_rules! each {
        ($esr:expr, $($line:literal $offset:literal,)*) => {
            $( attempt!(at, $line).aborts(t, $line, $esr, at + $offset); )*
        };
    }
    each! { EXTERNAL,
        "ldp w1, w2, [x0]" 0, "ldp x1, x2, [x0]" 0, ".inst 0x3dc00000" 0, ".inst 0xbd400000" 0, "ldr w1, [x0], #4" 0,
        "ldr w1, [x0, #4]!" 4, "ldpsw x1, x2, [x0]" 0,
    }
    each! { EXTERNAL | WRITE,
        "stp w1, w2, [x0]" 0, "stp xzr, xzr, [x0]" 0, ".inst 0x3d800000" 0, "str w1, [x0], #4" 0, "str w1, [x0, #8]!" 8,
    }
    // Widths that these registers do not have.
    each! { EXTERNAL, "ldrh w1, [x0]" 0, "ldr x1, [x0]" 0, }
    each! { EXTERNAL | WRITE, "strh w1, [x0]" 0, "str x1, [x0]" 0, }
    t.expect("the register is as it was", m::peek(at), 0x40);
    let back = attempt!(at, "ldr w1, [x0], #4");
    t.expect("and the base", back.value, at);
    // Misaligned accesses to device memory are the guest's own fault, unless the CPU lets them pass to stage 2.
    let odd = attempt!(at + 1, "ldr w1, [x0]").trap;
    t.check(
        "misaligned",
        odd.count == 1 && matches!(odd.esr & 0x3f, 0x10 | 0x21),
    );
    t.expect("its address", odd.far, at + 1);
}
