//! Random values for every model-specific register, with and without one behind it.
#![expect(unsafe_code, reason = "writes registers that this kernel lives by")]

use core::arch::global_asm;

use guest_rt::machine::{Registers, attempt, cpu, lapic};
use guest_rt::tests::Tests;
use guest_rt::{Random, println};

const SEED: u64 = 0x5eed_0f35_0035;
/// First register and number of each range.
const RANGES: [(u32, u32); 4] = [
    (0, 0x2000),
    (0xc000_0000, 0x2000),
    (0xc001_0000, 0x2000),
    (0x4000_0000, 0x100),
];
/// Values for each register, as [`value`] makes them.
const SHAPES: u64 = 2;
/// The local APIC's base after reset, where this vCPU boots.
const APIC_IN_MEMORY: u64 = 0xfee0_0000 | lapic::base::ENABLED | lapic::base::BOOTS;
/// EFER is written with what it had and more: without NXE the page tables of this kernel are not valid.
const EFER: u32 = 0xc000_0080;

// What it was, another value, what it was again. Nothing in between needs a register that may be written here. RBX says
// how far it came.
global_asm!(
    ".pushsection .text.ends_msr, \"ax\"",
    ".global ends_msr",
    "ends_msr:",
    "rdmsr",
    "mov r8d, eax",
    "mov r9d, edx",
    "mov ebx, 1",
    "mov eax, edi",
    "mov edx, esi",
    "wrmsr",
    "mov ebx, 2",
    "mov eax, r8d",
    "mov edx, r9d",
    "wrmsr",
    "mov ebx, 3",
    "ret",
    // A register that cannot be read is only written.
    ".global ends_msr_write",
    "ends_msr_write:",
    "wrmsr",
    "ret",
    ".popsection",
);

fn value(random: &mut Random, number: u32, shape: u64) -> u64 {
    let (any, bit) = (random.next(), 1 << (random.next() % 64));
    match (number, shape) {
        (EFER, 0) => cpu::read_msr(EFER) | any,
        (EFER, _) => cpu::read_msr(EFER) | bit,
        (_, 0) => any,
        _ => bit,
    }
}

pub(crate) fn all(t: &mut Tests) {
    unsafe extern "C" {
        static ends_msr: u8;
        static ends_msr_write: u8;
    }
    let (both, write) = (&raw const ends_msr as u64, &raw const ends_msr_write as u64);
    let mut random = Random::new(SEED);
    for (first, count) in RANGES {
        // Read and written; read, with the write refused; only written; neither.
        let mut kinds = [0u32; 4];
        let mut not_restored = 0;
        for number in first..first + count {
            for shape in 0..SHAPES {
                let to = value(&mut random, number, shape);
                let mut registers = Registers {
                    rcx: number.into(),
                    rdi: to & 0xffff_ffff,
                    rsi: to >> 32,
                    ..Registers::default()
                };
                let fault = attempt(both, &mut registers);
                let kind = match (registers.rbx, fault) {
                    (3, None) => 0,
                    (1, Some(trap)) if trap.vector == 13 => 1,
                    (0, Some(trap)) if trap.vector == 13 => {
                        let mut registers = Registers {
                            rcx: number.into(),
                            rax: to & 0xffff_ffff,
                            rdx: to >> 32,
                            ..Registers::default()
                        };
                        match attempt(write, &mut registers) {
                            None => 2,
                            Some(_) => 3,
                        }
                    }
                    // Off, from where there is no way back to x2APIC at once.
                    (2, Some(_)) if number == lapic::BASE => {
                        lapic::set_base(APIC_IN_MEMORY);
                        0
                    }
                    (how_far, fault) => {
                        println!("register {number:x}, value {to:x}: {how_far} {fault:x?}");
                        not_restored += 1;
                        0
                    }
                };
                kinds[kind] += 1;
            }
        }
        println!("{count:#x} registers from {first:#x} on: {kinds:?}");
        t.expect(
            "every one answered",
            kinds.iter().sum::<u32>(),
            count * SHAPES as u32,
        );
        t.expect("what can be read can be written back", not_restored, 0);
    }
    // What it lives by is as it was.
    lapic::init_vcpu();
    t.expect("the local APIC", lapic::id(), lapic::id());
    t.check("time", guest_rt::machine::ticks() != 0);
}
