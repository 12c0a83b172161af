//! Topology: one package, all vCPUs cores of it, each with one thread.
//!
//! APIC IDs are even, `2 * vcpu`, since the MADTs that Xen's toolstacks build for their guests have them so.

use xen_core::VcpuId;

use super::leaves::CpuidResult;

/// The APIC ID of a vCPU.
pub const fn apic_id(vcpu: VcpuId) -> u32 {
    vcpu.0.wrapping_mul(2)
}

/// The vCPU with an APIC ID, if there can be one.
pub const fn vcpu_of(apic_id: u32) -> Option<VcpuId> {
    if apic_id.is_multiple_of(2) {
        Some(VcpuId(apic_id / 2))
    } else {
        None
    }
}

/// Bits of an APIC ID that tell threads of a core apart. Each core has one thread, and an odd number that nobody has.
const THREAD_BITS: u32 = 1;

/// Bits of an APIC ID that tell the threads of a package of `vcpus` vCPUs apart.
pub const fn package_bits(vcpus: u32) -> u32 {
    let highest = apic_id(VcpuId(vcpus.saturating_sub(1)));
    let bits = 32 - highest.leading_zeros();
    if bits < THREAD_BITS {
        THREAD_BITS
    } else {
        bits
    }
}

/// Leaf 0xb for a vCPU (Intel SDM volume 2, CPUID; AMD APM volume 3, E.3.9).
pub fn extended(subleaf: u32, vcpu: VcpuId, vcpus: u32) -> CpuidResult {
    /// Level types, in bits 15:8 of ECX.
    const THREAD: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let (eax, ebx, kind) = match subleaf {
        0 => (THREAD_BITS, 1, THREAD),
        1 => (package_bits(vcpus), vcpus & 0xffff, CORE),
        _ => (0, 0, 0),
    };
    CpuidResult {
        eax,
        ebx,
        ecx: (subleaf & 0xff) | kind,
        edx: apic_id(vcpu),
    }
}

/// Leaf 4, EAX, of a host, with the numbers of sharers as a guest's topology has them: caches up to the second level belong to a
/// core, others to the package.
pub const fn cache_eax(host: u32, vcpus: u32) -> u32 {
    /// Cache type, 0 for none.
    const TYPE: u32 = 0x1f;
    const UNSHARED: u32 = 0x3fff;
    if host & TYPE == 0 {
        return 0;
    }
    let level = host >> 5 & 7;
    let bits = package_bits(vcpus);
    let sharing = if level <= 2 {
        (1 << THREAD_BITS) - 1
    } else {
        low_mask(bits, 12)
    };
    let cores = low_mask(bits - THREAD_BITS, 6);
    host & UNSHARED | sharing << 14 | cores << 26
}

/// Leaf 0x8000_001d, EAX, of a host, with the number of sharers as in [`cache_eax`].
pub const fn amd_cache_eax(host: u32, vcpus: u32) -> u32 {
    // The same layout as leaf 4, except for the number of cores, which is reserved here.
    cache_eax(host, vcpus) & 0x03ff_ffff
}

/// A number of `bits` ones, at most `most`.
const fn low_mask(bits: u32, most: u32) -> u32 {
    let bits = if bits < most { bits } else { most };
    (1 << bits) - 1
}

/// Leaf 0x8000_001e for a vCPU (AMD APM volume 3, E.4.17): APIC ID, core, threads per core, node.
pub const fn amd(vcpu: VcpuId) -> CpuidResult {
    CpuidResult {
        eax: apic_id(vcpu),
        // Core in bits 7:0, threads per core less 1 in bits 15:8.
        ebx: vcpu.0 & 0xff,
        // Node 0 of 1.
        ecx: 0,
        edx: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_package_holds_all_vcpus() {
        assert_eq!(package_bits(1), 1);
        assert_eq!(package_bits(2), 2);
        assert_eq!(package_bits(4), 3);
        assert_eq!(package_bits(5), 4);
        let core = extended(1, VcpuId(3), 4);
        assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (3, 4, 0x201, 6));
        let thread = extended(0, VcpuId(3), 4);
        assert_eq!((thread.eax, thread.ebx, thread.ecx), (1, 1, 0x100));
        let end = extended(2, VcpuId(3), 4);
        assert_eq!((end.eax, end.ebx, end.ecx, end.edx), (0, 0, 2, 6));
    }

    #[test]
    fn caches_are_shared_within_the_guest() {
        // An L1 data cache that two threads share, of a package with 16 cores.
        assert_eq!(cache_eax(0x3c00_4121, 4), 0x121 | 1 << 14 | 3 << 26);
        // An L3 cache.
        assert_eq!(cache_eax(0x3c03_c163, 4), 0x163 | 7 << 14 | 3 << 26);
        assert_eq!(amd_cache_eax(0x3c163, 4), 0x163 | 7 << 14);
        assert_eq!(cache_eax(0, 4), 0);
    }

    proptest! {
        // What software does with leaf 0xb: shifting APIC IDs leaves distinct cores and one package.
        #[test]
        fn identifiers_are_unique_per_core(vcpus in 1u32..4096, a: u32, b: u32) {
            let (a, b) = (VcpuId(a % vcpus), VcpuId(b % vcpus));
            let thread = extended(0, a, vcpus).eax;
            let package = extended(1, a, vcpus).eax;
            prop_assert_eq!(apic_id(a) >> thread == apic_id(b) >> thread, a == b);
            prop_assert_eq!(apic_id(a) >> package, 0);
            prop_assert_eq!(extended(1, a, vcpus).ebx, vcpus);
        }
    }
}
