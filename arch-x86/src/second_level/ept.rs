//! Extended page tables of VMX (Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)").

use bitflags::bitflags;
use xen_core::p2m::{P2mType, Pte, PteFormat};
use xen_core::{Mfn, PAGE_SHIFT};

use super::{ADDRESS, type_bits, type_of};

bitflags! {
    /// Bits of an entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// May be read.
        const READ = 1;
        /// May be written; without [`Flags::READ`] the entry is malformed.
        const WRITE = 1 << 1;
        /// May be executed.
        const EXECUTE = 1 << 2;
        /// Memory type write-back. Type 0, without this, is uncacheable.
        ///
        /// The guest's own PAT is combined with it (bit 6, which would override that, stays clear): a guest can make
        /// its view of memory weaker, and write-combining of uncacheable, but cannot make a device's registers cached.
        const WRITE_BACK = 6 << 3;
        /// The entry maps memory although it is not in the lowest table.
        const LARGE = 1 << 7;
        /// Set by the CPU where accesses are recorded, which Oxen does not ask for.
        const ACCESSED = 1 << 8;
        /// As [`Flags::ACCESSED`], for writes.
        const DIRTY = 1 << 9;
    }
}

/// Extended page tables.
#[derive(Debug)]
pub struct Ept;

impl PteFormat for Ept {
    fn leaf(mfn: Mfn, kind: P2mType, last: bool) -> u64 {
        let mut flags = Flags::READ;
        flags.set(Flags::WRITE, kind.writable());
        // Only a domain's own memory holds its code.
        flags.set(Flags::EXECUTE, kind.is_ram());
        flags.set(Flags::WRITE_BACK, kind != P2mType::Mmio);
        flags.set(Flags::LARGE, !last);
        mfn.base().0 & ADDRESS | flags.bits() | type_bits(kind)
    }

    fn table(mfn: Mfn) -> u64 {
        let flags = Flags::READ | Flags::WRITE | Flags::EXECUTE;
        mfn.base().0 & ADDRESS | flags.bits()
    }

    fn decode(pte: u64, last: bool) -> Pte {
        let flags = Flags::from_bits_retain(pte);
        let mfn = Mfn((pte & ADDRESS) >> PAGE_SHIFT);
        if !flags.intersects(Flags::READ | Flags::WRITE | Flags::EXECUTE) {
            Pte::Empty
        } else if !last && !flags.contains(Flags::LARGE) {
            Pte::Table(mfn)
        } else {
            type_of(pte).map_or(Pte::Empty, |kind| Pte::Leaf(mfn, kind))
        }
    }
}

/// The extended-page-table pointer for tables at `root` (Intel SDM volume 3, "Extended-Page-Table Pointer (EPTP)"): tables are read as write-back
/// memory, four levels are walked, accessed and dirty flags are off.
pub const fn pointer(root: Mfn) -> u64 {
    const WRITE_BACK: u64 = 6;
    const WALK_LENGTH_MINUS_ONE: u64 = 3 << 3;
    root.base().0 & ADDRESS | WALK_LENGTH_MINUS_ONE | WRITE_BACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_manual() {
        assert_eq!(
            Ept::leaf(Mfn(0x1_2345), P2mType::RamRw, true),
            0x0010_0000_1234_5037
        );
        assert_eq!(
            Ept::leaf(Mfn(0x4_0000), P2mType::RamRo, false),
            0x0020_0000_4000_00b5
        );
        assert_eq!(
            Ept::leaf(Mfn(0xf_ec00), P2mType::Mmio, true),
            0x0030_0000_fec0_0003
        );
        assert_eq!(Ept::table(Mfn(0x7)), 0x7007);
        assert_eq!(pointer(Mfn(0x7)), 0x701e);
    }
}
