//! A guest's CPUID policy, and the answer to one CPUID instruction.

use bitflags::bitflags;
use x86_64::registers::control::Cr4Flags;

use super::feature::{Feature, FeatureSet};
use super::leaves::{CpuidResult, EXTENDED, Leaves, number};
use super::xen_leaves::{self, Identity};
use super::{offer, topology, xstate};

bitflags! {
    /// What the hypervisor virtualises, beyond what every guest of every machine has.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Capabilities: u32 {
        /// The virtual local APIC has x2APIC mode.
        const X2APIC = 1;
        /// Its timer has TSC-deadline mode.
        const TSC_DEADLINE = 1 << 1;
        /// TSC_AUX is switched: RDTSCP and RDPID.
        const TSC_AUX = 1 << 2;
        /// TSC_ADJUST is kept.
        const TSC_ADJUST = 1 << 3;
        /// SPEC_CTRL is switched, and PRED_CMD passed on.
        const SPEC_CTRL = 1 << 4;
        /// IA32_XSS is zero while guests run: XSAVES.
        const XSAVES = 1 << 5;
        /// The guest's TSC runs at one rate for ever.
        const INVARIANT_TSC = 1 << 6;
        /// The address-mask MSRs of AMD's debug extension are switched.
        const DEBUG_EXTENSION = 1 << 7;
        /// Process-context identifiers work in guests.
        const PCID = 1 << 8;
    }
}

/// What a machine can do for guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Virtualised features.
    pub capabilities: Capabilities,
    /// Components of the extended state that are switched, as bits of XCR0.
    pub xcr0: u64,
    /// The host's ARCH_CAPABILITIES, 0 if there is none.
    pub arch_capabilities: u64,
    /// The widest guest-physical address that the second level translates, in bits.
    pub physical_bits: u8,
}

/// The kind of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestKind {
    /// dom0, which stays on this host.
    Hardware,
    /// Another domain, which may be moved to another host.
    Ordinary,
}

/// The leaves of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuidPolicy {
    pub(super) leaves: Leaves,
    pub(super) features: FeatureSet,
    pub(super) xcr0: u64,
    /// Limits of the hypervisor's leaves, as a toolstack set them; 0 is none.
    pub(super) limits: [u32; 2],
    /// Width of guest-physical addresses, whether a leaf tells it or not.
    physical_bits: u8,
}

/// The vCPU that executes CPUID, where answers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuView {
    /// How many vCPUs the domain has, at least 1.
    pub vcpus: u32,
    /// CR4: OSXSAVE and OSPKE.
    pub cr4: Cr4Flags,
    /// XCR0: the size of the area in use.
    pub xcr0: u64,
    /// IA32_XSS.
    pub xss: u64,
    /// The local APIC is enabled in APIC_BASE.
    pub apic_enabled: bool,
    /// Who asks, for Xen's leaves, and the APIC ID.
    pub identity: Identity,
}

impl CpuidPolicy {
    /// All that a guest of this kind can have on this host.
    pub fn new(host: &Leaves, machine: &Machine, kind: GuestKind) -> Self {
        let mut features = host.features();
        features.0[16] = machine.arch_capabilities as u32;
        features.0[17] = (machine.arch_capabilities >> 32) as u32;
        let xcr0 = machine.xcr0 & offer::host_xcr0(host);
        features = offer::features(&features, machine, xcr0, kind);
        Self::build(host, machine, features, xcr0, None)
    }

    /// The same with only those features that are in `wanted`, less what depends on the others.
    pub fn with_features(&self, wanted: &FeatureSet) -> Self {
        let machine = Machine {
            physical_bits: self.physical_bits(),
            ..Machine::default()
        };
        let features = self.features.intersection(wanted);
        Self::build(&self.leaves, &machine, features, self.xcr0, None)
    }

    /// `most`: the highest basic leaf that there may be.
    pub(super) fn build(
        base: &Leaves,
        machine: &Machine,
        mut features: FeatureSet,
        xcr0: u64,
        most: Option<usize>,
    ) -> Self {
        offer::clear_dependents(&mut features);
        let xcr0 = offer::xcr0(xcr0, &features);
        let most = most.unwrap_or(usize::MAX);
        let amd = is_amd(&base.vendor_name());
        let mut leaves = Leaves::default();
        let old = &base.basic;
        let highest = if features.has(Feature::Xsave) {
            number::XSTATE
        } else if features.has(Feature::X2apic) {
            number::TOPOLOGY
        } else {
            number::STRUCTURED.min(old[number::VENDOR].eax as usize)
        };
        leaves.basic[number::VENDOR] = CpuidResult {
            eax: highest.min(most) as u32,
            ..old[number::VENDOR]
        };
        leaves.basic[number::FEATURES] = CpuidResult {
            eax: old[number::FEATURES].eax & SIGNATURE,
            // Brand and size of a line for CLFLUSH; the rest depends on the vCPU.
            ebx: old[number::FEATURES].ebx & 0xffff,
            ..CpuidResult::default()
        };
        leaves.basic[number::CACHE_DESCRIPTORS] = old[number::CACHE_DESCRIPTORS];
        // The virtual APIC timer never stops; nothing else of power management is virtualised.
        leaves.basic[number::THERMAL].eax = THERMAL_ALWAYS_RUNNING_TIMER;
        leaves.cache = base.cache;
        leaves.feature[0].eax = base.feature[0].eax.min(leaves.feature.len() as u32 - 1);
        if features.has(Feature::Xsave) {
            Self::build_xstate(&mut leaves, base, xcr0);
        }
        Self::build_extended(&mut leaves, base, machine, &features, amd);
        leaves.set_features(&features);
        if amd {
            // AMD repeats bits of leaf 1 here.
            let basic = leaves.basic[number::FEATURES].edx & AMD_REPEATED;
            leaves.extended[number::EXTENDED_FEATURES].edx |= basic;
        }
        let physical_bits = leaves.extended[number::SIZES].eax as u8;
        // What no leaf shows is not there.
        leaves.clear_out_of_range();
        let mut shown = leaves.features();
        (shown.0[16], shown.0[17]) = (features.0[16], features.0[17]);
        Self {
            leaves,
            features: features.intersection(&shown),
            xcr0,
            limits: [0; 2],
            physical_bits,
        }
    }

