//! What each model-specific register reads and accepts.
//!
//! The answer to RDMSR and WRMSR is a decision: a value that is known here, a register that the machine holds, an effect that
//! the machine has to bring about, or an exception. MSRs that are not named here do not exist: both instructions are #GP(0), for dom0
//! as well, unless the domain's toolstack asked for [`MsrContext::relaxed`]. Operating systems that look for optional MSRs
//! under a hypervisor use accesses that recover from that.

use x86_64::registers::control::Cr4Flags;

use super::cpuid::CpuidPolicy;
use super::cr::{Change, Control};
use super::feature::Feature;
use super::mtrr::{self, Mtrr};
use super::xen_leaves::HYPERCALL_PAGES;
use crate::emulate::exception::Exception;
use crate::emulate::walk::is_canonical;

pub mod number;
#[cfg(test)]
mod tests;

/// An MSR that the machine holds: in the control structure, in the vCPU's context, or in its local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub enum Held {
    Tsc,
    TscAdjust,
    TscAux,
    TscDeadline,
    ApicBase,
    SpecCtrl,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    DebugCtl,
    Pat,
    Star,
    LStar,
    CStar,
    SfMask,
    FsBase,
    GsBase,
    KernelGsBase,
    /// The address mask of debug register 0 to 3.
    DrAddressMask(u8),
}

/// What RDMSR does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrRead {
    /// It reads this.
    Value(u64),
    /// It reads what the machine holds.
    Held(Held),
    /// It reads a register of the local APIC, which is in x2APIC mode: MSR 0x800 plus this.
    X2apic(u8),
}

/// What WRMSR does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrWrite {
    /// Nothing more.
    Done,
    /// The machine is to hold this value, which was checked.
    Held(Held, u64),
    /// EFER changes.
    Efer(Change),
    /// It writes a register of the local APIC, which is in x2APIC mode and knows which values are legal.
    X2apic(u8, u64),
    /// The hypercall page is to be filled in at this guest frame; one that is not the domain's writable memory is a #GP(0).
    HypercallPage(u64),
    /// The command is to be written to the CPU's PRED_CMD, before the guest runs again.
    PredictionCommand(u64),
    /// The command is to be written to the CPU's FLUSH_CMD, before the guest runs again.
    FlushCommand(u64),
    /// The memory types of guest-physical addresses may have changed.
    MemoryTypes,
}

/// What decisions depend on, beside the MSRs' own values.
#[derive(Clone, Copy, Debug)]
pub struct MsrContext<'a> {
    /// What the guest can see of the CPU.
    pub policy: &'a CpuidPolicy,
    /// Its control registers.
    pub control: Control,
    /// Its APIC_BASE.
    pub apic_base: u64,
    /// The microcode's revision that the guest is to see.
    pub microcode_revision: u32,
    /// The bits of DEBUGCTL that the machine switches.
    pub debug_control: u64,
    /// MSRs that are not named here read as 0, and writes to them are lost.
    pub relaxed: bool,
}

/// A vCPU's MSRs that no hardware and no virtual device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msrs {
    /// Memory type ranges.
    pub mtrr: Mtrr,
    mcg_status: u64,
    misc_enable: u64,
    hwcr: u64,
}

bitflags::bitflags! {
    /// APIC_BASE.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct ApicBase: u64 {
        const BOOT_CPU = 1 << 8;
        const X2APIC = 1 << 10;
        const ENABLED = 1 << 11;
    }
}

