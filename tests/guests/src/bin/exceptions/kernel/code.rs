//! Instructions by their bytes, at chosen places.

use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{Registers, Trap, attempt, attempt_user, poke8};
use guest_rt::tests::Tests;

/// Bytes in a page.
pub(crate) const PAGE: u64 = 4096;

#[repr(C, align(4096))]
struct Pages([u8; 4 * PAGE as usize]);

/// Two pages for code, and two for data.
static mut PAGES: Pages = Pages([0; 4 * PAGE as usize]);

/// Where the code is in the window, in pages.
const CODE: u64 = 8;
/// Where the data is in the window, in pages.
const DATA: u64 = 12;

/// The physical address of page `n` of the four.
pub(crate) fn physical(n: u64) -> u64 {
    &raw const PAGES as u64 + n * PAGE
}

/// UD2, which ends most attempts: it shows where the instruction before it ended.
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Maps the two pages of code with these bits in addition; the address of the first.
pub(crate) fn map_code(first: u64, second: u64) -> u64 {
    paging::map(CODE + 1, physical(1), second);
    paging::map(CODE, physical(0), first)
}

/// Maps the two pages of data with these bits; the address of the first.
pub(crate) fn map_data(with: u64) -> u64 {
    paging::map(DATA + 1, physical(3), with);
    paging::map(DATA, physical(2), with)
}

/// A present, writable page of the kernel's.
pub(crate) const KERNEL: u64 = bits::PRESENT | bits::WRITABLE;
/// One of the user's.
pub(crate) const USER: u64 = KERNEL | bits::USER;

/// Writes an instruction and UD2 behind it into the pages of code, from an offset on.
pub(crate) fn write(offset: u64, instruction: &[u8]) {
    for (at, byte) in (physical(0) + offset..).zip(instruction.iter().chain(&UD2)) {
        poke8(at, *byte);
    }
}

/// Runs an instruction at the start of its page, from the kernel; the exception's vector, error code, and how far behind
/// the start of the instruction it was.
pub(crate) fn run(instruction: &[u8], registers: &mut Registers) -> (u8, u64, u64) {
    run_at(0, instruction, registers)
}

/// The same at an offset in the two pages.
pub(crate) fn run_at(offset: u64, instruction: &[u8], registers: &mut Registers) -> (u8, u64, u64) {
    let at = map_code(KERNEL, KERNEL) + offset;
    write(offset, instruction);
    found(attempt(at, registers), at)
}

/// The same from user mode.
pub(crate) fn run_user(instruction: &[u8], registers: &mut Registers) -> (u8, u64, u64) {
    let at = map_code(USER, USER);
    let stack = map_data(USER) + PAGE;
    write(0, instruction);
    found(attempt_user(at, stack, registers), at)
}

/// What an attempt came to: none is vector 255.
pub(crate) fn found(trap: Option<Trap>, at: u64) -> (u8, u64, u64) {
    trap.map_or((255, 0, 0), |trap| {
        (trap.vector, trap.error, trap.rip.wrapping_sub(at))
    })
}

/// Checks that an instruction is an exception at its start.
pub(crate) fn faults(
    t: &mut Tests,
    what: &str,
    instruction: &[u8],
    registers: &Registers,
    (vector, error): (u8, u64),
) {
    let found = run(instruction, &mut registers.clone());
    t.expect(what, found, (vector, error, 0));
}
