//! What a vCPU has in registers.

use core::mem::offset_of;

use crate::decode::{RawExit, Vector, spsr};

/// Floating-point and SIMD registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FpState {
    /// V0 to V31.
    pub v: [u128; 32],
    /// `FPCR`.
    pub fpcr: u64,
    /// `FPSR`.
    pub fpsr: u64,
}

/// Everything a vCPU has in registers.
///
/// The first group is current whenever the guest does not run. The others are current only between
/// [`super::save_state`] and [`super::load_state`]; in between they are in the CPU. `VTTBR_EL2` and the interrupt
/// controller's registers belong to stage 2 and the GIC.
///
/// Fields are named after the registers; `_EL1` is left out where nothing at EL2 has the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
#[expect(missing_docs, reason = "fields are named after the registers")]
pub struct Context {
    /// X0 to X30.
    pub x: [u64; 31],
    /// The PC: the trapped instruction, or after HVC the next.
    pub pc: u64,
    /// The state as `SPSR_EL2` shows it. A state that is not one of EL0 or EL1 is never entered:
    /// EL1 takes an illegal-state exception instead.
    pub cpsr: u64,
    /// `ESR_EL2` of the last exit.
    pub esr: u64,
    /// `FAR_EL2` of the last exit.
    pub far: u64,
    /// `HPFAR_EL2` of the last exit.
    pub hpfar: u64,

    pub sp_el0: u64,
    pub sp_el1: u64,
    pub elr_el1: u64,
    pub spsr_el1: u64,
    pub esr_el1: u64,
    pub far_el1: u64,
    pub afsr0: u64,
    pub afsr1: u64,
    pub vbar: u64,
    pub sctlr: u64,
    pub cpacr: u64,
    pub ttbr0: u64,
    pub ttbr1: u64,
    pub tcr: u64,
    pub mair: u64,
    pub amair: u64,
    pub contextidr: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
    pub tpidr_el1: u64,
    pub par: u64,
    pub csselr: u64,
    pub cntkctl: u64,

    /// `CNTV_CTL_EL0` of the virtual timer: bit 0 enable, bit 1 mask, bit 2 (read-only) the condition is met.
    pub cntv_ctl: u64,
    /// `CNTV_CVAL_EL0`: the virtual count at which it fires.
    pub cntv_cval: u64,
    /// `CNTVOFF_EL2`: what is subtracted from the physical count to make the virtual one.
    pub cntvoff: u64,
    /// `VMPIDR_EL2`: the guest's `MPIDR_EL1`.
    pub vmpidr: u64,

    /// Floating point.
    pub fp: FpState,
}

/// Offsets the assembly knows; pairs of registers are moved together, so neighbours must stay neighbours.
pub(super) mod offset {
    use super::{Context, FpState, offset_of};
    pub(in super::super) const X: usize = offset_of!(Context, x);
    pub(in super::super) const PC: usize = offset_of!(Context, pc);
    pub(in super::super) const CPSR: usize = offset_of!(Context, cpsr);
    pub(in super::super) const FAR: usize = offset_of!(Context, far);
    pub(in super::super) const FPCR: usize = offset_of!(FpState, fpcr);
    const _: () = assert!(X == 0 && PC == 31 * 8 && CPSR == PC + 8);
    const _: () = assert!(offset_of!(Context, esr) == CPSR + 8);
    const _: () = assert!(FAR == CPSR + 16 && offset_of!(Context, hpfar) == FAR + 8);
    const _: () = assert!(offset_of!(FpState, v) == 0 && FPCR == 32 * 16);
    const _: () = assert!(offset_of!(FpState, fpsr) == FPCR + 8);
}

/// `SCTLR_EL1` out of reset: its bits that were reserved as 1 in Armv8.0, everything else off.
const SCTLR_RESET: u64 = 0x30d0_0800;

/// Modes (`PSTATE.M`) a guest may be entered in, as a set of bits.
pub(super) mod modes {
    use super::spsr;
    pub(in super::super) const AARCH64: u32 = 1 << spsr::EL0T | 1 << spsr::EL1T | 1 << spsr::EL1H;
    pub(in super::super) const AARCH32_EL0: u32 = 1 << spsr::USR32;
}

/// Whether ERET from EL2 with `cpsr` leads into the guest, on a CPU that can enter the modes in `allowed`.
///
/// Anything else would be an illegal return, or would run the guest's code at EL2.
#[inline]
pub(super) const fn enterable(cpsr: u64, allowed: u32) -> bool {
    allowed >> (cpsr & spsr::MODE) & 1 != 0
}

/// What is entered in place of a state that is not [`enterable`]: EL1 with the illegal-state flag, so that EL1 takes
/// the exception for it. It is what EL1 gets from its own illegal return.
pub(super) const ILLEGAL: u64 = spsr::EL1H | spsr::DAIF | spsr::IL;

impl Context {
    /// A vCPU out of reset: all zero, in EL1 with interrupts masked and translation off, with this `VMPIDR_EL2` and
    /// `CNTVOFF_EL2`.
    pub fn reset(vmpidr: u64, cntvoff: u64) -> Self {
        Self {
            cpsr: spsr::EL1H | spsr::DAIF,
            sctlr: SCTLR_RESET,
            vmpidr,
            cntvoff,
            ..Self::default()
        }
    }

    /// The registers of the exit that `enter` returned as `vector`.
    pub const fn raw_exit(&self, vector: Vector) -> RawExit {
        RawExit {
            vector,
            esr: self.esr,
            far: self.far,
            hpfar: self.hpfar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{El1Entry, Features, Injection, skip_instruction};
    use proptest::prelude::*;

    const ALL: u32 = modes::AARCH64 | modes::AARCH32_EL0;

    #[test]
    fn out_of_reset() {
        let ctx = Context::reset(0x8000_0101, 7);
        assert_eq!(ctx.cpsr, 0x3c5);
        assert_eq!((ctx.vmpidr, ctx.cntvoff), (0x8000_0101, 7));
        assert_eq!(ctx.sctlr & 1, 0);
        assert_eq!(size_of::<Context>() % 64, 0);
        // LDP and STP of Q registers want a multiple of 16.
        assert_eq!(offset_of!(Context, fp) % 16, 0);
    }

    #[test]
    fn only_guests_modes_are_entered() {
        for mode in 0..32 {
            let aarch64 = matches!(mode, 0 | 4 | 5);
            assert_eq!(enterable(mode, modes::AARCH64), aarch64, "{mode:#x}");
            assert_eq!(enterable(mode | 0x3c0, ALL), aarch64 || mode == 0x10);
        }
        assert!(enterable(ILLEGAL, modes::AARCH64));
    }

    proptest! {
        // Going on and injecting exceptions leads from states that can be entered to others that can.
        #[test]
        fn states_stay_enterable(
            rest in any::<u32>(),
            mode in prop::sample::select(std::vec![spsr::EL0T, spsr::EL1T, spsr::EL1H, spsr::USR32]),
            steps in proptest::collection::vec(0u8..3, 0..8),
        ) {
            let mut cpsr = u64::from(rest) & !spsr::MODE | mode;
            for step in steps {
                cpsr = match step {
                    0 => skip_instruction(0, cpsr, 4).1,
                    1 => skip_instruction(0, cpsr, 2).1,
                    _ => {
                        let entry = El1Entry { pc: 0, cpsr, vbar_el1: 0, sctlr_el1: 0 };
                        entry.inject(Injection::Undefined, &Features::default()).unwrap().cpsr
                    }
                };
                prop_assert!(enterable(cpsr, ALL));
            }
        }
    }
}