/// MISC_ENABLE: fast string operations; the one bit that guests can change.
const FAST_STRINGS: u64 = 1;
/// MISC_ENABLE: branch trace store and precise event sampling are not available.
const NO_TRACE: u64 = 1 << 11 | 1 << 12;
/// HWCR: the TSC counts at the frequency of P-state 0.
const HWCR_TSC_FREQUENCY: u64 = 1 << 24;
/// HWCR: banks of the machine check architecture can be written. There are none.
const HWCR_MC_STATUS_WRITE: u64 = 1 << 18;
/// NB_CFG: the initial APIC ID has the number of the core in its low bits.
const NB_CFG_APIC_ID_LOW: u64 = 1 << 54;
/// NB_CFG: port 0xcf8 reaches extended PCI configuration registers.
const NB_CFG_EXTENDED_PCI: u64 = 1 << 46;
/// VM_CR: SVM is disabled, and that is locked.
const VM_CR_DISABLED: u64 = 1 << 3 | 1 << 4;
/// DE_CFG: LFENCE waits for all earlier instructions.
const DE_CFG_LFENCE: u64 = 1 << 1;
/// FEATURE_CONTROL: locked, with everything off.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// MCG_STATUS: RIPV, EIPV, MCIP.
const MCG_STATUS_BITS: u64 = 7;
/// PRED_CMD: IBPB.
const COMMAND_IBPB: u64 = 1;
/// PRED_CMD: SBPB.
const COMMAND_SBPB: u64 = 1 << 7;
/// FLUSH_CMD: the L1 data cache.
const COMMAND_L1D: u64 = 1;

impl Default for Msrs {
    fn default() -> Self {
        Self {
            mtrr: Mtrr::default(),
            mcg_status: 0,
            misc_enable: FAST_STRINGS | NO_TRACE,
            hwcr: HWCR_TSC_FREQUENCY,
        }
    }
}

