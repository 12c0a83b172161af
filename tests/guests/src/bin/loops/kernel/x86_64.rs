//! What is different on x86-64.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};

use guest_rt::machine::{self as m, start_info};
use guest_rt::{Boot, println};
use xen_abi::arch_x86::MemmapType;

global_asm!("loops_return:", "iretq");

/// One instruction, for ever, with interrupts masked.
pub(crate) fn spin() -> ! {
    // SAFETY: nothing else runs on this vCPU any more.
    unsafe { asm!("cli", "2: jmp 2b", options(noreturn)) }
}

/// An exception whose handler goes back to what caused it.
pub(crate) fn abort_for_ever() -> ! {
    const UNDEFINED: u8 = 6;
    unsafe extern "C" {
        fn loops_return();
    }
    m::set_gate(UNDEFINED, loops_return as *const () as u64, 0, 0);
    // SAFETY: nothing else runs on this vCPU any more.
    unsafe { asm!("cli", "ud2", options(noreturn)) }
}

/// Ends by the command line that only this architecture has: `loops-triple` by a triple fault.
pub(crate) fn other_ends(boot: &Boot) {
    if boot.says(b"loops-triple") {
        println!("no gates for what happens next");
        m::load_idt(Some((0, 0)));
        m::jump(u64::MAX >> 1);
    }
}

/// Whether a load and a store meet a page: where none is, reads give ones.
pub(crate) fn meets(page: u64) -> bool {
    let found = m::peek(page);
    m::poke(page + 8, found);
    found != u32::MAX
}

/// 32 MiB of memory behind this kernel and what was loaded with it.
///
/// # Panics
/// If there is not so much.
pub(crate) fn spare() -> u64 {
    const SIZE: u64 = 32 << 20;
    const BEHIND: u64 = 64 << 20;
    const STEP: u64 = 2 << 20;
    start_info::get()
        .memory_map()
        .iter()
        .filter(|region| region.kind == MemmapType::RAM)
        .find_map(|region| {
            let start = region.addr.max(BEHIND).next_multiple_of(STEP);
            (start + SIZE <= region.addr + region.size).then_some(start)
        })
        .expect("memory to spare")
}
