//! Making a guest take an exception to its own AArch64 EL1.
//!
//! The computation follows the pseudocode `AArch64.TakeException` (Arm ARM D1.3.3, J1.1): it turns the state at the
//! exit into the registers EL1 finds in its handler.

use super::features::Features;
use super::spsr;

/// The exception to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Undefined instruction, exception class 0.
    Undefined,
    /// Synchronous external abort of a load or store: nothing answers at the address.
    DataAbort {
        /// The virtual address of the access, if it is known.
        far: Option<u64>,
        /// The access was a write.
        write: bool,
    },
    /// Synchronous external abort of an instruction fetch.
    InsnAbort {
        /// The virtual address of the fetch, if it is known.
        far: Option<u64>,
    },
}

/// The guest's state that decides how an exception is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct El1Entry {
    /// Where EL1 is to return to: the instruction that trapped.
    pub pc: u64,
    /// The state at the trap, as `SPSR_EL2` shows it.
    pub cpsr: u64,
    /// `VBAR_EL1`.
    pub vbar_el1: u64,
    /// `SCTLR_EL1`.
    pub sctlr_el1: u64,
}

/// Registers as they are on entry to EL1's handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The PC: the handler.
    pub pc: u64,
    /// The state, for `SPSR_EL2`.
    pub cpsr: u64,
    /// `ESR_EL1`.
    pub esr_el1: u64,
    /// `ELR_EL1`.
    pub elr_el1: u64,
    /// `SPSR_EL1`.
    pub spsr_el1: u64,
    /// `FAR_EL1`; `None` leaves it as it is.
    pub far_el1: Option<u64>,
}

/// The guest's EL1 is in AArch32 (or its state is not one of EL0 and EL1): Oxen cannot deliver the exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedState;

/// Offsets of the synchronous vectors from the base, by the source of the exception (Arm ARM D1.3.1.5, table D1-6).
mod vector {
    pub(super) const CURRENT_SP0: u64 = 0x000;
    pub(super) const CURRENT_SPX: u64 = 0x200;
    pub(super) const LOWER_AARCH64: u64 = 0x400;
    pub(super) const LOWER_AARCH32: u64 = 0x600;
}

/// Bits of `SCTLR_EL1` (Arm ARM D24.2.162).
mod sctlr {
    /// PAN is kept on entry to EL1.
    pub(super) const SPAN: u64 = 1 << 23;
    /// SSBS is set on entry to EL1.
    pub(super) const DSSBS: u64 = 1 << 44;
}

const IL: u64 = 1 << 25;
const FNV: u64 = 1 << 10;
const WNR: u64 = 1 << 6;
const EXTERNAL: u64 = 0x10;

impl El1Entry {
    /// The registers with which EL1 takes `what`. `host` are the extensions of the CPU it runs on.
    pub fn inject(&self, what: Injection, host: &Features) -> Result<Injected, UnsupportedState> {
        let (offset, from_lower) = match self.cpsr & spsr::MODE {
            spsr::EL1T => (vector::CURRENT_SP0, false),
            spsr::EL1H => (vector::CURRENT_SPX, false),
            spsr::EL0T => (vector::LOWER_AARCH64, true),
            spsr::USR32 => (vector::LOWER_AARCH32, true),
            // Other numbers are AArch32's privileged modes, or none that ERET from EL2 would have accepted.
            _ => return Err(UnsupportedState),
        };
        let class = |lower: u64| if from_lower { lower } else { lower + 1 } << 26;
        let no_far = |far: Option<u64>| if far.is_none() { FNV } else { 0 };
        let (syndrome, far_el1) = match what {
            Injection::Undefined => (0, None),
            Injection::DataAbort { far, write } => {
                let wnr = if write { WNR } else { 0 };
                (class(0x24) | EXTERNAL | wnr | no_far(far), far)
            }
            Injection::InsnAbort { far } => (class(0x20) | EXTERNAL | no_far(far), far),
        };
        Ok(Injected {
            pc: (self.vbar_el1 & !0x7ff).wrapping_add(offset),
            cpsr: self.state_on_entry(host),
            // Always a 32-bit instruction for class 0 and for aborts without description.
            esr_el1: syndrome | IL,
            elr_el1: self.pc,
            spsr_el1: self.cpsr,
            far_el1,
        })
    }

