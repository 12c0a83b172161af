//! `physdev_op`: the machine's devices, for the domain that owns them. On Arm all of it is in the device tree and
//! the interrupt controller: nothing is served.

use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

pub(crate) fn physdev_op<A: Arch>(_: &mut Call<'_, A>, _: &[u64; 6]) -> Result<Outcome> {
    Err(Error::NoSys)
}
