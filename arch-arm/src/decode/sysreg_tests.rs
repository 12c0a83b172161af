use super::*;
use crate::decode::{HostIdRegs, IdConfig};
use proptest::prelude::*;

fn ids(gicv3: bool) -> GuestIdRegs {
    let mut host = HostIdRegs::zero();
    host.set(IdReg::AA64ISAR0, 0x1_1120);
    GuestIdRegs::new(&host, IdConfig { gicv3, pa_range: 2 })
}

fn access(encoding: (u8, u8, u8, u8, u8), write: bool) -> SysRegAccess {
    let (op0, op1, crn, crm, op2) = encoding;
    SysRegAccess {
        op0,
        op1,
        crn,
        crm,
        op2,
        rt: 0,
        write,
    }
}

fn at_el1(encoding: (u8, u8, u8, u8, u8), write: bool) -> SysRegAction {
    let ids = ids(true);
    let view = SysRegView {
        ids: &ids,
        from_el0: false,
    };
    view.access(&access(encoding, write))
}

#[test]
fn identification_registers_read_sanitised_and_never_write() {
    let isar0 = (3, 0, 0, 6, 0);
    assert_eq!(at_el1(isar0, false), SysRegAction::Read(0x1_1120));
    assert_eq!(at_el1(isar0, true), SysRegAction::Undefined);
    // Not allocated yet.
    assert_eq!(at_el1((3, 0, 0, 7, 7), false), SysRegAction::Read(0));
    // REVIDR_EL1's neighbourhood is outside the group.
    assert_eq!(at_el1((3, 0, 0, 0, 6), false), SysRegAction::Undefined);
}

#[test]
fn sgi_needs_a_gicv3() {
    let sgi1r = (3, 0, 12, 11, 5);
    assert_eq!(at_el1(sgi1r, true), SysRegAction::Sgi(SgiReg::Sgi1));
    assert_eq!(at_el1(sgi1r, false), SysRegAction::Undefined);
    let ids = ids(false);
    let view = SysRegView {
        ids: &ids,
        from_el0: false,
    };
    assert_eq!(view.access(&access(sgi1r, true)), SysRegAction::Undefined);
    assert_eq!(
        view.access(&access((3, 0, 12, 12, 5), false)),
        SysRegAction::Undefined
    );
    assert_eq!(at_el1((3, 0, 12, 12, 5), false), SysRegAction::Read(7));
}

#[test]
fn what_linux_touches_when_it_starts_debugging() {
    let (oslar, osdlr, mdscr, oslsr) = (
        (2, 0, 1, 0, 4),
        (2, 0, 1, 3, 4),
        (2, 0, 0, 2, 2),
        (2, 0, 1, 1, 4),
    );
    assert_eq!(at_el1(oslar, true), SysRegAction::WriteIgnored);
    assert_eq!(at_el1(oslar, false), SysRegAction::Undefined);
    assert_eq!(at_el1(osdlr, true), SysRegAction::WriteIgnored);
    assert_eq!(at_el1(mdscr, false), SysRegAction::Read(0));
    assert_eq!(at_el1(mdscr, true), SysRegAction::WriteIgnored);
    assert_eq!(at_el1(oslsr, false), SysRegAction::Read(8));
    for n in 0..16 {
        for op2 in 4..8 {
            assert_eq!(at_el1((2, 0, 0, n, op2), true), SysRegAction::WriteIgnored);
        }
    }
}

#[test]
fn hidden_extensions_are_undefined() {
    for encoding in [
        (3, 3, 9, 12, 0), // PMCR_EL0
        (3, 0, 9, 14, 1), // PMINTENSET_EL1
        (3, 3, 9, 14, 0), // PMUSERENR_EL0
        (3, 0, 2, 1, 0),  // APIAKeyLo_EL1
        (3, 0, 5, 3, 0),  // ERRIDR_EL1
        (3, 0, 10, 4, 3), // LORC_EL1
        (3, 0, 15, 0, 0), // implementation defined
        (2, 1, 0, 0, 0),  // TRCTRACEIDR
        (3, 4, 1, 1, 0),  // HCR_EL2
        (1, 0, 7, 6, 2),  // DC ISW
    ] {
        assert_eq!(
            at_el1(encoding, false),
            SysRegAction::Undefined,
            "{encoding:?}"
        );
        assert_eq!(
            at_el1(encoding, true),
            SysRegAction::Undefined,
            "{encoding:?}"
        );
    }
}

proptest! {
    // From EL0 only the timer and the empty debug channel answer; a read is never answered by a write's action.
    #[test]
    fn el0_reaches_little(op0 in 0u8..4, op1 in 0u8..8, crn in 0u8..16, crm in 0u8..16, op2 in 0u8..8, write: bool) {
        let ids = ids(true);
        let access = access((op0, op1, crn, crm, op2), write);
        let el0 = SysRegView { ids: &ids, from_el0: true }.access(&access);
        let is_timer = matches!(el0, SysRegAction::PhysTimer { .. });
        prop_assert_eq!(is_timer, (op0, op1, crn, crm) == (3, 3, 14, 2) && op2 < 3);
        prop_assert!(is_timer || el0 == SysRegAction::Undefined || access.encoding() == (2, 3, 0, 1, 0));
        match (SysRegView { ids: &ids, from_el0: false }).access(&access) {
            SysRegAction::Read(_) => prop_assert!(!write),
            SysRegAction::WriteIgnored | SysRegAction::Sgi(_) => prop_assert!(write),
            SysRegAction::PhysTimer { write: w, .. } => prop_assert_eq!(w, write),
            SysRegAction::Undefined => {}
        }
    }
}
