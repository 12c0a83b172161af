//! Second-level page tables: what the core's p2m writes for the CPU to walk.
//!
//! Both formats have four levels of 512 entries and leaves of 4 KiB, 2 MiB and, where the CPU offers it, 1 GiB. Both
//! leave bits 55:52 of an entry to software, where the type is kept. An entry of zero maps nothing.

#[cfg(feature = "vmx")]
pub mod ept;
#[cfg(feature = "svm")]
pub mod npt;
#[cfg(all(test, any(feature = "vmx", feature = "svm")))]
mod tests;

#[cfg(any(feature = "vmx", feature = "svm"))]
use xen_core::p2m::P2mType;

/// Bits of a frame number that each level resolves, root first.
pub const LEVELS: [u8; 4] = [9, 9, 9, 9];

/// log2 of the most frames that one entry may map: 1 GiB where the CPU has such entries, else 2 MiB.
pub const fn max_leaf_order(gib_pages: bool) -> u8 {
    if gib_pages { 18 } else { 9 }
}

/// Bits 51:12: the frame. Those beyond the CPU's physical address width are reserved; frames that the core hands out
/// lie below it.
#[cfg(any(feature = "vmx", feature = "svm"))]
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// First of the four bits that hold the type.
#[cfg(any(feature = "vmx", feature = "svm"))]
const TYPE_SHIFT: u32 = 52;

#[cfg(any(feature = "vmx", feature = "svm"))]
const fn type_bits(kind: P2mType) -> u64 {
    (kind as u64) << TYPE_SHIFT
}

#[cfg(any(feature = "vmx", feature = "svm"))]
fn type_of(pte: u64) -> Option<P2mType> {
    P2mType::from_bits((pte >> TYPE_SHIFT) as u8 & 0xf)
}
