//! Data and instruction aborts (Arm ARM D24.2.40, exception classes 0x20 and 0x24).

use xen_core::GuestPhysAddr;

use super::access::{Access, AccessSize};
use super::esr::{bit, field};
use super::ipa::ipa_from_hpfar;

/// The fault status code, as a class and the level of the table walk it happened at.
///
/// Levels are -1..=3; -1 exists only with 52-bit addresses (LPA2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStatus {
    /// An address is larger than the tables allow.
    AddressSize {
        /// Level of the lookup.
        level: i8,
    },
    /// Nothing is mapped.
    Translation {
        /// Level of the lookup.
        level: i8,
    },
    /// The access flag is clear.
    AccessFlag {
        /// Level of the lookup.
        level: i8,
    },
    /// The mapping does not allow the access.
    Permission {
        /// Level of the lookup.
        level: i8,
    },
    /// A synchronous external abort on the access itself.
    External,
    /// A synchronous external abort on a table walk.
    ExternalOnWalk {
        /// Level of the lookup.
        level: i8,
    },
    /// A memory tag does not match.
    TagCheck,
    /// A parity or ECC error on the access itself.
    Parity,
    /// A parity or ECC error on a table walk.
    ParityOnWalk {
        /// Level of the lookup.
        level: i8,
    },
    /// The access is misaligned.
    Alignment,
    /// Two TLB entries match.
    TlbConflict,
    /// The memory does not support the hardware's update of the tables.
    UnsupportedAtomicUpdate,
    /// The memory does not support exclusive or atomic accesses.
    UnsupportedAtomic,
    /// Any other code, 0..=63.
    Other(u8),
}

impl FaultStatus {
    /// The status of a code as `DFSC` or `IFSC` shows it.
    pub const fn from_code(code: u8) -> Self {
        let level = (code & 3) as i8;
        match code {
            0x00..=0x03 => Self::AddressSize { level },
            0x04..=0x07 => Self::Translation { level },
            0x08..=0x0b => Self::AccessFlag { level },
            0x0c..=0x0f => Self::Permission { level },
            0x10 => Self::External,
            0x11 => Self::TagCheck,
            0x13 => Self::ExternalOnWalk { level: -1 },
            0x14..=0x17 => Self::ExternalOnWalk { level },
            0x18 => Self::Parity,
            0x1b => Self::ParityOnWalk { level: -1 },
            0x1c..=0x1f => Self::ParityOnWalk { level },
            0x21 => Self::Alignment,
            0x29 => Self::AddressSize { level: -1 },
            0x2b => Self::Translation { level: -1 },
            0x30 => Self::TlbConflict,
            0x31 => Self::UnsupportedAtomicUpdate,
            0x35 => Self::UnsupportedAtomic,
            _ => Self::Other(code),
        }
    }

    /// Whether stage 2 is what refused the access, when an abort with this status reaches EL2: the guest's own
    /// faults of these classes go to EL1.
    pub const fn is_stage2(self) -> bool {
        match self {
            Self::AddressSize { .. }
            | Self::Translation { .. }
            | Self::AccessFlag { .. }
            | Self::Permission { .. } => true,
            Self::External
            | Self::ExternalOnWalk { .. }
            | Self::TagCheck
            | Self::Parity
            | Self::ParityOnWalk { .. }
            | Self::Alignment
            | Self::TlbConflict
            | Self::UnsupportedAtomicUpdate
            | Self::UnsupportedAtomic
            | Self::Other(_) => false,
        }
    }
}

/// What the two kinds of abort have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub status: FaultStatus,
    /// The fault was on the guest's own stage-1 table walk, not on the access itself.
    pub s1ptw: bool,
    /// External abort type, as the implementation defines it.
    pub external_type: bool,
    /// The virtual address of the access; `None` where the CPU does not report it.
    pub far: Option<u64>,
    hpfar: u64,
}

impl Fault {
    fn decode(iss: u32, far: u64, hpfar: u64) -> Self {
        let status = FaultStatus::from_code(field(iss, 0, 6) as u8);
        // FnV has a meaning only for a synchronous external abort.
        let far_unknown = matches!(status, FaultStatus::External) && bit(iss, 10);
        Self {
            status,
            s1ptw: bit(iss, 7),
            external_type: bit(iss, 9),
            far: (!far_unknown).then_some(far),
            hpfar,
        }
    }