impl MsrContext<'_> {
    fn has(&self, feature: Feature) -> bool {
        self.policy.has(feature)
    }
    fn any(&self, features: &[Feature]) -> bool {
        features.iter().any(|f| self.has(*f))
    }

    fn x2apic(&self) -> bool {
        ApicBase::from_bits_retain(self.apic_base).contains(ApicBase::ENABLED | ApicBase::X2APIC)
    }

    /// Which held register an MSR is, if the guest has it.
    fn held(&self, msr: u32) -> Option<Held> {
        let (held, exists) = match msr {
            number::TSC => (Held::Tsc, self.has(Feature::Tsc)),
            number::TSC_ADJUST => (Held::TscAdjust, self.has(Feature::TscAdjust)),
            number::TSC_DEADLINE => (Held::TscDeadline, self.has(Feature::TscDeadline)),
            number::TSC_AUX => (Held::TscAux, self.any(&[Feature::Rdtscp, Feature::Rdpid])),
            number::APIC_BASE => (Held::ApicBase, self.has(Feature::Apic)),
            number::SPEC_CTRL => (Held::SpecCtrl, self.spec_ctrl_bits() != 0),
            number::SYSENTER_CS => (Held::SysenterCs, self.has(Feature::Sep)),
            number::SYSENTER_ESP => (Held::SysenterEsp, self.has(Feature::Sep)),
            number::SYSENTER_EIP => (Held::SysenterEip, self.has(Feature::Sep)),
            number::DEBUG_CTL => (Held::DebugCtl, true),
            number::PAT => (Held::Pat, self.has(Feature::Pat)),
            number::STAR => (Held::Star, self.has(Feature::Syscall)),
            number::LSTAR => (Held::LStar, self.has(Feature::Lm)),
            number::CSTAR => (Held::CStar, self.has(Feature::Lm)),
            number::SF_MASK => (Held::SfMask, self.has(Feature::Lm)),
            number::FS_BASE => (Held::FsBase, self.has(Feature::Lm)),
            number::GS_BASE => (Held::GsBase, self.has(Feature::Lm)),
            number::KERNEL_GS_BASE => (Held::KernelGsBase, self.has(Feature::Lm)),
            number::DR0_ADDR_MASK => (Held::DrAddressMask(0), self.has(Feature::Dbext)),
            number::DR1_ADDR_MASK..=number::DR3_ADDR_MASK => (
                Held::DrAddressMask((msr - number::DR1_ADDR_MASK + 1) as u8),
                self.has(Feature::Dbext),
            ),
            _ => return None,
        };
        exists.then_some(held)
    }

    /// The bits of SPEC_CTRL that the guest can set; 0 if it does not have the register.
    pub fn spec_ctrl_bits(&self) -> u64 {
        let table: [(u64, &[Feature]); 6] = [
            (1, &[Feature::Ibrsb, Feature::Ibrs]),
            // Software may set STIBP wherever IBRS is, with or without effect.
            (1 << 1, &[Feature::Ibrsb, Feature::Stibp, Feature::AmdStibp]),
            (1 << 2, &[Feature::Ssbd, Feature::AmdSsbd]),
            (3 << 3, &[Feature::IpredCtrl]),
            (3 << 5, &[Feature::RrsbaCtrl]),
            (1 << 7, &[Feature::IntelPsfd, Feature::Psfd]),
        ];
        let bits = table.into_iter().filter(|(_, f)| self.any(f));
        let bits = bits.fold(0, |all, (bits, _)| all | bits);
        bits | if self.has(Feature::BhiCtrl) {
            1 << 10
        } else {
            0
        }
    }

    fn prediction_commands(&self) -> u64 {
        let mut bits = 0;
        if self.any(&[Feature::Ibrsb, Feature::Ibpb]) {
            bits |= COMMAND_IBPB;
        }
        if self.has(Feature::Sbpb) {
            bits |= COMMAND_SBPB;
        }
        bits
    }

    fn canonical(&self, address: u64) -> bool {
        let bits = if self.has(Feature::La57) || self.control.cr4.contains(Cr4Flags::L5_PAGING) {
            57
        } else {
            48
        };
        is_canonical(address, bits)
    }

    /// The value to hold for a write, or nothing for a #GP(0).
    fn check(&self, held: Held, value: u64) -> Option<u64> {
        let legal = match held {
            Held::Tsc | Held::TscAdjust | Held::TscDeadline | Held::Star => true,
            Held::TscAux | Held::SfMask => value >> 32 == 0,
            // Only the low half counts.
            Held::SysenterCs => return Some(value & 0xffff_ffff),
            Held::SysenterEsp
            | Held::SysenterEip
            | Held::LStar
            | Held::CStar
            | Held::FsBase
            | Held::GsBase
            | Held::KernelGsBase => self.canonical(value),
            Held::ApicBase => self.is_valid_apic_base(value),
            Held::SpecCtrl => value & !self.spec_ctrl_bits() == 0,
            Held::DebugCtl => value & !self.debug_control == 0,
            Held::Pat => mtrr::is_valid_pat(value),
            // The mask of the execution breakpoint's page offset, or of 32 bits.
            Held::DrAddressMask(0) | Held::DrAddressMask(_) => value >> 32 == 0,
        };
        legal.then_some(value)
    }

    /// Which values APIC_BASE takes: x2APIC mode is entered from xAPIC mode alone, and left by switching the APIC off (Intel SDM
    /// volume 3, 11.12.5).
    fn is_valid_apic_base(&self, value: u64) -> bool {
        let address = !0xfff & u64::MAX >> (64 - u32::from(self.policy.physical_bits()));
        let new = ApicBase::from_bits_retain(value);
        let old = ApicBase::from_bits_retain(self.apic_base);
        let modes = ApicBase::ENABLED | ApicBase::X2APIC;
        let known = value & !(address | ApicBase::all().bits()) == 0;
        let (from, to) = (old & modes, new & modes);
        known
            && (to != ApicBase::X2APIC)
            && (!to.contains(ApicBase::X2APIC)
                || (self.has(Feature::X2apic) && from.contains(ApicBase::ENABLED)))
            && !(from == modes && to == ApicBase::ENABLED)
    }
}

impl Msrs {
    /// RDMSR.
    ///
    /// Errors: #GP(0) if the guest does not have the MSR, or cannot read it.
    pub fn read(&self, msr: u32, context: &MsrContext<'_>) -> Result<MsrRead, Exception> {
        if let Some(held) = context.held(msr) {
            return Ok(MsrRead::Held(held));
        }
        if let (number::X2APIC_FIRST..=number::X2APIC_LAST, true) = (msr, context.x2apic()) {
            return Ok(MsrRead::X2apic((msr - number::X2APIC_FIRST) as u8));
        }
        self.known(msr, context)
            .map(MsrRead::Value)
            .ok_or(Exception::GP0)
    }

