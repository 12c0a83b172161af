//! Port instructions of every width and form.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu::{flags, in8, in32, out8, out32};
use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{Registers, attempt, peek8, poke8};
use guest_rt::tests::Tests;

use super::device::{self, DATA};
use super::table::{each, table};

table! { INPUTS emulate_inputs:
    1 "in al, dx"
    2 "in ax, dx"
    4 "in eax, dx"
}
table! { OUTPUTS emulate_outputs:
    1 "out dx, al"
    2 "out dx, ax"
    4 "out dx, eax"
}
table! { INS emulate_ins:
    1 "insb"
    2 "insw"
    4 "insd"
    1 "rep insb"
    2 "rep insw"
    4 "rep insd"
    1 "repne insb"
    1 "addr32 rep insb"
    4 "addr32 rep insd"
}
table! { OUTS emulate_outs:
    1 "outsb"
    2 "outsw"
    4 "outsd"
    1 "rep outsb"
    2 "rep outsw"
    4 "rep outsd"
    2 "es rep outsw"
    4 "addr32 rep outsd"
}
table! { FIXED emulate_fixed:
    1 "in al, 0x71"
    1 "out 0x70, al"
}

const PAGE: u64 = 4096;
#[repr(C, align(4096))]
struct Pages([u8; 2 * PAGE as usize]);
static mut PAGES: Pages = Pages([0; 2 * PAGE as usize]);

/// Two pages, which are the other way round in memory.
pub(crate) fn crossing(second: u64) -> u64 {
    let physical = &raw const PAGES as u64;
    let all = bits::PRESENT | bits::WRITABLE;
    let at = paging::map(40, physical + PAGE, all);
    paging::map(41, physical, second);
    at + PAGE
}

