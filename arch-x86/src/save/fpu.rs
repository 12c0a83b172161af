//! The record of a vCPU's extended state, in the standard format of XSAVE.

use alloc::vec::Vec;

use xen_core::{Error, Result};

use super::record::Xsave;
use super::stream::Raw;
use crate::policy::xstate::{self, BASE_SIZE};
use crate::policy::{CpuidPolicy, Feature};

/// Bytes of the legacy region.
pub const LEGACY_SIZE: usize = 512;
/// Where MXCSR is in it.
const MXCSR: usize = 24;
/// Bits of MXCSR that every 64-bit CPU has, and the one for misaligned accesses.
const MXCSR_BITS: u32 = 0xffff;
const MXCSR_MISALIGNED: u32 = 1 << 17;

/// Extended state that XRSTOR takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// XCR0.
    pub xcr0: u64,
    /// The area: at least legacy region and header.
    pub area: Vec<u8>,
}

/// Whether a CPU of this policy takes a legacy region: XRSTOR faults on reserved bits of MXCSR.
///
/// # Errors
/// [`Error::Inval`].
pub fn check_legacy(region: &[u8], policy: &CpuidPolicy) -> Result<()> {
    let word = region.get(MXCSR..MXCSR + 4).ok_or(Error::Inval)?;
    let mxcsr = u32::from_le_bytes(word.try_into().map_err(|_| Error::Inval)?);
    let misaligned = match policy.has(Feature::Misalignsse) {
        true => MXCSR_MISALIGNED,
        false => 0,
    };
    match mxcsr & !(MXCSR_BITS | misaligned) {
        0 => Ok(()),
        _ => Err(Error::Inval),
    }
}

fn word(area: &[u8], at: usize) -> Result<u64> {
    let bytes = area.get(at..at + 8).ok_or(Error::Inval)?;
    Ok(u64::from_le_bytes(
        bytes.try_into().map_err(|_| Error::Inval)?,
    ))
}

impl Extended {
    /// From a record, for a CPU of this policy.
    ///
    /// # Errors
    /// [`Error::OpNotSupp`] for a CPU that has none, and for more state than it has; [`Error::Inval`] for state that it cannot
    /// have.
    pub fn from_record(record: &Raw<'_>, policy: &CpuidPolicy) -> Result<Self> {
        /// Where the header's words are, of which the first is the components in use.
        const IN_USE: usize = LEGACY_SIZE;
        let offered = policy.xcr0_bits();
        if offered == 0 {
            return Err(Error::OpNotSupp);
        }
        let (head, area): (Xsave, _) = record.split()?;
        let used = word(area, IN_USE)?;
        let reserved = area
            .get(IN_USE + 8..BASE_SIZE as usize)
            .ok_or(Error::Inval)?;
        if !xstate::is_valid(head.xcr0, offered)
            || !xstate::is_valid(head.xcr0_accum, offered)
            || head.xcr0 & !head.xcr0_accum != 0
            || used & !head.xcr0_accum != 0
            || reserved.iter().any(|byte| *byte != 0)
        {
            return Err(Error::Inval);
        }
        check_legacy(area, policy)?;
        // A longer one is of a CPU with more components, which are not in use.
        let size = xstate::standard_size(head.xcr0_accum, &policy.leaves().xstate) as usize;
        let (area, more) = area.split_at_checked(size).unwrap_or((area, &[]));
        if more.iter().any(|byte| *byte != 0) {
            return Err(Error::OpNotSupp);
        }
        Ok(Self {
            xcr0: head.xcr0,
            area: area.to_vec(),
        })
    }

    /// The record's two parts: what comes first, and how much of an area follows, for a CPU of this policy. `None` for one without
    /// extended state.
    pub fn head(xcr0: u64, policy: &CpuidPolicy) -> Option<(Xsave, usize)> {
        let offered = policy.xcr0_bits();
        let head = Xsave {
            xfeature_mask: offered,
            xcr0,
            xcr0_accum: offered,
        };
        let size = xstate::standard_size(offered, &policy.leaves().xstate);
        (offered != 0).then_some((head, size as usize))
    }
}

/// The record, for tests.
#[cfg(test)]
pub(super) fn bytes(head: &Xsave, area: &[u8]) -> Vec<u8> {
    [zerocopy::IntoBytes::as_bytes(head), area].concat()
}
