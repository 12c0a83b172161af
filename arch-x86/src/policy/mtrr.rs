//! A vCPU's memory type range registers and page attribute table (Intel SDM volume 3, 12.11 and 12.12; AMD APM volume 2, 7.7 and 7.8).
//!
//! They are kept and checked as a CPU does. SVM does not look at them: with nested paging the guest's own PAT decides.
//! [`Mtrr::memory_type`] is for VMX, whose second-level entries have a memory type.

use xen_core::GuestPhysAddr;

/// Number of variable ranges.
pub const VARIABLE_RANGES: usize = 8;
/// Number of MSRs for fixed ranges.
pub const FIXED: usize = 11;
/// MTRRCAP: as many variable ranges, fixed ranges, write-combining.
pub const CAPABILITIES: u64 = VARIABLE_RANGES as u64 | 1 << 8 | 1 << 10;

/// How memory is cached. The numbers are those of MTRRs and PAT entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryType {
    /// UC.
    Uncacheable = 0,
    /// WC.
    WriteCombining = 1,
    /// WT.
    WriteThrough = 4,
    /// WP.
    WriteProtected = 5,
    /// WB.
    WriteBack = 6,
}

impl MemoryType {
    /// From its number in an MTRR.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Uncacheable),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            _ => None,
        }
    }
}

/// Whether the PAT MSR can have this value: eight types, of which UC- (7) is one.
pub fn is_valid_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .into_iter()
        .all(|number| number == 7 || MemoryType::new(number).is_some())
}

/// The memory type range registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtrr {
    default: u64,
    fixed: [u64; FIXED],
    variable: [Range; VARIABLE_RANGES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    base: u64,
    mask: u64,
}

/// Default-type register: MTRRs are on.
const ENABLED: u64 = 1 << 11;
/// Default-type register: fixed ranges are on.
const FIXED_ENABLED: u64 = 1 << 10;
/// Mask register: the range is on.
const VALID: u64 = 1 << 11;
/// The type in a base or default-type register.
const TYPE: u64 = 0xff;
/// Where fixed ranges end.
const FIXED_END: u64 = 1 << 20;

impl Default for Mtrr {
    /// As firmware leaves them where there is none: on, all write-back.
    fn default() -> Self {
        Self {
            default: ENABLED | MemoryType::WriteBack as u64,
            fixed: [0; FIXED],
            variable: [Range::default(); VARIABLE_RANGES],
        }
    }
}

/// One of the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The default type.
    Default,
    /// A fixed range: 0 of 64 KiB, 1 and 2 of 16 KiB, 3 to 10 of 4 KiB steps.
    Fixed(usize),
    /// Base of a variable range.
    Base(usize),
    /// Mask of a variable range.
    Mask(usize),
}

impl Register {
    /// The register that an MSR is, if it is one.
    pub const fn of_msr(msr: u32) -> Option<Self> {
        let variable = ((msr & 0x1f) / 2) as usize;
        match msr {
            0x200..0x210 if msr & 1 == 0 => Some(Self::Base(variable)),
            0x200..0x210 => Some(Self::Mask(variable)),
            0x250 => Some(Self::Fixed(0)),
            0x258 => Some(Self::Fixed(1)),
            0x259 => Some(Self::Fixed(2)),
            0x268..0x270 => Some(Self::Fixed(msr as usize - 0x268 + 3)),
            0x2ff => Some(Self::Default),
            _ => None,
        }
    }
}

impl Mtrr {
    /// Reads a register.
    pub fn read(&self, register: Register) -> u64 {
        match register {
            Register::Default => self.default,
            Register::Fixed(n) => self.fixed[n],
            Register::Base(n) => self.variable[n].base,
            Register::Mask(n) => self.variable[n].mask,
        }
    }

    /// Writes a register; false, with nothing changed, for a value with reserved bits or types. Physical addresses have
    /// `physical_bits`.
    #[must_use]
    pub fn write(&mut self, register: Register, value: u64, physical_bits: u8) -> bool {
        let valid_type = |value: u64| MemoryType::new(value as u8).is_some();
        let too_high = value >> physical_bits != 0;
        let legal = match register {
            Register::Default => {
                value & !(ENABLED | FIXED_ENABLED | TYPE) == 0 && valid_type(value)
            }
            Register::Fixed(_) => value
                .to_le_bytes()
                .into_iter()
                .all(|b| valid_type(b.into())),
            Register::Base(_) => value & 0xf00 == 0 && valid_type(value) && !too_high,
            Register::Mask(_) => value & 0x7ff == 0 && !too_high,
        };
        if legal {
            match register {
                Register::Default => self.default = value,
                Register::Fixed(n) => self.fixed[n] = value,
                Register::Base(n) => self.variable[n].base = value,
                Register::Mask(n) => self.variable[n].mask = value,
            }
        }
        legal
    }

    /// The type of the memory at an address.
    pub fn memory_type(&self, address: GuestPhysAddr) -> MemoryType {
        let of = |value: u64| MemoryType::new(value as u8).unwrap_or(MemoryType::Uncacheable);
        if self.default & ENABLED == 0 {
            return MemoryType::Uncacheable;
        }
        if self.default & FIXED_ENABLED != 0 && address.0 < FIXED_END {
            let (register, shift) = match address.0 {
                at @ 0..0x8_0000 => (0, at >> 16),
                at @ 0x8_0000..0xc_0000 => (1 + ((at - 0x8_0000) >> 17), at >> 14 & 7),
                at => (3 + ((at - 0xc_0000) >> 15), at >> 12 & 7),
            };
            return of(self.fixed[register as usize] >> (8 * shift));
        }
        let matching = self.variable.iter().filter(|range| {
            let mask = range.mask & !0xfff;
            range.mask & VALID != 0 && address.0 & mask == range.base & mask
        });
        matching
            .map(|range| of(range.base))
            .reduce(|a, b| match (a, b) {
                (a, b) if a == b => a,
                (MemoryType::WriteBack, MemoryType::WriteThrough)
                | (MemoryType::WriteThrough, MemoryType::WriteBack) => MemoryType::WriteThrough,
                // UC wins; other mixtures are undefined.
                _ => MemoryType::Uncacheable,
            })
            .unwrap_or_else(|| of(self.default))
    }
}

#[cfg(test)]
mod tests;
