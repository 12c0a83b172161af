//! `vm_assist`: behaviour that a guest asks for.

use core::sync::atomic::Ordering;

use xen_abi::xen::{VmAssistCmd, VmAssistType};
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn vm_assist<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [command, kind, ..] = args.map(|a| a as u32);
    // The one kind that has a meaning for a translated guest.
    if kind != VmAssistType::RUNSTATE_UPDATE_FLAG.0 {
        return Err(Error::Inval);
    }
    let bits = &call.domain().vm_assist;
    match VmAssistCmd(command) {
        VmAssistCmd::ENABLE => bits.fetch_or(1 << kind, Ordering::Relaxed),
        VmAssistCmd::DISABLE => bits.fetch_and(!(1 << kind), Ordering::Relaxed),
        _ => return Err(Error::NoSys),
    };
    DONE
}
