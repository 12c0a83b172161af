//! Random bytes as instructions, each of which runs once, in user mode and in the kernel's.
//!
//! A trap after the first instruction ends an attempt, and a timer those where it does not. Nothing that reaches a device or
//! changes what this kernel stands on is among them: ports, page tables, tables of segments and gates. Neither is a move to
//! a segment register that there is not, which ends QEMU itself (10.0: `8e f3`).

use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::lapic::{self, lvt, registers as r};
use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{Registers, Trap, attempt, attempt_user, poke8};
use guest_rt::tests::Tests;
use guest_rt::{Random, println};

use super::map;

/// Attempts of each kind.
const COUNT: u32 = 20_000;
/// Bytes of an attempt; more than the longest instruction. What follows is undefined.
const BYTES: usize = 16;
const UNDEFINED: [u8; 2] = [0x0f, 0x0b];
/// MOV RSP, R14; PUSH R15; POPF.
const SET_STACK_AND_FLAGS: [u8; 6] = [0x4c, 0x89, 0xf4, 0x41, 0x57, 0x9d];
/// Nobody is registered for it: it ends an attempt.
const TIMER: u8 = 0x91;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

static mut PAGES: [Page; 6] = [const { Page([0; 4096]) }; 6];

/// Where pages are mapped: code, then data with the stack.
struct Place {
    code: u64,
    data: u64,
    stack: u64,
}

fn place(user: bool) -> Place {
    let with = bits::PRESENT | bits::WRITABLE | if user { bits::USER } else { 0 };
    let physical = &raw const PAGES as u64;
    let at: [u64; 6] =
        core::array::from_fn(|n| paging::map(16 + n as u64, physical + 4096 * n as u64, with));
    Place {
        code: at[0] + 0x800,
        data: at[3],
        stack: at[5] + 0xf00,
    }
}

/// Whether these bytes may be tried.
fn is_harmless(bytes: &[u8], user: bool) -> bool {
    let pair =
        |first: u8, holds: fn(u8) -> bool| bytes.windows(2).any(|w| w[0] == first && holds(w[1]));
    let field = |modrm: u8| modrm >> 3 & 7;
    // No such segment register; QEMU.
    if pair(0x8e, |m| m >> 3 & 7 >= 6) || bytes.last() == Some(&0x8e) {
        return false;
    }
    // Anything to GS, whose base finds this vCPU's own data.
    let to_gs = |w: &[u8]| match w[0] {
        0x8e => field(w[1]) == 5,
        0x0f => matches!(w[1], 0xa9 | 0xb5),
        _ => false,
    };
    if bytes.windows(2).any(to_gs) {
        return false;
    }
    if user {
        return true;
    }
    // Ports. POPF and IRET, which switch the trap off.
    let not_here = |b: &u8| matches!(b, 0x6c..=0x6f | 0xe4..=0xe7 | 0xec..=0xef | 0x9d | 0xcf);
    let after_0f = |w: &[u8]| {
        w[0] == 0x0f
            && match w[1] {
                // LGDT, LIDT, SWAPGS and their neighbours; LLDT and LTR.
                0x00 | 0x01 => true,
                // MOV to a control register; WRMSR.
                0x22 | 0x30 => true,
                _ => false,
            }
    };
    !bytes.iter().any(not_here) && !bytes.windows(2).any(after_0f)
}

fn bytes(random: &mut Random, user: bool) -> [u8; BYTES] {
    loop {
        let mut bytes = [0; BYTES];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        // Often one of the two-byte opcodes, a prefix, or the like.
        match random.next() % 8 {
            0 | 1 => bytes[0] = 0x0f,
            2 => bytes[..2].copy_from_slice(&[0x66, 0x0f]),
            3 => bytes[..2].copy_from_slice(&[0xf3, 0x0f]),
            4 => bytes[0] = 0x48,
            _ => {}
        }
        if is_harmless(&bytes, user) {
            return bytes;
        }
    }
}

fn run(t: &mut Tests, user: bool, seed: u64) {
    let place = place(user);
    let mut random = Random::new(seed);
    let (cr0, cr4) = (cpu::cr0(), cpu::cr4());
    // How attempts ended, by vector.
    let mut ends = [0u32; 32];
    let (mut timed_out, mut returned) = (0, 0);
    lapic::write(r::TIMER, u32::from(TIMER));
    for n in 0..COUNT {
        let tried = bytes(&mut random, user);
        // Behind the last of these one instruction follows before the trap. The stack is nothing that is needed.
        let before: &[u8] = if user { &[] } else { &SET_STACK_AND_FLAGS };
        let undefined = UNDEFINED.iter().cycle().take(2 * BYTES);
        for (at, byte) in (place.code..).zip(before.iter().chain(&tried).chain(undefined)) {
            poke8(at, *byte);
        }
        let any = |random: &mut Random| match random.next() % 4 {
            0 => random.next(),
            1 => random.next() % 64,
            _ => place.data + 0x400 + random.next() % 0x800,
        };
        let mut registers = Registers {
            rax: any(&mut random),
            rcx: random.next() % 64,
            rdx: any(&mut random),
            rbx: any(&mut random),
            rbp: any(&mut random),
            rsi: any(&mut random),
            rdi: any(&mut random),
            r8_to_r15: core::array::from_fn(|_| any(&mut random)),
            rflags: flags::ALWAYS | flags::TRAP | flags::INTERRUPTS | random.next() & 0x8d5,
        };
        if !user {
            registers.r8_to_r15[6] = place.data + 0x1800;
            registers.r8_to_r15[7] = registers.rflags;
            registers.rflags = flags::ALWAYS;
        }
        // Long enough for one instruction, and if not, the attempt ends before it.
        lapic::write(r::INITIAL, 2_000_000);
        let end = if user {
            attempt_user(place.code, place.stack, &mut registers)
        } else {
            attempt(place.code, &mut registers)
        };
        lapic::write(r::INITIAL, 0);
        match end {
            None => returned += 1,
            Some(Trap { vector, .. }) if vector < 32 => ends[usize::from(vector)] += 1,
            Some(Trap { vector, .. }) => {
                timed_out += 1;
                if lapic::is_in_service(vector) {
                    lapic::end_interrupt();
                }
            }
        }
        if !user {
            restore(cr0, cr4);
        }
        if n % 5000 == 4999 {
            println!("{} attempts", n + 1);
        }
    }
    lapic::write(r::TIMER, lvt::MASKED);
    println!("by vector: {ends:?}, timer {timed_out}, return {returned}");
    t.expect(
        "all ended",
        ends.iter().sum::<u32>() + timed_out + returned,
        COUNT,
    );
    t.check("many were instructions", ends[1] > COUNT / 8);
    t.check("many were none", ends[6] > COUNT / 64);
}

/// Puts back what instructions of a kernel may have changed.
fn restore(cr0: u64, cr4: u64) {
    cpu::set_dr7(0x400);
    if cpu::cr0() != cr0 {
        cpu::set_cr0(cr0);
    }
    if cpu::cr4() != cr4 {
        cpu::set_cr4(cr4);
    }
}

pub(crate) fn user(t: &mut Tests) {
    run(t, true, 0x0bad_c0de);
}

pub(crate) fn kernel(t: &mut Tests) {
    let whole = map::only_memory();
    run(t, false, 0x0bad_5eed);
    map::restore(&whole);
}
