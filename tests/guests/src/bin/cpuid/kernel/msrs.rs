//! Model-specific registers: each of them works or is a general-protection fault, and nothing else ever happens.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu::{self, cpuid};
use guest_rt::machine::{catch, lapic};
use guest_rt::tests::Tests;
use guest_rt::{Random, println};

const PROTECTION: u8 = 13;
const SEED: u64 = 0x5eed_cafe;
const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
const MPERF: u32 = 0xe7;
const APERF: u32 = 0xe8;
const HYPERCALL_PAGE: u32 = 0x4000_0000;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
const GS_BASE: u32 = 0xc000_0101;

/// Where registers are, on CPUs of both kinds.
const RANGES: [core::ops::Range<u32>; 5] = [
    0..0x2000,
    0x4000_0000..0x4000_0200,
    0xc000_0000..0xc000_0400,
    0xc001_0000..0xc001_1400,
    0xffff_ff00..0xffff_ffff,
];

/// Reads one; `None` if it faults as it should, an error if otherwise.
fn read(number: u32) -> Result<Option<u64>, u32> {
    let mut value = 0;
    match catch(|| value = cpu::read_msr(number)) {
        None => Ok(Some(value)),
        Some(trap) if (trap.vector, trap.error) == (PROTECTION, 0) => Ok(None),
        Some(_) => Err(number),
    }
}

/// Writes one; whether it was taken, or an error as for [`read`].
fn write(number: u32, value: u64) -> Result<bool, u32> {
    match catch(|| cpu::write_msr(number, value)) {
        None => Ok(true),
        Some(trap) if (trap.vector, trap.error) == (PROTECTION, 0) => Ok(false),
        Some(_) => Err(number),
    }
}

/// Whether its value moves by itself.
fn counts(number: u32) -> bool {
    matches!(number, TSC | TSC_ADJUST | MPERF | APERF | lapic::DEADLINE) || is_apic(number)
}

fn is_apic(number: u32) -> bool {
    (lapic::FIRST_MSR..lapic::FIRST_MSR + 0x100).contains(&number)
}

pub(crate) fn all(t: &mut Tests) {
    every_one(t);
    known(t);
    by_features(t);
}

/// Every register is read; those that can be are written: with what they have, and with much else.
fn every_one(t: &mut Tests) {
    let mut random = Random::new(SEED);
    let (mut there, mut strange, mut kept) = (0, 0, 0);
    for number in RANGES.into_iter().flatten() {
        let value = match read(number) {
            Ok(Some(value)) => value,
            Ok(None) => {
                // What cannot be read may be a command.
                strange += u32::from(write(number, 0).is_err() && !is_apic(number));
                continue;
            }
            Err(_) => {
                strange += 1;
                continue;
            }
        };
        there += 1;
        // The base of this vCPU's data, its page of hypercalls, its interrupts: the kernel needs them.
        if matches!(number, GS_BASE | HYPERCALL_PAGE | EFER | lapic::BASE) || is_apic(number) {
            continue;
        }
        let mut values = [value, 0, u64::MAX, 0, 0, 0];
        values[3..].fill_with(|| random.next());
        values[5] &= 0xffff_ffff;
        for value in values {
            strange += u32::from(write(number, value).is_err());
            strange += u32::from(!matches!(read(number), Ok(Some(_))));
        }
        let taken = write(number, value);
        if taken == Ok(true) && !counts(number) && read(number) != Ok(Some(value)) {
            println!("{number:#x} does not keep {value:#x}");
            kept += 1;
        }
    }
    println!("{there} registers");
    t.check("there are some", there > 20);
    t.expect("registers that do something strange", strange, 0);
    t.expect("registers that lose their value", kept, 0);
}

/// Those whose value follows from what this kernel is.
fn known(t: &mut Tests) {
    const LONG: u64 = 1 << 8 | 1 << 10;
    const NX: u64 = 1 << 11;
    let efer = cpu::read_msr(EFER);
    t.expect("EFER in long mode", efer & (LONG | NX), LONG | NX);
    for wrong in [
        efer & !(1 << 8),
        efer | 1 << 63,
        efer | 1 << 1,
        efer | 1 << 12,
    ] {
        t.expect(
            "EFER",
            (write(EFER, wrong), cpu::read_msr(EFER)),
            (Ok(false), efer),
        );
    }
    t.expect("EFER again", write(EFER, efer), Ok(true));
    let base = cpu::read_msr(lapic::BASE);
    t.check("this CPU boots", base & lapic::base::BOOTS != 0);
    t.check("its APIC is on", base & lapic::base::ENABLED != 0);
    for wrong in [
        base | 1 << 63,
        base | 1,
        base & !lapic::base::ENABLED | lapic::base::X2APIC,
    ] {
        t.expect("APIC_BASE", write(lapic::BASE, wrong), Ok(false));
    }
    if is_oxen() {
        // Xen leaves it to the CPU, and QEMU's own takes all.
        for wrong in [0x40_0000_0000_0000, 2, 0xff] {
            t.expect("PAT", write(PAT, wrong), Ok(false));
        }
    }
    t.expect(
        "a page of hypercalls too many",
        write(HYPERCALL_PAGE, 1),
        Ok(false),
    );
    t.expect("one far away", write(HYPERCALL_PAGE, 1 << 51), Ok(false));
}

/// Those that exist if CPUID says so.
fn by_features(t: &mut Tests) {
    let (one, seven) = (cpuid(1, 0), cpuid(7, 0));
    let extended = cpuid(0x8000_0001, 0);
    let is_there = |number: u32| read(number).map(|value| value.is_some());
    for (what, number, has) in [
        ("MTRRCAP", 0xfe, one.edx >> 12),
        ("PAT", PAT, one.edx >> 16),
        ("TSC_AUX", 0xc000_0103, extended.edx >> 27 | seven.ecx >> 22),
        ("ARCH_CAPABILITIES", 0x10a, seven.edx >> 29),
        ("XSS", 0xda0, cpuid(0xd, 1).eax >> 3),
        ("x2APIC", lapic::FIRST_MSR + 2, lapic::is_x2apic().into()),
        ("a register that nobody has", 0x1f00, 0),
    ] {
        t.expect(what, is_there(number), Ok(has & 1 != 0));
    }
    for (what, number, has) in [
        ("TSC_DEADLINE", lapic::DEADLINE, one.ecx >> 24),
        ("TSC_ADJUST", TSC_ADJUST, seven.ebx >> 1),
        ("VM_HSAVE_PA", 0xc001_0117, 0),
    ] {
        // Xen has these for all.
        let expected = has & 1 != 0 || !is_oxen();
        t.expect(what, is_there(number), Ok(expected));
    }
}
