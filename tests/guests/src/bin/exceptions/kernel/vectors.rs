//! The exceptions that need no pages: their vectors, error codes and places.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::{self as m, Registers};
use guest_rt::tests::Tests;

use super::code::{faults, run};
use super::{
    BREAKPOINT, DEBUG, DIVIDE, DOUBLE_FAULT, FLOATING_POINT, NO_FPU, NOT_PRESENT, OVERFLOW,
    PROTECTION, STACK, UNDEFINED,
};

const NOT_CANONICAL: u64 = 0x8000_0000_0000;
/// Bit of an error code: it names a gate.
const GATE: u64 = 2;

pub(crate) fn all(t: &mut Tests) {
    arithmetic(t);
    software(t);
    undefined(t);
    addresses(t);
    gates(t);
    floating_point(t);
}

fn arithmetic(t: &mut Tests) {
    let none = Registers::default();
    faults(t, "DIV by 0", &[0xf7, 0xf1], &none, (DIVIDE, 0));
    let large = Registers {
        rdx: 5,
        rcx: 2,
        ..none
    };
    faults(t, "DIV too large", &[0xf7, 0xf1], &large, (DIVIDE, 0));
}

/// Those that software raises come behind their instruction.
fn software(t: &mut Tests) {
    for (what, code, vector) in [
        ("INT3", &[0xcc][..], BREAKPOINT),
        ("INT 3", &[0xcd, 3], BREAKPOINT),
        ("INT 4", &[0xcd, 4], OVERFLOW),
        ("INT 6", &[0xcd, 6], UNDEFINED),
        // Without an error code, unlike the real one.
        ("INT1", &[0xf1], DEBUG),
    ] {
        let found = run(code, &mut Registers::default());
        t.expect(what, found, (vector, 0, code.len() as u64));
    }
}

fn undefined(t: &mut Tests) {
    let none = Registers::default();
    for (what, code) in [
        ("UD2", &[0x0f, 0x0b][..]),
        ("UD1", &[0x0f, 0xb9, 0xc0]),
        ("LOCK NOP", &[0xf0, 0x90]),
        ("LOCK CPUID", &[0xf0, 0x0f, 0xa2]),
        ("PUSH ES in 64-bit mode", &[0x06]),
        ("MOV CR1", &[0x0f, 0x20, 0xc8]),
    ] {
        faults(t, what, code, &none, (UNDEFINED, 0));
    }
}

fn addresses(t: &mut Tests) {
    let wild = Registers {
        rax: NOT_CANONICAL,
        rbp: NOT_CANONICAL,
        ..Registers::default()
    };
    let protection = (PROTECTION, 0);
    faults(t, "load, not canonical", &[0x8b, 0x08], &wild, protection);
    faults(t, "store, not canonical", &[0x89, 0x08], &wild, protection);
    // QEMU's own CPU takes the second for the first.
    let (vector, error, at) = run(&[0x8b, 0x45, 0x00], &mut wild.clone());
    let known = [PROTECTION, STACK].contains(&vector);
    t.expect("by RBP, not canonical", (known, error, at), (true, 0, 0));
    // MOV DS beyond the table, and from the local one, which is empty.
    for selector in [0x1000, 0x0c] {
        let wrong = Registers {
            rax: selector,
            ..Registers::default()
        };
        let expected = (PROTECTION, selector & !3);
        faults(t, "a selector of nothing", &[0x8e, 0xd8], &wrong, expected);
    }
    // Reserved bits.
    let high = Registers {
        rax: 1 << 63,
        ..Registers::default()
    };
    for (what, code) in [("CR0", [0x0f, 0x22, 0xc0]), ("CR4", [0x0f, 0x22, 0xe0])] {
        faults(t, what, &code, &high, protection);
    }
    // Paging without protection, caches off the wrong way.
    let now = cpu::cr0();
    let mut wrong = [now & !1; 2];
    if is_oxen() {
        // Xen 4.20 lets it through to the CPU, which does not run such a guest.
        wrong[1] = now | 1 << 29;
    }
    for bad in wrong {
        let registers = Registers {
            rax: bad,
            ..Registers::default()
        };
        faults(t, "CR0", &[0x0f, 0x22, 0xc0], &registers, protection);
    }
    // PAE cannot go in long mode.
    let no_pae = Registers {
        rax: cpu::cr4() & !(1 << 5),
        ..Registers::default()
    };
    faults(t, "CR4", &[0x0f, 0x22, 0xe0], &no_pae, protection);
}

