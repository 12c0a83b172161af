//! From the exception syndrome (`ESR_EL2`) to a typed exit.

use super::abort::{DataAbort, InsnAbort};

/// Which vector of the "lower exception level" groups was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Vector {
    /// A synchronous exception: the syndrome says which.
    Sync = 0,
    /// A physical interrupt.
    Irq = 1,
    /// A physical fast interrupt.
    Fiq = 2,
    /// A system error.
    SError = 3,
}

impl Vector {
    /// The vector with this number as the exit code in assembly reports it; numbers it never reports are taken for
    /// a synchronous exception, whose syndrome then decides.
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Irq,
            2 => Self::Fiq,
            3 => Self::SError,
            _ => Self::Sync,
        }
    }
}

/// The registers that say why a guest stopped, as they were read at the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExit {
    /// The vector that was taken.
    pub vector: Vector,
    /// `ESR_EL2`; meaningful for synchronous exceptions and system errors.
    pub esr: u64,
    /// `FAR_EL2`; meaningful for aborts.
    pub far: u64,
    /// `HPFAR_EL2`; meaningful for the aborts [`crate::decode::Fault::ipa`] names.
    pub hpfar: u64,
}

/// What a waiting instruction waits for (Arm ARM D24.2.40, "ISS encoding for an exception from a WF* instruction").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// WFI: an interrupt.
    Interrupt,
    /// WFE: an event.
    Event,
    /// WFIT: an interrupt or the time in a register.
    InterruptTimeout {
        /// The register that holds the time, where the CPU reports it.
        rn: Option<u8>,
    },
    /// WFET: an event or the time in a register.
    EventTimeout {
        /// The register that holds the time, where the CPU reports it.
        rn: Option<u8>,
    },
}

/// Condition of a trapped AArch32 instruction; AArch64 reports [`Condition::ALWAYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether `cond` is valid; if not, software reads the condition from the T32 IT state.
    pub valid: bool,
    /// The condition code, 0..=15.
    pub cond: u8,
}

impl Condition {
    /// Executed unconditionally.
    pub const ALWAYS: Self = Self {
        valid: true,
        cond: 0xe,
    };

    const fn from_iss(iss: u32) -> Self {
        Self {
            valid: bit(iss, 24),
            cond: field(iss, 20, 4) as u8,
        }
    }
}

/// A trapped MSR, MRS or system instruction of AArch64 (Arm ARM D24.2.40, exception class 0x18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysRegAccess {
    /// Op0, 0..=3.
    pub op0: u8,
    /// Op1, 0..=7.
    pub op1: u8,
    /// CRn, 0..=15.
    pub crn: u8,
    /// CRm, 0..=15.
    pub crm: u8,
    /// Op2, 0..=7.
    pub op2: u8,
    /// The general-purpose register, 0..=31; 31 is XZR.
    pub rt: u8,
    /// True for MSR and system instructions, false for MRS.
    pub write: bool,
}

impl SysRegAccess {
    /// The register's name as the five numbers of its encoding.
    pub const fn encoding(&self) -> (u8, u8, u8, u8, u8) {
        (self.op0, self.op1, self.crn, self.crm, self.op2)
    }
}

/// A trapped MCR or MRC (AArch32, 32 bits wide).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoprocAccess {
    /// Opc1, 0..=7.
    pub opc1: u8,
    /// CRn, 0..=15.
    pub crn: u8,
    /// CRm, 0..=15.
    pub crm: u8,
    /// Opc2, 0..=7.
    pub opc2: u8,
    /// The general-purpose register in its AArch64 view, 0..=31.
    pub rt: u8,
    /// True for MCR, false for MRC.
    pub write: bool,
    /// The instruction's condition.
    pub condition: Condition,
}

/// A trapped MCRR or MRRC (AArch32, 64 bits wide in two registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoprocPairAccess {
    /// Opc1, 0..=15.
    pub opc1: u8,
    /// CRm, 0..=15.
    pub crm: u8,
    /// The register of bits 31:0 in its AArch64 view, 0..=31.
    pub rt: u8,
    /// The register of bits 63:32 in its AArch64 view, 0..=31.
    pub rt2: u8,
    /// True for MCRR, false for MRRC.
    pub write: bool,
    /// The instruction's condition.
    pub condition: Condition,
}

/// A trapped LDC or STC of coprocessor 14 (AArch32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoprocMemory {
    /// True for LDC (the debug register is written), false for STC.
    pub write: bool,
    /// The instruction's condition.
    pub condition: Condition,
}

