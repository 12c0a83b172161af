//! Raw CPUID leaves, of a host or of a guest.

use super::feature::FeatureSet;
pub use crate::select::CpuidResult;

/// Basic leaves that are kept: 0 to 0xd, the highest that guests see. Xen's toolstacks know this very shape and refuse
/// policies with more leaves.
pub const BASIC_LEAVES: usize = 0xe;
/// Sub-leaves of leaf 4.
pub const CACHE_LEAVES: usize = 6;
/// Sub-leaves of leaf 7.
pub const FEATURE_LEAVES: usize = 3;
/// Sub-leaves of leaf 0xb.
pub const TOPOLOGY_LEAVES: usize = 2;
/// Sub-leaves of leaf 0xd.
pub const XSTATE_LEAVES: usize = 63;
/// Extended leaves from 0x8000_0000 on.
pub const EXTENDED_LEAVES: usize = 0x22;
/// Sub-leaves of leaf 0x8000_001d.
pub const AMD_CACHE_LEAVES: usize = 6;

/// The first extended leaf.
pub const EXTENDED: u32 = 0x8000_0000;

/// Leaves of a CPU, as they are or as a guest is to see them. Plain data: no field has an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Leaves 0 to 0xd. Those with sub-leaves are zero here: 4, 7, 0xb, 0xd.
    pub basic: [CpuidResult; BASIC_LEAVES],
    /// Leaf 4: caches (Intel).
    pub cache: [CpuidResult; CACHE_LEAVES],
    /// Leaf 7: features.
    pub feature: [CpuidResult; FEATURE_LEAVES],
    /// Leaf 0xb: topology.
    pub topology: [CpuidResult; TOPOLOGY_LEAVES],
    /// Leaf 0xd: extended state.
    pub xstate: [CpuidResult; XSTATE_LEAVES],
    /// Leaves 0x8000_0000 to 0x8000_0021. Leaf 0x8000_001d is zero here.
    pub extended: [CpuidResult; EXTENDED_LEAVES],
    /// Leaf 0x8000_001d: caches (AMD).
    pub amd_cache: [CpuidResult; AMD_CACHE_LEAVES],
}

impl Default for Leaves {
    fn default() -> Self {
        const ZERO: CpuidResult = CpuidResult {
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
        };
        Self {
            basic: [ZERO; BASIC_LEAVES],
            cache: [ZERO; CACHE_LEAVES],
            feature: [ZERO; FEATURE_LEAVES],
            topology: [ZERO; TOPOLOGY_LEAVES],
            xstate: [ZERO; XSTATE_LEAVES],
            extended: [ZERO; EXTENDED_LEAVES],
            amd_cache: [ZERO; AMD_CACHE_LEAVES],
        }
    }
}

/// Numbers of leaves.
pub(super) mod number {
    pub(crate) const VENDOR: usize = 0;
    pub(crate) const FEATURES: usize = 1;
    pub(crate) const CACHE_DESCRIPTORS: usize = 2;
    pub(crate) const CACHE: usize = 4;
    pub(crate) const THERMAL: usize = 6;
    pub(crate) const STRUCTURED: usize = 7;
    pub(crate) const TOPOLOGY: usize = 0xb;
    pub(crate) const XSTATE: usize = 0xd;
    /// Extended leaves, less [`super::EXTENDED`].
    pub(crate) const EXTENDED_FEATURES: usize = 1;
    pub(crate) const NAME: usize = 2;
    pub(crate) const POWER: usize = 7;
    pub(crate) const SIZES: usize = 8;
    pub(crate) const AMD_TLB: usize = 0x19;
    pub(crate) const AMD_OPTIMISATION: usize = 0x1a;
    pub(crate) const AMD_CACHE: usize = 0x1d;
    pub(crate) const AMD_TOPOLOGY: usize = 0x1e;
    pub(crate) const EXTENDED_FEATURES_2: usize = 0x21;
}

