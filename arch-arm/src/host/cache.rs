//! Cache maintenance by address, to the point of coherency.
#![expect(unsafe_code, reason = "cache maintenance instructions")]

use aarch64_cpu::asm::barrier;
use core::arch::asm;

/// Smallest data cache line of any level, in bytes (CTR_EL0.DminLine).
fn data_line() -> u64 {
    let ctr: u64;
    // SAFETY: reading CTR_EL0 has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << (ctr >> 16 & 0xf)
}

macro_rules! by_line {
    ($(#[$doc:meta])* $name:ident, $op:literal) => {
        $(#[$doc])*
        pub fn $name(start: u64, size: u64) {
            let line = data_line();
            let end = start.saturating_add(size);
            let mut at = start & !(line - 1);
            while at < end {
                // SAFETY: cleaning (and dropping the then clean line) changes no memory contents that a program
                // could see; an unmapped address faults, which is the caller's bug and reported as such.
                unsafe { asm!($op, in(reg) at, options(nostack, preserves_flags)) };
                at += line;
            }
            barrier::dsb(barrier::SY);
        }
    };
}

by_line! {
    /// Writes `size` bytes from virtual address `start` back to memory, for observers that do not look into caches.
    clean_range, "dc cvac, {}"
}
by_line! {
    /// Writes `size` bytes from virtual address `start` back to memory and drops them from the caches, so that what
    /// an observer without caches writes later is seen.
    clean_invalidate_range, "dc civac, {}"
}

/// Makes instructions that were written visible to instruction fetches of all CPUs. The data must have been cleaned
/// with [`clean_range`] before.
pub fn invalidate_instructions() {
    // SAFETY: dropping the instruction caches has no visible effect beyond fresh fetches.
    unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}