/// A system error's syndrome (Arm ARM D24.2.40, exception class 0x2f).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SErrorInfo {
    /// Whether the syndrome is in the implementation's own format.
    pub implementation_defined: bool,
    /// Whether the error was synchronised by an error synchronisation barrier implicit in the exception.
    pub implicit_esb: bool,
    /// Asynchronous error type, 0..=7; 0 without the RAS extension: uncontainable or not known.
    pub aet: u8,
    /// The error is an external abort of a kind the implementation defines.
    pub external: bool,
    /// Fault status code, 0 (not known) or 0x11 (asynchronous).
    pub status: u8,
    /// The whole syndrome field, for the log.
    pub iss: u32,
}

/// Why a guest stopped.
///
/// Every value of `ESR_EL2` has a variant; exception classes that no configuration of Oxen lets a guest cause, or
/// that later architectures add, are [`Exit::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A physical interrupt is pending.
    Irq,
    /// A physical fast interrupt is pending.
    Fiq,
    /// A system error was taken.
    SError(SErrorInfo),
    /// A waiting instruction was trapped (`HCR_EL2.TWI`, `TWE`).
    Wfx {
        /// What it waits for.
        kind: WaitKind,
        /// The instruction's condition (AArch32).
        condition: Condition,
    },
    /// HVC. The preferred return address is the next instruction.
    Hvc {
        /// The immediate.
        imm: u16,
    },
    /// SMC, trapped by `HCR_EL2.TSC`. The preferred return address is the SMC itself.
    Smc {
        /// The immediate; 0 from AArch32, which does not report it.
        imm: u16,
        /// The instruction's condition (AArch32).
        condition: Condition,
    },
    /// SVC routed to EL2; only with `HCR_EL2.TGE`, which guests do not run with.
    Svc {
        /// The immediate.
        imm: u16,
    },
    /// A system register access of AArch64.
    SysReg(SysRegAccess),
    /// MCR or MRC of coprocessor 15.
    Cp15(CoprocAccess),
    /// MCRR or MRRC of coprocessor 15.
    Cp15Pair(CoprocPairAccess),
    /// MCR or MRC of coprocessor 14 (debug, trace).
    Cp14(CoprocAccess),
    /// MRRC of coprocessor 14.
    Cp14Pair(CoprocPairAccess),
    /// LDC or STC of coprocessor 14.
    Cp14Memory(CoprocMemory),
    /// VMRS of a media identification register (AArch32, `HCR_EL2.TID0`, `TID3`).
    Cp10Id(CoprocAccess),
    /// A data abort.
    DataAbort(DataAbort),
    /// An instruction abort.
    InsnAbort(InsnAbort),
    /// A floating-point or SIMD access, trapped by `CPTR_EL2.TFP`.
    FpAccess,
    /// An SVE access, trapped by `CPTR_EL2.TZ`.
    SveAccess,
    /// An SME access, trapped by `CPTR_EL2.TSM`.
    SmeAccess,
    /// A pointer authentication instruction, trapped by `HCR_EL2.API`.
    PointerAuth,
    /// LD64B or one of the ST64B family, trapped by `HCRX_EL2`.
    Ls64,
    /// A memory copy or set instruction, trapped or out of sequence.
    MemoryCopy,
    /// ERET, trapped by `HCR_EL2.NV`.
    Eret,
    /// Execution in an illegal state (`PSTATE.IL`).
    IllegalState,
    /// The PC is misaligned.
    PcAlignment,
    /// The stack pointer is misaligned.
    SpAlignment,
    /// BRK (AArch64) or BKPT (AArch32) routed to EL2.
    Brk {
        /// The comment field.
        imm: u16,
    },
    /// A hardware breakpoint routed to EL2.
    Breakpoint,
    /// A software step completed and was routed to EL2.
    SoftStep,
    /// A hardware watchpoint routed to EL2.
    Watchpoint,
    /// Exception class 0: an instruction or register the CPU took for undefined in a way that is reported to EL2.
    Undefined,
    /// Any other exception class, 0..=63.
    Unknown(u8),
}

pub(super) const fn bit(value: u32, n: u32) -> bool {
    value >> n & 1 != 0
}

pub(super) const fn field(value: u32, low: u32, width: u32) -> u32 {
    value >> low & ((1 << width) - 1)
}

impl RawExit {
    /// The exit these registers describe.
    pub fn decode(&self) -> Exit {
        match self.vector {
            Vector::Irq => Exit::Irq,
            Vector::Fiq => Exit::Fiq,
            Vector::SError => Exit::SError(serror(self.esr as u32 & 0x01ff_ffff)),
            Vector::Sync => self.decode_sync(),
        }
    }

    /// Length in bytes of the instruction that was trapped: 4, or 2 for a 16-bit T32 instruction.
    pub const fn instruction_len(&self) -> u64 {
        if self.esr >> 25 & 1 != 0 { 4 } else { 2 }
    }

