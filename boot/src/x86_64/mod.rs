//! Oxen on x86-64: x86-64 start-up is not written yet.
//!
//! This is what makes the binary link, so that the crates below it are built for the target: an entry point that prints
//! nothing and halts the CPU.
#![expect(unsafe_code, reason = "entry code, halting, the allocator's interface")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "cli",
    "2:",
    "hlt",
    "jmp 2b",
);

/// A heap without memory: nobody has found out yet where there is some.
struct NoMemory;

// SAFETY: no allocation ever succeeds, so none is ever given back.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: stopping for ever with interrupts masked touches nothing.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
