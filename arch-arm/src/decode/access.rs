//! Completing a guest's load or store that the hypervisor emulates.

use super::spsr;

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSize {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Half,
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl AccessSize {
    pub(super) const fn from_sas(sas: u32) -> Self {
        match sas & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// The width in bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The low bits of a register that take part.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Double => u64::MAX,
        }
    }

    const fn swap(self, value: u64) -> u64 {
        match self {
            Self::Byte => value,
            Self::Half => (value as u16).swap_bytes() as u64,
            Self::Word => (value as u32).swap_bytes() as u64,
            Self::Double => value.swap_bytes(),
        }
    }
}

/// Byte order of a guest's data accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// The order in force in the state `cpsr` (as `SPSR_EL2` shows it) with this `SCTLR_EL1`.
    pub const fn of(cpsr: u64, sctlr_el1: u64) -> Self {
        const E0E: u64 = 1 << 24;
        const EE: u64 = 1 << 25;
        let big = if cpsr & spsr::AARCH32 != 0 {
            cpsr & spsr::E != 0
        } else if spsr::is_el0(cpsr) {
            sctlr_el1 & E0E != 0
        } else {
            sctlr_el1 & EE != 0
        };
        if big { Self::Big } else { Self::Little }
    }
}

/// A single-register load or store, as an abort's syndrome describes it (Arm ARM D24.2.40, `ISV` = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Width of the memory access.
    pub size: AccessSize,
    /// A load extends its value by the sign.
    pub sign_extend: bool,
    /// The register is 64 bits wide (X), not 32 (W).
    pub sixty_four: bool,
    /// The register in its AArch64 view, 0..=31; 31 is XZR.
    pub rt: u8,
    /// The access is a store.
    pub write: bool,
    /// The access has acquire or release ordering.
    pub acquire_release: bool,
}

impl Access {
    /// What a store puts on the bus: the register's value cut to the width, as a little-endian number.
    pub const fn store_value(&self, reg: u64, endian: Endian) -> u64 {
        let value = reg & self.size.mask();
        match endian {
            Endian::Little => value,
            Endian::Big => self.size.swap(value),
        }
    }

    /// What a load leaves in the register, when the device answers `raw` as a little-endian number; bits of `raw`
    /// beyond the width are ignored.
    pub const fn load_result(&self, raw: u64, endian: Endian) -> u64 {
        let cut = raw & self.size.mask();
        let value = match endian {
            Endian::Little => cut,
            Endian::Big => self.size.swap(cut),
        };
        let extended = if self.sign_extend {
            match self.size {
                AccessSize::Byte => value as u8 as i8 as i64 as u64,
                AccessSize::Half => value as u16 as i16 as i64 as u64,
                AccessSize::Word => value as u32 as i32 as i64 as u64,
                AccessSize::Double => value,
            }
        } else {
            value
        };
        // A write to W clears the upper half of X, also after a sign extension to 32 bits.
        if self.sixty_four {
            extended
        } else {
            extended & 0xffff_ffff
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(size: AccessSize, sign_extend: bool, sixty_four: bool) -> Access {
        Access {
            size,
            sign_extend,
            sixty_four,
            rt: 0,
            write: false,
            acquire_release: false,
        }
    }

    #[test]
    fn extensions_match_the_instructions() {
        let load = |size, sign, x| {
            access(size, sign, x).load_result(0xffff_8182_8384_8586, Endian::Little)
        };
        assert_eq!(load(AccessSize::Byte, false, false), 0x86); // LDRB
        assert_eq!(load(AccessSize::Byte, true, false), 0xffff_ff86); // LDRSB Wt
        assert_eq!(load(AccessSize::Byte, true, true), 0xffff_ffff_ffff_ff86); // LDRSB Xt
        assert_eq!(load(AccessSize::Half, false, false), 0x8586);
        assert_eq!(load(AccessSize::Half, true, true), 0xffff_ffff_ffff_8586);
        assert_eq!(load(AccessSize::Word, false, false), 0x8384_8586);
        assert_eq!(load(AccessSize::Word, true, true), 0xffff_ffff_8384_8586); // LDRSW
        assert_eq!(load(AccessSize::Double, false, true), 0xffff_8182_8384_8586);
    }

    #[test]
    fn byte_order_depends_on_the_level() {
        let sctlr = 1 << 24;
        assert_eq!(Endian::of(spsr::EL0T, sctlr), Endian::Big);
        assert_eq!(Endian::of(spsr::EL1H, sctlr), Endian::Little);
        assert_eq!(Endian::of(spsr::EL1H, 1 << 25), Endian::Big);
        assert_eq!(Endian::of(spsr::USR32, sctlr), Endian::Little);
        assert_eq!(Endian::of(spsr::USR32 | spsr::E, 0), Endian::Big);
    }

    fn size() -> impl Strategy<Value = AccessSize> {
        (0u32..4).prop_map(AccessSize::from_sas)
    }

    proptest! {
        // A stored value that is read back without extension is the register's low part, in either byte order.
        #[test]
        fn store_then_load(size in size(), reg: u64, big: bool) {
            let endian = if big { Endian::Big } else { Endian::Little };
            let a = access(size, false, true);
            let bus = a.store_value(reg, endian);
            prop_assert_eq!(bus & !size.mask(), 0);
            prop_assert_eq!(a.load_result(bus, endian), reg & size.mask());
        }

        #[test]
        fn a_w_register_has_a_clear_upper_half(size in size(), sign: bool, raw: u64) {
            let value = access(size, sign, false).load_result(raw, Endian::Little);
            prop_assert_eq!(value >> 32, 0);
        }
    }
}
