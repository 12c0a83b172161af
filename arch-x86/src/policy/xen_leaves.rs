//! Xen's leaves, 0x4000_0000 to 0x4000_0005 (public header `arch-x86/cpuid.h`).

use bitflags::bitflags;
use xen_core::{DomainId, VcpuId};

use super::leaves::CpuidResult;

/// The first leaf.
pub const BASE: u32 = 0x4000_0000;
/// The highest leaf of an HVM guest; 0x4000_0005 is for PV guests.
const HIGHEST: u32 = BASE + 4;
/// `XenVMMXenVMM` in EBX, ECX and EDX.
const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// Base of Xen's MSRs; the first one places the hypercall page.
pub const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;
/// Hypercall pages.
pub const HYPERCALL_PAGES: u32 = 1;

bitflags! {
    /// Features of an HVM guest: leaf 4, EAX.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HvmFeatures: u32 {
        /// Accesses to APIC registers are virtualised by hardware.
        const APIC_ACCESS_VIRT = 1;
        /// Accesses to x2APIC MSRs are virtualised by hardware.
        const X2APIC_VIRT = 1 << 1;
        /// Memory of other domains that is mapped has IOMMU entries.
        const IOMMU_MAPPINGS = 1 << 2;
        /// EBX is the vCPU's number.
        const VCPU_ID = 1 << 3;
        /// ECX is the domain's number.
        const DOMAIN_ID = 1 << 4;
        /// I/O APIC entries and MSI addresses have 15-bit destinations.
        const EXTENDED_DESTINATION = 1 << 5;
        /// Per-vCPU upcall vectors work with physical interrupts too.
        const UPCALL_VECTOR = 1 << 6;
    }
}

/// How a guest's TSC relates to the host's: leaf 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TscInfo {
    /// RDTSC is emulated.
    pub emulated: bool,
    /// The host's TSC runs at one rate on all CPUs, for ever.
    pub host_reliable: bool,
    /// The guest has RDTSCP.
    pub rdtscp: bool,
    /// `tsc_mode`: 0 default, 1 always emulate, 2 never emulate.
    pub mode: u32,
    /// The guest's frequency in kHz.
    pub khz: u32,
    /// The host's frequency in kHz.
    pub host_khz: u32,
    /// How often the guest was migrated.
    pub incarnation: u32,
    /// What is added to the host's TSC.
    pub offset: u64,
    /// Multiplier from ticks to nanoseconds, as in `vcpu_time_info`.
    pub multiplier: u32,
    /// Shift that goes with it.
    pub shift: i8,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version of Xen that is announced: major and minor.
    pub version: (u16, u16),
    /// The domain.
    pub domain: DomainId,
    /// The vCPU.
    pub vcpu: VcpuId,
    /// What the hypervisor does for it. [`HvmFeatures::VCPU_ID`] and [`HvmFeatures::DOMAIN_ID`] are added.
    pub features: HvmFeatures,
    /// Its TSC.
    pub tsc: TscInfo,
}

/// The highest leaf that is shown for a limit that a toolstack set, 0 for none. Guests always find Xen and its version.
const fn highest(limit: u32) -> u32 {
    match limit & 0xff {
        0 => HIGHEST,
        1 | 2 => BASE + 2,
        n if n < HIGHEST - BASE => BASE + n,
        _ => HIGHEST,
    }
}

/// The answer to leaf `leaf`, 0x4000_0000 or above. `limit` is what a toolstack set for the highest one, 0 for nothing.
pub fn leaf(leaf: u32, subleaf: u32, limit: u32, who: &Identity) -> CpuidResult {
    let result = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
    let highest = highest(limit);
    if leaf > highest {
        return CpuidResult::default();
    }
    match (leaf.wrapping_sub(BASE), subleaf) {
        (0, _) => result(highest, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]),
        (1, _) => result(
            u32::from(who.version.0) << 16 | u32::from(who.version.1),
            0,
            0,
            0,
        ),
        (2, _) => result(HYPERCALL_PAGES, HYPERCALL_PAGE_MSR, 0, 0),
        (3, 0) => result(
            u32::from(who.tsc.emulated)
                | u32::from(who.tsc.host_reliable) << 1
                | u32::from(who.tsc.rdtscp) << 2,
            who.tsc.mode,
            who.tsc.khz,
            who.tsc.incarnation,
        ),
        (3, 1) => result(
            who.tsc.offset as u32,
            (who.tsc.offset >> 32) as u32,
            who.tsc.multiplier,
            i32::from(who.tsc.shift) as u32,
        ),
        (3, 2) => result(who.tsc.host_khz, 0, 0, 0),
        (4, 0) => result(
            (who.features | HvmFeatures::VCPU_ID | HvmFeatures::DOMAIN_ID).bits(),
            who.vcpu.0,
            u32::from(who.domain.0),
            0,
        ),
        _ => CpuidResult::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Identity {
        Identity {
            version: (4, 20),
            domain: DomainId(7),
            vcpu: VcpuId(3),
            features: HvmFeatures::UPCALL_VECTOR,
            tsc: TscInfo {
                host_reliable: true,
                khz: 2_445_420,
                host_khz: 3_000_000,
                offset: 0x1_2345_6789,
                multiplier: 0xd163_1e68,
                shift: -1,
                ..TscInfo::default()
            },
        }
    }

    #[test]
    fn guests_find_xen() {
        let base = leaf(0x4000_0000, 0, 0, &who());
        let mut name = [0; 12];
        for (to, word) in name.chunks_exact_mut(4).zip([base.ebx, base.ecx, base.edx]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(&name, b"XenVMMXenVMM");
        // Linux wants at least two leaves more.
        assert!(base.eax >= 0x4000_0002);
        assert_eq!(leaf(0x4000_0001, 0, 0, &who()).eax, 0x0004_0014);
        let page = leaf(0x4000_0002, 0, 0, &who());
        assert_eq!((page.eax, page.ebx), (1, 0x4000_0000));
    }

    #[test]
    fn a_toolstack_hides_leaves_but_not_xen() {
        for (limit, expected) in [
            (0, 4),
            (1, 2),
            (2, 2),
            (3, 3),
            (4, 4),
            (0x4000_0003, 3),
            (9, 4),
        ] {
            let base = leaf(0x4000_0000, 0, limit, &who());
            assert_eq!((base.eax, base.ebx), (0x4000_0000 + expected, SIGNATURE[0]));
            let hvm = leaf(0x4000_0004, 0, limit, &who());
            assert_eq!(hvm == CpuidResult::default(), expected < 4);
        }
    }

    #[test]
    fn identities_and_clock_are_told() {
        let hvm = leaf(0x4000_0004, 0, 0, &who());
        assert_eq!((hvm.eax, hvm.ebx, hvm.ecx), (0x58, 3, 7));
        let tsc = leaf(0x4000_0003, 0, 0, &who());
        assert_eq!((tsc.eax, tsc.ecx), (2, 2_445_420));
        let scale = leaf(0x4000_0003, 1, 0, &who());
        assert_eq!(
            (scale.eax, scale.ebx, scale.ecx, scale.edx),
            (0x2345_6789, 1, 0xd163_1e68, 0xffff_ffff)
        );
        assert_eq!(leaf(0x4000_0003, 2, 0, &who()).eax, 3_000_000);
        for (n, subleaf) in [(4, 1), (3, 3), (5, 0), (0x100, 0), (0xffff, 0)] {
            assert_eq!(
                leaf(0x4000_0000 + n, subleaf, 0, &who()),
                CpuidResult::default()
            );
        }
    }
}
