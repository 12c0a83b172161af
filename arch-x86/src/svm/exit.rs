//! What the VMCB says of an exit, in common terms (AMD APM volume 2, appendix C "SVM Intercept Exit Codes").

use xen_core::GuestPhysAddr;

use super::features::Features;
use super::vmcb::Vmcb;
use crate::event::Event;
use crate::exit::{
    ControlRegisterAccess, ControlRegisterKind, Exit, PortAccess, Reason, SecondLevelFault,
};

/// Exit codes.
mod code {
    pub(super) const CR_READ: u64 = 0;
    pub(super) const CR_WRITE: u64 = 0x10;
    pub(super) const CR_WRITE_LAST: u64 = 0x1f;
    pub(super) const DR_READ: u64 = 0x20;
    pub(super) const DR_WRITE_LAST: u64 = 0x3f;
    pub(super) const EXCEPTION: u64 = 0x40;
    pub(super) const EXCEPTION_LAST: u64 = 0x5f;
    pub(super) const INTERRUPT: u64 = 0x60;
    pub(super) const NMI: u64 = 0x61;
    pub(super) const SMI: u64 = 0x62;
    pub(super) const INIT: u64 = 0x63;
    pub(super) const VIRTUAL_INTERRUPT: u64 = 0x64;
    pub(super) const READ_TSC: u64 = 0x6e;
    pub(super) const READ_COUNTER: u64 = 0x6f;
    pub(super) const CPUID: u64 = 0x72;
    pub(super) const RSM: u64 = 0x73;
    pub(super) const IRET: u64 = 0x74;
    pub(super) const INVD: u64 = 0x76;
    pub(super) const PAUSE: u64 = 0x77;
    pub(super) const HALT: u64 = 0x78;
    pub(super) const INVLPGA: u64 = 0x7a;
    pub(super) const PORT: u64 = 0x7b;
    pub(super) const MSR: u64 = 0x7c;
    pub(super) const TASK_SWITCH: u64 = 0x7d;
    pub(super) const SHUTDOWN: u64 = 0x7f;
    pub(super) const VMRUN: u64 = 0x80;
    pub(super) const VMMCALL: u64 = 0x81;
    pub(super) const VMLOAD: u64 = 0x82;
    pub(super) const SKINIT: u64 = 0x86;
    pub(super) const READ_TSCP: u64 = 0x87;
    pub(super) const WBINVD: u64 = 0x89;
    pub(super) const MONITOR: u64 = 0x8a;
    pub(super) const MWAIT_ARMED: u64 = 0x8c;
    pub(super) const XSETBV: u64 = 0x8d;
    pub(super) const RDPRU: u64 = 0x8e;
    pub(super) const INVLPGB: u64 = 0xa0;
    pub(super) const INVLPGB_ILLEGAL: u64 = 0xa1;
    pub(super) const MCOMMIT: u64 = 0xa3;
    pub(super) const TLBSYNC: u64 = 0xa4;
    pub(super) const NESTED_PAGE_FAULT: u64 = 0x400;
}

/// VMEXIT_INVALID, of which only the low half is the same everywhere.
const INVALID: u32 = u32::MAX;

/// EXITINFO1 of ports (APM volume 2, 15.10.2).
mod port {
    pub(super) const INPUT: u64 = 1;
    pub(super) const STRING: u64 = 1 << 2;
    pub(super) const REPEATED: u64 = 1 << 3;
    /// Size in bytes, one bit for each of 1, 2 and 4.
    pub(super) const SIZE_SHIFT: u32 = 4;
    pub(super) const NUMBER_SHIFT: u32 = 16;
}

/// EXITINFO1 of nested page faults (APM volume 2, 15.25.6).
mod fault {
    pub(super) const PRESENT: u64 = 1;
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const FETCH: u64 = 1 << 4;
    pub(super) const WALK: u64 = 1 << 33;
}

/// EXITINFO1 of writes of control registers, with decode assists: the instruction is a MOV.
const CR_IS_MOV: u64 = 1 << 63;