    /// Whether `HPFAR_EL2` was valid (Arm ARM D24.2.67): stage-2 translation, access-flag and address-size faults,
    /// and every stage-2 fault on a stage-1 walk. Of a permission fault of the access itself it is not.
    pub const fn hpfar_valid(&self) -> bool {
        match self.status {
            FaultStatus::AddressSize { .. }
            | FaultStatus::Translation { .. }
            | FaultStatus::AccessFlag { .. } => true,
            FaultStatus::Permission { .. } => self.s1ptw,
            FaultStatus::External
            | FaultStatus::ExternalOnWalk { .. }
            | FaultStatus::TagCheck
            | FaultStatus::Parity
            | FaultStatus::ParityOnWalk { .. }
            | FaultStatus::Alignment
            | FaultStatus::TlbConflict
            | FaultStatus::UnsupportedAtomicUpdate
            | FaultStatus::UnsupportedAtomic
            | FaultStatus::Other(_) => false,
        }
    }

    /// The guest physical address that faulted, where the CPU reported it.
    ///
    /// Of a fault on a stage-1 walk only the page is known, and this is the page's first byte: the low bits of the
    /// virtual address are those of the access, not of the table entry. `None` asks the caller to translate
    /// [`Self::far`] through the guest's tables.
    pub fn ipa(&self) -> Option<GuestPhysAddr> {
        if !self.hpfar_valid() {
            return None;
        }
        let offset = if self.s1ptw { 0 } else { self.far? };
        Some(ipa_from_hpfar(self.hpfar, offset))
    }
}

/// A data abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataAbort {
    /// What went wrong and where.
    pub fault: Fault,
    /// The load or store that caused it, if the CPU describes it: single-register accesses without writeback do
    /// have a description, pairs, exclusives, SIMD and cache maintenance do not.
    pub access: Option<Access>,
    /// The access is a write; also true of cache maintenance and address translation instructions.
    pub write: bool,
    /// A cache maintenance or address translation instruction caused it.
    pub cache_maintenance: bool,
}

impl DataAbort {
    pub(super) fn decode(iss: u32, far: u64, hpfar: u64) -> Self {
        let write = bit(iss, 6);
        let access = bit(iss, 24).then(|| Access {
            size: AccessSize::from_sas(field(iss, 22, 2)),
            sign_extend: bit(iss, 21),
            sixty_four: bit(iss, 15),
            rt: field(iss, 16, 5) as u8,
            write,
            acquire_release: bit(iss, 14),
        });
        Self {
            fault: Fault::decode(iss, far, hpfar),
            access,
            write,
            cache_maintenance: bit(iss, 8),
        }
    }
}

/// An instruction abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsnAbort {
    /// What went wrong and where.
    pub fault: Fault,
}

impl InsnAbort {
    pub(super) fn decode(iss: u32, far: u64, hpfar: u64) -> Self {
        Self {
            fault: Fault::decode(iss, far, hpfar),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_low_bits() {
        for level in 0..4u8 {
            let l = level as i8;
            assert_eq!(
                FaultStatus::from_code(4 + level),
                FaultStatus::Translation { level: l }
            );
            assert_eq!(
                FaultStatus::from_code(12 + level),
                FaultStatus::Permission { level: l }
            );
        }
        assert_eq!(FaultStatus::from_code(0x12), FaultStatus::Other(0x12));
        assert_eq!(FaultStatus::from_code(0x34), FaultStatus::Other(0x34));
    }

    #[test]
    fn permission_faults_have_no_ipa_unless_on_a_walk() {
        let own = DataAbort::decode(0x0f, 0x1234, 0x800);
        assert_eq!(own.fault.ipa(), None);
        let walk = DataAbort::decode(0x8f, 0x1234, 0x800);
        assert_eq!(walk.fault.ipa(), Some(GuestPhysAddr(0x8_0000)));
    }

    #[test]
    fn an_external_abort_may_lack_its_address() {
        assert_eq!(DataAbort::decode(0x410, 0x1234, 0).fault.far, None);
        assert_eq!(DataAbort::decode(0x010, 0x1234, 0).fault.far, Some(0x1234));
        // The bit means nothing for a translation fault.
        assert_eq!(
            DataAbort::decode(0x407, 0x1234, 0x10).fault.ipa(),
            Some(GuestPhysAddr(0x1234))
        );
    }
}