    fn build_xstate(leaves: &mut Leaves, base: &Leaves, xcr0: u64) {
        leaves.xstate[0] = CpuidResult {
            eax: xcr0 as u32,
            // Depends on the vCPU.
            ebx: 0,
            ecx: xstate::standard_size(xcr0, &base.xstate),
            edx: (xcr0 >> 32) as u32,
        };
        let components = leaves.xstate.iter_mut().zip(&base.xstate);
        for (n, (to, from)) in components.enumerate().skip(2) {
            if xcr0 >> n & 1 != 0 {
                *to = CpuidResult {
                    // Not a supervisor's state; where it starts in the compacted format.
                    ecx: from.ecx & 2,
                    edx: 0,
                    ..*from
                };
            }
        }
    }

    fn build_extended(
        leaves: &mut Leaves,
        base: &Leaves,
        machine: &Machine,
        features: &FeatureSet,
        amd: bool,
    ) {
        let old = &base.extended;
        let most = if amd {
            number::EXTENDED_FEATURES_2
        } else {
            number::SIZES
        };
        let highest = old[0].eax.clamp(EXTENDED, EXTENDED + most as u32);
        leaves.extended[0] = CpuidResult {
            eax: highest,
            ..old[0]
        };
        leaves.extended[number::EXTENDED_FEATURES] = CpuidResult {
            eax: old[number::EXTENDED_FEATURES].eax,
            ebx: old[number::EXTENDED_FEATURES].ebx,
            ..CpuidResult::default()
        };
        // Name, caches.
        let copied = number::NAME..number::POWER;
        leaves.extended[copied.clone()].copy_from_slice(&old[copied]);
        let host_sizes = old[number::SIZES].eax;
        let physical = match host_sizes & 0xff {
            0 => 36,
            bits => bits,
        };
        let physical = physical.min(u32::from(machine.physical_bits)).max(32);
        // Guests have no 5-level paging.
        let linear = if features.has(Feature::Lm) { 48 } else { 32 };
        leaves.extended[number::SIZES].eax = physical | linear << 8;
        if amd {
            for leaf in [number::AMD_TLB, number::AMD_OPTIMISATION] {
                leaves.extended[leaf] = old[leaf];
            }
            if features.has(Feature::Topoext) {
                leaves.amd_cache = base.amd_cache;
            }
        }
    }

