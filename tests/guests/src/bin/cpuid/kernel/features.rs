//! Features and the instructions that belong to them: what is announced works, what is not does not.

use guest_rt::machine::cpu::{self, cpuid};
use guest_rt::machine::{Registers, attempt, paging, poke8};
use guest_rt::tests::Tests;

const EXTENDED: u32 = 0x8000_0000;
const UNDEFINED: u8 = 6;
const PROTECTION: u8 = 13;

#[repr(C, align(4096))]
struct Page([u8; 4096]);
static mut CODE: Page = Page([0; 4096]);

/// Runs an instruction; the vector of its exception.
fn vector(code: &[u8], registers: Registers) -> Option<u8> {
    const RET: u8 = 0xc3;
    let start = &raw const CODE as u64;
    for (at, byte) in (start..).zip(code.iter().chain(&[RET])) {
        poke8(at, *byte);
    }
    attempt(start, &mut registers.clone()).map(|trap| trap.vector)
}

pub(crate) fn all(t: &mut Tests) {
    announced(t);
    hidden(t);
    optional(t);
    control(t);
}

/// What every kernel for 64 bits takes for granted, and that there is a hypervisor.
fn announced(t: &mut Tests) {
    let one = cpuid(1, 0);
    // FPU, TSC, MSR, PAE, MCE, CX8, APIC, MTRR, PGE, MCA, CMOV, PAT, CLFSH, MMX, FXSR, SSE, SSE2.
    for bit in [0, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 19, 23, 24, 25, 26] {
        t.expect("a feature of leaf 1", (bit, one.edx >> bit & 1), (bit, 1));
    }
    t.check("a hypervisor", one.ecx >> 31 != 0);
    let extended = cpuid(EXTENDED + 1, 0);
    // SYSCALL, NX, long mode.
    for bit in [11, 20, 29] {
        let found = extended.edx >> bit & 1;
        t.expect("a feature of AMD's leaf 1", (bit, found), (bit, 1));
    }
}

/// What is not virtualized is not announced, and its instructions are undefined.
fn hidden(t: &mut Tests) {
    let one = cpuid(1, 0);
    let extended = cpuid(EXTENDED + 1, 0);
    for (what, found) in [
        ("DS area", one.edx >> 21),
        ("64-bit DS area", one.ecx >> 2),
        ("MONITOR", one.ecx >> 3),
        ("CPL-qualified store", one.ecx >> 4),
        ("VMX", one.ecx >> 5),
        ("SMX", one.ecx >> 6),
        ("SpeedStep", one.ecx >> 7),
        ("performance capabilities", one.ecx >> 15),
        ("SVM", extended.ecx >> 2),
        ("SKINIT", extended.ecx >> 12),
        ("watchdog timer", extended.ecx >> 13),
    ] {
        t.expect(what, found & 1, 0);
    }
    let none = Registers::default();
    for (what, code) in [
        ("MONITOR", &[0x0f, 0x01, 0xc8][..]),
        ("MWAIT", &[0x0f, 0x01, 0xc9]),
        ("VMRUN", &[0x0f, 0x01, 0xd8]),
        ("VMLOAD", &[0x0f, 0x01, 0xda]),
        ("VMSAVE", &[0x0f, 0x01, 0xdb]),
        ("STGI", &[0x0f, 0x01, 0xdc]),
        ("CLGI", &[0x0f, 0x01, 0xdd]),
        ("SKINIT", &[0x0f, 0x01, 0xde]),
        ("INVLPGA", &[0x0f, 0x01, 0xdf]),
        ("VMXOFF", &[0x0f, 0x01, 0xc4]),
        ("VMREAD", &[0x0f, 0x78, 0xc0]),
    ] {
        t.expect(what, vector(code, none), Some(UNDEFINED));
    }
}

/// Instructions that exist if their bit says so.
fn optional(t: &mut Tests) {
    let none = Registers::default();
    let seven = cpuid(7, 0);
    let extended = cpuid(EXTENDED + 1, 0);
    for (what, code, has) in [
        ("RDTSCP", &[0x0f, 0x01, 0xf9][..], extended.edx >> 27),
        ("RDPID", &[0xf3, 0x0f, 0xc7, 0xf8], seven.ecx >> 22),
        ("RDRAND", &[0x0f, 0xc7, 0xf0], cpuid(1, 0).ecx >> 30),
        ("RDSEED", &[0x0f, 0xc7, 0xf8], seven.ebx >> 18),
        ("CLAC", &[0x0f, 0x01, 0xca], seven.ebx >> 20),
        ("POPCNT", &[0xf3, 0x0f, 0xb8, 0xc0], cpuid(1, 0).ecx >> 23),
        ("LZCNT", &[0xf3, 0x0f, 0xbd, 0xc0], extended.ecx >> 5),
    ] {
        let found = vector(code, none);
        // Without their features the last one is another instruction, and QEMU's own CPU lacks none.
        let known = matches!(what, "LZCNT" | "POPCNT");
        let expected = (has & 1 == 0 && !known).then_some(UNDEFINED);
        t.expect(what, found, expected);
    }
    // INVPCID of a type that there is not.
    let has = seven.ebx >> 10 & 1 != 0;
    let wrong = Registers {
        rax: 77,
        rcx: paging::WINDOW,
        ..none
    };
    let found = vector(&[0x66, 0x0f, 0x38, 0x82, 0x01], wrong);
    t.check("INVPCID", found.is_some_and(|v| has || v == UNDEFINED));
}

/// Bits of CR4: those whose feature is not announced cannot be set, the others can.
fn control(t: &mut Tests) {
    let now = cpu::cr4();
    let (one, seven) = (cpuid(1, 0), cpuid(7, 0));
    for (what, bit, has) in [
        ("DE", 3, one.edx >> 2),
        ("PSE", 4, one.edx >> 3),
        ("PGE", 7, one.edx >> 13),
        ("OSFXSR", 9, one.edx >> 24),
        ("UMIP", 11, seven.ecx >> 2),
        ("LA57", 12, 0),
        ("VMXE", 13, one.ecx >> 5),
        ("SMXE", 14, one.ecx >> 6),
        ("FSGSBASE", 16, seven.ebx),
        ("PCIDE", 17, one.ecx >> 17),
        ("OSXSAVE", 18, one.ecx >> 26),
        ("SMEP", 20, seven.ebx >> 7),
        ("SMAP", 21, seven.ebx >> 20),
        ("PKE", 22, seven.ecx >> 3),
        ("CET", 23, seven.ecx >> 7 | seven.edx >> 20),
        ("reserved bit 19", 19, 0),
        ("reserved bit 26", 26, 0),
        ("reserved bit 31", 31, 0),
        ("reserved bit 40", 40, 0),
    ] {
        let trap = guest_rt::machine::catch(|| cpu::set_cr4(now | 1 << bit));
        let set = cpu::cr4() >> bit & 1;
        cpu::set_cr4(now);
        let found = (trap.map(|trap| (trap.vector, trap.error)), set);
        let expected = if has & 1 != 0 {
            (None, 1)
        } else {
            (Some((PROTECTION, 0)), 0)
        };
        t.expect(what, found, expected);
    }
}