/// Gates that are not there: the exception that says so names them; in the delivery of another one it is a double fault.
fn gates(t: &mut Tests) {
    const VECTOR: u8 = 0x60;
    /// A gate of which only the type is set.
    const ABSENT: u64 = 0xe << 40;
    let base = m::idt();
    let swap = |vector: u8, low: u64| {
        let at = base + u64::from(vector) * 16;
        let old = m::peek64(at);
        m::poke64(at, low);
        old
    };
    let error = |vector: u8| u64::from(vector) << 3 | GATE;

    let old = swap(VECTOR, ABSENT);
    let code = [0xcd, VECTOR];
    let found = run(&code, &mut Registers::default());
    t.expect("INT without a gate", found, (NOT_PRESENT, error(VECTOR), 0));
    swap(VECTOR, old);

    // Of a fault that is benign: the second one is delivered, and says that it was on the way.
    const EXTERNAL: u64 = 1;
    let old = swap(UNDEFINED, ABSENT);
    let found = run(&[0x0f, 0x0b], &mut Registers::default());
    t.expect(
        "#UD without a gate",
        (found.0, found.1 & !EXTERNAL, found.2),
        (NOT_PRESENT, error(UNDEFINED), 0),
    );
    swap(UNDEFINED, old);

    let old = swap(DIVIDE, ABSENT);
    let found = run(&[0xf7, 0xf1], &mut Registers::default());
    let expected = (DOUBLE_FAULT, 0);
    t.expect("#DE without a gate", (found.0, found.1), expected);
    swap(DIVIDE, old);

    let old = swap(PROTECTION, ABSENT);
    let mut wild = Registers {
        rax: NOT_CANONICAL,
        ..Registers::default()
    };
    let found = run(&[0x8b, 0x08], &mut wild);
    t.expect("#GP without a gate", (found.0, found.1), expected);
    swap(PROTECTION, old);
}

fn floating_point(t: &mut Tests) {
    const TASK_SWITCHED: u64 = 1 << 3;
    const EMULATE: u64 = 1 << 2;
    /// OSFXSR, OSXMMEXCPT.
    const SIMD_USED: u64 = 3 << 9;
    let none = Registers::default();
    let (cr0, cr4) = (cpu::cr0(), cpu::cr4());
    cpu::set_cr4(cr4 | SIMD_USED);
    let fld1 = [0xd9, 0xe8];
    let xorps = [0x0f, 0x57, 0xc0];
    cpu::set_cr0(cr0 | TASK_SWITCHED);
    faults(t, "FLD1, task switched", &fld1, &none, (NO_FPU, 0));
    faults(t, "XORPS, task switched", &xorps, &none, (NO_FPU, 0));
    faults(t, "FWAIT, task switched", &[0x9b], &none, (NO_FPU, 0));
    cpu::set_cr0(cr0 & !TASK_SWITCHED | EMULATE);
    faults(t, "FLD1, emulated", &fld1, &none, (NO_FPU, 0));
    faults(t, "XORPS, emulated", &xorps, &none, (UNDEFINED, 0));
    cpu::set_cr0(cr0);
    cpu::set_cr4(cr4 & !SIMD_USED);
    faults(t, "XORPS, not enabled", &xorps, &none, (UNDEFINED, 0));

    // Unmasked division by zero: FNINIT; push 0x340; FLDCW [rsp]; pop; FLD1; FLDZ; FDIVP; FWAIT.
    cpu::set_cr4(cr4 | SIMD_USED);
    let divide = [
        0xdb, 0xe3, 0x68, 0x40, 0x03, 0, 0, 0xd9, 0x2c, 0x24, 0x58, 0xd9, 0xe8, 0xd9, 0xee, 0xde,
        0xf9, 0x9b,
    ];
    let found = run(&divide, &mut none.clone());
    let at_wait = divide.len() as u64 - 1;
    t.expect("x87 division by 0", found, (FLOATING_POINT, 0, at_wait));
    run(&[0xdb, 0xe3], &mut none.clone());

    cpu::set_cr4(cr4);
    cpu::set_cr0(cr0);
    t.check("flags are as they were", cpu::rflags() & flags::TRAP == 0);
}
