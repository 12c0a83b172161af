//! Register arithmetic common to GICv2 (IHI 0048) and GICv3 (IHI 0069), and the list registers of both.

use xen_core::{Error, Result};

/// First SPI; below are SGIs (0 to 15) and PPIs (16 to 31), which each CPU has of its own.
pub const FIRST_SPI: u32 = 32;
/// Number of SGIs.
pub const SGIS: u32 = 16;
/// First of the special INTIDs (1020 to 1023), which are no interrupts.
pub const SPECIAL: u32 = 1020;

/// Offset from a register array's start, and the bit, for one bit per interrupt.
pub const fn bit_of(intid: u32) -> (usize, u32) {
    ((intid / 32 * 4) as usize, 1 << (intid % 32))
}

/// Offset from the start of GICD_ICFGR, and the bit that says edge-triggered.
pub const fn edge_bit_of(intid: u32) -> (usize, u32) {
    ((intid / 16 * 4) as usize, 2 << (intid % 16 * 2))
}

/// Number of INTIDs that GICD_TYPER.ITLinesNumber promises; SPIs end below it. 32 to 1020.
pub const fn lines(typer: u32) -> u32 {
    let n = 32 * ((typer & 0x1f) + 1);
    if n > SPECIAL { SPECIAL } else { n }
}

/// Value of ICC_SGI1R_EL1 that sends SGI `id` to the CPU with affinity `mpidr`.
///
/// # Errors
/// [`Error::Inval`] for numbers that are no SGI.
pub const fn sgi1r(mpidr: u64, id: u32) -> Result<u64> {
    if id >= SGIS {
        return Err(Error::Inval);
    }
    let aff0 = mpidr & 0xff;
    let target = 1 << (aff0 % 16);
    let range = aff0 / 16;
    let aff1 = mpidr >> 8 & 0xff;
    let aff2 = mpidr >> 16 & 0xff;
    let aff3 = mpidr >> 32 & 0xff;
    Ok(target | aff1 << 16 | (id as u64) << 24 | aff2 << 32 | range << 44 | aff3 << 48)
}

/// GICR_TYPER\[63:32\] of the redistributor of the CPU with affinity `mpidr`.
pub const fn redistributor_affinity(mpidr: u64) -> u32 {
    ((mpidr >> 32 & 0xff) as u32) << 24 | (mpidr & 0xff_ffff) as u32
}

/// Value of GICD_SGIR that sends SGI `id` to the CPU interfaces in `mask`.
///
/// # Errors
/// [`Error::Inval`] for numbers that are no SGI.
pub const fn sgir(mask: u8, id: u32) -> Result<u32> {
    if id >= SGIS {
        return Err(Error::Inval);
    }
    Ok((mask as u32) << 16 | id)
}

/// An interrupt that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntId {
    number: u32,
    /// GICv2: the CPU interface an SGI came from, which has to be named when it ends.
    source: u8,
}

impl IntId {
    /// Interrupt `number`; for SGIs of a GICv2, from CPU interface 0.
    pub const fn new(number: u32) -> Self {
        Self { number, source: 0 }
    }

    /// Decodes GICC_IAR; `None` for the special numbers.
    pub const fn from_iar_v2(iar: u32) -> Option<Self> {
        let number = iar & 0x3ff;
        if number >= SPECIAL {
            return None;
        }
        Some(Self {
            number,
            source: (iar >> 10 & 7) as u8,
        })
    }

    /// Decodes ICC_IAR1_EL1; `None` for the special numbers.
    pub const fn from_iar_v3(iar: u64) -> Option<Self> {
        let number = (iar & 0xff_ffff) as u32;
        if number >= SPECIAL && number < 1024 {
            return None;
        }
        Some(Self::new(number))
    }

    /// What GICC_EOIR and GICC_DIR want.
    pub const fn to_eoir_v2(self) -> u32 {
        self.number | (self.source as u32) << 10
    }

    /// The interrupt's number.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether it is an SGI.
    pub const fn is_sgi(self) -> bool {
        self.number < SGIS
    }
}

bitflags::bitflags! {
    /// State of a virtual interrupt in a list register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct LrState: u8 {
        /// Waits for the guest.
        const PENDING = 1;
        /// Being handled by the guest.
        const ACTIVE = 2;
    }
}

/// Where a virtual interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrSource {
    /// Made by the hypervisor.
    Software {
        /// Raise a maintenance interrupt when the guest deactivates it.
        eoi: bool,
        /// GICv2: the virtual CPU an SGI came from (0 to 7).
        cpu: u8,
    },
    /// Backed by a physical interrupt, which the guest's deactivation deactivates.
    Hardware {
        /// Number of the physical interrupt.
        pirq: u32,
    },
}

/// A list register, the same for both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRegister {
    /// Number of the virtual interrupt.
    pub virq: u32,
    /// Priority; GICv2 keeps the upper 5 bits.
    pub priority: u8,
    /// Group 1 (as Linux uses it) rather than group 0.
    pub group1: bool,
    /// Pending, active, both, or (empty) a free register.
    pub state: LrState,
    /// Where it comes from.
    pub source: LrSource,
}

