//! Bit maps in the caller's memory.

use xen_abi::versioned::Bitmap;
use xen_core::{Arch, CpuMask, Error, Result};

use crate::call::Call;

/// Bytes written at a time.
const CHUNK: usize = 128;
/// Longest map that is filled, in bytes: more CPUs than there will be.
const MAX_BYTES: u64 = 1 << 16;

/// Writes a set of CPUs; what is beyond the shorter of the two is left out, or zero.
///
/// Errors: [`Error::Fault`]; [`Error::Inval`] for a map of half a million bits.
pub(crate) fn write<A: Arch>(call: &mut Call<'_, A>, to: &Bitmap, cpus: &CpuMask) -> Result<()> {
    let bits = u64::from(to.nr_bits);
    let len = bits.div_ceil(8);
    if len > MAX_BYTES {
        return Err(Error::Inval);
    }
    let own = cpus.to_bytes();
    let mut at = 0;
    while at < len {
        let mut chunk = [0; CHUNK];
        let n = (len - at).min(CHUNK as u64);
        for (byte, index) in chunk.iter_mut().zip(at..at + n) {
            let left = bits - index * 8;
            let shown = if left < 8 { (1 << left) - 1 } else { 0xff };
            *byte = own.get(index as usize).copied().unwrap_or(0) & shown;
        }
        let address = to.bitmap.0.checked_add(at).ok_or(Error::Fault)?;
        call.write_bytes(address, chunk.get(..n as usize).unwrap_or_default())?;
        at += n;
    }
    Ok(())
}
