//! Instructions of every length, and over the ends of pages.

use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{Registers, attempt, peek, poke, poke8};
use guest_rt::tests::Tests;

use super::device;

const PAGE: u64 = 4096;
#[repr(C, align(4096))]
struct Pages([u8; 2 * PAGE as usize]);
static mut PAGES: Pages = Pages([0; 2 * PAGE as usize]);

/// `MOV EAX, [RSI]`.
const LOAD: [u8; 2] = [0x8b, 0x06];
/// `MOV [RSI], EAX`.
const STORE: [u8; 2] = [0x89, 0x06];
/// `MOV DWORD PTR [RSI + 0], 0x12345678`, with a displacement of 4 bytes.
const LONG_STORE: [u8; 10] = [0xc7, 0x86, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12];
const CPUID: [u8; 2] = [0x0f, 0xa2];
/// IN EAX, DX.
const INPUT: [u8; 1] = [0xed];
const RETURN: u8 = 0xc3;

/// Two pages of code, the other way round in memory; the end of the first one.
fn code(second: u64) -> u64 {
    let physical = &raw const PAGES as u64;
    let at = paging::map(60, physical + PAGE, bits::PRESENT | bits::WRITABLE);
    paging::map(61, physical, second);
    at + PAGE
}

fn write(at: u64, bytes: &[u8]) {
    for (at, byte) in (at..).zip(bytes) {
        poke8(at, *byte);
    }
}

fn with() -> Registers {
    Registers {
        rax: 0x7fff_1111,
        rdx: device::DATA.into(),
        rsi: device::count(),
        ..Registers::default()
    }
}

pub(crate) fn test(t: &mut Tests) {
    prefixes(t);
    over_the_end(t);
    no_second_page(t);
}

/// Prefixes without a meaning, up to 15 bytes and one more.
fn prefixes(t: &mut Tests) {
    let at = code(bits::PRESENT | bits::WRITABLE) - 0x100;
    poke(device::count(), 0x0abc_def0);
    device::select(0);
    let id = device::config(0);
    device::select(0);
    for (what, instruction, value) in [
        ("load", &LOAD[..], Some(0x0abc_def0)),
        ("IN", &INPUT[..], Some(id)),
        ("CPUID", &CPUID[..], None),
    ] {
        for prefix in [0x2e, 0x3e, 0x65] {
            for length in [instruction.len(), 7, 14, 15, 16] {
                let padding = length - instruction.len();
                // GS has a base here.
                if prefix == 0x65 && what == "load" && padding > 0 {
                    continue;
                }
                (at..).take(padding).for_each(|at| poke8(at, prefix));
                write(at + padding as u64, instruction);
                poke8(at + length as u64, RETURN);
                let mut registers = with();
                let trap = attempt(at, &mut registers);
                if length > 15 {
                    let found = trap.unwrap_or_default();
                    let found = (what, found.vector, found.error, found.rip - at);
                    t.expect("too long", found, (what, 13, 0, 0));
                } else {
                    t.expect(what, trap, None);
                    if let Some(value) = value {
                        t.expect(what, (length, registers.rax), (length, value.into()));
                    }
                }
            }
        }
    }
}

/// The bytes of an instruction on two pages that are not neighbours in memory.
fn over_the_end(t: &mut Tests) {
    let end = code(bits::PRESENT | bits::WRITABLE);
    for (what, instruction) in [
        ("load", &LOAD[..]),
        ("store", &STORE[..]),
        ("a long store", &LONG_STORE[..]),
        ("CPUID", &CPUID[..]),
        ("IN", &INPUT[..]),
    ] {
        for before in 0..=instruction.len() as u64 {
            let at = end - before;
            write(at, instruction);
            poke8(at + instruction.len() as u64, RETURN);
            poke(device::count(), 0x0123_4567);
            device::select(0);
            let mut registers = with();
            t.expect(what, attempt(at, &mut registers), None);
            let found = (registers.rax, u64::from(peek(device::count())));
            match what {
                "load" => t.expect(what, found, (0x0123_4567, 0x0123_4567)),
                "store" => t.expect(what, found, (0x7fff_1111, 0x7fff_1111)),
                "a long store" => t.expect(what, found.1, 0x1234_5678),
                "IN" => t.expect(what, found.0, device::config(0).into()),
                _ => {}
            }
        }
    }
}

/// The second page is not there: the fault of the fetch comes first, and the device is left alone.
fn no_second_page(t: &mut Tests) {
    const FETCH: u64 = 1 << 4;
    let end = code(bits::PRESENT | bits::WRITABLE);
    for (what, instruction) in [
        ("store", &STORE[..]),
        ("a long store", &LONG_STORE[..]),
        ("CPUID", &CPUID[..]),
    ] {
        for before in 1..instruction.len() as u64 {
            code(bits::PRESENT | bits::WRITABLE);
            let at = end - before;
            write(at, instruction);
            code(0);
            poke(device::count(), 0x0123_4567);
            let mut registers = with();
            let trap = attempt(at, &mut registers).unwrap_or_default();
            t.expect(
                what,
                (trap.vector, trap.address, trap.error, trap.rip),
                (14, end, FETCH, at),
            );
            t.expect("registers", registers.rax, with().rax);
            t.expect("the device", peek(device::count()), 0x0123_4567);
        }
    }
    code(bits::PRESENT | bits::WRITABLE);
}