impl Leaves {
    /// Reads leaves with `cpuid`, which is given leaf and sub-leaf. Leaves beyond the highest one are left zero.
    pub fn read(mut cpuid: impl FnMut(u32, u32) -> CpuidResult) -> Self {
        let mut leaves = Self::default();
        let highest = cpuid(0, 0).eax;
        for (leaf, to) in leaves.basic.iter_mut().enumerate() {
            let with_subleaves = [
                number::CACHE,
                number::STRUCTURED,
                number::TOPOLOGY,
                number::XSTATE,
            ];
            if leaf as u32 <= highest && !with_subleaves.contains(&leaf) {
                *to = cpuid(leaf as u32, 0);
            }
        }
        let mut group = |leaf: usize, to: &mut [CpuidResult], limit: u32| {
            if leaf as u32 <= highest {
                for (subleaf, to) in (0..=limit).zip(to) {
                    *to = cpuid(leaf as u32, subleaf);
                }
            }
        };
        group(number::CACHE, &mut leaves.cache, u32::MAX);
        group(number::STRUCTURED, &mut leaves.feature[..1], 0);
        let more = leaves.feature[0].eax;
        group(number::STRUCTURED, &mut leaves.feature, more);
        group(number::TOPOLOGY, &mut leaves.topology, u32::MAX);
        group(number::XSTATE, &mut leaves.xstate, u32::MAX);
        let highest = cpuid(EXTENDED, 0).eax;
        if !(EXTENDED..EXTENDED + 0x1_0000).contains(&highest) {
            // A CPU without extended leaves answers with something else.
            return leaves;
        }
        for (offset, to) in leaves.extended.iter_mut().enumerate() {
            let leaf = EXTENDED + offset as u32;
            if leaf <= highest && offset != number::AMD_CACHE {
                *to = cpuid(leaf, 0);
            }
        }
        let amd_cache = EXTENDED + number::AMD_CACHE as u32;
        if amd_cache <= highest {
            for (subleaf, to) in (0..).zip(leaves.amd_cache.iter_mut()) {
                *to = cpuid(amd_cache, subleaf);
            }
        }
        leaves
    }

    /// The vendor's name.
    pub fn vendor_name(&self) -> [u8; 12] {
        let vendor = self.basic[number::VENDOR];
        let mut name = [0; 12];
        for (to, word) in name
            .chunks_exact_mut(4)
            .zip([vendor.ebx, vendor.edx, vendor.ecx])
        {
            to.copy_from_slice(&word.to_le_bytes());
        }
        name
    }

    /// The words of feature leaves, as they are. Words 16 and 17 are not leaves, and stay zero.
    pub fn features(&self) -> FeatureSet {
        let mut copy = self.clone();
        let mut set = FeatureSet::default();
        for (word, register) in copy.feature_words() {
            set.0[word] = *register;
        }
        set
    }

    /// Overwrites the words of feature leaves.
    pub fn set_features(&mut self, set: &FeatureSet) {
        for (word, register) in self.feature_words() {
            *register = set.0[word];
        }
    }

    fn feature_words(&mut self) -> [(usize, &mut u32); 17] {
        let [sub0, sub1, sub2] = &mut self.feature;
        let basic = &mut self.basic[number::FEATURES];
        let xsave = &mut self.xstate[1].eax;
        let (low, high) = self.extended.split_at_mut(number::SIZES);
        let (first, power) = low.split_at_mut(number::POWER);
        let first = &mut first[number::EXTENDED_FEATURES];
        let (sizes, second) = high.split_at_mut(1);
        let second = &mut second[number::EXTENDED_FEATURES_2 - number::SIZES - 1];
        [
            (0, &mut basic.edx),
            (1, &mut basic.ecx),
            (2, &mut first.edx),
            (3, &mut first.ecx),
            (4, xsave),
            (5, &mut sub0.ebx),
            (6, &mut sub0.ecx),
            (7, &mut power[0].edx),
            (8, &mut sizes[0].ebx),
            (9, &mut sub0.edx),
            (10, &mut sub1.eax),
            (11, &mut second.eax),
            (12, &mut sub1.ebx),
            (13, &mut sub2.edx),
            (14, &mut sub1.ecx),
            (15, &mut sub1.edx),
            (18, &mut second.ecx),
        ]
    }
}