fn bytes(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

pub(crate) fn test(t: &mut Tests) {
    inputs(t);
    outputs(t);
    ins(t);
    outs(t);
    fixed(t);
    timer(t);
}

fn inputs(t: &mut Tests) {
    let value = bytes(device::config(0));
    for (size, text, code) in each(INPUTS, &raw const emulate_inputs) {
        for offset in (0..4).step_by(size) {
            device::select(0);
            let mut registers = Registers {
                rax: 0x1122_3344_5566_7788,
                rdx: u64::from(DATA) + offset as u64,
                rflags: flags::ALWAYS | flags::CARRY | flags::ZERO,
                ..Registers::default()
            };
            let before = registers;
            t.expect(text, attempt(code, &mut registers), None);
            let mut expected = before.rax.to_le_bytes();
            expected[..size].copy_from_slice(&value[offset..offset + size]);
            if size == 4 {
                expected[4..].fill(0);
            }
            let expected = Registers {
                rax: u64::from_le_bytes(expected),
                ..before
            };
            t.expect(text, registers, expected);
        }
    }
}

fn outputs(t: &mut Tests) {
    let message = device::message_offset().unwrap_or(0);
    for (size, text, code) in each(OUTPUTS, &raw const emulate_outputs) {
        for offset in (0..4).step_by(size) {
            device::select(message);
            out32(DATA, 0xa5a5_a5a5);
            let mut registers = Registers {
                rax: 0xffff_ffff_1234_5678,
                rdx: u64::from(DATA) + offset as u64,
                ..Registers::default()
            };
            let before = registers;
            t.expect(text, attempt(code, &mut registers), None);
            t.expect(text, registers, before);
            let mut expected = [0xa5; 4];
            expected[offset..offset + size].copy_from_slice(&bytes(0x1234_5678)[..size]);
            t.expect(text, bytes(device::config(message)), expected);
        }
    }
}

/// What a repeated instruction does to its index and its count.
struct Progress {
    index: u64,
    count: u64,
    elements: u64,
}

fn progress(text: &str, size: usize, down: bool, index: u64, count: u64) -> Progress {
    let repeated = text.contains("rep");
    let elements = if repeated { count } else { 1 };
    let by = elements * size as u64;
    let moved = if down {
        index.wrapping_sub(by)
    } else {
        index.wrapping_add(by)
    };
    Progress {
        index: moved,
        count: count - if repeated { elements } else { 0 },
        elements,
    }
}

fn ins(t: &mut Tests) {
    let value = bytes(device::config(0));
    let physical = &raw const PAGES as u64;
    let all = bits::PRESENT | bits::WRITABLE;
    let crossing = crossing(all);
    for (size, text, code) in each(INS, &raw const emulate_ins) {
        // In the middle of memory, and over the end of a page whose neighbour is elsewhere.
        for middle in [physical + 256, crossing] {
            if text.contains("addr32") && middle >> 32 != 0 {
                continue;
            }
            for (down, count) in [(false, 0), (false, 1), (false, 7), (true, 5), (false, 37)] {
                let start = middle - 2 * size as u64;
                (start - 64..start + 200).for_each(|at| poke8(at, 0xee));
                device::select(0);
                let mut registers = Registers {
                    rcx: count,
                    rdx: DATA.into(),
                    rdi: start,
                    rflags: flags::ALWAYS | if down { flags::DOWN } else { 0 },
                    ..Registers::default()
                };
                let expected = progress(text, size, down, start, count);
                let before = registers;
                t.expect(text, attempt(code, &mut registers), None);
                let after = Registers {
                    rdi: expected.index,
                    rcx: expected.count,
                    ..before
                };
                t.expect(text, registers, after);
                let bytes = expected.elements * size as u64;
                let first = if down {
                    start + size as u64 - bytes
                } else {
                    start
                };
                let right = (start - 64..start + 200).all(|at| {
                    let inside = at.checked_sub(first).filter(|o| *o < bytes);
                    peek8(at) == inside.map_or(0xee, |o| value[o as usize % size])
                });
                t.check(text, right);
            }
        }
    }
}

fn outs(t: &mut Tests) {
    let message = device::message_offset().unwrap_or(0);
    let physical = &raw const PAGES as u64;
    let crossing = crossing(bits::PRESENT | bits::WRITABLE);
    for (size, text, code) in each(OUTS, &raw const emulate_outs) {
        for middle in [physical + 512, crossing] {
            if text.contains("addr32") && middle >> 32 != 0 {
                continue;
            }
            for (down, count) in [(false, 0), (false, 1), (false, 6), (true, 4)] {
                let start = middle - 2 * size as u64;
                (start - 64..start + 64).for_each(|at| poke8(at, at as u8 ^ 0x5a));
                device::select(message);
                out32(DATA, 0xa5a5_a5a5);
                let mut registers = Registers {
                    rcx: count,
                    rdx: DATA.into(),
                    rsi: start,
                    rflags: flags::ALWAYS | if down { flags::DOWN } else { 0 },
                    ..Registers::default()
                };
                let expected = progress(text, size, down, start, count);
                let before = registers;
                t.expect(text, attempt(code, &mut registers), None);
                let after = Registers {
                    rsi: expected.index,
                    rcx: expected.count,
                    ..before
                };
                t.expect(text, registers, after);
                // The last element is what stays.
                let mut there = [0xa5; 4];
                if expected.elements > 0 {
                    let by = size as u64;
                    let last = if down {
                        expected.index + by
                    } else {
                        expected.index - by
                    };
                    for (byte, at) in there.iter_mut().zip(last..).take(size) {
                        *byte = peek8(at);
                    }
                }
                t.expect(text, bytes(device::config(message)), there);
            }
        }
    }
}

/// Ports in the instruction: the real-time clock's.
fn fixed(t: &mut Tests) {
    const STATUS_B: u8 = 0x0b;
    let codes: [u64; 2] = {
        let mut all = each(FIXED, &raw const emulate_fixed).map(|(_, _, code)| code);
        [all.next().unwrap_or(0), all.next().unwrap_or(0)]
    };
    out8(0x70, STATUS_B);
    let status = in8(0x71);
    out8(0x70, 0);
    let mut registers = Registers {
        rax: STATUS_B.into(),
        ..Registers::default()
    };
    t.expect(
        "OUT to a fixed port",
        attempt(codes[1], &mut registers),
        None,
    );
    t.expect(
        "IN from a fixed port",
        attempt(codes[0], &mut registers),
        None,
    );
    t.expect("the clock's status", registers.rax as u8, status);
}

/// The ACPI timer never goes back, whichever way it is read.
fn timer(t: &mut Tests) {
    const POWER_BASE: u32 = 0x40;
    /// Device 31, function 0.
    const BRIDGE: u32 = 1 << 31 | 31 << 11;
    out32(device::ADDRESS, BRIDGE | POWER_BASE);
    let port = (in32(DATA) & 0xff80) as u16 + 8;
    const BITS: u32 = 24;
    let behind = |a: u32, b: u32| b.wrapping_sub(a) << (32 - BITS) >> (32 - BITS) < 1 << (BITS - 1);
    let mut last = in32(port);
    if last == u32::MAX && !is_oxen() {
        // Xen keeps it to itself.
        return;
    }
    t.expect("24 bits", last >> BITS, 0);
    for _ in 0..200 {
        let now = in32(port);
        t.check("it does not go back", behind(last, now));
        last = now;
    }
    let buffer = &raw const PAGES as u64;
    let mut registers = Registers {
        rcx: 16,
        rdx: port.into(),
        rdi: buffer,
        ..Registers::default()
    };
    if let Some((_, text, code)) = each(INS, &raw const emulate_ins).find(|c| c.1 == "rep insd") {
        t.expect(text, attempt(code, &mut registers), None);
    }
    for n in 0..16 {
        let now = guest_rt::machine::peek(buffer + 4 * n);
        t.check("it does not go back", behind(last, now));
        last = now;
    }
}
