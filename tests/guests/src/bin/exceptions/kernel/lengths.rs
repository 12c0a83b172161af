//! How long instructions are that a hypervisor carries out: with prefixes, and where they lie across two pages.
//!
//! Behind each is UD2: its exception shows where the hypervisor took the end of the instruction to be.

use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::{Registers, attempt, interrupts, lapic};
use guest_rt::tests::Tests;

use super::code::{KERNEL, PAGE, found, map_code, run, run_at, write};
use super::pages::error;
use super::{PAGE_FAULT, PROTECTION, UNDEFINED};

/// Prefixes that mean nothing to these instructions, or not much.
const PREFIXES: [&[u8]; 8] = [
    &[],
    &[0x2e],
    &[0x67],
    &[0x66],
    &[0x48],
    &[0x65, 0x67, 0x4f],
    &[0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e],
    &[
        0x26, 0x26, 0x26, 0x26, 0x26, 0x26, 0x26, 0x26, 0x26, 0x26, 0x26,
    ],
];

/// The longest instruction.
const LONGEST: usize = 15;

/// An instruction, and the registers it needs.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    code: &'static [u8],
    registers: fn() -> Registers,
}

fn none() -> Registers {
    Registers::default()
}

/// The ACPI timer, CMOS, PCI: ports that hypervisors keep. This is PCI's address.
fn pci() -> Registers {
    Registers {
        rdx: 0xcf8,
        ..none()
    }
}

fn apic_base() -> Registers {
    Registers {
        rcx: lapic::BASE.into(),
        ..none()
    }
}

/// Writes what is there.
fn apic_base_again() -> Registers {
    let value = cpu::read_msr(lapic::BASE);
    Registers {
        rax: value & 0xffff_ffff,
        rdx: value >> 32,
        ..apic_base()
    }
}

fn version() -> Registers {
    Registers { rax: 17, ..none() }
}

const CASES: [Case; 9] = [
    Case {
        name: "CPUID",
        code: &[0x0f, 0xa2],
        registers: none,
    },
    Case {
        name: "RDMSR",
        code: &[0x0f, 0x32],
        registers: apic_base,
    },
    Case {
        name: "WRMSR",
        code: &[0x0f, 0x30],
        registers: apic_base_again,
    },
    Case {
        name: "IN EAX, DX",
        code: &[0xed],
        registers: pci,
    },
    Case {
        name: "OUT DX, EAX",
        code: &[0xef],
        registers: pci,
    },
    Case {
        name: "IN AL, 0x61",
        code: &[0xe4, 0x61],
        registers: none,
    },
    Case {
        name: "RDTSC",
        code: &[0x0f, 0x31],
        registers: none,
    },
    Case {
        name: "WBINVD",
        code: &[0x0f, 0x09],
        registers: none,
    },
    Case {
        name: "VMMCALL",
        code: &[0x0f, 0x01, 0xd9],
        registers: version,
    },
];

/// An instruction with prefixes, in a buffer.
fn prefixed(prefix: &[u8], code: &[u8]) -> ([u8; LONGEST + 1], usize) {
    let mut whole = [0; LONGEST + 1];
    let bytes = prefix.iter().chain(code);
    for (to, byte) in whole.iter_mut().zip(bytes) {
        *to = *byte;
    }
    (whole, prefix.len() + code.len())
}

pub(crate) fn all(t: &mut Tests) {
    let amd = cpu::cpuid(0, 0).ebx != u32::from_le_bytes(*b"Genu");
    for case in CASES.iter().filter(|case| amd || case.name != "VMMCALL") {
        for prefix in PREFIXES {
            // Which instructions these are then is another question.
            if case.name == "VMMCALL" && prefix.contains(&0x66) {
                continue;
            }
            let (whole, size) = prefixed(prefix, case.code);
            let Some(code) = whole.get(..size) else {
                continue;
            };
            one_page(t, case, code);
            two_pages(t, case, code);
        }
        too_long(t, case);
    }
    halts(t);
}

fn one_page(t: &mut Tests, case: &Case, code: &[u8]) {
    let found = run(code, &mut (case.registers)());
    t.expect(case.name, found, (UNDEFINED, 0, code.len() as u64));
}

/// Each way to cut it in two: with both pages there, and with the second one missing.
fn two_pages(t: &mut Tests, case: &Case, code: &[u8]) {
    for first in 1..code.len() as u64 {
        let offset = PAGE - first;
        let found_across = run_at(offset, code, &mut (case.registers)());
        let expected = (UNDEFINED, 0, code.len() as u64);
        t.expect(case.name, found_across, expected);

        write(offset, code);
        let at = map_code(KERNEL, 0) + offset;
        let trap = attempt(at, &mut (case.registers)());
        let address = trap.map_or(0, |trap| trap.address);
        let expected = ((PAGE_FAULT, error::FETCH, 0), at + first);
        t.expect(case.name, (found(trap, at), address), expected);
    }
}

/// As long as an instruction can be, and longer.
fn too_long(t: &mut Tests, case: &Case) {
    const PREFIX: [u8; LONGEST] = [0x3e; LONGEST];
    let fits = LONGEST - case.code.len();
    for (count, expected) in [
        (fits, (UNDEFINED, 0, LONGEST as u64)),
        (fits + 1, (PROTECTION, 0, 0)),
    ] {
        let (whole, size) = prefixed(&PREFIX[..count], case.code);
        let found = run(&whole[..size], &mut (case.registers)());
        t.expect(case.name, found, expected);
    }
}

/// HLT ends behind itself: STI, then HLT with an interrupt that is pending.
fn halts(t: &mut Tests) {
    const VECTOR: u8 = 0x51;
    interrupts::register(VECTOR, |_| ());
    for prefix in PREFIXES {
        let (whole, size) = prefixed(prefix, &[0xf4]);
        let mut code = [0xfb; LONGEST + 2];
        code[1..=size].copy_from_slice(&whole[..size]);
        lapic::send(VECTOR, lapic::Target::Me);
        let mut registers = none();
        let found = run(&code[..=size], &mut registers);
        t.expect("HLT", found, (UNDEFINED, 0, size as u64 + 1));
        let masked = registers.rflags & flags::INTERRUPTS == 0;
        t.check(
            "the interrupt was taken",
            !masked && !lapic::is_requested(VECTOR),
        );
    }
    interrupts::forget(VECTOR);
}