/// Exceptions that are an instruction's doing, which makes them again when it is executed again: #BP and #OF.
const SOFTWARE_EXCEPTIONS: [u8; 2] = [3, 4];
/// Exceptions that have an error code.
const WITH_ERROR_CODE: u32 = 1 << 8
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 14
    | 1 << 17
    | 1 << 21
    | 1 << 29
    | 1 << 30;

/// What the exit recorded in a VMCB means, on a CPU with these features.
pub fn decode(vmcb: &Vmcb, features: Features) -> Exit {
    let reason = reason(vmcb, features);
    Exit {
        reason,
        instruction_len: instruction_len(vmcb, reason, features),
        interrupted: interrupted(vmcb.control.exit_interrupt_info),
    }
}

fn reason(vmcb: &Vmcb, features: Features) -> Reason {
    let control = &vmcb.control;
    let number = control.exit_code;
    if number as u32 == INVALID {
        return Reason::EntryRefused { code: number };
    }
    match number {
        code::CR_WRITE..=code::CR_WRITE_LAST => control_register(
            (number - code::CR_WRITE) as u8,
            control.exit_info1,
            features,
        ),
        code::DR_READ..=code::DR_WRITE_LAST => Reason::DebugRegister,
        code::EXCEPTION..=code::EXCEPTION_LAST => {
            let vector = (number - code::EXCEPTION) as u8;
            let error_code =
                (WITH_ERROR_CODE >> vector & 1 != 0).then_some(control.exit_info1 as u32);
            Reason::Exception { vector, error_code }
        }
        code::INTERRUPT => Reason::Interrupt,
        code::NMI => Reason::Nmi,
        code::SMI | code::INIT => Reason::Platform,
        code::VIRTUAL_INTERRUPT => Reason::InterruptWindow,
        code::READ_TSC => Reason::ReadTsc,
        code::READ_TSCP => Reason::ReadTscp,
        code::READ_COUNTER => Reason::ReadCounter,
        code::CPUID => Reason::Cpuid,
        code::IRET => Reason::NmiWindow,
        code::INVD | code::WBINVD => Reason::FlushCaches,
        code::PAUSE => Reason::Pause,
        code::HALT => Reason::Halt,
        code::PORT => port_access(control.exit_info1),
        code::MSR if control.exit_info1 & 1 == 0 => Reason::ReadMsr,
        code::MSR => Reason::WriteMsr,
        code::TASK_SWITCH => Reason::TaskSwitch,
        code::SHUTDOWN => Reason::TripleFault,
        code::VMMCALL => Reason::Hypercall,
        code::MONITOR..=code::MWAIT_ARMED => Reason::MonitorWait,
        code::XSETBV => Reason::SetExtendedControl,
        code::RSM
        | code::INVLPGA
        | code::VMRUN
        | code::VMLOAD..=code::SKINIT
        | code::RDPRU
        | code::INVLPGB
        | code::INVLPGB_ILLEGAL
        | code::MCOMMIT
        | code::TLBSYNC => Reason::Virtualisation,
        code::NESTED_PAGE_FAULT => Reason::SecondLevelFault(SecondLevelFault {
            address: GuestPhysAddr(control.exit_info2),
            virtual_address: None,
            write: control.exit_info1 & fault::WRITE != 0,
            fetch: control.exit_info1 & fault::FETCH != 0,
            walk: control.exit_info1 & fault::WALK != 0,
            present: control.exit_info1 & fault::PRESENT != 0,
        }),
        // Reads of control registers, which are not asked for, are among these.
        number => Reason::Unknown { code: number },
    }
}

const _: () = assert!(code::CR_READ < code::CR_WRITE);

fn control_register(number: u8, info: u64, features: Features) -> Reason {
    let mov = features.contains(Features::DECODE_ASSISTS) && info & CR_IS_MOV != 0;
    Reason::ControlRegister(ControlRegisterAccess {
        number,
        kind: if mov {
            ControlRegisterKind::Write(info as u8 & 0xf)
        } else {
            ControlRegisterKind::Unknown
        },
    })
}

