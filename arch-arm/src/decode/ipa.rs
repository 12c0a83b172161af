//! The faulting intermediate physical address out of `HPFAR_EL2`.

use xen_core::{GuestPhysAddr, PAGE_SIZE};

/// `HPFAR_EL2.FIPA` (Arm ARM D24.2.67): bits 43:4 hold bits 51:12 of the address. Bit 63 says that the address is
/// Non-secure and is no part of it.
const FIPA: u64 = 0x0000_0fff_ffff_fff0;

/// The address of a fault whose page is in `hpfar` and whose offset in the page is in `far`.
///
/// Meaningful only where the CPU writes `HPFAR_EL2`; see [`crate::decode::Fault::hpfar_valid`].
pub const fn ipa_from_hpfar(hpfar: u64, far: u64) -> GuestPhysAddr {
    GuestPhysAddr((hpfar & FIPA) << 8 | far & (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_offset_come_from_different_registers() {
        // A GIC distributor read at 0x0800_0104.
        assert_eq!(
            ipa_from_hpfar(0x8_0000, 0xffff_8000_1001_0104),
            GuestPhysAddr(0x0800_0104)
        );
    }

    #[test]
    fn all_52_bits_and_nothing_else() {
        assert_eq!(
            ipa_from_hpfar(u64::MAX, u64::MAX),
            GuestPhysAddr((1 << 52) - 1)
        );
    }
}
