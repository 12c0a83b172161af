//! The page of hypercalls over the code that asks for it.
#![expect(unsafe_code, reason = "code that disappears")]

use core::arch::global_asm;

use guest_rt::hypercall::plain;
use guest_rt::machine::{Registers, attempt, cpu, peek8};
use guest_rt::tests::Tests;
use xen_abi::version::VersionOp;
use xen_abi::xen::Hypercall;

// WRMSR, and what would follow it.
global_asm!(
    ".pushsection .text.ends_page, \"ax\"",
    ".balign 4096",
    ".global ends_page",
    "ends_page:",
    "wrmsr",
    ".fill 4094, 1, 0x90",
    "ret",
    ".popsection",
);

pub(crate) fn over_itself(t: &mut Tests) {
    unsafe extern "C" {
        static ends_page: u8;
    }
    let page = &raw const ends_page as u64;
    t.expect("code first", peek8(page), 0x0f);
    let mut registers = Registers {
        rax: page & 0xffff_ffff,
        rcx: cpu::hypervisor_leaf(2, 0).ebx.into(),
        rdx: page >> 32,
        // What follows may be a hypercall's code, or its second half: a number that there is not, and data to add to.
        rbx: page,
        rdi: 0,
        ..Registers::default()
    };
    let end = attempt(page, &mut registers);
    guest_rt::println!("it ends by {end:x?}");
    // MOV EAX, number; then the instruction, then a return.
    t.expect("the code of hypercalls", peek8(page), 0xb8);
    t.expect(
        "of number 2",
        (peek8(page + 64), peek8(page + 65)),
        (0xb8, 2),
    );
    let version = plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0);
    t.check("hypercalls are as before", version >= 4 << 16);
}
