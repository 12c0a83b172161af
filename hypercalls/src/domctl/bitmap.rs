//! Sets of CPUs and nodes in the caller's memory.

use xen_abi::versioned::Bitmap;
use xen_core::{Arch, CpuMask, Result};

use crate::call::Call;

pub(super) use crate::sysctl::bitmap::write;

/// Reads a set; what is beyond the longest that there is does not matter, what is missing is not in it.
///
/// Errors: [`xen_core::Error::Fault`].
pub(super) fn read<A: Arch>(call: &mut Call<'_, A>, from: &Bitmap) -> Result<CpuMask> {
    let mut bytes = [0; CpuMask::MAX_CPUS as usize / 8];
    let len = (from.nr_bits as usize).div_ceil(8).min(bytes.len());
    if let Some(bytes) = bytes.get_mut(..len) {
        call.read_bytes(from.bitmap.0, bytes)?;
    }
    // The last byte may be in use in part.
    Ok(CpuMask::from_bytes(&bytes).and(&CpuMask::first(from.nr_bits)))
}