fn port_access(info: u64) -> Reason {
    let size = match info >> port::SIZE_SHIFT & 7 {
        size @ (1 | 2 | 4) => size as u8,
        // No CPU says this.
        _ => return Reason::Unknown { code: code::PORT },
    };
    Reason::Port(PortAccess {
        port: (info >> port::NUMBER_SHIFT) as u16,
        size,
        input: info & port::INPUT != 0,
        string: info & port::STRING != 0,
        repeated: info & port::REPEATED != 0,
    })
}

/// The length of the instruction, for exits that are an instruction's doing, if the CPU says it.
fn instruction_len(vmcb: &Vmcb, reason: Reason, features: Features) -> Option<u8> {
    let next = match reason {
        Reason::Port(_) => vmcb.control.exit_info2,
        Reason::Hypercall
        | Reason::Cpuid
        | Reason::Halt
        | Reason::Pause
        | Reason::ReadTsc
        | Reason::ReadTscp
        | Reason::ReadCounter
        | Reason::SetExtendedControl
        | Reason::FlushCaches
        | Reason::MonitorWait
        | Reason::Virtualisation
        | Reason::ReadMsr
        | Reason::WriteMsr
        | Reason::ControlRegister(_)
        | Reason::DebugRegister
            if features.contains(Features::NEXT_RIP) =>
        {
            vmcb.control.next_rip
        }
        _ => return None,
    };
    // Emulators leave it zero for some exits.
    if next == 0 {
        return None;
    }
    let len = next.wrapping_sub(vmcb.save.rip);
    (1..=15).contains(&len).then_some(len as u8)
}