    fn state_on_entry(&self, host: &Features) -> u64 {
        const FLAGS: u64 = spsr::N | spsr::Z | spsr::C | spsr::V;
        /// Data-independent timing is at the same place in both layouts.
        const DIT: u64 = 1 << 24;
        let mut state = self.cpsr & (FLAGS | DIT | spsr::PAN) | spsr::DAIF | spsr::EL1H;
        if host.pan && self.sctlr_el1 & sctlr::SPAN == 0 {
            state |= spsr::PAN;
        }
        if host.ssbs && self.sctlr_el1 & sctlr::DSSBS != 0 {
            state |= spsr::SSBS;
        }
        if host.mte {
            state |= spsr::TCO;
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VBAR: u64 = 0xffff_8000_0801_0800;
    const ABORT: Injection = Injection::DataAbort {
        far: Some(0x1234),
        write: true,
    };

    fn at(cpsr: u64) -> El1Entry {
        El1Entry {
            pc: 0x40_1000,
            cpsr,
            vbar_el1: VBAR,
            sctlr_el1: sctlr::SPAN,
        }
    }

    #[test]
    fn the_source_selects_vector_and_class() {
        for (mode, offset, class) in [
            (spsr::EL1T, 0, 0x25),
            (spsr::EL1H, 0x200, 0x25),
            (spsr::EL0T, 0x400, 0x24),
            (spsr::USR32, 0x600, 0x24),
        ] {
            let out = at(mode | spsr::Z)
                .inject(ABORT, &Features::default())
                .unwrap();
            assert_eq!(out.pc, VBAR + offset);
            assert_eq!(out.esr_el1, class << 26 | 1 << 25 | 1 << 6 | 0x10);
            assert_eq!(out.cpsr, spsr::EL1H | spsr::DAIF | spsr::Z);
            assert_eq!(
                (out.elr_el1, out.spsr_el1, out.far_el1),
                (0x40_1000, mode | spsr::Z, Some(0x1234))
            );
        }
    }

    #[test]
    fn undefined_leaves_the_fault_address() {
        let out = at(spsr::EL0T)
            .inject(Injection::Undefined, &Features::default())
            .unwrap();
        assert_eq!((out.esr_el1, out.far_el1), (1 << 25, None));
    }

    #[test]
    fn an_unknown_address_is_marked() {
        let out = at(spsr::EL1H)
            .inject(Injection::InsnAbort { far: None }, &Features::default())
            .unwrap();
        assert_eq!(out.esr_el1, 0x21 << 26 | 1 << 25 | 1 << 10 | 0x10);
        assert_eq!(out.far_el1, None);
    }

    #[test]
    fn pan_and_ssbs_follow_the_control_register() {
        let host = Features {
            pan: true,
            ssbs: true,
            ..Features::default()
        };
        let with = |sctlr_el1, cpsr| {
            El1Entry {
                sctlr_el1,
                ..at(cpsr)
            }
            .inject(Injection::Undefined, &host)
            .unwrap()
            .cpsr
        };
        let base = spsr::EL1H | spsr::DAIF;
        assert_eq!(with(0, spsr::EL0T), base | spsr::PAN);
        assert_eq!(with(sctlr::SPAN, spsr::EL0T), base);
        assert_eq!(with(sctlr::SPAN, spsr::EL1H | spsr::PAN), base | spsr::PAN);
        assert_eq!(
            with(sctlr::SPAN | sctlr::DSSBS, spsr::EL0T),
            base | spsr::SSBS
        );
    }

    #[test]
    fn aarch32_el1_is_refused() {
        for mode in [0b1_0011, 0b1_1111, 0b1_0111, 0b0_1001, 0b0_0001] {
            assert_eq!(
                at(mode).inject(Injection::Undefined, &Features::default()),
                Err(UnsupportedState)
            );
        }
    }

    proptest! {
        // Whatever the guest had, EL1 starts masked, in AArch64, on its own stack, with no leftover of an instruction.
        #[test]
        fn the_handler_starts_clean(cpsr in any::<u32>(), pc: u64, vbar_el1: u64, sctlr_el1: u64) {
            let entry = El1Entry { pc, cpsr: u64::from(cpsr), vbar_el1, sctlr_el1 };
            if let Ok(out) = entry.inject(ABORT, &Features::default()) {
                prop_assert_eq!(out.cpsr & (spsr::MODE | spsr::DAIF), spsr::EL1H | spsr::DAIF);
                prop_assert_eq!(out.cpsr & (spsr::SS | spsr::IL | spsr::UAO | spsr::BTYPE), 0);
                prop_assert_eq!(out.pc & !0x600 & 0x7ff, 0);
            }
        }
    }
}
