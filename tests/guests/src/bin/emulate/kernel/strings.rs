//! Repeated string instructions with a device on either side.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use guest_rt::machine::cpu::flags;
use guest_rt::machine::{Registers, attempt, peek8, poke8};
use guest_rt::tests::Tests;
use guest_rt::{Random, println};

use super::device;
use super::table::{each, table};

const SEED: u64 = 0x57_41_63;
/// Bytes of the controller's header: all of them constant.
const HEADER: usize = 64;
const BUFFER: usize = 128;

#[repr(C, align(64))]
struct Buffer([u8; BUFFER]);
/// What the header is, in memory.
static mut COPY: Buffer = Buffer([0; BUFFER]);
static mut OTHER: Buffer = Buffer([0; BUFFER]);

// The source at RSI is the device or its copy. RDI is memory.
table! { FROM emulate_strings_from:
    1 "rep movsb"
    2 "rep movsw"
    4 "rep movsd"
    8 "rep movsq"
    1 "std\nrep movsb\ncld"
    4 "std\nrep movsd\ncld"
    4 "addr32 rep movsd"
    2 "es rep movsw"
    1 "rep lodsb"
    4 "rep lodsd"
    4 "std\nrep lodsd\ncld"
    1 "repe cmpsb"
    4 "repe cmpsd"
    1 "repne cmpsb"
    2 "std\nrepe cmpsw\ncld"
    1 "xchg rsi, rdi\nrepe cmpsb\nxchg rsi, rdi"
    1 "xchg rsi, rdi\nmov al, 0x86\nrepne scasb\nxchg rsi, rdi"
    4 "xchg rsi, rdi\nrepne scasd\nxchg rsi, rdi"
    2 "xchg rsi, rdi\nrepe scasw\nxchg rsi, rdi"
    1 "addr32 repe cmpsb"
}

// The destination at RDI is the message's registers, or memory. RSI is memory.
table! { TO emulate_strings_to:
    1 "rep movsb"
    2 "rep movsw"
    4 "rep movsd"
    1 "rep stosb"
    2 "rep stosw"
    4 "rep stosd"
    1 "addr32 rep stosb"
    1 "addr32 rep movsb"
    1 "lea rdi, [rdi + 5]\nstd\nrep movsb\ncld"
    2 "lea rdi, [rdi + 4]\nstd\nrep stosw\ncld"
}

pub(crate) fn test(t: &mut Tests) {
    let (copy, header) = (&raw const COPY as u64, device::header());
    for n in 0..HEADER as u64 {
        poke8(copy + 32 + n, peek8(header + n));
    }
    for n in (0..HEADER as u32).step_by(4) {
        let word = |at: u64| (0..4).fold(0, |w, n| w | u32::from(peek8(at + n)) << (8 * n));
        t.expect(
            "configuration by port and in memory",
            word(header + u64::from(n)),
            device::config(n),
        );
    }
    let mut random = Random::new(SEED);
    for (size, text, code) in each(FROM, &raw const emulate_strings_from) {
        for count in [0, 1, 2, 3, 5, 7] {
            reads(t, (text, size as u64), code, count, &mut random);
        }
    }
    for (size, text, code) in each(TO, &raw const emulate_strings_to) {
        for count in 0..=4 / size as u64 + u64::from(size == 1) {
            writes(t, text, code, count, &mut random);
        }
    }
}

/// Fills the other buffer, with what the header is in its middle but for a byte now and then.
fn fill(random: &mut Random, alike: bool) {
    let (copy, other) = (&raw const COPY as u64, &raw const OTHER as u64);
    for n in 0..BUFFER as u64 {
        let byte = if alike && !random.next().is_multiple_of(12) {
            peek8(copy + n)
        } else {
            random.next() as u8
        };
        poke8(other + n, byte);
    }
}

fn sum(at: u64, bytes: u64) -> u64 {
    (at..at + bytes).fold(7, |sum: u64, at| {
        sum.wrapping_mul(31).wrapping_add(peek8(at).into())
    })
}

fn with(random: &mut Random, count: u64, rsi: u64, rdi: u64) -> Registers {
    Registers {
        rax: random.next(),
        rcx: count,
        rdx: random.next(),
        rsi,
        rdi,
        rflags: flags::ALWAYS | random.next() & 0x8d5,
        ..Registers::default()
    }
}

fn reads(t: &mut Tests, (text, size): (&str, u64), code: u64, count: u64, random: &mut Random) {
    let (copy, other) = (&raw const COPY as u64 + 32, &raw const OTHER as u64 + 32);
    // Downwards or upwards: neither leaves the header.
    let offset = random.next() % (HEADER as u64 - 2 * 7 * size).max(1) / size * size;
    let offset = (offset + 7 * size).min(HEADER as u64 / 2 / size * size);
    let offset = if size == 8 { 0 } else { offset };
    let seed = random.next() | 1;
    let start = with(random, count, 0, other + offset);
    let run = |source: u64| {
        fill(&mut Random::new(seed), true);
        let mut registers = start;
        registers.rsi = source + offset;
        let trap = attempt(code, &mut registers);
        registers.rsi = registers.rsi.wrapping_sub(source);
        registers.rflags &= 0x8d5;
        (
            registers,
            sum(&raw const OTHER as u64, BUFFER as u64),
            trap.is_none(),
        )
    };
    let (right, found) = (run(copy), run(device::header()));
    t.check(text, right == found && right.2);
    if right != found {
        println!("from offset {offset:x}: {found:x?}\n  and in memory {right:x?}");
    }
}

fn writes(t: &mut Tests, text: &str, code: u64, count: u64, random: &mut Random) {
    /// Bytes of the message's registers.
    const SIZE: u64 = 6;
    fill(random, false);
    let Some(device) = device::message() else {
        return;
    };
    let (memory, other) = (&raw const COPY as u64, &raw const OTHER as u64 + 32);
    let start = with(random, count, other, 0);
    let run = |destination: u64| {
        for n in 0..SIZE {
            poke8(destination + n, 0x11 * n as u8);
        }
        let mut registers = start;
        registers.rdi = destination;
        let trap = attempt(code, &mut registers);
        registers.rdi = registers.rdi.wrapping_sub(destination);
        registers.rflags &= 0x8d5;
        (registers, sum(destination, SIZE), trap.is_none())
    };
    let (right, found) = (run(memory), run(device));
    t.check(text, right == found && right.2);
    if right != found {
        println!("{count} elements: {found:x?}\n  and in memory {right:x?}");
    }
}