    /// The value of an MSR that is kept here, or is always the same.
    fn known(&self, msr: u32, context: &MsrContext<'_>) -> Option<u64> {
        let amd = context.policy.is_amd();
        if let Some(register) = mtrr::Register::of_msr(msr) {
            return context.has(Feature::Mtrr).then(|| self.mtrr.read(register));
        }
        let (value, exists) = match msr {
            number::P5_MC_ADDR | number::P5_MC_TYPE => (0, context.has(Feature::Mce)),
            number::PLATFORM_ID | number::EBL_CR_POWERON | number::PLATFORM_INFO => (0, !amd),
            number::FEATURE_CONTROL => (FEATURE_CONTROL_LOCKED, !amd),
            number::MICROCODE_REVISION => {
                // AMD has it in the low half.
                let shift = if amd { 0 } else { 32 };
                (u64::from(context.microcode_revision) << shift, true)
            }
            number::MTRR_CAP => (mtrr::CAPABILITIES, context.has(Feature::Mtrr)),
            number::ARCH_CAPABILITIES => (
                context.policy.arch_capabilities(),
                context.has(Feature::ArchCaps),
            ),
            // No banks, so that none of their MSRs exists.
            number::MCG_CAP => (0, context.has(Feature::Mca)),
            number::MCG_STATUS => (self.mcg_status, context.has(Feature::Mca)),
            number::MISC_ENABLE => (self.misc_enable, !amd),
            number::LAST_BRANCH_FROM..=number::LAST_INTERRUPT_TO => (0, true),
            number::XSS => (0, context.has(Feature::Xsaves)),
            number::HYPERCALL_PAGE => (0, true),
            number::EFER => (
                context.control.efer.bits(),
                context.any(&[Feature::Lm, Feature::Nx, Feature::Syscall]),
            ),
            number::SYSCFG
            | number::TOP_MEM
            | number::TOP_MEM2
            | number::INT_PENDING
            | number::MMIO_CONF_BASE => (0, amd),
            number::HWCR => (self.hwcr, amd),
            number::NB_CFG => (NB_CFG_APIC_ID_LOW, amd),
            number::VM_CR => (VM_CR_DISABLED, amd),
            number::DE_CFG => (DE_CFG_LFENCE, amd),
            _ => (0, context.relaxed && !is_named(msr)),
        };
        exists.then_some(value)
    }

