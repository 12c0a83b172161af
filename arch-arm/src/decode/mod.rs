//! What the CPU reported when a guest stopped, as typed values.
//!
//! Everything here is a pure function of register values: no system register is read or written, no memory is
//! touched. That is what lets the host tests (and fuzzers) run all of it. The code that touches hardware is in
//! [`crate::guest`], which produces the one input, [`RawExit`], and applies the outputs.
//!
//! Section numbers are those of the Arm Architecture Reference Manual for A-profile (DDI 0487), called "Arm ARM".

mod abort;
mod access;
mod esr;
mod features;
mod idfields;
mod idregs;
mod inject;
mod ipa;
mod mpidr;
mod psci;
mod smccc;
mod step;
mod sysreg;
mod sysreg32;

pub use abort::{DataAbort, Fault, FaultStatus, InsnAbort};
pub use access::{Access, AccessSize, Endian};
pub use esr::{
    Condition, CoprocAccess, CoprocMemory, CoprocPairAccess, Exit, RawExit, SErrorInfo,
    SysRegAccess, Vector, WaitKind,
};
pub use features::Features;
pub use idregs::{GuestIdRegs, HostIdRegs, IdConfig, IdReg};
pub use inject::{El1Entry, Injected, Injection, UnsupportedState};
pub use ipa::ipa_from_hpfar;
pub use mpidr::{mpidr_of, vcpu_of};
pub use psci::{AffinityLevel, AffinityState, PsciCall, PsciError, PsciResult};
pub use smccc::{SmcccCall, Uid, Workaround};
pub use step::{condition_passes, skip_instruction};
pub use sysreg::{PhysTimerReg, SgiReg, SysRegAction, SysRegView};
pub use sysreg32::{emulate_cp15, emulate_cp15_pair};

/// Bits of the program status as `SPSR_EL2` shows it (Arm ARM C5.2.19 and C5.2.20).
pub mod spsr {
    /// Negative flag.
    pub const N: u64 = 1 << 31;
    /// Zero flag.
    pub const Z: u64 = 1 << 30;
    /// Carry flag.
    pub const C: u64 = 1 << 29;
    /// Overflow flag.
    pub const V: u64 = 1 << 28;
    /// Tag checks are overridden (AArch64).
    pub const TCO: u64 = 1 << 25;
    /// Privileged access never (both states).
    pub const PAN: u64 = 1 << 22;
    /// User access override (AArch64).
    pub const UAO: u64 = 1 << 23;
    /// Software step.
    pub const SS: u64 = 1 << 21;
    /// Illegal execution state.
    pub const IL: u64 = 1 << 20;
    /// Speculative store bypass is safe (AArch64).
    pub const SSBS: u64 = 1 << 12;
    /// Branch type (AArch64).
    pub const BTYPE: u64 = 0b11 << 10;
    /// Mask of IRQ exceptions (both states).
    pub const IRQ_MASKED: u64 = 1 << 7;
    /// Mask of debug, SError, IRQ and FIQ exceptions (AArch64).
    pub const DAIF: u64 = 0b1111 << 6;
    /// Thumb instruction set (AArch32).
    pub const T: u64 = 1 << 5;
    /// Data is big-endian (AArch32).
    pub const E: u64 = 1 << 9;
    /// The state is AArch32.
    pub const AARCH32: u64 = 1 << 4;
    /// Execution state and mode.
    pub const MODE: u64 = 0b1_1111;
    /// AArch64 EL0.
    pub const EL0T: u64 = 0b0_0000;
    /// AArch64 EL1 on SP_EL0.
    pub const EL1T: u64 = 0b0_0100;
    /// AArch64 EL1 on SP_EL1.
    pub const EL1H: u64 = 0b0_0101;
    /// AArch32 User mode.
    pub const USR32: u64 = 0b1_0000;

    /// Whether the state is one of EL0, in either width.
    pub const fn is_el0(spsr: u64) -> bool {
        let mode = spsr & MODE;
        mode == EL0T || mode == USR32
    }
}
