//! What only a GICv2 has (IHI 0048B): eight CPU interfaces, named by a bit each, and SGIs with a source.

use super::types::VcpuSet;
use xen_core::VcpuId;

/// Architecture revision in ICPIDR2 bits 7:4, with the JEP106 bits of Arm's own implementations.
pub(super) const PIDR2: u32 = 0x2b;

/// GICD_TYPER: no Security Extensions, no lockable SPIs.
pub(super) const fn typer(vcpus: u32, lines: u32) -> u32 {
    vcpus.saturating_sub(1) << 5 | lines.div_ceil(32).saturating_sub(1)
}

/// Where an SPI with this target byte goes, which names existing vCPUs only: any of them may take it, so the lowest.
pub(super) const fn target(mask: u64) -> Option<VcpuId> {
    match mask {
        0 => None,
        mask => Some(VcpuId(mask.trailing_zeros())),
    }
}

/// GICD_SGIR written by `from`: the SGI and who gets it. The filter's reserved value names nobody, and
/// without Security Extensions NSATT is reserved.
pub(super) const fn sgir(value: u32, from: VcpuId, vcpus: u32) -> (u32, VcpuSet) {
    let all = VcpuSet::first(vcpus);
    let targets = match value >> 24 & 0b11 {
        0 => VcpuSet::from_bits((value >> 16 & 0xff) as u128).intersection(all),
        1 => {
            let mut others = all;
            others.remove(from);
            others
        }
        2 => VcpuSet::one(from),
        _ => VcpuSet::EMPTY,
    };
    (value & 0xf, targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_interrupts_name_their_targets() {
        let from = VcpuId(1);
        assert_eq!(sgir(0x00ff_0003, from, 4), (3, VcpuSet::first(4)));
        assert_eq!(sgir(0x0005_8004, from, 2), (4, VcpuSet::from_bits(1)));
        assert_eq!(sgir(0x01ff_0000, from, 3), (0, VcpuSet::from_bits(0b101)));
        assert_eq!(sgir(0x0200_000f, from, 3), (15, VcpuSet::from_bits(0b10)));
        assert_eq!(sgir(0x03ff_0000, from, 3), (0, VcpuSet::EMPTY));
    }

    #[test]
    fn an_spi_goes_to_one_target() {
        assert_eq!(target(0b1100), Some(VcpuId(2)));
        assert_eq!(target(0), None);
    }

    #[test]
    fn type_register() {
        assert_eq!(typer(8, 288), 7 << 5 | 8);
        assert_eq!(typer(1, 32), 0);
        assert_eq!(typer(1, 1020), 31);
    }
}
