//! Page faults of emulated instructions: the address, the error code, and how far a repeated one came.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use core::arch::global_asm;

use guest_rt::machine::paging::{self, bits};
use guest_rt::machine::{Registers, Trap, attempt, attempt_user, peek, poke, poke8};
use guest_rt::tests::Tests;

use super::device::{self, DATA};
use super::ports::crossing;

macro_rules! code {
    ($($name:ident $text:literal)*) => {
        global_asm!(
            ".pushsection .text.faults, \"ax\"",
            $(
                concat!(".global ", stringify!($name)),
                concat!(stringify!($name), ":"),
                $text,
                "ret",
            )*
            ".popsection",
        );
        unsafe extern "C" { $(static $name: u8;)* }
    };
}

code! {
    fault_rep_insb "rep insb"
    fault_insd "insd"
    fault_rep_outsb "rep outsb"
    fault_movsd "movsd"
    fault_rep_movsb "rep movsb"
    fault_rep_stosb "rep stosb"
    fault_push "push [rsi]"
    fault_cmpsd "cmpsd"
    fault_pop "pop [rsi]"
}

const PAGE_FAULT: u8 = 14;
/// Bits of its error code.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;

/// Checks that `code` ends by a page fault, with these registers.
fn expect(
    t: &mut Tests,
    what: &str,
    code: *const u8,
    start: Registers,
    fault: (u64, u64),
    after: Registers,
) {
    let code = code as u64;
    let mut registers = start;
    let trap = attempt(code, &mut registers).unwrap_or_default();
    t.expect(
        what,
        (trap.vector, trap.address, trap.error, trap.rip),
        (PAGE_FAULT, fault.0, fault.1, code),
    );
    let rflags = registers.rflags;
    t.expect(what, registers, Registers { rflags, ..after });
}

pub(crate) fn test(t: &mut Tests) {
    in_the_middle(t);
    at_once(t);
    by_a_user(t);
}

/// Elements before the page that is not there are done, and counted.
fn in_the_middle(t: &mut Tests) {
    let all = bits::PRESENT | bits::WRITABLE;
    for (second, because) in [(0, 0), (bits::PRESENT, PRESENT)] {
        let end = crossing(second);
        poke8(end - 4, 0xee);
        let start = Registers {
            rcx: 8,
            rdx: DATA.into(),
            rsi: device::header(),
            rdi: end - 3,
            ..Registers::default()
        };
        device::select(0);
        let after = Registers {
            rcx: 5,
            rdi: end,
            ..start
        };
        expect(
            t,
            "REP INS",
            &raw const fault_rep_insb,
            start,
            (end, because | WRITE),
            after,
        );
        let bytes = device::config(0) & 0xff;
        t.expect(
            "what it read",
            peek(end - 4),
            0xee | bytes << 8 | bytes << 16 | bytes << 24,
        );
        let after = Registers {
            rsi: start.rsi + 3,
            ..after
        };
        expect(
            t,
            "REP MOVS from a device",
            &raw const fault_rep_movsb,
            start,
            (end, because | WRITE),
            after,
        );
        let bytes = device::config(0) << 8;
        t.expect("what it read", peek(end - 4), 0xee | bytes);
    }
    let end = crossing(0);
    poke(end - 4, 0x4433_2211);
    let message = device::message_offset().unwrap_or(0);
    device::select(message);
    let start = Registers {
        rcx: 10,
        rdx: DATA.into(),
        rsi: end - 4,
        ..Registers::default()
    };
    let after = Registers {
        rcx: 6,
        rsi: end,
        ..start
    };
    expect(
        t,
        "REP OUTS",
        &raw const fault_rep_outsb,
        start,
        (end, 0),
        after,
    );
    t.expect("what it wrote", device::config(message) & 0xff, 0x44);
    let to = device::message().unwrap_or(0);
    let start = Registers { rdi: to, ..start };
    let after = Registers {
        rcx: 6,
        rsi: end,
        rdi: to + 4,
        ..start
    };
    expect(
        t,
        "REP MOVS to a device",
        &raw const fault_rep_movsb,
        start,
        (end, 0),
        after,
    );
    t.expect("what it wrote", device::config(message), 0x4433_2211);
    // The device's page ends: what follows is not mapped.
    let device = device::header() & !0xfff;
    paging::map(42, device, all);
    let last = paging::map(43, 0, 0);
    let start = Registers {
        rcx: 9,
        rax: 0,
        rdi: last - 4,
        ..Registers::default()
    };
    let after = Registers {
        rcx: 5,
        rdi: last,
        ..start
    };
    // The last bytes of the configuration: nothing is there, and writes are lost.
    expect(
        t,
        "REP STOS",
        &raw const fault_rep_stosb,
        start,
        (last, WRITE),
        after,
    );
}

