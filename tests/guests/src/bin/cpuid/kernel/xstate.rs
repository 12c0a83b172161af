//! Extended state: leaf 0xd, XCR0, and that they agree.

use core::arch::asm;

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu::{self, cpuid};
use guest_rt::machine::{Registers, attempt, poke8};
use guest_rt::tests::Tests;

const LEAF: u32 = 0xd;
const OSXSAVE: u64 = 1 << 18;
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const PROTECTION: u8 = 13;
const UNDEFINED: u8 = 6;

#[repr(C, align(4096))]
struct Page([u8; 4096]);
static mut CODE: Page = Page([0; 4096]);

/// XSETBV; the exception's vector and error code.
fn set(register: u64, value: u64) -> Option<(u8, u64)> {
    let start = &raw const CODE as u64;
    for (at, byte) in (start..).zip([0x0f, 0x01, 0xd1, 0xc3]) {
        poke8(at, byte);
    }
    let mut registers = Registers {
        rcx: register,
        rax: value & 0xffff_ffff,
        rdx: value >> 32,
        ..Registers::default()
    };
    attempt(start, &mut registers).map(|trap| (trap.vector, trap.error))
}

/// XGETBV of XCR0.
fn get() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set where this is called.
    #[expect(unsafe_code, reason = "an instruction without a function for it")]
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack, nomem))
    };
    u64::from(high) << 32 | u64::from(low)
}

pub(crate) fn all(t: &mut Tests) {
    let cr4 = cpu::cr4();
    let announced = || cpuid(1, 0).ecx >> 27 & 1;
    t.expect("not in use", announced(), 0);
    if cpuid(1, 0).ecx >> 26 & 1 == 0 {
        t.expect("XSETBV", set(0, X87), Some((UNDEFINED, 0)));
        return;
    }
    if is_oxen() {
        // QEMU's own CPU leaves this to the hypervisor.
        let undefined = Some((UNDEFINED, 0));
        t.expect("XSETBV, not enabled", set(0, X87), undefined);
    }
    cpu::set_cr4(cr4 | OSXSAVE);
    t.expect("in use", announced(), 1);
    components(t);
    values(t);
    cpu::set_cr4(cr4);
    t.expect("not in use any more", announced(), 0);
}

fn all_bits() -> u64 {
    let leaf = cpuid(LEAF, 0);
    u64::from(leaf.edx) << 32 | u64::from(leaf.eax)
}

/// Each component lies inside the area that is announced for all of them.
fn components(t: &mut Tests) {
    const HEAD: u32 = 576;
    let leaf = cpuid(LEAF, 0);
    t.check("x87 and SSE", all_bits() & (X87 | SSE) == X87 | SSE);
    t.check("sizes", leaf.ecx >= HEAD && leaf.ebx <= leaf.ecx);
    for component in 2..63 {
        let part = cpuid(LEAF, component);
        let (size, offset) = (part.eax, part.ebx);
        let supervisor = part.ecx & 1 != 0;
        if all_bits() >> component & 1 != 0 {
            let inside = size > 0 && offset >= HEAD && offset + size <= leaf.ecx;
            t.check("a component inside the area", inside && !supervisor);
        } else if !supervisor {
            t.expect("no component", (size, offset), (0, 0));
        }
    }
}

fn values(t: &mut Tests) {
    let refused = Some((PROTECTION, 0));
    let before = get();
    // Xen starts with SSE in it.
    let expected = if is_oxen() { X87 } else { before | X87 };
    t.expect("at the start", before, expected);
    let size = |bits: u64| {
        set(0, bits);
        cpuid(LEAF, 0).ebx
    };
    let all = all_bits();
    t.expect("all of them", (set(0, all), get()), (None, all));
    t.expect("their size", size(all), cpuid(LEAF, 0).ecx);
    t.expect("that of two", size(X87 | SSE), 576);
    if all & AVX != 0 {
        let avx = cpuid(LEAF, 2);
        t.expect("that of three", size(X87 | SSE | AVX), avx.ebx + avx.eax);
        t.expect("AVX without SSE", set(0, X87 | AVX), refused);
    }
    t.expect("without x87", set(0, SSE), refused);
    t.expect("none", set(0, 0), refused);
    t.expect("another register", set(1, X87), refused);
    for bit in (3..63).filter(|bit| all >> bit & 1 == 0) {
        t.expect("what there is not", set(0, X87 | 1 << bit), refused);
    }
    t.expect("the highest bit", set(0, X87 | 1 << 63), refused);
    t.expect("back", (set(0, X87), get()), (None, X87));
}