    fn decode_sync(&self) -> Exit {
        let class = (self.esr >> 26 & 0x3f) as u8;
        let iss = self.esr as u32 & 0x01ff_ffff;
        match class {
            0x00 => Exit::Undefined,
            0x01 => Exit::Wfx {
                kind: wait_kind(iss),
                condition: Condition::from_iss(iss),
            },
            0x03 => Exit::Cp15(coproc(iss)),
            0x04 => Exit::Cp15Pair(coproc_pair(iss)),
            0x05 => Exit::Cp14(coproc(iss)),
            0x06 => Exit::Cp14Memory(CoprocMemory {
                write: bit(iss, 0),
                condition: Condition::from_iss(iss),
            }),
            0x07 => Exit::FpAccess,
            0x08 => Exit::Cp10Id(coproc(iss)),
            0x09 => Exit::PointerAuth,
            0x0a => Exit::Ls64,
            0x0c => Exit::Cp14Pair(coproc_pair(iss)),
            0x0e => Exit::IllegalState,
            0x11 | 0x15 => Exit::Svc { imm: iss as u16 },
            0x12 | 0x16 => Exit::Hvc { imm: iss as u16 },
            0x13 => Exit::Smc {
                imm: 0,
                condition: smc_condition(iss),
            },
            0x17 => Exit::Smc {
                imm: iss as u16,
                condition: Condition::ALWAYS,
            },
            0x18 => Exit::SysReg(sysreg(iss)),
            0x19 => Exit::SveAccess,
            0x1a => Exit::Eret,
            0x1d => Exit::SmeAccess,
            0x20 => Exit::InsnAbort(InsnAbort::decode(iss, self.far, self.hpfar)),
            0x22 => Exit::PcAlignment,
            0x24 => Exit::DataAbort(DataAbort::decode(iss, self.far, self.hpfar)),
            0x26 => Exit::SpAlignment,
            0x27 => Exit::MemoryCopy,
            0x2f => Exit::SError(serror(iss)),
            0x30 => Exit::Breakpoint,
            0x32 => Exit::SoftStep,
            0x34 => Exit::Watchpoint,
            0x38 | 0x3c => Exit::Brk { imm: iss as u16 },
            // A raw number: later architectures define more classes.
            _ => Exit::Unknown(class),
        }
    }
}

const fn wait_kind(iss: u32) -> WaitKind {
    let rn = if bit(iss, 2) {
        Some(field(iss, 5, 5) as u8)
    } else {
        None
    };
    match field(iss, 0, 2) {
        0 => WaitKind::Interrupt,
        1 => WaitKind::Event,
        2 => WaitKind::InterruptTimeout { rn },
        _ => WaitKind::EventTimeout { rn },
    }
}

/// An SMC of AArch32 may be reported although its condition failed; bit 19 clear says that it did not.
const fn smc_condition(iss: u32) -> Condition {
    if bit(iss, 19) {
        Condition::from_iss(iss)
    } else {
        Condition::ALWAYS
    }
}

const fn sysreg(iss: u32) -> SysRegAccess {
    SysRegAccess {
        op0: field(iss, 20, 2) as u8,
        op2: field(iss, 17, 3) as u8,
        op1: field(iss, 14, 3) as u8,
        crn: field(iss, 10, 4) as u8,
        rt: field(iss, 5, 5) as u8,
        crm: field(iss, 1, 4) as u8,
        write: !bit(iss, 0),
    }
}

const fn coproc(iss: u32) -> CoprocAccess {
    CoprocAccess {
        opc2: field(iss, 17, 3) as u8,
        opc1: field(iss, 14, 3) as u8,
        crn: field(iss, 10, 4) as u8,
        rt: field(iss, 5, 5) as u8,
        crm: field(iss, 1, 4) as u8,
        write: !bit(iss, 0),
        condition: Condition::from_iss(iss),
    }
}

const fn coproc_pair(iss: u32) -> CoprocPairAccess {
    CoprocPairAccess {
        opc1: field(iss, 16, 4) as u8,
        rt2: field(iss, 10, 5) as u8,
        rt: field(iss, 5, 5) as u8,
        crm: field(iss, 1, 4) as u8,
        write: !bit(iss, 0),
        condition: Condition::from_iss(iss),
    }
}

const fn serror(iss: u32) -> SErrorInfo {
    SErrorInfo {
        implementation_defined: bit(iss, 24),
        implicit_esb: bit(iss, 13),
        aet: field(iss, 10, 3) as u8,
        external: bit(iss, 9),
        status: field(iss, 0, 6) as u8,
        iss,
    }
}

#[cfg(test)]
#[path = "esr_tests.rs"]
mod tests;