    /// Whether the guest has the feature. Those that follow the guest's own registers (OSXSAVE, OSPKE) are never in the policy.
    pub const fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }
    /// The guest's features.
    pub const fn features(&self) -> &FeatureSet {
        &self.features
    }
    /// The leaves, with what depends on a vCPU left zero.
    pub const fn leaves(&self) -> &Leaves {
        &self.leaves
    }
    /// Width of guest-physical addresses.
    pub const fn physical_bits(&self) -> u8 {
        self.physical_bits
    }
    /// The bits of XCR0 that the guest can set.
    pub const fn xcr0_bits(&self) -> u64 {
        self.xcr0
    }
    /// The guest's ARCH_CAPABILITIES.
    pub const fn arch_capabilities(&self) -> u64 {
        self.features.arch_capabilities()
    }
    /// Whether the guest's CPU is AMD's, or of a vendor that follows AMD.
    pub fn is_amd(&self) -> bool {
        is_amd(&self.leaves.vendor_name())
    }

    /// The answer to CPUID with these values of EAX and ECX.
    pub fn cpuid(&self, leaf: u32, subleaf: u32, vcpu: &VcpuView) -> CpuidResult {
        let zero = CpuidResult::default();
        if (xen_leaves::BASE..xen_leaves::BASE + 0x1_0000).contains(&leaf) {
            return xen_leaves::leaf(leaf, subleaf, self.limits[0], &vcpu.identity);
        }
        if leaf >= EXTENDED {
            return if leaf <= self.leaves.extended[0].eax {
                self.extended(leaf - EXTENDED, subleaf, vcpu)
            } else {
                zero
            };
        }
        if leaf > self.leaves.basic[number::VENDOR].eax {
            return zero;
        }
        let sub = |group: &[CpuidResult]| group.get(subleaf as usize).copied().unwrap_or(zero);
        match leaf as usize {
            number::FEATURES => self.basic_features(vcpu),
            number::CACHE => {
                let mut result = sub(&self.leaves.cache);
                result.eax = topology::cache_eax(result.eax, vcpu.vcpus);
                result
            }
            number::STRUCTURED => {
                let mut result = sub(&self.leaves.feature);
                let keys = vcpu.cr4.contains(Cr4Flags::PROTECTION_KEY_USER);
                if subleaf == 0 && keys && self.has(Feature::Pku) {
                    result.ecx |= BIT_OSPKE;
                }
                result
            }
            number::TOPOLOGY if self.has(Feature::X2apic) => {
                topology::extended(subleaf, vcpu.identity.vcpu, vcpu.vcpus)
            }
            number::XSTATE => {
                let mut result = sub(&self.leaves.xstate);
                let states = &self.leaves.xstate;
                if self.has(Feature::Xsave) && subleaf == 0 {
                    result.ebx = xstate::standard_size(vcpu.xcr0, states);
                } else if subleaf == 1 && (self.has(Feature::Xsavec) || self.has(Feature::Xsaves)) {
                    result.ebx = xstate::compacted_size(vcpu.xcr0 | vcpu.xss, states);
                }
                result
            }
            leaf => self.leaves.basic.get(leaf).copied().unwrap_or(zero),
        }
    }

    fn basic_features(&self, vcpu: &VcpuView) -> CpuidResult {
        let mut result = self.leaves.basic[number::FEATURES];
        // APIC IDs that a package has room for.
        let threads = match vcpu.vcpus {
            0 | 1 => 1,
            vcpus => 1u32 << topology::package_bits(vcpus).min(7),
        };
        result.ebx |= threads << 16 | topology::apic_id(vcpu.identity.vcpu) << 24;
        if vcpu.vcpus > 1 {
            result.edx |= BIT_HTT;
        }
        if !vcpu.apic_enabled {
            result.edx &= !BIT_APIC;
        }
        if vcpu.cr4.contains(Cr4Flags::OSXSAVE) && self.has(Feature::Xsave) {
            result.ecx |= BIT_OSXSAVE;
        }
        result
    }

    fn extended(&self, offset: u32, subleaf: u32, vcpu: &VcpuView) -> CpuidResult {
        let mut result = self
            .leaves
            .extended
            .get(offset as usize)
            .copied()
            .unwrap_or_default();
        match offset as usize {
            number::EXTENDED_FEATURES if self.is_amd() => {
                if !vcpu.apic_enabled {
                    result.edx &= !BIT_APIC;
                }
                if vcpu.vcpus > 1 {
                    result.ecx |= BIT_CMP_LEGACY;
                }
            }
            number::SIZES if self.is_amd() => {
                // Number of threads less 1, and how many bits of the APIC ID tell them apart.
                let threads = vcpu.vcpus.saturating_sub(1).min(0xff);
                result.ecx = threads | topology::package_bits(vcpu.vcpus).min(15) << 12;
            }
            number::AMD_CACHE => {
                let caches = &self.leaves.amd_cache;
                result = caches.get(subleaf as usize).copied().unwrap_or_default();
                result.eax = topology::amd_cache_eax(result.eax, vcpu.vcpus);
            }
            number::AMD_TOPOLOGY if self.has(Feature::Topoext) => {
                result = topology::amd(vcpu.identity.vcpu);
            }
            _ => {}
        }
        result
    }
}

/// Leaf 1, EAX: stepping, model, family, type, extended model, extended family.
const SIGNATURE: u32 = 0x0fff_3fff;
/// Leaf 6, EAX: the APIC timer runs in all power states (ARAT).
const THERMAL_ALWAYS_RUNNING_TIMER: u32 = 1 << 2;
/// Leaf 1, EDX: the local APIC is enabled.
const BIT_APIC: u32 = 1 << 9;
/// Leaf 1, EDX: the number of threads in EBX counts.
const BIT_HTT: u32 = 1 << 28;
/// Leaf 1, ECX: CR4.OSXSAVE.
const BIT_OSXSAVE: u32 = 1 << 27;
/// Leaf 7, ECX: CR4.PKE.
const BIT_OSPKE: u32 = 1 << 4;
/// Leaf 0x8000_0001, ECX: threads are cores.
const BIT_CMP_LEGACY: u32 = 1 << 1;
/// Bits of leaf 1, EDX, that AMD repeats in leaf 0x8000_0001, EDX.
const AMD_REPEATED: u32 = 0x0183_f3ff;

fn is_amd(vendor: &[u8; 12]) -> bool {
    matches!(vendor, b"AuthenticAMD" | b"HygonGenuine")
}

#[cfg(test)]
pub(crate) mod tests;
