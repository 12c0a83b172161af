//! What is different on arm64.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::asm;

use guest_rt::Boot;
use guest_rt::machine as m;

/// Beyond every device and all memory.
const NOWHERE: u64 = 0x70_0000_0000;

/// One instruction, for ever, with everything masked.
pub(crate) fn spin() -> ! {
    // SAFETY: nothing else runs on this vCPU any more.
    unsafe { asm!("msr daifset, #0xf", "1: b 1b", options(noreturn)) }
}

/// An exception whose handler is nowhere, so that fetching its first instruction is the next exception.
pub(crate) fn abort_for_ever() -> ! {
    m::set_vbar(NOWHERE);
    m::jump(NOWHERE);
    spin()
}

/// Ends by the command line that only this architecture has.
pub(crate) const fn other_ends(_: &Boot) {}

/// Whether a load and a store meet a page.
pub(crate) fn meets(page: u64) -> bool {
    !m::faults(|| m::poke(page + 8, m::peek(page)))
}

/// Memory well behind this kernel and what was loaded with it.
pub(crate) fn spare() -> u64 {
    (spare as *const () as u64 & !0xfff_ffff) + 0xa00_0000
}
