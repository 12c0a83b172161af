use super::*;
use crate::decode::{Access, AccessSize, FaultStatus};
use proptest::prelude::*;
use xen_core::GuestPhysAddr;

fn sync(esr: u64) -> RawExit {
    RawExit {
        vector: Vector::Sync,
        esr,
        far: 0,
        hpfar: 0,
    }
}

#[test]
fn interrupts_do_not_look_at_the_syndrome() {
    for (vector, exit) in [(Vector::Irq, Exit::Irq), (Vector::Fiq, Exit::Fiq)] {
        let raw = RawExit {
            vector,
            esr: 0x5a00_0ea1,
            far: 0,
            hpfar: 0,
        };
        assert_eq!(raw.decode(), exit);
    }
}

#[test]
fn a_hypercall() {
    assert_eq!(sync(0x5a00_0ea1).decode(), Exit::Hvc { imm: 0xea1 });
    assert_eq!(sync(0x4a00_0ea1).decode(), Exit::Hvc { imm: 0xea1 });
    assert_eq!(
        sync(0x5e00_0000).decode(),
        Exit::Smc {
            imm: 0,
            condition: Condition::ALWAYS
        }
    );
}

#[test]
fn waits() {
    let kind = |esr| match sync(esr).decode() {
        Exit::Wfx { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(0x07e0_0000), WaitKind::Interrupt);
    assert_eq!(kind(0x07e0_0001), WaitKind::Event);
    assert_eq!(
        kind(0x07e0_00a6),
        WaitKind::InterruptTimeout { rn: Some(5) }
    );
    assert_eq!(kind(0x07e0_0003), WaitKind::EventTimeout { rn: None });
}

// MSR ICC_SGI1R_EL1, x2: S3_0_C12_C11_5.
#[test]
fn a_system_register_write() {
    let esr = 0x18 << 26 | 1 << 25 | 3 << 20 | 5 << 17 | 12 << 10 | 2 << 5 | 11 << 1;
    let Exit::SysReg(access) = sync(esr).decode() else {
        panic!()
    };
    assert_eq!(access.encoding(), (3, 0, 12, 11, 5));
    assert!(access.write);
    assert_eq!(access.rt, 2);
}

// MRS x1, CNTP_CTL_EL0: S3_3_C14_C2_1.
#[test]
fn a_system_register_read() {
    let esr = 0x18 << 26 | 1 << 25 | 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 1 << 5 | 2 << 1 | 1;
    let Exit::SysReg(access) = sync(esr).decode() else {
        panic!()
    };
    assert_eq!(access.encoding(), (3, 3, 14, 2, 1));
    assert!(!access.write);
}

// MRRC p15, 2, r3, r4, c14 (CNTP_CVAL), condition EQ.
#[test]
fn a_coprocessor_pair() {
    let esr = 4 << 26 | 1 << 25 | 1 << 24 | 2 << 16 | 4 << 10 | 3 << 5 | 14 << 1 | 1;
    let Exit::Cp15Pair(access) = sync(esr).decode() else {
        panic!()
    };
    assert_eq!(
        access,
        CoprocPairAccess {
            opc1: 2,
            crm: 14,
            rt: 3,
            rt2: 4,
            write: false,
            condition: Condition {
                valid: true,
                cond: 0
            },
        }
    );
}

// LDR w1, [x0] of a GIC register that stage 2 does not map, as QEMU's cortex-a57 reports it.
#[test]
fn an_emulated_load() {
    let raw = RawExit {
        vector: Vector::Sync,
        esr: 0x9381_0006,
        far: 0xffff_8000_0801_0008,
        hpfar: 0x8_0000,
    };
    let Exit::DataAbort(abort) = raw.decode() else {
        panic!()
    };
    assert_eq!(
        abort.access,
        Some(Access {
            size: AccessSize::Word,
            sign_extend: false,
            sixty_four: false,
            rt: 1,
            write: false,
            acquire_release: false,
        })
    );
    assert_eq!(abort.fault.status, FaultStatus::Translation { level: 2 });
    assert_eq!(abort.fault.ipa(), Some(GuestPhysAddr(0x0800_0008)));
    assert!(!abort.write && !abort.cache_maintenance && !abort.fault.s1ptw);
    assert_eq!(raw.instruction_len(), 4);
}

#[test]
fn a_store_without_description() {
    let raw = RawExit {
        esr: 0x9200_0047,
        ..sync(0)
    };
    let Exit::DataAbort(abort) = raw.decode() else {
        panic!()
    };
    assert_eq!(abort.access, None);
    assert!(abort.write);
}

#[test]
fn an_instruction_abort() {
    let raw = RawExit {
        esr: 0x8200_0086,
        far: 0x4000,
        hpfar: 0x40,
        ..sync(0)
    };
    let Exit::InsnAbort(abort) = raw.decode() else {
        panic!()
    };
    assert!(abort.fault.s1ptw);
    assert_eq!(abort.fault.ipa(), Some(GuestPhysAddr(0x4000)));
}

#[test]
fn system_errors_in_both_ways() {
    let by_vector = RawExit {
        vector: Vector::SError,
        ..sync(0xbe00_2211)
    }
    .decode();
    assert_eq!(by_vector, sync(0xbe00_2211).decode());
    let Exit::SError(info) = by_vector else {
        panic!()
    };
    assert!(info.implicit_esb && info.external && !info.implementation_defined);
    assert_eq!(info.status, 0x11);
}

#[test]
fn a_conditional_smc() {
    // CCKNOWNPASS clear: the instruction passed. Set: the condition decides.
    let Exit::Smc { condition, .. } = sync(0x13 << 26).decode() else {
        panic!()
    };
    assert_eq!(condition, Condition::ALWAYS);
    let Exit::Smc { condition, .. } = sync(0x13 << 26 | 1 << 24 | 1 << 20 | 1 << 19).decode()
    else {
        panic!()
    };
    assert_eq!(
        condition,
        Condition {
            valid: true,
            cond: 1
        }
    );
}

#[test]
fn unknown_classes_keep_their_number() {
    assert_eq!(sync(0x3f << 26).decode(), Exit::Unknown(0x3f));
    assert_eq!(sync(0).decode(), Exit::Undefined);
}

proptest! {
    #[test]
    fn every_value_decodes(vector in 0u32..5, esr: u64, far: u64, hpfar: u64) {
        let raw = RawExit { vector: Vector::from_raw(vector), esr, far, hpfar };
        if let Exit::DataAbort(a) = raw.decode() {
            prop_assert_eq!(a.fault.ipa().is_some(), a.fault.hpfar_valid() && (a.fault.s1ptw || a.fault.far.is_some()));
            prop_assert!(a.access.is_none_or(|x| x.rt < 32));
        }
    }
}
