//! What a trapped system register access of AArch64 does.
//!
//! Only accesses the hypervisor traps arrive here (see `guest::control` for the trap bits). The answer says what to
//! do; nothing is done here, so that a domain's own state (timer, interrupt controller) stays with its owner.

use super::esr::SysRegAccess;
use super::idregs::{GuestIdRegs, IdReg};

/// A register of the EL1 physical timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysTimerReg {
    /// `CNTP_CTL_EL0`, 32 bits: enable, mask and status.
    Control,
    /// `CNTP_CVAL_EL0`, 64 bits: the count at which it fires.
    Compare,
    /// `CNTP_TVAL_EL0`, 32 bits signed: the compare value relative to the count.
    Timer,
}

/// A register whose write sends software-generated interrupts (GICv3, Arm IHI 0069 12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiReg {
    /// `ICC_SGI1R_EL1`: group 1 of the own security state.
    Sgi1,
    /// `ICC_ASGI1R_EL1`: group 1 of the other security state.
    Asgi1,
    /// `ICC_SGI0R_EL1`: group 0.
    Sgi0,
}

/// What the access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysRegAction {
    /// The register reads as this: put it into Rt and go on with the next instruction.
    Read(u64),
    /// The write has no effect: go on with the next instruction.
    WriteIgnored,
    /// The access is undefined: deliver [`crate::decode::Injection::Undefined`].
    Undefined,
    /// The EL1 physical timer is read or written.
    PhysTimer {
        /// Which register.
        reg: PhysTimerReg,
        /// The value is in Rt; else the answer goes there.
        write: bool,
    },
    /// The value in Rt (or Rt and Rt2) asks for interrupts to be sent.
    Sgi(SgiReg),
}

/// What the answers depend on.
#[derive(Clone, Copy, Debug)]
pub struct SysRegView<'a> {
    /// The domain's identification registers.
    pub ids: &'a GuestIdRegs,
    /// The access came from EL0 (of either width).
    pub from_el0: bool,
}

impl SysRegView<'_> {
    /// Whether the domain has a GICv3 with system registers.
    pub const fn gicv3(&self) -> bool {
        self.ids.get(IdReg::AA64PFR0) >> 24 & 0xf != 0
    }

    /// What `access` does.
    pub const fn access(&self, access: &SysRegAccess) -> SysRegAction {
        match access.op0 {
            2 => self.debug(access),
            3 => self.system(access),
            // System instructions (caches, TLBs, address translation): none is trapped that a guest may use.
            _ => SysRegAction::Undefined,
        }
    }

    const fn system(&self, access: &SysRegAccess) -> SysRegAction {
        let write = access.write;
        match (access.op1, access.crn, access.crm, access.op2) {
            (3, 14, 2, 0) => phys_timer(PhysTimerReg::Timer, write),
            (3, 14, 2, 1) => phys_timer(PhysTimerReg::Control, write),
            (3, 14, 2, 2) => phys_timer(PhysTimerReg::Compare, write),
            // EL0 may use nothing else that is trapped to EL2.
            _ if self.from_el0 => SysRegAction::Undefined,
            (0, 0, crm, op2) => match IdReg::new(crm, op2) {
                Some(reg) if !write => SysRegAction::Read(self.ids.get(reg)),
                Some(_) | None => SysRegAction::Undefined,
            },
            // ACTLR_EL1: no auxiliary control is offered.
            (0, 1, 0, 1) => zero(write),
            (0, 12, 11, 5) => self.sgi(SgiReg::Sgi1, write),
            (0, 12, 11, 6) => self.sgi(SgiReg::Asgi1, write),
            (0, 12, 11, 7) => self.sgi(SgiReg::Sgi0, write),
            (0, 12, 12, 5) => self.icc_sre(write),
            // Performance monitors, error records, ordering regions, pointer authentication keys, registers of the
            // implementation's own: their fields in the identification registers say that they are not there.
            _ => SysRegAction::Undefined,
        }
    }

    /// Debug registers (Arm ARM D24.3). They exist and do nothing: a guest cannot debug itself by hardware.
    const fn debug(&self, access: &SysRegAccess) -> SysRegAction {
        let write = access.write;
        match (access.op1, access.crn, access.crm, access.op2) {
            // MDCCSR_EL0: the debug channel is empty; read-only, also from EL0.
            (3, 0, 1, 0) => read_only(write, 0),
            _ if self.from_el0 => SysRegAction::Undefined,
            // OSDTRRX_EL1, MDCCINT_EL1, MDSCR_EL1, OSDTRTX_EL1, OSECCR_EL1.
            (0, 0, 0 | 3, 2) | (0, 0, 2, 0 | 2) | (0, 0, 6, 2) => zero(write),
            // DBGBVR, DBGBCR, DBGWVR, DBGWCR, 16 of each.
            (0, 0, 0..=15, 4..=7) => zero(write),
            // MDRAR_EL1: no debug ROM.
            (0, 1, 0, 0) => read_only(write, 0),
            // OSLAR_EL1 is write-only; the lock is never taken.
            (0, 1, 0, 4) => {
                if write {
                    SysRegAction::WriteIgnored
                } else {
                    SysRegAction::Undefined
                }
            }
            // OSLSR_EL1: the OS lock is implemented (OSLM = 0b10) and open.
            (0, 1, 1, 4) => read_only(write, OSLSR_OSLM),
            // OSDLR_EL1, DBGPRCR_EL1.
            (0, 1, 3 | 4, 4) => zero(write),
            // DBGCLAIMSET_EL1, DBGCLAIMCLR_EL1.
            (0, 7, 8 | 9, 6) => zero(write),
            // DBGAUTHSTATUS_EL1: no debug is possible.
            (0, 7, 14, 6) => read_only(write, 0),
            // The debug data registers of EL0 and everything of the trace unit.
            _ => SysRegAction::Undefined,
        }
    }

    pub(super) const fn sgi(&self, reg: SgiReg, write: bool) -> SysRegAction {
        if write && self.gicv3() {
            SysRegAction::Sgi(reg)
        } else {
            SysRegAction::Undefined
        }
    }

    /// `ICC_SRE_EL1`: system registers are on and cannot be turned off, both bypasses are disabled.
    pub(super) const fn icc_sre(&self, write: bool) -> SysRegAction {
        if !self.gicv3() {
            SysRegAction::Undefined
        } else if write {
            SysRegAction::WriteIgnored
        } else {
            SysRegAction::Read(ICC_SRE)
        }
    }
}

/// `OSLSR_EL1.OSLM`, bit 3.
pub(super) const OSLSR_OSLM: u64 = 1 << 3;
/// `ICC_SRE_EL1`: SRE, DFB, DIB.
const ICC_SRE: u64 = 0b111;

pub(super) const fn phys_timer(reg: PhysTimerReg, write: bool) -> SysRegAction {
    SysRegAction::PhysTimer { reg, write }
}

/// A register that reads as zero and ignores writes.
pub(super) const fn zero(write: bool) -> SysRegAction {
    if write {
        SysRegAction::WriteIgnored
    } else {
        SysRegAction::Read(0)
    }
}

pub(super) const fn read_only(write: bool, value: u64) -> SysRegAction {
    if write {
        SysRegAction::Undefined
    } else {
        SysRegAction::Read(value)
    }
}

#[cfg(test)]
#[path = "sysreg_tests.rs"]
mod tests;
