//! What has to hold for every format, whatever the frame and the type.

use proptest::prelude::*;
use xen_core::Mfn;
use xen_core::p2m::{P2mType, Pte, PteFormat};

use super::{ADDRESS, LEVELS, max_leaf_order};

/// What the hardware makes of an entry, read from its bits by the manuals and not by the code under test.
struct Rights {
    read: bool,
    write: bool,
    execute: bool,
    large: bool,
    /// Bits that no CPU defines or Oxen does not use.
    stray: u64,
}

/// Bits of the type, which both formats leave to software.
const TYPE: u64 = 0xf << 52;

#[cfg(feature = "vmx")]
fn ept_rights(pte: u64) -> Rights {
    Rights {
        read: pte & 1 != 0,
        write: pte & 2 != 0,
        execute: pte & 4 != 0,
        large: pte & 0x80 != 0,
        stray: pte & !(ADDRESS | TYPE | 0xbf),
    }
}

#[cfg(feature = "svm")]
fn npt_rights(pte: u64) -> Rights {
    Rights {
        // Present, and for users.
        read: pte & 5 == 5,
        write: pte & 7 == 7,
        execute: pte >> 63 == 0,
        large: pte & 0x80 != 0,
        stray: pte & !(ADDRESS | TYPE | 1 << 63 | 0xf7),
    }
}

fn kind() -> impl Strategy<Value = P2mType> {
    prop::sample::select(&P2mType::ALL[..])
}

/// A frame that a leaf at `order` can map, on a machine with up to 52 address bits.
fn aligned(frame: u64, order: u8) -> Mfn {
    Mfn(frame & ((1 << 40) - 1) & !((1 << order) - 1))
}

fn check<F: PteFormat>(
    rights: fn(u64) -> Rights,
    frame: u64,
    kind: P2mType,
    order: u8,
    recorded: u64,
) -> Result<(), TestCaseError> {
    let last = order == 0;
    let mfn = aligned(frame, order);
    let pte = F::leaf(mfn, kind, last);
    prop_assert_eq!(F::decode(pte, last), Pte::Leaf(mfn, kind));
    let found = rights(pte);
    prop_assert!(found.read);
    prop_assert_eq!(found.write, kind.writable());
    prop_assert_eq!(found.execute, kind.is_ram());
    prop_assert_eq!(found.large, !last);
    prop_assert_eq!(found.stray, 0);
    // What the CPU records in an entry changes nothing of what it says.
    prop_assert_eq!(F::decode(pte | recorded, last), Pte::Leaf(mfn, kind));

    let table = aligned(frame, 0);
    let pte = F::table(table);
    prop_assert_eq!(F::decode(pte, false), Pte::Table(table));
    prop_assert_eq!(F::decode(pte | recorded, false), Pte::Table(table));
    let found = rights(pte);
    // Rights of all levels are combined: a table forbids nothing.
    prop_assert!(found.read && found.write && found.execute && !found.large);
    prop_assert_eq!(found.stray, 0);
    prop_assert_eq!(F::decode(0, last), Pte::Empty);
    Ok(())
}

proptest! {
    #[cfg(feature = "vmx")]
    #[test]
    fn ept_entries_say_what_they_were_made_of(
        frame: u64, kind in kind(), order in prop::sample::select(&[0u8, 9, 18][..]), recorded: bool
    ) {
        check::<super::ept::Ept>(ept_rights, frame, kind, order, if recorded { 0x300 } else { 0 })?;
    }

    #[cfg(feature = "svm")]
    #[test]
    fn npt_entries_say_what_they_were_made_of(
        frame: u64, kind in kind(), order in prop::sample::select(&[0u8, 9, 18][..]), recorded: bool
    ) {
        check::<super::npt::Npt>(npt_rights, frame, kind, order, if recorded { 0x60 } else { 0 })?;
    }

    // Whatever stands in a table, it is decoded to something, and what is not present to nothing.
    #[test]
    fn no_word_is_too_strange(word: u64, last: bool) {
        #[cfg(feature = "vmx")]
        prop_assert_eq!(super::ept::Ept::decode(word & !7, last), Pte::Empty);
        #[cfg(feature = "svm")]
        prop_assert_eq!(super::npt::Npt::decode(word & !1, last), Pte::Empty);
        #[cfg(feature = "vmx")]
        prop_assert!(!last || !matches!(super::ept::Ept::decode(word, last), Pte::Table(_)));
        #[cfg(feature = "svm")]
        prop_assert!(!last || !matches!(super::npt::Npt::decode(word, last), Pte::Table(_)));
    }
}

#[test]
fn four_levels_hold_48_bits_of_addresses() {
    assert_eq!(LEVELS.iter().map(|b| u32::from(*b)).sum::<u32>() + 12, 48);
    // Leaves are whole levels.
    assert_eq!((max_leaf_order(false), max_leaf_order(true)), (9, 18));
}