/// An instruction that faults did nothing.
fn at_once(t: &mut Tests) {
    let end = crossing(0);
    device::select(0);
    let start = Registers {
        rcx: 3,
        rdx: DATA.into(),
        rsi: device::header(),
        rdi: end,
        ..Registers::default()
    };
    expect(
        t,
        "MOVS",
        &raw const fault_movsd,
        start,
        (end, WRITE),
        start,
    );
    expect(t, "CMPS", &raw const fault_cmpsd, start, (end, 0), start);
    expect(t, "INS", &raw const fault_insd, start, (end, WRITE), start);
    // An operand over the end of a page: its second half is what faults.
    let start = Registers {
        rdi: end - 2,
        ..start
    };
    poke8(end - 2, 0x77);
    expect(
        t,
        "INS over the end",
        &raw const fault_insd,
        start,
        (end, WRITE),
        start,
    );
    expect(
        t,
        "MOVS over the end",
        &raw const fault_movsd,
        start,
        (end, WRITE),
        start,
    );
}

/// In user mode, what is the kernel's is not the instruction's.
fn by_a_user(t: &mut Tests) {
    let user = bits::PRESENT | bits::WRITABLE | bits::USER;
    let all = bits::PRESENT | bits::WRITABLE;
    const LOAD_MOVS_UNDEFINED: [u8; 6] = [0x8b, 0x06, 0xa5, 0x0f, 0x0b, 0x0b];
    crossing(all);
    let memory = crossing(all) - 4096;
    let code = paging::map(45, paging::window(41), user);
    for (at, byte) in (code..).zip(LOAD_MOVS_UNDEFINED) {
        poke8(at, byte);
    }
    let page = device::header() & !0xfff;
    let offset = device::header() & 0xfff;
    let device = paging::map(46, page, user) + offset;
    let stack = paging::map(47, paging::window(40), user) + 0x800;
    let run = |rsi: u64, rdi: u64| {
        let mut registers = Registers {
            rsi,
            rdi,
            ..Registers::default()
        };
        let trap = attempt_user(code, stack, &mut registers).unwrap_or_default();
        (trap, registers)
    };
    let first = device::config(0);
    let (trap, registers) = run(device, stack);
    t.expect(
        "a device that is the user's",
        (trap.vector, trap.rip - code),
        (6, 3),
    );
    t.expect(
        "what it reads",
        (registers.rax, peek(stack)),
        (first.into(), first),
    );
    let fault = |trap: Trap| (trap.vector, trap.address, trap.error, trap.rip - code);
    let (trap, registers) = run(device, memory);
    t.expect(
        "the kernel's memory",
        fault(trap),
        (PAGE_FAULT, memory, PRESENT | WRITE | USER, 2),
    );
    t.expect(
        "nothing moved",
        (registers.rsi, registers.rdi),
        (device, memory),
    );
    let nowhere = paging::map(48, 0, 0);
    let (trap, _) = run(device, nowhere);
    t.expect(
        "no memory",
        fault(trap),
        (PAGE_FAULT, nowhere, WRITE | USER, 2),
    );
    let mapped = paging::map(49, page, all) + offset;
    let (trap, _) = run(mapped, stack);
    t.expect(
        "a device that is the kernel's",
        fault(trap),
        (PAGE_FAULT, mapped, PRESENT | USER, 0),
    );
    let read_only =
        paging::map(46, page, user & !bits::WRITABLE) + device::message().unwrap_or(0) % 4096;
    let (trap, _) = run(stack, read_only);
    t.expect(
        "a device that is read only",
        fault(trap),
        (PAGE_FAULT, read_only, PRESENT | WRITE | USER, 2),
    );
    let mut registers = Registers {
        rsi: read_only,
        ..Registers::default()
    };
    let pop = &raw const fault_pop as u64;
    let trap = attempt(pop, &mut registers).unwrap_or_default();
    t.expect(
        "for the kernel too",
        (trap.vector, trap.address, trap.error),
        (PAGE_FAULT, read_only, PRESENT | WRITE),
    );
    let push = &raw const fault_push as u64;
    t.check("it is read", attempt(push, &mut registers).is_some());
}