impl ListRegister {
    /// Encodes for GICH_LRn.
    pub const fn to_v2(self) -> u32 {
        let source = match self.source {
            LrSource::Hardware { pirq } => 1 << 31 | (pirq & 0x3ff) << 10,
            LrSource::Software { eoi, cpu } => (eoi as u32) << 19 | (cpu as u32 & 7) << 10,
        };
        source
            | (self.group1 as u32) << 30
            | (self.state.bits() as u32) << 28
            | (self.priority as u32 >> 3) << 23
            | self.virq & 0x3ff
    }

    /// Decodes GICH_LRn.
    pub const fn from_v2(raw: u32) -> Self {
        let source = if raw >> 31 != 0 {
            LrSource::Hardware {
                pirq: raw >> 10 & 0x3ff,
            }
        } else {
            LrSource::Software {
                eoi: raw >> 19 & 1 != 0,
                cpu: (raw >> 10 & 7) as u8,
            }
        };
        Self {
            virq: raw & 0x3ff,
            priority: ((raw >> 23 & 0x1f) << 3) as u8,
            group1: raw >> 30 & 1 != 0,
            state: LrState::from_bits_truncate((raw >> 28 & 3) as u8),
            source,
        }
    }

    /// Encodes for ICH_LRn_EL2.
    pub const fn to_v3(self) -> u64 {
        let source = match self.source {
            LrSource::Hardware { pirq } => 1 << 61 | (pirq as u64 & 0x1fff) << 32,
            LrSource::Software { eoi, .. } => (eoi as u64) << 41,
        };
        source
            | (self.state.bits() as u64) << 62
            | (self.group1 as u64) << 60
            | (self.priority as u64) << 48
            | self.virq as u64
    }

    /// Decodes ICH_LRn_EL2.
    pub const fn from_v3(raw: u64) -> Self {
        let source = if raw >> 61 & 1 != 0 {
            LrSource::Hardware {
                pirq: (raw >> 32 & 0x1fff) as u32,
            }
        } else {
            LrSource::Software {
                eoi: raw >> 41 & 1 != 0,
                cpu: 0,
            }
        };
        Self {
            virq: raw as u32,
            priority: (raw >> 48) as u8,
            group1: raw >> 60 & 1 != 0,
            state: LrState::from_bits_truncate((raw >> 62 & 3) as u8),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arrays_of_bits() {
        assert_eq!(bit_of(0), (0, 1));
        assert_eq!(bit_of(33), (4, 2));
        assert_eq!(edge_bit_of(33), (8, 8));
        assert_eq!(lines(0), 32);
        assert_eq!(lines(0x1f), 1020);
    }

    #[test]
    fn software_interrupts_name_their_target() {
        assert_eq!(sgi1r(0, 1), Ok(0x0100_0001));
        assert_eq!(
            sgi1r(0x01_0203_0412, 3),
            Ok(0x0001_1003_0304_0004),
            "bits 31:24 are no affinity"
        );
        assert_eq!(sgi1r(0, 16), Err(Error::Inval));
        assert_eq!(sgir(0b100, 5), Ok(0x0004_0005));
        assert_eq!(redistributor_affinity(0x12_0003_0201), 0x1203_0201);
    }

    #[test]
    fn special_numbers_are_no_interrupts() {
        assert_eq!(IntId::from_iar_v2(1023), None);
        assert_eq!(IntId::from_iar_v3(1020), None);
        assert_eq!(IntId::from_iar_v3(8192), Some(IntId::new(8192)));
        let sgi = IntId::from_iar_v2(3 << 10 | 2).unwrap();
        assert_eq!(
            (sgi.number(), sgi.to_eoir_v2(), sgi.is_sgi()),
            (2, 3 << 10 | 2, true)
        );
    }

    #[test]
    fn list_registers_have_the_bits_of_the_manual() {
        let lr = ListRegister {
            virq: 27,
            priority: 0xa0,
            group1: true,
            state: LrState::PENDING,
            source: LrSource::Hardware { pirq: 27 },
        };
        assert_eq!(lr.to_v3(), 0x70a0_001b_0000_001b);
        assert_eq!(lr.to_v2(), 0xda00_6c1b);
    }

    prop_compose! {
        fn any_lr()(virq in 0u32..1020, prio in 0u8..32, group1: bool, state in 0u8..4, hw: bool, pirq in 16u32..1020,
                    eoi: bool, cpu in 0u8..8) -> ListRegister {
            let source = if hw { LrSource::Hardware { pirq } } else { LrSource::Software { eoi, cpu } };
            ListRegister { virq, priority: prio << 3, group1, state: LrState::from_bits_truncate(state), source }
        }
    }

    proptest! {
        #[test]
        fn list_registers_survive_both_encodings(lr in any_lr()) {
            prop_assert_eq!(ListRegister::from_v2(lr.to_v2()), lr);
            let mut expected = lr;
            if let LrSource::Software { cpu, .. } = &mut expected.source {
                *cpu = 0;
            }
            prop_assert_eq!(ListRegister::from_v3(lr.to_v3()), expected);
        }
    }
}
