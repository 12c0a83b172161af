//! Single steps and breakpoints at emulated instructions.
#![expect(unsafe_code, reason = "instructions that this kernel tries")]

use core::arch::global_asm;

use guest_rt::machine::cpu::{self, flags};
use guest_rt::machine::{Registers, attempt, lapic};
use guest_rt::tests::Tests;

use super::device::{self, DATA};

const DEBUG: u8 = 1;
/// DR6: a single step.
const STEP: u64 = 1 << 14;
/// DR6: breakpoint 0.
const FIRST: u64 = 1;

// R15 becomes the flags; one instruction later the trap comes. The label behind is where it is found.
macro_rules! steps {
    ($($name:literal $text:literal $again:literal)*) => {
        global_asm!(
            ".pushsection .text.steps, \"ax\"",
            $(
                "2:",
                "push r15",
                "popfq",
                "3:",
                $text,
                "4:",
                "nop",
                "nop",
                "ret",
                ".pushsection .rodata.steps, \"a\"", ".quad 2b, 3b, 4b", ".popsection",
            )*
            ".popsection",
            ".pushsection .rodata.steps, \"a\"",
            ".global emulate_steps",
            "emulate_steps:",
            ".popsection",
        );
        const STEPS: &[(&str, bool)] = &[$(($name, $again)),*];
    };
}

// With true, the trap comes before the next round of the same instruction.
steps! {
    "load" "mov eax, [rsi]" false
    "store" "mov [rsi], eax" false
    "add" "add dword ptr [rsi], 1" false
    "MOVS" "movsd" false
    "REP MOVS" "rep movsd" true
    "IN" "in eax, dx" false
    "OUT" "out dx, eax" false
    "INS" "insb" false
    "REP INS" "rep insb" true
    "REP OUTS" "rep outsb" true
    "CPUID" "cpuid" false
    "RDMSR" "rdmsr" false
    "RDTSC" "rdtsc" false
    "PAUSE" "pause" false
    "WBINVD" "wbinvd" false
    "MOV to CR8" "mov cr8, rbx" false
    "MOV from CR8" "mov rbx, cr8" false
    "MOV to CR4" "mov cr4, rbp" false
}

// IRET to an instruction with a breakpoint and the flag that lets it pass once; it is executed twice.
global_asm!(
    ".pushsection .text.resume, \"ax\"",
    ".global emulate_resume",
    ".global emulate_resume_at",
    "emulate_resume:",
    "mov rax, rsp",
    "mov rcx, ss",
    "push rcx",
    "push rax",
    "push r15",
    "push 0x08",
    "lea rcx, [rip + emulate_resume_at]",
    "push rcx",
    "iretq",
    "emulate_resume_at:",
    "mov eax, [rsi]",
    "dec rbx",
    "jnz emulate_resume_at",
    "ret",
    ".popsection",
);

#[repr(C, align(64))]
struct Buffer([u8; 64]);
static mut BUFFER: Buffer = Buffer([0; 64]);

fn registers() -> Registers {
    Registers {
        rcx: 3,
        rdx: DATA.into(),
        rsi: device::count(),
        rdi: &raw const BUFFER as u64,
        ..Registers::default()
    }
}

pub(crate) fn test(t: &mut Tests) {
    unsafe extern "C" {
        static emulate_steps: u64;
        static emulate_resume: u8;
        static emulate_resume_at: u8;
    }
    let first = &raw const emulate_steps as u64 - 24 * STEPS.len() as u64;
    for ((name, again), at) in STEPS.iter().zip((first..).step_by(24)) {
        let word = |n: u64| guest_rt::machine::peek64(at + 8 * n);
        let mut with = registers();
        if name.contains("REP") || name.contains("MOVS") {
            // A device that has more than one register.
            with.rsi = if name.contains("OUTS") {
                with.rdi
            } else {
                device::header()
            };
        }
        if *name == "RDMSR" {
            with.rcx = lapic::BASE.into();
        }
        with.rbp = cpu::cr4();
        with.r8_to_r15[7] = flags::ALWAYS | flags::TRAP;
        device::select(device::message_offset().unwrap_or(0));
        cpu::set_dr6(0xffff_0ff0);
        let trap = attempt(word(0), &mut with).unwrap_or_default();
        let behind = if *again { word(1) } else { word(2) };
        t.expect(
            name,
            (trap.vector, trap.rip, cpu::dr6() & 0xe00f),
            (DEBUG, behind, STEP),
        );
        if *again {
            t.expect("one round", (name, with.rcx), (name, 2));
        }
    }
    cpu::set_dr6(0xffff_0ff0);
    cpu::set_dr0(&raw const emulate_resume_at as u64);
    const ENABLE: u64 = 1 | 0x400;
    cpu::set_dr7(ENABLE);
    for (resume, rounds_left) in [(0, 2), (flags::RESUME, 1)] {
        cpu::set_dr6(0xffff_0ff0);
        let mut with = registers();
        with.rbx = 2;
        with.r8_to_r15[7] = flags::ALWAYS | resume;
        let trap = attempt(&raw const emulate_resume as u64, &mut with).unwrap_or_default();
        t.expect(
            "a breakpoint",
            (trap.vector, trap.rip),
            (DEBUG, &raw const emulate_resume_at as u64),
        );
        t.expect("which", cpu::dr6() & 0xe00f, FIRST);
        t.expect("the flag lets it pass once", with.rbx, rounds_left);
    }
    cpu::set_dr7(0x400);
    cpu::set_dr6(0xffff_0ff0);
}
