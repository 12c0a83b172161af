//! What only a GICv3 has (IHI 0069): affinity routing, redistributors and SGIs by system register.

use super::types::VcpuSet;
use crate::decode::{mpidr_of, vcpu_of};
use xen_core::VcpuId;

/// GICD_PIDR2 and GICR_PIDR2: architecture revision 3, JEP106 code used.
pub(super) const PIDR2: u32 = 0x3b;
/// Size of one redistributor without virtual LPIs: the control frame and the SGI frame, 64 KiB each.
pub const REDIST_STRIDE: u64 = 0x2_0000;
/// GICD_CTLR: affinity routing is on and stays on (ARE), one security state (DS).
pub(super) const CTLR_FIXED: u32 = 1 << 6 | 1 << 4;
/// Affinity fields and Interrupt_Routing_Mode of GICD_IROUTER.
const IROUTER: u64 = 0xff_80ff_ffff;
const IROUTER_ANY: u64 = 1 << 31;

/// GICD_TYPER: 10 bits of INTID, affinity level 3 may be used, any vCPU may take an SPI that asks for it,
/// no LPIs, no message-based SPIs, target ranges of SGIs end at 15.
pub(super) const fn typer(lines: u32) -> u32 {
    1 << 24 | 9 << 19 | lines.div_ceil(32).saturating_sub(1)
}

/// GICR_TYPER: affinity, number, and whether it is the last of the region. No LPIs.
pub(super) const fn redist_typer(vcpu: VcpuId, vcpus: u32) -> u64 {
    let mpidr = mpidr_of(vcpu);
    let affinity = mpidr & 0xff_ffff | (mpidr >> 32 & 0xff) << 24;
    let last = vcpu.0 + 1 == vcpus;
    affinity << 32 | (vcpu.0 as u64 & 0xffff) << 8 | (last as u64) << 4
}

/// The bits of GICD_IROUTER that exist.
pub(super) const fn route(value: u64) -> u64 {
    value & IROUTER
}

/// Where an SPI with this GICD_IROUTER goes: vCPU 0 if any will do, nowhere if no vCPU has the affinity.
pub(super) fn target(route: u64, vcpus: u32) -> Option<VcpuId> {
    if route & IROUTER_ANY != 0 {
        return Some(VcpuId(0));
    }
    vcpu_of(route).filter(|v| v.0 < vcpus)
}

/// ICC_SGI1R_EL1, ICC_ASGI1R_EL1 or ICC_SGI0R_EL1 written by `from`: the SGI and who gets it.
pub(super) fn sgir(value: u64, from: VcpuId, vcpus: u32) -> (u32, VcpuSet) {
    let id = (value >> 24 & 0xf) as u32;
    if value >> 40 & 1 != 0 {
        let mut others = VcpuSet::first(vcpus);
        others.remove(from);
        return (id, others);
    }
    let higher =
        (value >> 48 & 0xff) << 32 | (value >> 32 & 0xff) << 16 | (value >> 16 & 0xff) << 8;
    // A range other than the first names affinities no vCPU has: the write is ignored, which GICD_TYPER.RSS = 0 allows.
    let base = (value >> 44 & 0xf) * 16;
    let list = value & 0xffff;
    let mut targets = VcpuSet::EMPTY;
    for n in (0..16).filter(|n| list >> n & 1 != 0) {
        if let Some(vcpu) = vcpu_of(higher | (base + n)).filter(|v| v.0 < vcpus) {
            targets.insert(vcpu);
        }
    }
    (id, targets)
}

/// The vCPU and the offset in its redistributor for an offset in the redistributor region of a domain with `vcpus`
/// vCPUs; `None` past the last redistributor.
pub fn redist_at(offset: u64, vcpus: u32) -> Option<(VcpuId, u64)> {
    let n = u32::try_from(offset / REDIST_STRIDE).ok()?;
    (n < vcpus).then_some((VcpuId(n), offset % REDIST_STRIDE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::gic::fields;
    use proptest::prelude::*;

    #[test]
    fn software_interrupts_name_their_targets() {
        let from = VcpuId(17);
        assert_eq!(
            sgir(0x0300_8001, from, 128),
            (3, VcpuSet::from_bits(1 << 15 | 1))
        );
        // Affinity 1 is 1: vCPUs 16 and up.
        assert_eq!(
            sgir(0x0f01_0003, from, 17),
            (15, VcpuSet::from_bits(1 << 16))
        );
        let mut others = VcpuSet::first(20);
        others.remove(from);
        assert_eq!(sgir(1 << 40 | 0x0200_ffff, from, 20), (2, others));
        // Range 1, and affinity 3: nobody.
        assert_eq!(sgir(1 << 44 | 1, from, 128).1, VcpuSet::EMPTY);
        assert_eq!(sgir(1 << 48 | 1, from, 128).1, VcpuSet::EMPTY);
    }

    #[test]
    fn routes() {
        assert_eq!(target(0x103, 20), Some(VcpuId(19)));
        assert_eq!(target(0x104, 20), None);
        assert_eq!(target(0x10, 128), None);
        assert_eq!(target(IROUTER_ANY | 0x103, 20), Some(VcpuId(0)));
        assert_eq!(route(u64::MAX), 0xff_80ff_ffff);
    }

    #[test]
    fn redistributors_follow_each_other() {
        assert_eq!(redist_at(0, 2), Some((VcpuId(0), 0)));
        assert_eq!(redist_at(0x3_0104, 2), Some((VcpuId(1), 0x1_0104)));
        assert_eq!(redist_at(0x4_0000, 2), None);
        assert_eq!(redist_at(u64::MAX, 128), None);
        assert_eq!(redist_typer(VcpuId(0), 2), 0);
        assert_eq!(redist_typer(VcpuId(17), 18), 0x101 << 32 | 17 << 8 | 1 << 4);
        assert_eq!(typer(320), 0x0148_0009);
    }

    proptest! {
        #[test]
        fn an_sgi_reaches_the_vcpu_it_names(vcpu in 0u32..128, from in 0u32..128, id in 0u32..16) {
            let value = fields::sgi1r(mpidr_of(VcpuId(vcpu)), id).unwrap();
            prop_assert_eq!(sgir(value, VcpuId(from), 128), (id, VcpuSet::one(VcpuId(vcpu))));
        }
    }
}
