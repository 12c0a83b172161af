//! Extended state: which values XCR0 takes, and leaf 0xd (Intel SDM volume 1, chapter 13).

use bitflags::bitflags;

use super::leaves::CpuidResult;

bitflags! {
    /// Components of the extended state, as bits of XCR0 and IA32_XSS.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Component: u64 {
        /// x87.
        const X87 = 1;
        /// XMM registers.
        const SSE = 1 << 1;
        /// Upper halves of YMM registers.
        const AVX = 1 << 2;
        /// MPX bound registers.
        const BNDREGS = 1 << 3;
        /// MPX configuration.
        const BNDCSR = 1 << 4;
        /// AVX-512 mask registers.
        const OPMASK = 1 << 5;
        /// Upper halves of ZMM0 to ZMM15.
        const ZMM_HI256 = 1 << 6;
        /// ZMM16 to ZMM31.
        const HI16_ZMM = 1 << 7;
        /// PKRU.
        const PKRU = 1 << 9;
        /// AMX tile configuration.
        const TILECFG = 1 << 17;
        /// AMX tiles.
        const TILEDATA = 1 << 18;
    }
}

impl Component {
    /// AVX-512: all or nothing.
    pub const AVX512: Self = Self::OPMASK.union(Self::ZMM_HI256).union(Self::HI16_ZMM);
    const MPX: Self = Self::BNDREGS.union(Self::BNDCSR);
    const AMX: Self = Self::TILECFG.union(Self::TILEDATA);
}

/// Size in bytes of the legacy region and the header of an XSAVE area.
pub const BASE_SIZE: u32 = 576;

/// Whether XCR0 can have this value, of the bits `offered`.
pub fn is_valid(xcr0: u64, offered: u64) -> bool {
    let value = Component::from_bits_retain(xcr0);
    let together = |set: Component| !value.intersects(set) || value.contains(set);
    let needs = |set: Component, base: Component| !value.intersects(set) || value.contains(base);
    xcr0 & !offered == 0
        && value.contains(Component::X87)
        && needs(Component::AVX, Component::SSE)
        && needs(Component::AVX512, Component::AVX)
        && together(Component::AVX512)
        && together(Component::MPX)
        && together(Component::AMX)
}

/// Size of the standard-format area for these components, from leaf 0xd of a CPU.
pub fn standard_size(components: u64, leaves: &[CpuidResult]) -> u32 {
    extended(components, leaves)
        .map(|leaf| leaf.ebx.saturating_add(leaf.eax))
        .fold(BASE_SIZE, u32::max)
}

/// Size of the compacted area for these components, from leaf 0xd of a CPU.
pub fn compacted_size(components: u64, leaves: &[CpuidResult]) -> u32 {
    /// Sub-leaf of a component, ECX: it starts at a multiple of 64 bytes.
    const ALIGNED: u32 = 1 << 1;
    extended(components, leaves).fold(BASE_SIZE, |size, leaf| {
        let start = if leaf.ecx & ALIGNED != 0 {
            size.saturating_add(63) & !63
        } else {
            size
        };
        start.saturating_add(leaf.eax)
    })
}

fn extended(components: u64, leaves: &[CpuidResult]) -> impl Iterator<Item = &CpuidResult> {
    (0u32..)
        .zip(leaves)
        .filter(move |(n, _)| (2..63).contains(n) && components >> n & 1 != 0)
        .map(|(_, leaf)| leaf)
}