fn interrupted(info: u64) -> Option<Event> {
    match Event::decode(info as u32, (info >> 32) as u32) {
        Some(Event::Exception { vector, .. }) if SOFTWARE_EXCEPTIONS.contains(&vector) => None,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromBytes, FromZeros};

    fn vmcb(code: u64, info1: u64, info2: u64) -> Vmcb {
        let mut vmcb = Vmcb::new_zeroed();
        vmcb.control.exit_code = code;
        vmcb.control.exit_info1 = info1;
        vmcb.control.exit_info2 = info2;
        vmcb.save.rip = 0x1000;
        vmcb
    }

    fn reason_of(code: u64, info1: u64, info2: u64) -> Reason {
        decode(&vmcb(code, info1, info2), Features::all()).reason
    }

    #[test]
    fn codes_are_those_of_the_manual() {
        for (code, reason) in [
            (0x60, Reason::Interrupt),
            (0x61, Reason::Nmi),
            (0x63, Reason::Platform),
            (0x64, Reason::InterruptWindow),
            (0x6e, Reason::ReadTsc),
            (0x6f, Reason::ReadCounter),
            (0x72, Reason::Cpuid),
            (0x73, Reason::Virtualisation),
            (0x74, Reason::NmiWindow),
            (0x76, Reason::FlushCaches),
            (0x77, Reason::Pause),
            (0x78, Reason::Halt),
            (0x7c, Reason::ReadMsr),
            (0x7d, Reason::TaskSwitch),
            (0x7f, Reason::TripleFault),
            (0x80, Reason::Virtualisation),
            (0x81, Reason::Hypercall),
            (0x85, Reason::Virtualisation),
            (0x87, Reason::ReadTscp),
            (0x89, Reason::FlushCaches),
            (0x8b, Reason::MonitorWait),
            (0x8d, Reason::SetExtendedControl),
            (0, Reason::Unknown { code: 0 }),
            (0x403, Reason::Unknown { code: 0x403 }),
            (u64::MAX, Reason::EntryRefused { code: u64::MAX }),
            (0xffff_ffff, Reason::EntryRefused { code: 0xffff_ffff }),
        ] {
            assert_eq!(reason_of(code, 0, 0), reason, "{code:#x}");
        }
        assert_eq!(reason_of(0x7c, 1, 0), Reason::WriteMsr);
        assert_eq!(
            reason_of(0x46, 7, 0),
            Reason::Exception {
                vector: 6,
                error_code: None
            }
        );
        assert_eq!(
            reason_of(0x51, 7, 0),
            Reason::Exception {
                vector: 17,
                error_code: Some(7)
            }
        );
    }

    #[test]
    fn ports_say_what_follows_them() {
        // OUT DX, AL to 0x3f8.
        let exit = decode(&vmcb(0x7b, 0x03f8_0210, 0x1001), Features::empty());
        let access = PortAccess {
            port: 0x3f8,
            size: 1,
            input: false,
            string: false,
            repeated: false,
        };
        assert_eq!(
            (exit.reason, exit.instruction_len),
            (Reason::Port(access), Some(1))
        );
        // REP INSD.
        let string = PortAccess {
            port: 0xcfc,
            size: 4,
            input: true,
            string: true,
            repeated: true,
        };
        assert_eq!(reason_of(0x7b, 0x0cfc_024d, 0), Reason::Port(string));
    }

    #[test]
    fn nested_page_faults() {
        let Reason::SecondLevelFault(fault) = reason_of(0x400, 1 << 32 | 6, 0xfee0_0020) else {
            panic!("it is one");
        };
        assert!(fault.write && !fault.present && !fault.fetch && !fault.walk);
        assert_eq!(fault.address, GuestPhysAddr(0xfee0_0020));
        let Reason::SecondLevelFault(walk) = reason_of(0x400, 1 << 33 | 0x15, 0x1000) else {
            panic!("it is one");
        };
        assert!(walk.walk && walk.present && walk.fetch);
    }

    #[test]
    fn assists_count_only_where_they_are() {
        let info = 1 << 63 | 5;
        let kind = |features| match decode(&vmcb(0x14, info, 0), features).reason {
            Reason::ControlRegister(access) => (access.number, access.kind),
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(Features::all()), (4, ControlRegisterKind::Write(5)));
        assert_eq!(kind(Features::NEXT_RIP), (4, ControlRegisterKind::Unknown));
        let mut cpuid = vmcb(0x72, 0, 0);
        cpuid.control.next_rip = 0x1002;
        assert_eq!(decode(&cpuid, Features::NEXT_RIP).instruction_len, Some(2));
        assert_eq!(decode(&cpuid, Features::empty()).instruction_len, None);
        for stale in [0, 0x1000, 0x1010, 0x0fff] {
            cpuid.control.next_rip = stale;
            assert_eq!(decode(&cpuid, Features::NEXT_RIP).instruction_len, None);
        }
    }

    #[test]
    fn an_instructions_own_exceptions_are_made_again_by_it() {
        let mut exit = vmcb(0x400, 0, 0);
        exit.control.exit_interrupt_info = 0x8000_0303;
        assert_eq!(decode(&exit, Features::all()).interrupted, None);
        exit.control.exit_interrupt_info = 6 << 32 | 0x8000_0b0e;
        let fault = Event::Exception {
            vector: 14,
            error_code: Some(6),
        };
        assert_eq!(decode(&exit, Features::all()).interrupted, Some(fault));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        // Whatever stands in a VMCB, it is decoded to something that holds what it promises.
        #[test]
        fn no_content_is_too_strange(
            bytes in prop::collection::vec(any::<u8>(), 4096),
            code in prop_oneof![0u64..0x410, any::<u64>()],
            features: u32,
        ) {
            let mut vmcb = Vmcb::read_from_bytes(&bytes).unwrap();
            vmcb.control.exit_code = code;
            let exit = decode(&vmcb, Features::from_bits_truncate(features));
            prop_assert!(exit.instruction_len.is_none_or(|len| (1..=15).contains(&len)));
            match exit.reason {
                Reason::Port(access) => prop_assert!([1, 2, 4].contains(&access.size)),
                Reason::Exception { vector, .. } => prop_assert!(vector < 32),
                Reason::ControlRegister(access) => prop_assert!(access.number < 16),
                _ => {}
            }
            prop_assert!(vmcb.fetched_bytes().len() <= 15);
        }
    }
}
