//! Values of the registers that say what a guest may do by itself.
//!
//! Pure; `init_cpu` writes them. They are the same for all guests, so changing to another vCPU does not write them.

use bitflags::bitflags;

use crate::decode::Features;

bitflags! {
    /// `HCR_EL2` (Arm ARM D24.2.56), the bits Oxen uses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Hcr: u64 {
        /// Stage-2 translation is on.
        const VM = 1 << 0;
        /// Set/way invalidations also clean.
        const SWIO = 1 << 1;
        /// A stage-1 walk that hits device memory faults.
        const PTW = 1 << 2;
        /// Physical FIQs go to EL2, virtual ones are on.
        const FMO = 1 << 3;
        /// Physical IRQs go to EL2, virtual ones are on.
        const IMO = 1 << 4;
        /// Physical SErrors go to EL2, virtual ones are on.
        const AMO = 1 << 5;
        /// A virtual FIQ is pending (beside the GIC's).
        const VF = 1 << 6;
        /// A virtual IRQ is pending (beside the GIC's).
        const VI = 1 << 7;
        /// A virtual SError is pending; the CPU clears it when the guest takes it.
        const VSE = 1 << 8;
        /// Maintenance of one CPU's TLB is broadcast to the inner shareable domain, so it reaches the pCPU a vCPU ran
        /// on before.
        const FB = 1 << 9;
        /// Barriers reach at least the inner shareable domain, for the same reason.
        const BSU_INNER = 1 << 10;
        /// WFI traps.
        const TWI = 1 << 13;
        /// WFE traps. Worth its cost only while another vCPU waits for the pCPU.
        const TWE = 1 << 14;
        /// Reads of the identification group trap.
        const TID3 = 1 << 18;
        /// SMC traps.
        const TSC = 1 << 19;
        /// Registers of the implementation's own trap.
        const TIDCP = 1 << 20;
        /// The auxiliary control register traps.
        const TACR = 1 << 21;
        /// EL1 is AArch64.
        const RW = 1 << 31;
        /// Ordering region registers trap.
        const TLOR = 1 << 35;
        /// Error record registers trap.
        const TERR = 1 << 36;
        /// `GMID_EL1` (memory tagging) traps.
        const TID5 = 1 << 58;
    }
}

impl Hcr {
    /// What every guest of a host with these extensions runs with.
    ///
    /// Bits that stay 0 matter too: `API` and `APK` (pointer authentication traps), `ATA` (no tags), `EnSCXT`
    /// (software context numbers trap), `E2H`, `TGE`, `NV`.
    pub fn for_guest(host: &Features) -> Self {
        let base = Self::VM
            | Self::SWIO
            | Self::PTW
            | Self::FMO
            | Self::IMO
            | Self::AMO
            | Self::FB
            | Self::BSU_INNER
            | Self::TWI
            | Self::TID3
            | Self::TSC
            | Self::TIDCP
            | Self::TACR
            | Self::RW;
        base | when(host.lor, Self::TLOR) | when(host.ras, Self::TERR) | when(host.mte, Self::TID5)
    }
}

fn when(condition: bool, bits: Hcr) -> Hcr {
    if condition { bits } else { Hcr::empty() }
}

/// `CPTR_EL2` with `HCR_EL2.E2H` = 0 (Arm ARM D24.2.36).
pub mod cptr {
    use super::Features;

    /// Bits reserved as 1. They are also where SVE (`TZ`, bit 8) and SME (`TSM`, bit 12) trap when the CPU has them.
    const RES1: u64 = 0x33ff;
    /// Trace unit registers trap.
    pub const TTA: u64 = 1 << 20;
    /// Activity monitor registers trap.
    pub const TAM: u64 = 1 << 30;

    /// SVE, SME, trace and activity monitors trap; floating point does not, for guests and for EL2 (which moves it).
    pub const fn value(host: &Features) -> u64 {
        RES1 | if host.trace { TTA } else { 0 } | if host.amu { TAM } else { 0 }
    }
}

/// `MDCR_EL2` (Arm ARM D24.3.17).
pub mod mdcr {
    use super::Features;

    /// Writes of `PMCR_EL0` trap.
    pub const TPMCR: u64 = 1 << 5;
    /// Performance monitor registers trap.
    pub const TPM: u64 = 1 << 6;
    /// Debug registers trap.
    pub const TDA: u64 = 1 << 9;
    /// OS lock and debug power registers trap.
    pub const TDOSA: u64 = 1 << 10;
    /// Debug ROM registers trap.
    pub const TDRA: u64 = 1 << 11;
    /// Profiling control registers trap.
    pub const TPMS: u64 = 1 << 14;
    /// Trace filter registers trap.
    pub const TTRF: u64 = 1 << 19;

    /// All debug and all performance monitoring traps. `E2PB` and `E2TB` stay 0: the profiling and trace buffers are
    /// EL2's and their registers trap.
    ///
    /// `counters` is `PMCR_EL0.N` (0..=31) where there are performance monitors: leaving `HPMN` at 0 is not
    /// supported everywhere.
    pub const fn value(host: &Features, counters: u64) -> u64 {
        let monitors = if host.pmu {
            TPMCR | TPM | counters & 0x1f
        } else {
            0
        };
        TDA | TDOSA
            | TDRA
            | monitors
            | if host.spe { TPMS } else { 0 }
            | if host.trace_filter { TTRF } else { 0 }
    }
}

/// `CNTHCTL_EL2` with `HCR_EL2.E2H` = 0 (Arm ARM D24.12): EL1 may read the physical count (`EL1PCTEN`), its physical
/// timer traps (`EL1PCEN` = 0), no event stream is EL2's, no offset of the physical count.
pub const CNTHCTL: u64 = 1 << 0;

/// `HSTR_EL2`: AArch32's coprocessor registers of the implementation's own (CRn 15) trap.
pub const HSTR: u64 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_armv8_host_sets_no_later_bits() {
        let host = Features::default();
        assert_eq!(Hcr::for_guest(&host).bits() >> 32, 0);
        assert_eq!(cptr::value(&host), 0x33ff);
        assert_eq!(mdcr::value(&host, 6), 0xe00);
        assert_eq!(mdcr::value(&Features { pmu: true, ..host }, 6), 0xe66);
    }
}
