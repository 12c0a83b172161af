//! Trapped coprocessor accesses of AArch32: programs at EL0 under a 64-bit kernel, and 32-bit kernels.

use super::esr::{CoprocAccess, CoprocPairAccess};
use super::idregs::IdReg;
use super::sysreg::{PhysTimerReg, SgiReg, SysRegAction, SysRegView, phys_timer, zero};

/// What a trapped MCR or MRC of coprocessor 15 does. A read value is the register's low half.
///
/// The caller has looked at the instruction's condition.
pub const fn emulate_cp15(view: &SysRegView<'_>, access: &CoprocAccess) -> SysRegAction {
    let write = access.write;
    match (access.opc1, access.crn, access.crm, access.opc2) {
        (0, 14, 2, 0) => phys_timer(PhysTimerReg::Timer, write),
        (0, 14, 2, 1) => phys_timer(PhysTimerReg::Control, write),
        _ if view.from_el0 => SysRegAction::Undefined,
        // CRm 1, 2 and 3 hold AArch32's identification registers under the numbers AArch64 gives them; from 4 on the
        // group is reserved in AArch32 and reads as zero. The media registers (CRm 3, Op2 0 to 3) are read by VMRS.
        (0, 0, crm @ (1 | 2), op2) | (0, 0, crm @ 3, op2 @ 4..=7) => match IdReg::new(crm, op2) {
            Some(reg) if !write => SysRegAction::Read(view.ids.get(reg)),
            Some(_) | None => SysRegAction::Undefined,
        },
        (0, 0, 3..=7, _) if !write => SysRegAction::Read(0),
        // ACTLR and ACTLR2.
        (0, 1, 0, 1 | 3) => zero(write),
        (0, 12, 12, 5) => view.icc_sre(write),
        _ => SysRegAction::Undefined,
    }
}

/// What a trapped MCRR or MRRC of coprocessor 15 does. Values are of both registers together.
///
/// The caller has looked at the instruction's condition.
pub const fn emulate_cp15_pair(view: &SysRegView<'_>, access: &CoprocPairAccess) -> SysRegAction {
    let write = access.write;
    match (access.opc1, access.crm) {
        (2, 14) => phys_timer(PhysTimerReg::Compare, write),
        _ if view.from_el0 => SysRegAction::Undefined,
        (0, 12) => view.sgi(SgiReg::Sgi1, write),
        (1, 12) => view.sgi(SgiReg::Asgi1, write),
        (2, 12) => view.sgi(SgiReg::Sgi0, write),
        _ => SysRegAction::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Condition, GuestIdRegs, HostIdRegs, IdConfig};

    fn ids() -> GuestIdRegs {
        let mut host = HostIdRegs::zero();
        host.set(IdReg::ISAR0, 0x0210_1110);
        GuestIdRegs::new(
            &host,
            IdConfig {
                gicv3: true,
                pa_range: 0,
            },
        )
    }

    fn one(opc1: u8, crn: u8, crm: u8, opc2: u8, write: bool, from_el0: bool) -> SysRegAction {
        let access = CoprocAccess {
            opc1,
            crn,
            crm,
            opc2,
            rt: 0,
            write,
            condition: Condition::ALWAYS,
        };
        emulate_cp15(
            &SysRegView {
                ids: &ids(),
                from_el0,
            },
            &access,
        )
    }

    fn pair(opc1: u8, crm: u8, write: bool, from_el0: bool) -> SysRegAction {
        let access = CoprocPairAccess {
            opc1,
            crm,
            rt: 0,
            rt2: 1,
            write,
            condition: Condition::ALWAYS,
        };
        emulate_cp15_pair(
            &SysRegView {
                ids: &ids(),
                from_el0,
            },
            &access,
        )
    }

    #[test]
    fn the_timer_is_for_everybody() {
        for from_el0 in [false, true] {
            assert_eq!(
                one(0, 14, 2, 1, true, from_el0),
                SysRegAction::PhysTimer {
                    reg: PhysTimerReg::Control,
                    write: true
                }
            );
            assert_eq!(
                pair(2, 14, false, from_el0),
                SysRegAction::PhysTimer {
                    reg: PhysTimerReg::Compare,
                    write: false
                }
            );
        }
    }

    #[test]
    fn identification_is_for_kernels() {
        assert_eq!(
            one(0, 0, 2, 0, false, false),
            SysRegAction::Read(0x0210_1110)
        );
        assert_eq!(one(0, 0, 2, 0, false, true), SysRegAction::Undefined);
        assert_eq!(one(0, 0, 2, 0, true, false), SysRegAction::Undefined);
        // Not AArch64's registers, and not the media registers.
        assert_eq!(one(0, 0, 4, 0, false, false), SysRegAction::Read(0));
        assert_eq!(one(0, 0, 3, 0, false, false), SysRegAction::Read(0));
    }

    #[test]
    fn interrupts_by_pair() {
        assert_eq!(pair(0, 12, true, false), SysRegAction::Sgi(SgiReg::Sgi1));
        assert_eq!(pair(1, 12, true, false), SysRegAction::Sgi(SgiReg::Asgi1));
        assert_eq!(pair(0, 12, false, false), SysRegAction::Undefined);
        assert_eq!(pair(0, 12, true, true), SysRegAction::Undefined);
    }
}
