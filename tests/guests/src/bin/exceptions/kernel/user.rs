//! Privilege level 3: what it may not do, and what pages it reaches.

use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::paging::bits;
use guest_rt::machine::{Registers, attempt_user};
use guest_rt::tests::Tests;

use super::code::{KERNEL, PAGE, USER, found, map_code, map_data, run_user, write};
use super::pages::error;
use super::{ALIGNMENT, BREAKPOINT, OVERFLOW, PAGE_FAULT, PROTECTION, UNDEFINED};

pub(crate) fn all(t: &mut Tests) {
    privileged(t);
    gates(t);
    hypercall(t);
    pages(t);
    alignment(t);
}

fn privileged(t: &mut Tests) {
    let none = Registers::default();
    for (what, code) in [
        ("CLI", &[0xfa][..]),
        ("STI", &[0xfb]),
        ("HLT", &[0xf4]),
        ("RDMSR", &[0x0f, 0x32]),
        ("WRMSR", &[0x0f, 0x30]),
        ("MOV from CR0", &[0x0f, 0x20, 0xc0]),
        ("MOV to CR3", &[0x0f, 0x22, 0xd8]),
        ("MOV from DR7", &[0x0f, 0x21, 0xf8]),
        ("INVLPG", &[0x0f, 0x01, 0x38]),
        ("LGDT", &[0x0f, 0x01, 0x10]),
        ("CLTS", &[0x0f, 0x06]),
        ("IN", &[0xec]),
        ("OUT", &[0xee]),
        ("INSB", &[0x6c]),
        ("IN from a port that is the domain's", &[0xe4, 0x80]),
    ] {
        let found = run_user(code, &mut none.clone());
        t.expect(what, found, (PROTECTION, 0, 0));
    }
    let mut registers = none;
    let found = run_user(&[0x0f, 0xa2], &mut registers);
    t.expect("CPUID", found, (UNDEFINED, 0, 2));
    t.check("its answer", registers.rax > 0);
}

/// Gates of which the user may use some.
fn gates(t: &mut Tests) {
    const GATE: u64 = 2;
    let none = Registers::default();
    let found = run_user(&[0xcc], &mut none.clone());
    t.expect("INT3", found, (BREAKPOINT, 0, 1));
    let found = run_user(&[0xcd, OVERFLOW], &mut none.clone());
    t.expect("INT 4", found, (OVERFLOW, 0, 2));
    for vector in [0u8, 8, 13, 0x80, 0xf3] {
        let found = run_user(&[0xcd, vector], &mut none.clone());
        let error = u64::from(vector) << 3 | GATE;
        t.expect("INT by the kernel's gate", found, (PROTECTION, error, 0));
    }
}

/// Hypercalls are the kernel's.
fn hypercall(t: &mut Tests) {
    const XEN_VERSION: u64 = 17;
    const EPERM: i64 = -1;
    let amd = cpu::cpuid(0, 0).ebx != u32::from_le_bytes(*b"Genu");
    let code = [0x0f, 0x01, if amd { 0xd9 } else { 0xc1 }];
    let mut registers = Registers {
        rax: XEN_VERSION,
        ..Registers::default()
    };
    let found = run_user(&code, &mut registers);
    t.expect("a hypercall goes on", found, (UNDEFINED, 0, 3));
    t.expect("it is refused", registers.rax as i64, EPERM);
}

fn pages(t: &mut Tests) {
    let stack = map_data(USER) + PAGE;
    let data = stack - PAGE;
    let mut try_access = |what: &str, code: &[u8], pages: u64, expected: Option<u64>| {
        map_data(pages);
        let at = map_code(USER, USER);
        write(0, code);
        let mut registers = Registers {
            rax: data + 0x10,
            ..Registers::default()
        };
        let trap = attempt_user(at, stack, &mut registers);
        let address = trap.map_or(0, |trap| trap.address);
        match expected {
            Some(error) => t.expect(
                what,
                (found(trap, at), address),
                ((PAGE_FAULT, error, 0), data + 0x10),
            ),
            None => t.expect(what, found(trap, at), (UNDEFINED, 0, code.len() as u64)),
        }
    };
    let (load, store) = ([0x8b, 0x08], [0x89, 0x08]);
    let no = error::USER;
    try_access("a load", &load, USER, None);
    try_access("a store", &store, USER, None);
    try_access("a load from no page", &load, 0, Some(no));
    try_access("a store to no page", &store, 0, Some(no | error::WRITE));
    let rights = no | error::RIGHTS;
    try_access("a load of the kernel's", &load, KERNEL, Some(rights));
    let write_rights = rights | error::WRITE;
    try_access(
        "a store to the kernel's",
        &store,
        KERNEL,
        Some(write_rights),
    );
    let read_only = bits::PRESENT | bits::USER;
    try_access("a store, read-only", &store, read_only, Some(write_rights));
    map_data(USER);
    // The code itself.
    for (what, code, expected) in [
        ("no code", 0, no | error::FETCH),
        ("the kernel's code", KERNEL, rights | error::FETCH),
        ("data", USER | bits::NO_EXECUTE, rights | error::FETCH),
    ] {
        let at = map_code(code, code);
        let trap = attempt_user(at, stack, &mut Registers::default());
        let address = trap.map_or(0, |trap| trap.address);
        let expected = ((PAGE_FAULT, expected, 0), at);
        t.expect(what, (found(trap, at), address), expected);
    }
}

/// Alignment checks, which only the user can have.
fn alignment(t: &mut Tests) {
    const MASK: u64 = 1 << 18;
    let data = map_data(USER);
    let cr0 = cpu::cr0();
    cpu::set_cr0(cr0 | MASK);
    let load = |offset| {
        let mut registers = Registers {
            rax: data + offset,
            rflags: flags::ALWAYS | flags::ALIGNMENT,
            ..Registers::default()
        };
        run_user(&[0x8b, 0x08], &mut registers)
    };
    let done = (UNDEFINED, 0, 2);
    t.expect("an aligned load", load(4), done);
    // QEMU's own CPU does not check.
    let found = load(6);
    let known = found == done || found == (ALIGNMENT, 0, 0);
    t.check("a misaligned load", known);
    cpu::set_cr0(cr0);
}
