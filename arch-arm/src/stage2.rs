//! Stage-2 translation: entry bits, and how a domain's p2m is made the CPU's.
//!
//! Granule 4 KiB. The tables start at level 1 with up to 1024 entries (two concatenated frames), which gives 40 bits
//! of guest-physical address, or fewer if the CPU has fewer (Arm ARM, D8.2 "Translation process").

use xen_core::Mfn;
use xen_core::p2m::{P2mType, Pte, PteFormat};

/// Bits of a stage-2 descriptor (Arm ARM, D8.3.2 "Block descriptor and Page descriptor formats").
mod bit {
    pub(super) const VALID: u64 = 1;
    /// A table above the last level, a page in it.
    pub(super) const TABLE_OR_PAGE: u64 = 1 << 1;
    /// MemAttr\[3:0\] = 1111: Normal, inner and outer write-back cacheable. Stage 1 decides, as the stronger of the two
    /// attributes wins: a guest's device mappings stay device mappings.
    pub(super) const NORMAL_WB: u64 = 0b1111 << 2;
    pub(super) const READ: u64 = 1 << 6;
    pub(super) const WRITE: u64 = 1 << 7;
    pub(super) const INNER_SHAREABLE: u64 = 0b11 << 8;
    pub(super) const ACCESS_FLAG: u64 = 1 << 10;
    pub(super) const EXECUTE_NEVER: u64 = 1 << 54;
    /// Bits 58:55 are ignored by the CPU: the type.
    pub(super) const TYPE_SHIFT: u32 = 55;
    pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

/// Stage-2 descriptors.
#[derive(Debug)]
pub struct Stage2;

impl PteFormat for Stage2 {
    fn leaf(mfn: Mfn, kind: P2mType, last: bool) -> u64 {
        let mut pte = (mfn.base().0 & bit::ADDRESS)
            | bit::VALID
            | bit::NORMAL_WB
            | bit::READ
            | bit::INNER_SHAREABLE
            | bit::ACCESS_FLAG
            | (kind as u64) << bit::TYPE_SHIFT;
        if last {
            pte |= bit::TABLE_OR_PAGE;
        }
        if kind.writable() {
            pte |= bit::WRITE;
        }
        // Only a domain's own memory holds its code.
        if !kind.is_ram() {
            pte |= bit::EXECUTE_NEVER;
        }
        pte
    }

    fn table(mfn: Mfn) -> u64 {
        (mfn.base().0 & bit::ADDRESS) | bit::VALID | bit::TABLE_OR_PAGE
    }

    fn decode(pte: u64, last: bool) -> Pte {
        let mfn = Mfn((pte & bit::ADDRESS) >> xen_core::PAGE_SHIFT);
        if pte & bit::VALID == 0 {
            Pte::Empty
        } else if !last && pte & bit::TABLE_OR_PAGE != 0 {
            Pte::Table(mfn)
        } else {
            P2mType::from_bits((pte >> bit::TYPE_SHIFT) as u8 & 0xf)
                .map_or(Pte::Empty, |kind| Pte::Leaf(mfn, kind))
        }
    }
}

/// How guest-physical addresses are translated on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bits of a guest-physical address.
    pub ipa_bits: u8,
    /// Frame-number bits per level, root first.
    pub levels: [u8; 3],
    /// VTCR_EL2 (Arm ARM, D19.2.160).
    pub vtcr: u64,
}

impl Geometry {
    /// The largest geometry for a CPU whose physical addresses have `pa_bits` bits and whose
    /// ID_AA64MMFR0_EL1.PARange is `pa_range`: three levels.
    pub const fn new(pa_bits: u8, pa_range: u64, wide_vmid: bool) -> Self {
        let ipa_bits = if pa_bits > 40 { 40 } else { pa_bits };
        // VTCR_EL2.PS encodes like PARange; what is above 48 bits needs larger granules.
        let ps = if pa_range > 5 { 5 } else { pa_range };
        const SL0_LEVEL1: u64 = 1 << 6;
        const WRITE_BACK: u64 = 1 << 8 | 1 << 10;
        const INNER_SHAREABLE: u64 = 3 << 12;
        const RES1: u64 = 1 << 31;
        let vmid16 = if wide_vmid { 1 << 19 } else { 0 };
        let vtcr = (64 - ipa_bits as u64)
            | SL0_LEVEL1
            | WRITE_BACK
            | INNER_SHAREABLE
            | ps << 16
            | vmid16
            | RES1;
        Self {
            ipa_bits,
            levels: [ipa_bits - 30, 9, 9],
            vtcr,
        }
    }
}

/// VTTBR_EL2 for tables at `root` under identifier `vmid`.
pub const fn vttbr(root: Mfn, vmid: u16) -> u64 {
    (vmid as u64) << 48 | root.base().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_what_they_were_made_of() {
        for kind in P2mType::ALL {
            for last in [false, true] {
                let pte = Stage2::leaf(Mfn(0x4_0200), kind, last);
                assert_eq!(Stage2::decode(pte, last), Pte::Leaf(Mfn(0x4_0200), kind));
            }
        }
        assert_eq!(
            Stage2::decode(Stage2::table(Mfn(7)), false),
            Pte::Table(Mfn(7))
        );
        assert_eq!(Stage2::decode(0, true), Pte::Empty);
    }

    #[test]
    fn rights_follow_the_type() {
        let write = |kind| Stage2::leaf(Mfn(1), kind, true) & bit::WRITE != 0;
        let never = |kind| Stage2::leaf(Mfn(1), kind, true) & bit::EXECUTE_NEVER != 0;
        assert!(write(P2mType::RamRw) && !write(P2mType::RamRo) && !write(P2mType::GrantRo));
        assert!(!never(P2mType::RamRw) && never(P2mType::Mmio) && never(P2mType::GrantRw));
        assert_eq!(
            Stage2::leaf(Mfn(0x4_0000), P2mType::RamRw, true),
            1 << 55 | 0x4000_07ff
        );
    }

    #[test]
    fn geometry_fits_the_cpu() {
        let a57 = Geometry::new(44, 4, false);
        assert_eq!((a57.ipa_bits, a57.levels), (40, [10, 9, 9]));
        assert_eq!(a57.vtcr, 0x8004_3558);
        let small = Geometry::new(36, 1, true);
        assert_eq!((small.ipa_bits, small.levels), (36, [6, 9, 9]));
        assert_eq!(small.vtcr & (1 << 19 | 0x3f), 1 << 19 | 28);
    }
}