    /// WRMSR.
    ///
    /// Errors: #GP(0) if the guest does not have the MSR, cannot write it, or not this value; nothing has changed then.
    pub fn write(
        &mut self,
        msr: u32,
        value: u64,
        context: &MsrContext<'_>,
    ) -> Result<MsrWrite, Exception> {
        if let Some(held) = context.held(msr) {
            let value = context.check(held, value).ok_or(Exception::GP0)?;
            return Ok(MsrWrite::Held(held, value));
        }
        if let (number::X2APIC_FIRST..=number::X2APIC_LAST, true) = (msr, context.x2apic()) {
            return Ok(MsrWrite::X2apic((msr - number::X2APIC_FIRST) as u8, value));
        }
        match msr {
            number::PRED_CMD => {
                return command(
                    value,
                    context.prediction_commands(),
                    MsrWrite::PredictionCommand,
                );
            }
            number::FLUSH_CMD => {
                let possible = if context.has(Feature::L1dFlush) {
                    COMMAND_L1D
                } else {
                    0
                };
                return command(value, possible, MsrWrite::FlushCommand);
            }
            _ => {}
        }
        let old = self.known(msr, context).ok_or(Exception::GP0)?;
        if context.relaxed && !is_named(msr) {
            return Ok(MsrWrite::Done);
        }
        if let Some(register) = mtrr::Register::of_msr(msr) {
            let bits = context.policy.physical_bits();
            return if self.mtrr.write(register, value, bits) {
                Ok(MsrWrite::MemoryTypes)
            } else {
                Err(Exception::GP0)
            };
        }
        // What of the value may differ from what there is.
        let (writable, kept): (u64, Option<&mut u64>) = match msr {
            number::EFER => {
                return context
                    .control
                    .write_efer(value, context.policy)
                    .map(MsrWrite::Efer);
            }
            number::HYPERCALL_PAGE => {
                return if value & 0xfff < u64::from(HYPERCALL_PAGES) {
                    Ok(MsrWrite::HypercallPage(value >> 12))
                } else {
                    Err(Exception::GP0)
                };
            }
            // Intel: software clears it before CPUID loads it.
            number::MICROCODE_REVISION if !context.policy.is_amd() => (u64::MAX, None),
            number::MCG_STATUS => (MCG_STATUS_BITS, Some(&mut self.mcg_status)),
            number::MISC_ENABLE => (FAST_STRINGS, Some(&mut self.misc_enable)),
            number::HWCR => (HWCR_MC_STATUS_WRITE, Some(&mut self.hwcr)),
            // Linux sets it without asking; it stays clear, which says that it had no effect.
            number::NB_CFG => (NB_CFG_EXTENDED_PCI, None),
            number::ARCH_CAPABILITIES
            | number::MTRR_CAP
            | number::MCG_CAP
            | number::PLATFORM_ID
            | number::FEATURE_CONTROL => return Err(Exception::GP0),
            _ => (0, None),
        };
        if (value ^ old) & !writable != 0 {
            return Err(Exception::GP0);
        }
        if let Some(kept) = kept {
            *kept = value;
        }
        Ok(MsrWrite::Done)
    }
}

/// Whether an MSR is one of those that guests can have, or is decided elsewhere.
const fn is_named(msr: u32) -> bool {
    // Xen's own, of which there is one, and those of the x2APIC are never anything else.
    matches!(msr, number::X2APIC_FIRST..=number::X2APIC_LAST | 0x4000_0000..=0x4000_00ff)
        || mtrr::Register::of_msr(msr).is_some()
        || matches!(
            msr,
            number::TSC
                | number::TSC_ADJUST
                | number::TSC_DEADLINE
                | number::TSC_AUX
                | number::APIC_BASE
                | number::SPEC_CTRL
                | number::PRED_CMD
                | number::FLUSH_CMD
                | number::SYSENTER_CS..=number::SYSENTER_EIP
                | number::DEBUG_CTL
                | number::PAT
                | number::STAR..=number::SF_MASK
                | number::FS_BASE..=number::KERNEL_GS_BASE
                | number::DR0_ADDR_MASK
                | number::DR1_ADDR_MASK..=number::DR3_ADDR_MASK
                | number::P5_MC_ADDR
                | number::P5_MC_TYPE
                | number::PLATFORM_ID
                | number::EBL_CR_POWERON
                | number::PLATFORM_INFO
                | number::FEATURE_CONTROL
                | number::MICROCODE_REVISION
                | number::MTRR_CAP
                | number::ARCH_CAPABILITIES
                | number::MCG_CAP
                | number::MCG_STATUS
                | number::MISC_ENABLE
                | number::LAST_BRANCH_FROM..=number::LAST_INTERRUPT_TO
                | number::XSS
                | number::EFER
                | number::SYSCFG
                | number::TOP_MEM
                | number::TOP_MEM2
                | number::INT_PENDING
                | number::MMIO_CONF_BASE
                | number::HWCR
                | number::NB_CFG
                | number::VM_CR
                | number::DE_CFG
        )
}

fn command(
    value: u64,
    possible: u64,
    make: impl FnOnce(u64) -> MsrWrite,
) -> Result<MsrWrite, Exception> {
    if possible == 0 || value & !possible != 0 {
        Err(Exception::GP0)
    } else if value == 0 {
        Ok(MsrWrite::Done)
    } else {
        Ok(make(value))
    }
}
