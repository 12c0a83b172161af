//! `event_channel_op` (being written).

use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

pub(crate) fn event_channel_op<A: Arch>(_: &mut Call<'_, A>, _: &[u64; 6]) -> Result<Outcome> {
    Err(Error::NoSys)
}
