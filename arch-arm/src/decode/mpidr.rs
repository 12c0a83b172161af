//! The affinity numbers guests see, and the vCPUs they name.
//!
//! A vCPU's identifier is split as guests of Xen see it: the low four bits are affinity level 0, because a GICv3
//! SGI's target list has 16 bits; the bits above fill the higher levels eight at a time.

use xen_core::VcpuId;

/// `MPIDR_EL1` bit 31, always set.
const RES1: u64 = 1 << 31;
/// The four affinity fields of `MPIDR_EL1` (Arm ARM D24.2.108): bits 39:32 and 23:0.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// vCPUs of a group with the same higher levels.
const GROUP_BITS: u32 = 4;

/// The `MPIDR_EL1` of a vCPU, for `VMPIDR_EL2` and the device tree (which takes the affinity fields only).
pub const fn mpidr_of(vcpu: VcpuId) -> u64 {
    let id = vcpu.0 as u64;
    let group = id >> GROUP_BITS;
    let level3 = group >> 16 & 0xff;
    RES1 | id & 0xf | (group & 0xff) << 8 | (group >> 8 & 0xff) << 16 | level3 << 32
}

/// The vCPU that `mpidr` names; bits outside the affinity fields are ignored. `None` for numbers no vCPU has.
///
/// The caller still has to look whether the domain has that vCPU.
pub const fn vcpu_of(mpidr: u64) -> Option<VcpuId> {
    let affinity = mpidr & AFFINITY;
    let level0 = affinity & 0xff;
    if level0 >> GROUP_BITS != 0 {
        return None;
    }
    let group = affinity >> 8 & 0xffff | (affinity >> 32) << 16;
    Some(VcpuId((group << GROUP_BITS | level0) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sixteen_vcpus_share_a_group() {
        assert_eq!(mpidr_of(VcpuId(0)), 0x8000_0000);
        assert_eq!(mpidr_of(VcpuId(15)), 0x8000_000f);
        assert_eq!(mpidr_of(VcpuId(16)), 0x8000_0100);
        assert_eq!(mpidr_of(VcpuId(0x1000)), 0x8001_0000);
        assert_eq!(vcpu_of(0x10), None);
        assert_eq!(vcpu_of(0x101), Some(VcpuId(17)));
    }

    proptest! {
        #[test]
        fn there_and_back(id in 0u32..1 << 28) {
            prop_assert_eq!(vcpu_of(mpidr_of(VcpuId(id))), Some(VcpuId(id)));
        }

        #[test]
        fn a_vcpu_has_one_number(mpidr: u64) {
            if let Some(id) = vcpu_of(mpidr) {
                prop_assert_eq!(mpidr_of(id) & AFFINITY, mpidr & AFFINITY);
            }
        }
    }
}
