//! A guest's virtual address through its own tables.
#![expect(unsafe_code, reason = "address translation instructions")]

use xen_core::{GuestPhysAddr, GuestVirtAddr};

use super::par::{TranslateFault, parse};
use super::sysregs::{isb, read, write};

/// The guest physical address of `va` as EL1 of the loaded vCPU would read it, or write it if `write_access`.
///
/// Only the guest's own stage 1 is asked; whether stage 2 maps the result is the caller's to find out. The answer is
/// as good as the guest's tables are at this moment: another vCPU may change them at once. The vCPU's state is to be
/// loaded on this CPU ([`super::load_state`]).
///
/// # Errors
/// [`TranslateFault`] if the tables refuse the access.
pub fn translate(va: GuestVirtAddr, write_access: bool) -> Result<GuestPhysAddr, TranslateFault> {
    // SAFETY: the instructions change nothing but PAR_EL1, which is the guest's and is put back.
    let par = unsafe {
        let guests = read!("par_el1");
        if write_access {
            core::arch::asm!("at s1e1w, {}", in(reg) va.0, options(nostack, preserves_flags));
        } else {
            core::arch::asm!("at s1e1r, {}", in(reg) va.0, options(nostack, preserves_flags));
        }
        isb!();
        let par = read!("par_el1");
        write!("par_el1", guests);
        par
    };
    parse(par, va.0)
}
