//! The same from 32-bit code, in a segment of compatibility mode.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use core::arch::global_asm;

use guest_rt::machine::{Registers, attempt, peek};
use guest_rt::tests::Tests;

use super::device;

// The 32-bit code segment is 0x18, the 64-bit one 0x08.
macro_rules! code {
    ($name:literal $($text:literal)*) => {
        global_asm!(
            ".pushsection .text.compatible, \"ax\"",
            concat!(".global ", $name),
            concat!($name, ":"),
            "push 0x18",
            "lea r8, [rip + 2f]",
            "push r8",
            "retfq",
            ".code32",
            "2:",
            $($text,)*
            // JMP to 0x08 : 3f.
            ".byte 0xea",
            ".long 3f",
            ".word 0x08",
            ".code64",
            "3:",
            "ret",
            ".popsection",
        );
    };
}

code!("emulate32_moves"
    "mov eax, [esi]"
    "mov [edi], eax"
    "movzx ebx, word ptr [edi + 2]"
    "movsx ecx, byte ptr [edi + 1]"
    "inc dword ptr [edi]"
    "xchg [edi], edx");
code!("emulate32_strings"
    "cld"
    "rep movsd"
    "push dword ptr [esi]"
    "pop eax");
code!("emulate32_ports"
    "out dx, eax"
    "add edx, 4"
    "in ax, dx"
    "mov ebx, eax"
    "insd"
    "mov esi, edi"
    "sub esi, 4"
    "lodsd");
code!("emulate32_words"
    "mov ax, [esi]"
    "mov [edi], ax");

unsafe extern "C" {
    static emulate32_moves: u8;
    static emulate32_strings: u8;
    static emulate32_ports: u8;
    static emulate32_words: u8;
}

#[repr(C, align(64))]
struct Buffer([u32; 16]);
static mut BUFFER: Buffer = Buffer([0; 16]);

pub(crate) fn test(t: &mut Tests) {
    let (header, buffer) = (device::header(), &raw const BUFFER as u64);
    let first = device::config(0);
    let mut registers = Registers {
        rsi: header,
        rdi: device::message().unwrap_or(buffer),
        rdx: 0x1234_5678,
        ..Registers::default()
    };
    t.expect(
        "moves",
        attempt(&raw const emulate32_moves as u64, &mut registers),
        None,
    );
    t.expect("MOV", registers.rax, first.into());
    t.expect("MOVZX", registers.rbx, u64::from(first >> 16));
    let byte = i32::from((first >> 8) as i8) as u32;
    t.expect("MOVSX", registers.rcx, byte.into());
    t.expect("INC, XCHG", registers.rdx, u64::from(first + 1));
    t.expect("what is there", peek(registers.rdi), 0x1234_5678);

    let mut registers = Registers {
        rsi: header,
        rdi: buffer,
        rcx: 4,
        ..Registers::default()
    };
    t.expect(
        "strings",
        attempt(&raw const emulate32_strings as u64, &mut registers),
        None,
    );
    t.expect(
        "registers",
        (registers.rsi, registers.rdi, registers.rcx),
        (header + 16, buffer + 16, 0),
    );
    for n in 0..4 {
        t.expect(
            "REP MOVS",
            peek(buffer + 4 * n),
            device::config(4 * n as u32),
        );
    }
    t.expect("PUSH", registers.rax, device::config(16).into());

    device::select(0);
    let mut registers = Registers {
        rdx: device::ADDRESS.into(),
        rax: guest_rt::machine::cpu::in32(device::ADDRESS).into(),
        rdi: buffer,
        ..Registers::default()
    };
    let select = registers.rax;
    t.expect(
        "ports",
        attempt(&raw const emulate32_ports as u64, &mut registers),
        None,
    );
    t.expect(
        "IN",
        registers.rbx,
        select & 0xffff_0000 | u64::from(first & 0xffff),
    );
    t.expect("INS", registers.rax, first.into());

    let mut registers = Registers {
        rsi: header,
        rdi: buffer,
        rax: u64::MAX,
        ..Registers::default()
    };
    t.expect(
        "words",
        attempt(&raw const emulate32_words as u64, &mut registers),
        None,
    );
    t.expect(
        "MOV of a word",
        registers.rax & 0xffff,
        u64::from(first & 0xffff),
    );
}
