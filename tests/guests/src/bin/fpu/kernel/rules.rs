//! What may be enabled, what not, and what faults while nothing is.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use core::arch::global_asm;

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu;
use guest_rt::machine::{Registers, attempt};
use guest_rt::tests::Tests;

use super::area::{has_xsave, set_xcr0, supported, xcr0};

global_asm!(
    ".pushsection .text.rules, \"ax\"",
    ".global fpu_xsetbv",
    "fpu_xsetbv:",
    "xsetbv",
    "ret",
    ".global fpu_xgetbv",
    "fpu_xgetbv:",
    "xgetbv",
    "ret",
    ".global fpu_sse",
    "fpu_sse:",
    "movd xmm0, eax",
    "ret",
    ".global fpu_avx",
    "fpu_avx:",
    "vxorps ymm0, ymm0, ymm0",
    "ret",
    ".global fpu_x87",
    "fpu_x87:",
    "fld1",
    "fstp st(0)",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    static fpu_xsetbv: u8;
    static fpu_xgetbv: u8;
    static fpu_sse: u8;
    static fpu_avx: u8;
    static fpu_x87: u8;
}

const UNDEFINED: u8 = 6;
const NOT_AVAILABLE: u8 = 7;
const PROTECTION: u8 = 13;
const AVX: u64 = 1 << 2;
const TASK_SWITCHED: u64 = 1 << 3;
const EMULATED: u64 = 1 << 2;
const OSXSAVE: u64 = 1 << 18;

/// The vector of the exception that code ends by; 0 if it does not.
fn ends_by(code: *const u8, index: u64, value: u64) -> u8 {
    let mut registers = Registers {
        rax: value & 0xffff_ffff,
        rcx: index,
        rdx: value >> 32,
        ..Registers::default()
    };
    attempt(code as u64, &mut registers).map_or(0, |trap| trap.vector)
}

pub(crate) fn test(t: &mut Tests) {
    let (cr0, cr4) = (cpu::cr0(), cpu::cr4());
    let xsetbv = |index, value| ends_by(&raw const fpu_xsetbv, index, value);
    if has_xsave() {
        let all = supported();
        t.expect("OSXSAVE in CPUID", cpu::cpuid(1, 0).ecx >> 27 & 1, 1);
        t.expect("what is enabled", xcr0(), all);
        for wrong in [0, 2, 4, 5, all & !1, 1 << 62, 1 << 63, all | 1 << 8] {
            t.expect(
                "a wrong XCR0",
                (wrong, xsetbv(0, wrong)),
                (wrong, PROTECTION),
            );
        }
        for index in [1, 2, 0xffff_ffff] {
            t.expect("no such register", xsetbv(index, 3), PROTECTION);
        }
        t.expect("it stays", xcr0(), all);
        for right in [1, 3, all] {
            t.expect("a right XCR0", xsetbv(0, right), 0);
            t.expect("it is there", xcr0(), right);
            // CPUID tells of the size of what is enabled.
            let size = cpu::cpuid(0xd, 0).ebx;
            t.check(
                "its size",
                if right & !3 == 0 {
                    size == 576
                } else {
                    size > 576
                },
            );
        }
        if all & AVX != 0 {
            t.expect("AVX", ends_by(&raw const fpu_avx, 0, 0), 0);
            set_xcr0(3);
            t.expect(
                "AVX that is not enabled",
                ends_by(&raw const fpu_avx, 0, 0),
                UNDEFINED,
            );
            set_xcr0(all);
        }
        cpu::set_cr4(cr4 & !OSXSAVE);
        t.expect("no OSXSAVE in CPUID", cpu::cpuid(1, 0).ecx >> 27 & 1, 0);
        // Xen carries it out where it exits before it is found undefined, as it does under QEMU.
        t.check(
            "XSETBV without it",
            xsetbv(0, all) == UNDEFINED || !is_oxen(),
        );
        t.expect(
            "XGETBV without it",
            ends_by(&raw const fpu_xgetbv, 0, 0),
            UNDEFINED,
        );
        cpu::set_cr4(cr4);
        t.expect("XCR0 is as before", xcr0(), all);
    }
    for code in [&raw const fpu_sse, &raw const fpu_x87] {
        t.expect("available", ends_by(code, 0, 0), 0);
        cpu::set_cr0(cr0 | TASK_SWITCHED);
        t.expect("not available", ends_by(code, 0, 0), NOT_AVAILABLE);
        guest_rt::hypercall::yield_now();
        t.expect("still not", ends_by(code, 0, 0), NOT_AVAILABLE);
        cpu::set_cr0(cr0);
    }
    cpu::set_cr0(cr0 | EMULATED);
    t.expect("emulated SSE", ends_by(&raw const fpu_sse, 0, 0), UNDEFINED);
    t.expect(
        "emulated x87",
        ends_by(&raw const fpu_x87, 0, 0),
        NOT_AVAILABLE,
    );
    cpu::set_cr0(cr0);
}
