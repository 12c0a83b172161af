//! SVM of the CPU that this runs on: what it can, on, off.
#![expect(unsafe_code, reason = "model-specific registers, VMSAVE")]

use core::arch::asm;

use x86_64::registers::control::{Efer, EferFlags};
use xen_core::mem::{FrameRef, Frames};
use xen_core::{DomainId, Error, Result};

use super::features::Abilities;
use crate::host::cpu::cpuid;
use crate::host::msr;
use crate::select::{CpuidLeaves, CpuidResult};

/// VM_CR, with SVMDIS: the firmware has switched SVM off (APM volume 2, 15.30.1).
const VM_CR: u32 = 0xc001_0114;
const VM_CR_SVMDIS: u64 = 1 << 4;
/// VM_HSAVE_PA: physical address of the page in which VMRUN keeps the host's state (APM volume 2, 15.30.4).
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// TSC_RATIO: what guests' time-stamp counters are multiplied with, 8 bits before the point and 32 behind it (APM volume 2,
/// 15.30.5).
const TSC_RATIO: u32 = 0xc000_0104;
pub(super) const TSC_RATIO_ONE: u64 = 1 << TSC_RATIO_FRACTION;
pub(super) const TSC_RATIO_FRACTION: u8 = 32;
pub(super) const TSC_RATIO_BITS: u8 = 40;

/// Physical address of the page in which VMRUN keeps this CPU's state.
pub(super) fn save_area() -> u64 {
    msr::read(VM_HSAVE_PA)
}

/// Sets the ratio for guests on this CPU, which has the register.
pub(super) fn set_tsc_ratio(ratio: u64) {
    // SAFETY: the host's own counter does not depend on it. The reserved bits are clear.
    unsafe { msr::write(TSC_RATIO, ratio & ((1 << TSC_RATIO_BITS) - 1)) };
}

/// What this CPU's SVM can.
///
/// Errors: [`Error::NoDev`] if there is none, the firmware keeps it off, or it lacks something needed.
pub(super) fn probe() -> Result<Abilities> {
    let leaves = CpuidLeaves::read(|leaf| {
        let raw = cpuid(leaf, 0);
        CpuidResult {
            eax: raw.eax,
            ebx: raw.ebx,
            ecx: raw.ecx,
            edx: raw.edx,
        }
    });
    let abilities = Abilities::new(leaves.svm, leaves.nested_gib_pages());
    if !leaves.svm_is_offered() || !abilities.suffices() {
        return Err(Error::NoDev);
    }
    if msr::read(VM_CR) & VM_CR_SVMDIS != 0 {
        log::error!("the firmware has disabled SVM");
        return Err(Error::NoDev);
    }
    Ok(abilities)
}

/// Pages that a CPU needs for as long as SVM is on.
pub(super) struct CpuPages {
    /// VMRUN's, for the host's state.
    save_area: FrameRef,
    /// A control block for the hidden state of the host, which VMRUN does not keep.
    host: FrameRef,
}

impl CpuPages {
    /// Switches SVM on.
    ///
    /// Errors: [`Error::NoMem`].
    pub(super) fn enable(frames: &'static Frames) -> Result<Self> {
        let pages = Self {
            save_area: frames.alloc_page(DomainId::XEN)?,
            host: frames.alloc_page(DomainId::XEN)?,
        };
        // SAFETY: SVM is there; the page is the hardware's until `disable`. VMSAVE writes to a page that nobody else
        // uses.
        unsafe {
            Efer::update(|efer| efer.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
            msr::write(VM_HSAVE_PA, pages.save_area.mfn().base().0);
            asm!("vmsave rax", in("rax") pages.host(), options(nostack, preserves_flags));
        }
        Ok(pages)
    }

    /// Switches SVM off.
    pub(super) fn disable(self) {
        // SAFETY: no guest is entered any more; without SVM the pages are ordinary ones, and are given back.
        unsafe {
            // INIT and NMI reach a CPU only with its global interrupt flag set.
            asm!("stgi", options(nostack, nomem, preserves_flags));
            msr::write(VM_HSAVE_PA, 0);
            Efer::update(|efer| efer.remove(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
        }
    }

    /// Physical address of the block with the host's hidden state.
    pub(super) fn host(&self) -> u64 {
        self.host.mfn().base().0
    }
}
