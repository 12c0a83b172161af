//! `platform_op`: the machine as a whole, for the domain that owns it.

use xen_abi::platform::{INTERFACE_VERSION, PlatformCmd, PlatformOp, SetTime64};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, DONE, Outcome};

/// The first interface version, which kernels name; later ones changed nothing that is served here.
const FIRST_VERSION: u32 = 0x0300_0000;
const NANOSECONDS: u64 = 1_000_000_000;

pub(crate) fn platform_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let op: PlatformOp = call.read(args[0])?;
    if !(FIRST_VERSION..=INTERFACE_VERSION).contains(&op.interface_version) {
        return Err(Error::Access);
    }
    call.may(Verb::Platform)?;
    match op.cmd {
        PlatformCmd::SETTIME64 => {
            let time: SetTime64 = op.payload().ok_or(Error::Inval)?;
            if time.mbz != 0 {
                return Err(Error::Inval);
            }
            let now = time
                .secs
                .checked_mul(NANOSECONDS)
                .and_then(|s| s.checked_add(time.nsecs.into()));
            let base = now.ok_or(Error::Inval)?.wrapping_sub(time.system_time);
            call.hv.set_wallclock(base);
            DONE
        }
        _ => Err(Error::NoSys),
    }
}
