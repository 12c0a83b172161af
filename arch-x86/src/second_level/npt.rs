//! Nested page tables of SVM (AMD APM volume 2, 15.25 "Nested paging"): the format of long mode's own page tables, walked
//! with user rights.

use x86_64::structures::paging::PageTableFlags as Flags;
use xen_core::p2m::{P2mType, Pte, PteFormat};
use xen_core::{Mfn, PAGE_SHIFT};

use super::{ADDRESS, type_bits, type_of};

/// Flags that every entry has.
///
/// Accesses of a guest, its page-table walks included, count as a user's. The flags in which the CPU records accesses
/// are set from the start, which saves it from writing them.
const COMMON: Flags = Flags::PRESENT
    .union(Flags::USER_ACCESSIBLE)
    .union(Flags::ACCESSED);

/// Nested page tables.
///
/// The memory type of an entry is an index into the host's PAT, of which entries 0 (write-back) and 2 (uncacheable, but
/// weakened to write-combining by the guest's own PAT) are expected to be as after reset.
#[derive(Debug)]
pub struct Npt;

impl PteFormat for Npt {
    fn leaf(mfn: Mfn, kind: P2mType, last: bool) -> u64 {
        let mut flags = COMMON | Flags::DIRTY;
        flags.set(Flags::WRITABLE, kind.writable());
        // Only a domain's own memory holds its code.
        flags.set(Flags::NO_EXECUTE, !kind.is_ram());
        flags.set(Flags::NO_CACHE, kind == P2mType::Mmio);
        // In the lowest table this bit is part of the PAT index.
        flags.set(Flags::HUGE_PAGE, !last);
        mfn.base().0 & ADDRESS | flags.bits() | type_bits(kind)
    }

    fn table(mfn: Mfn) -> u64 {
        mfn.base().0 & ADDRESS | (COMMON | Flags::WRITABLE).bits()
    }

    fn decode(pte: u64, last: bool) -> Pte {
        let flags = Flags::from_bits_retain(pte);
        let mfn = Mfn((pte & ADDRESS) >> PAGE_SHIFT);
        if !flags.contains(Flags::PRESENT) {
            Pte::Empty
        } else if !last && !flags.contains(Flags::HUGE_PAGE) {
            Pte::Table(mfn)
        } else {
            type_of(pte).map_or(Pte::Empty, |kind| Pte::Leaf(mfn, kind))
        }
    }
}

/// nCR3 for tables at `root` (AMD APM volume 2, 15.25.3).
pub const fn root(root: Mfn) -> u64 {
    root.base().0 & ADDRESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_manual() {
        assert_eq!(
            Npt::leaf(Mfn(0x1_2345), P2mType::RamRw, true),
            0x0010_0000_1234_5067
        );
        assert_eq!(
            Npt::leaf(Mfn(0x4_0000), P2mType::RamRo, false),
            0x0020_0000_4000_00e5
        );
        assert_eq!(
            Npt::leaf(Mfn(0xf_ec00), P2mType::Mmio, true),
            0x8030_0000_fec0_0077
        );
        assert_eq!(Npt::table(Mfn(0x7)), 0x7027);
        assert_eq!(root(Mfn(0x7)), 0x7000);
    }
}
