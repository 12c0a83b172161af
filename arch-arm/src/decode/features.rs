//! What the host's CPUs have, as far as the hypervisor's own register values depend on it.

use super::idregs::{HostIdRegs, IdReg};

/// Architecture extensions of the host.
///
/// Control bits of an extension that is absent are reserved as 0 or the register is undefined, so the values for
/// `HCR_EL2` and its relatives ask here first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// EL0 can use AArch32.
    pub aarch32_el0: bool,
    /// Privileged access never (`PSTATE.PAN`).
    pub pan: bool,
    /// Speculative store bypass control (`PSTATE.SSBS`).
    pub ssbs: bool,
    /// Memory tagging (`PSTATE.TCO`).
    pub mte: bool,
    /// Error records (RAS extension).
    pub ras: bool,
    /// Scalable vectors.
    pub sve: bool,
    /// Scalable matrices.
    pub sme: bool,
    /// Activity monitors.
    pub amu: bool,
    /// Memory partitioning.
    pub mpam: bool,
    /// Limited ordering regions.
    pub lor: bool,
    /// Architected performance monitors.
    pub pmu: bool,
    /// Statistical profiling.
    pub spe: bool,
    /// Trace unit with system registers.
    pub trace: bool,
    /// Trace buffer.
    pub trace_buffer: bool,
    /// Trace filter controls.
    pub trace_filter: bool,
    /// Extended hypervisor configuration (`HCRX_EL2`).
    pub hcx: bool,
    /// Fine-grained traps, first set.
    pub fgt: bool,
    /// Fine-grained traps, second set.
    pub fgt2: bool,
    /// Traps of cache identification and other added groups (`HCR_EL2.TID4` and so on).
    pub evt: bool,
}

impl Features {
    /// The extensions these identification registers announce.
    pub const fn of(host: &HostIdRegs) -> Self {
        const fn nibble(host: &HostIdRegs, reg: IdReg, shift: u32) -> u64 {
            host.get(reg) >> shift & 0xf
        }
        const PFR0: IdReg = IdReg::AA64PFR0;
        const PFR1: IdReg = IdReg::AA64PFR1;
        const DFR0: IdReg = IdReg::AA64DFR0;
        const MMFR0: IdReg = IdReg::AA64MMFR0;
        const MMFR1: IdReg = IdReg::AA64MMFR1;
        const MMFR2: IdReg = IdReg::AA64MMFR2;
        let pmu = nibble(host, DFR0, 8);
        Self {
            aarch32_el0: nibble(host, PFR0, 0) == 2,
            pan: nibble(host, MMFR1, 20) != 0,
            ssbs: nibble(host, PFR1, 4) != 0,
            mte: nibble(host, PFR1, 8) >= 2,
            ras: nibble(host, PFR0, 28) != 0,
            sve: nibble(host, PFR0, 32) != 0,
            sme: nibble(host, PFR1, 24) != 0,
            amu: nibble(host, PFR0, 44) != 0,
            // Version 0.1 has a major number of 0.
            mpam: nibble(host, PFR0, 40) != 0 || nibble(host, PFR1, 16) != 0,
            lor: nibble(host, MMFR1, 16) != 0,
            // 0xf is a monitor of the implementation's own.
            pmu: pmu != 0 && pmu != 0xf,
            spe: nibble(host, DFR0, 32) != 0,
            trace: nibble(host, DFR0, 4) != 0,
            trace_buffer: nibble(host, DFR0, 44) != 0,
            trace_filter: nibble(host, DFR0, 40) != 0,
            hcx: nibble(host, MMFR1, 40) != 0,
            fgt: nibble(host, MMFR0, 56) != 0,
            fgt2: nibble(host, MMFR0, 56) >= 2,
            evt: nibble(host, MMFR2, 56) != 0,
        }
    }
}
