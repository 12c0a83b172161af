//! Code that runs with chosen registers until it returns or an exception ends it.

use super::exceptions::Trap;
use super::smp::this;

/// General registers and flags that code starts with, and leaves. The layout is known to the entry code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RBX.
    pub rbx: u64,
    /// RBP.
    pub rbp: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// R8 to R15.
    pub r8_to_r15: [u64; 8],
    /// RFLAGS; bit 1 is always set.
    pub rflags: u64,
}

impl Default for Registers {
    /// All 0, with interrupts masked.
    fn default() -> Self {
        Self {
            rax: 0,
            rcx: 0,
            rdx: 0,
            rbx: 0,
            rbp: 0,
            rsi: 0,
            rdi: 0,
            r8_to_r15: [0; 8],
            rflags: super::cpu::flags::ALWAYS,
        }
    }
}

unsafe extern "C" {
    fn guest_attempt(code: u64, registers: *mut Registers, user_stack: u64);
}

fn run(code: u64, registers: &mut Registers, user_stack: u64) -> Option<Trap> {
    let mine = this();
    mine.clear_trap();
    // SAFETY: the entry code saves what a function has to keep. What the code does to memory is the caller's business.
    unsafe { guest_attempt(code, registers, user_stack) };
    mine.trap()
}

/// Calls `code` at privilege level 0 with `registers`, until it returns (by RET, on the stack it found) or meets an
/// exception, which is what this returns. `registers` are those at that time. Attempts do not nest.
///
/// Interrupts with a handler are taken while it runs, if its flags let them in.
pub fn attempt(code: u64, registers: &mut Registers) -> Option<Trap> {
    run(code, registers, 0)
}

/// The same at privilege level 3 on the stack whose top is `stack`: it can end by an exception only. Code and stack
/// have to be pages that [`paging::map`](super::paging::map) made the user's.
pub fn attempt_user(code: u64, stack: u64, registers: &mut Registers) -> Option<Trap> {
    run(code, registers, stack)
}
