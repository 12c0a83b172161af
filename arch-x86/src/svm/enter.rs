//! The world switch.
#![expect(unsafe_code, reason = "enters a guest")]

use core::arch::global_asm;

use crate::hypercall::Gprs;

global_asm!(include_str!("enter.S"));

unsafe extern "C" {
    fn oxen_svm_enter(gprs: *mut Gprs, guest: u64, host: u64);
    static oxen_svm_left: u8;
}

/// Address of the instruction at which the host goes on when a guest exits.
pub(super) fn left() -> u64 {
    (&raw const oxen_svm_left).addr() as u64
}

/// Runs the guest whose control block is at physical address `guest` until it exits. `host` is the physical address of
/// this CPU's block with the host's own hidden state.
///
/// # Safety
/// - SVM is on, this CPU has a host save area, and `host` was filled by VMSAVE with this CPU's state.
/// - `guest` is a control block that nobody else touches meanwhile. Its nested page tables give access to nothing but what
///   the domain may use, its permission maps are valid, and physical interrupts, NMIs, shutdown and VMRUN exit.
/// - Interrupts are masked.
pub(super) unsafe fn enter(gprs: &mut Gprs, guest: u64, host: u64) {
    // SAFETY: by the caller's word; the assembly keeps the callee-saved registers and touches memory of ours only
    // through `gprs`, which is borrowed exclusively.
    unsafe { oxen_svm_enter(gprs, guest, host) }
}
