//! The record of memory type ranges and of the page attribute table.

use xen_core::{Error, Result};

use super::record;
use crate::policy::mtrr::{CAPABILITIES, FIXED, Mtrr, Register, VARIABLE_RANGES, is_valid_pat};

/// Number of variable ranges in the capability register.
const COUNT: u64 = 0xff;

/// What the record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTypes {
    /// The page attribute table.
    pub pat: u64,
    /// The ranges.
    pub ranges: Mtrr,
}

impl MemoryTypes {
    /// From a record, for physical addresses of so many bits.
    ///
    /// # Errors
    /// [`Error::Inval`] for values that the registers do not take.
    pub fn from_record(from: &record::Mtrr, physical_bits: u8) -> Result<Self> {
        if from.msr_mtrr_cap & COUNT > VARIABLE_RANGES as u64 || !is_valid_pat(from.msr_pat_cr) {
            return Err(Error::Inval);
        }
        let mut ranges = Mtrr::default();
        let mut set = |register, value| match ranges.write(register, value, physical_bits) {
            true => Ok(()),
            false => Err(Error::Inval),
        };
        for n in 0..VARIABLE_RANGES {
            set(Register::Base(n), from.msr_mtrr_var[2 * n])?;
            set(Register::Mask(n), from.msr_mtrr_var[2 * n + 1])?;
        }
        for n in 0..FIXED {
            set(Register::Fixed(n), from.msr_mtrr_fixed[n])?;
        }
        set(Register::Default, from.msr_mtrr_def_type)?;
        Ok(Self {
            pat: from.msr_pat_cr,
            ranges,
        })
    }

    /// The record.
    pub fn to_record(&self) -> record::Mtrr {
        let get = |register| self.ranges.read(register);
        record::Mtrr {
            msr_pat_cr: self.pat,
            msr_mtrr_var: core::array::from_fn(|n| match n % 2 {
                0 => get(Register::Base(n / 2)),
                _ => get(Register::Mask(n / 2)),
            }),
            msr_mtrr_fixed: core::array::from_fn(|n| get(Register::Fixed(n))),
            msr_mtrr_cap: CAPABILITIES,
            msr_mtrr_def_type: get(Register::Default),
        }
    }
}
