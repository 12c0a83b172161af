//! TLB maintenance. Each function completes the invalidation (DSB) before it returns, and the ones that concern
//! Oxen's own translations synchronise the instruction stream (ISB).
//!
//! The callers' table writes come before the invalidation: every function starts with a DSB for stores.
#![expect(unsafe_code, reason = "TLB maintenance instructions")]

use aarch64_cpu::asm::barrier;
use core::arch::asm;
use xen_core::GuestPhysAddr;

macro_rules! tlbi {
    ($(#[$doc:meta])* $name:ident, $op:literal) => {
        $(#[$doc])*
        pub fn $name() {
            barrier::dsb(barrier::ISHST);
            // SAFETY: dropping cached translations is always allowed; they are read again from the tables.
            unsafe { asm!(concat!("tlbi ", $op), options(nostack, preserves_flags)) };
            barrier::dsb(barrier::ISH);
            barrier::isb(barrier::SY);
        }
    };
}

tlbi! {
    /// Oxen's own translations, on this CPU.
    flush_el2_local, "alle2"
}
tlbi! {
    /// Oxen's own translations, on all CPUs.
    flush_el2_all, "alle2is"
}
tlbi! {
    /// Both stages of the guest whose VMID is in VTTBR_EL2 now, on all CPUs.
    flush_guest_all, "vmalls12e1is"
}
tlbi! {
    /// Both stages of the guest whose VMID is in VTTBR_EL2 now, on this CPU.
    flush_guest_local, "vmalls12e1"
}
tlbi! {
    /// Both stages of every guest, on all CPUs; for the reuse of VMIDs.
    flush_all_guests, "alle1is"
}
tlbi! {
    /// Stage 1 of the guest whose VMID is in VTTBR_EL2 now, on all CPUs; completes [`flush_guest_ipa`].
    flush_guest_stage1, "vmalle1is"
}

/// Stage-2 translations of `pages` 4 KiB pages from `ipa` of the guest whose VMID is in VTTBR_EL2 now, on all CPUs,
/// with the combined translations derived from them.
pub fn flush_guest_ipa(ipa: GuestPhysAddr, pages: u64) {
    barrier::dsb(barrier::ISHST);
    let first = ipa.0 >> 12;
    for page in first..first.saturating_add(pages) {
        // The operand holds IPA[47:12] in bits 35:0.
        let operand = page & 0xf_ffff_ffff;
        // SAFETY: as in the macro above.
        unsafe { asm!("tlbi ipas2e1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
    }
    // Combined entries are found by virtual address, which is not known here: all of the guest's go.
    barrier::dsb(barrier::ISH);
    flush_guest_stage1();
}
