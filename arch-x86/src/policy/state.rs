//! Whether a CPU of a policy can be in a state that somebody wants it in.

use xen_core::{Error, Result};

use super::cpuid::CpuidPolicy;
use super::cr::Control;
use crate::backend::GuestState;
use crate::emulate::exception::Exception;

/// The page attribute table after reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// RFLAGS: the bit that is always set.
const RFLAGS_FIXED: u64 = 2;
/// Defined bits of RFLAGS, and virtual-8086 mode among them.
const RFLAGS_DEFINED: u64 = 0x3f_7fd7;
const RFLAGS_VM: u64 = 1 << 17;

/// Which bits of RFLAGS may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// All.
    Any,
    /// All but virtual-8086 mode.
    NoVirtual8086,
}

/// Whether software could bring a CPU into this state. Bits that are always set are set.
///
/// # Errors
/// [`Error::Inval`].
pub fn check(state: &mut GuestState, flags: Flags, policy: &CpuidPolicy) -> Result<()> {
    use x86_64::registers::control::{Cr4Flags, EferFlags};
    let lma = EferFlags::LONG_MODE_ACTIVE;
    let wanted = Control::of(state);
    let allowed = match flags {
        Flags::Any if !wanted.efer.contains(lma) => RFLAGS_DEFINED,
        _ => RFLAGS_DEFINED & !RFLAGS_VM,
    };
    if state.rflags & !allowed != 0 {
        return Err(Error::Inval);
    }
    let bare = Control::of(&GuestState {
        cr0: 0x10,
        ..GuestState::default()
    });
    // Process-context identifiers can only be switched on in long mode, while there is none.
    let legal = || -> core::result::Result<Control, Exception> {
        let now = bare.write_efer((wanted.efer - lma).bits(), policy)?.control;
        let early = wanted.cr4 - Cr4Flags::PCID;
        let now = now.write_cr4(early.bits(), policy)?.control;
        let now = now.write_cr0(wanted.cr0.bits())?.control;
        let now = now.write_cr4(wanted.cr4.bits(), policy)?.control;
        Ok(now.write_cr3(wanted.cr3, policy)?.control)
    };
    let reached = legal().map_err(|_| Error::Inval)?;
    if (reached.efer, reached.cr3) != (wanted.efer, wanted.cr3) {
        return Err(Error::Inval);
    }
    reached.apply(state);
    state.rflags |= RFLAGS_FIXED;
    Ok(())
}
