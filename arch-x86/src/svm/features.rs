//! What a CPU's SVM can: CPUID leaf 0x8000_000A (AMD APM volume 3).

use bitflags::bitflags;

use crate::select::CpuidResult;

bitflags! {
    /// EDX of the leaf: the features that Oxen uses or needs.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Nested paging.
        const NESTED_PAGING = 1;
        /// The address of the next instruction is saved at exits.
        const NEXT_RIP = 1 << 3;
        /// The time-stamp counter can be multiplied.
        const TSC_RATIO = 1 << 4;
        /// Parts of the VMCB may stay cached.
        const CLEAN_BITS = 1 << 5;
        /// The translations of one ASID can be dropped.
        const FLUSH_BY_ASID = 1 << 6;
        /// Exits say which register or bytes the instruction had.
        const DECODE_ASSISTS = 1 << 7;
        /// PAUSE exits after a count.
        const PAUSE_FILTER = 1 << 10;
        /// PAUSEs far apart are counted from the start again.
        const PAUSE_THRESHOLD = 1 << 12;
    }
}

/// What is used of a CPU's SVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Features.
    pub features: Features,
    /// Number of ASIDs, 0 (the host's own) included.
    pub asids: u32,
    /// Nested page tables may map 1 GiB with one entry.
    pub gib_pages: bool,
}

impl Abilities {
    /// From the leaf, and bit 26 of EDX of leaf 0x8000_0001.
    pub const fn new(leaf: CpuidResult, gib_pages: bool) -> Self {
        Self {
            features: Features::from_bits_truncate(leaf.edx),
            asids: leaf.ebx,
            gib_pages,
        }
    }

    /// Whether guests can be run with it: nested paging, and an ASID beside the host's.
    pub const fn suffices(&self) -> bool {
        self.features.contains(Features::NESTED_PAGING) && self.asids >= 2
    }

    /// Whether a CPU with these can run what was set up for one with `boot`.
    pub fn covers(&self, boot: &Self) -> bool {
        self.features.contains(boot.features)
            && self.asids >= boot.asids
            && self.gib_pages >= boot.gib_pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(edx: u32, asids: u32, gib_pages: bool) -> Abilities {
        let leaf = CpuidResult {
            eax: 1,
            ebx: asids,
            ecx: 0,
            edx,
        };
        Abilities::new(leaf, gib_pages)
    }

    #[test]
    fn needs_nested_paging_and_an_asid() {
        assert!(abilities(1, 2, false).suffices());
        assert!(!abilities(0xffff_fffe, 2, false).suffices());
        assert!(!abilities(1, 1, false).suffices());
    }

    #[test]
    fn a_lesser_cpu_is_found_out() {
        let boot = abilities(0x4a9, 16, true);
        assert!(boot.covers(&boot));
        assert!(abilities(0xffff_ffff, 32, true).covers(&boot));
        assert!(!abilities(0x4a1, 16, true).covers(&boot));
        assert!(!abilities(0x4a9, 8, true).covers(&boot));
        assert!(!abilities(0x4a9, 16, false).covers(&boot));
        // Features nobody uses do not count.
        assert!(boot.covers(&abilities(0x8000_04a9, 16, true)));
    }
}
