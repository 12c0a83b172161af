//! Layouts and codecs, for every version and machine.

use super::{DecodeError, Machine, Op, Payload, RuleKind, Shape, Span, Wire};
use crate::domctl::{self, *};
use crate::sched::ShutdownReason;
use crate::sysctl::{self, PhysCaps, SysctlCmd};
use crate::{Handle, versioned::Bitmap};
use proptest::prelude::*;
extern crate std;
use std::vec::Vec;

fn payload() -> impl Strategy<Value = Payload> {
    // Small bytes too, so that discriminants are often known ones, and zeros, so that padding is often valid.
    let byte = prop_oneof![Just(0u8), 0u8..48, any::<u8>()];
    proptest::collection::vec(byte, Payload::SIZE).prop_map(|bytes| {
        let mut payload = Payload::ZERO;
        payload.0.copy_from_slice(&bytes);
        payload
    })
}

/// Whether some byte of a field that must be zero is not: what alone makes decoding fail.
fn has_reserved(shape: &Shape, bytes: &[u8], version: u32, machine: Machine) -> bool {
    let Shape::Record { rules, .. } = shape else {
        return false;
    };
    let mut end = 0;
    let mut found = false;
    for rule in rules.iter().filter(|rule| rule.present(version, machine)) {
        let at = rule.shape.place(end, version, machine);
        end = at + rule.shape.size(version, machine);
        found |= match rule.kind {
            RuleKind::Zero => bytes[at..end].iter().any(|byte| *byte != 0),
            _ => has_reserved(rule.shape, &bytes[at..end], version, machine),
        };
    }
    found
}

/// Holds a payload type to its contract for some bytes.
macro_rules! check {
    ($payload:expr, $module:ident: $($ty:ident),* $(,)?) => {$(
        for interface in $module::Interface::ALL {
            for machine in Machine::ALL {
                let decoded = $module::$ty::decode(&$payload, interface, machine);
                let shape = <$module::$ty as Wire>::SHAPE;
                if has_reserved(&shape, &$payload.0, interface.number(), machine) {
                    prop_assert_eq!(decoded, Err(DecodeError::Reserved));
                    continue;
                }
                let value = decoded.expect("nothing but padding is refused");
                // What was decoded comes back, and bytes after the structure stay.
                let size = $module::$ty::size(interface, machine);
                let mut encoded = Payload([0xa5; Payload::SIZE]);
                value.encode(&mut encoded, interface, machine);
                prop_assert_eq!($module::$ty::decode(&encoded, interface, machine), Ok(value));
                prop_assert!(encoded.0[size..].iter().all(|byte| *byte == 0xa5));
                // In an array nothing of what was there before stays.
                let mut element = [0xa5; Payload::SIZE];
                prop_assert_eq!(value.write(&mut element, interface, machine), Some(size));
                prop_assert_eq!($module::$ty::read(&element, interface, machine), Ok(value));
                let mut again = [0x5a; Payload::SIZE];
                value.write(&mut again, interface, machine);
                prop_assert_eq!(&element[..size], &again[..size]);
                prop_assert_eq!(value.write(&mut again[..size - 1], interface, machine), None);
                let short = $module::$ty::read(&element[..size - 1], interface, machine);
                prop_assert_eq!(short, Err(DecodeError::Short));
            }
        }
    )*};
}

proptest! {
    #[test]
    fn any_bytes_decode_and_come_back(payload in payload()) {
        check! { payload, domctl:
            AddressSize, AssignDevice, BindPtIrq, CacheFlush, CpuPolicy, CreateDomain, DisableMigrate, DomainInfo,
            DomainState, GetDeviceGroup, GetMemList, GetPageFrameInfo3, GetVcpuInfo, GsiPermission, HvmContext,
            HvmContextPartial, HypercallInit, IomemPermission, IoportMapping, IoportPermission, IrqPermission, MaxMem,
            MaxVcpus, MemoryMapping, NodeAffinity, PagingMempool, SchedulerOp, SendTrigger, SetAccessRequired,
            SetDebugging, SetDomainHandle, SetLlcColors, SetTarget, SetTimeOffset, SetVirqHandler, ShadowOp, Subscribe,
            TscInfo, VcpuAffinity, VcpuContext, VcpuExtState, VcpuMsrs, VnumaInfo, VuartOp,
        }
        check! { payload, sysctl:
            AvailHeap, CpuFeatureset, CpuHotplug, CpuLevellingCaps, CpuTopoInfo, CpupoolOp, DebugKeys, GetCpuInfo,
            GetDomainInfoList, GetPmStat, NumaInfo, PageOffline, PciTopoInfo, PhysInfo, PmOp, ReadConsole, SchedId,
            SchedulerOp, SystemCpuPolicy,
        }
    }

    /// A domain made from the newest caller's bytes, told to an older one: fields it has agree, the others are absent.
    #[test]
    fn versions_differ_in_the_fields_they_lack(mut payload in payload()) {
        payload.0[74..76].fill(0);
        for machine in Machine::ALL {
            let newest = CreateDomain::decode(&payload, domctl::Interface::V18, machine).expect("no padding");
            prop_assert!(newest.grant_opts.is_some());
            for interface in domctl::Interface::ALL.into_iter().filter(|i| *i >= domctl::Interface::V12) {
                let mut older = Payload([0xff; Payload::SIZE]);
                newest.encode(&mut older, interface, machine);
                let older = CreateDomain::decode(&older, interface, machine).expect("no padding");
                let mut expected = newest;
                let v = interface.number();
                if v < 0x13 {
                    expected.vmtrace_size = 0;
                    expected.arch.x86.misc_flags = MiscFlags::empty();
                }
                if v < 0x14 {
                    expected.grant_opts = None;
                }
                if v < 0x15 {
                    expected.cpupool_id = 0;
                }
                if v < 0x16 {
                    expected.arch.arm.sve_vl = 0;
                }
                if v < 0x17 {
                    expected.altp2m = Altp2m { opts: Altp2mMode(0), nr: 0 };
                    expected.arch.arm.arm_sci_type = SciType::NONE;
                }
                if v < 0x18 {
                    expected.arch.arm.v8r_el1_msa = El1Msa::NONE;
                }
                prop_assert_eq!(older, expected);
            }
        }
    }

    #[test]
    fn arm_contexts_are_344_or_352_bytes(bytes in proptest::collection::vec(any::<u8>(), ARM_VCPU_CONTEXT_MAX)) {
        for interface in domctl::Interface::ALL {
            let size = if interface.number() < 0x14 { 344 } else { 352 };
            let value = ArmVcpuContext::read(&bytes, interface, Machine::Arm64).expect("enough bytes");
            let mut written = [0; ARM_VCPU_CONTEXT_MAX];
            prop_assert_eq!(value.write(&mut written, interface, Machine::Arm64), Some(size));
            prop_assert_eq!(ArmVcpuContext::read(&written, interface, Machine::Arm64), Ok(value));
            prop_assert_eq!(&written[8..264], &bytes[8..264]);
            let cpsr = match size {
                344 => u64::from(u32::from_le_bytes(bytes[264..268].try_into().unwrap())),
                _ => u64::from_le_bytes(bytes[264..272].try_into().unwrap()),
            };
            prop_assert_eq!(value.user_regs.cpsr, Psr(cpsr));
        }
    }

    #[test]
    fn interfaces_are_told_by_their_number(version in any::<u32>(), near in 0u32..0x20, cmd in 0u32..100) {
        for version in [version, near] {
            let served = [0xf, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18].contains(&version);
            let stable = cmd == DomctlCmd::GET_DOMAIN_STATE.0;
            let interface = domctl::interface(DomctlCmd(cmd), version);
            prop_assert_eq!(interface.is_some(), if stable { version == 0 } else { served });
            prop_assert_eq!(interface.map_or(version, domctl::Interface::number), version);
            let served = [0x10, 0x13, 0x14, 0x15, 0x16].contains(&version);
            prop_assert_eq!(sysctl::Interface::of(version).is_some(), served);
        }
    }
}

/// Bytes that a toolstack of 4.14 for x86 sends, put together by hand.
#[test]
fn a_domain_of_4_14() {
    let mut payload = Payload::ZERO;
    payload.0[4] = 0x55;
    payload.0[20] = 0x23;
    payload.0[28] = 2;
    payload.0[32..36].copy_from_slice(&1023u32.to_le_bytes());
    payload.0[36..40].copy_from_slice(&(-1i32).to_le_bytes());
    payload.0[40..44].copy_from_slice(&1024u32.to_le_bytes());
    payload.0[44] = 1;
    let made = CreateDomain::decode(&payload, domctl::Interface::V12, Machine::X86_64);
    let made = made.expect("no padding");
    assert_eq!(made.handle[0], 0x55);
    assert_eq!(made.flags, CdFlags::HVM | CdFlags::HAP | CdFlags::IOMMU);
    assert_eq!((made.max_vcpus, made.max_evtchn_port), (2, 1023));
    assert_eq!(
        (made.max_grant_frames, made.max_maptrack_frames),
        (-1, 1024)
    );
    assert_eq!((made.grant_opts, made.cpupool_id), (None, 0));
    assert_eq!(made.arch.x86.emulation_flags, EmulationFlags::LAPIC);
    // The same bytes of a caller of 4.20 say something else.
    let made = CreateDomain::decode(&payload, domctl::Interface::V17, Machine::X86_64);
    let made = made.expect("no padding");
    assert_eq!(made.grant_opts, Some(GrantOpts(1)));
    assert_eq!(made.arch.x86.emulation_flags, EmulationFlags::empty());
}

#[test]
fn padding_counts_from_the_version_that_names_it() {
    let mut payload = Payload::ZERO;
    payload.0[..8].copy_from_slice(&[9, 1, 0, 0, 0, 1, 0, 0]);
    let of = |interface| IrqPermission::decode(&payload, interface, Machine::Arm64);
    let old = of(domctl::Interface::V13).expect("two bytes, no padding");
    assert_eq!((old.pirq, old.allow_access), (PirqNumber(9), 1));
    assert_eq!(of(domctl::Interface::V14), Err(DecodeError::Reserved));
    payload.0[5] = 0;
    let new = IrqPermission::decode(&payload, domctl::Interface::V14, Machine::Arm64);
    assert_eq!(new.map(|irq| irq.pirq), Ok(PirqNumber(0x109)));
    // A number too large for the caller loses its upper bits.
    let mut encoded = Payload::ZERO;
    IrqPermission {
        pirq: PirqNumber(0x109),
        allow_access: 1,
    }
    .encode(&mut encoded, domctl::Interface::V13, Machine::Arm64);
    assert_eq!(encoded.0[..3], [9, 1, 0]);

    let mut payload = Payload::ZERO;
    payload.0[74] = 1;
    let of = |interface, machine| CreateDomain::decode(&payload, interface, machine).is_ok();
    assert!(
        of(domctl::Interface::V17, Machine::Arm64) && of(domctl::Interface::V18, Machine::X86_64)
    );
    assert!(!of(domctl::Interface::V18, Machine::Arm64));
}

#[test]
fn the_list_of_domains_has_the_stride_of_the_caller() {
    let of = |version, machine| {
        let interface = sysctl::Interface::of(version).expect("served");
        DomainInfo::size(interface.domctl(), machine)
    };
    for (version, x86, arm) in [
        (0x13, 104, 112),
        (0x14, 112, 120),
        (0x15, 112, 120),
        (0x16, 112, 120),
    ] {
        assert_eq!(
            (of(version, Machine::X86_64), of(version, Machine::Arm64)),
            (x86, arm)
        );
    }
}

#[test]
fn flags_are_known_since_their_version() {
    let known: Vec<_> = domctl::Interface::ALL[2..]
        .iter()
        .map(|i| CdFlags::known(*i).bits())
        .collect();
    assert_eq!(known, [0x3f, 0x7f, 0xff, 0xff, 0xff, 0x1ff, 0x1ff]);
    let known: Vec<_> = sysctl::Interface::ALL
        .iter()
        .map(|i| PhysCaps::known(*i).bits())
        .collect();
    assert_eq!(known, [1, 0x7f, 0x3ff, 0x3ff, 0x3ff]);
}

#[test]
fn an_operation_is_found_where_it_exists() {
    use domctl::Interface as I;
    let there = |cmd, interface, machine| domctl::lookup(cmd, interface, machine).is_some();
    let (x86, arm) = (Machine::X86_64, Machine::Arm64);
    for machine in Machine::ALL {
        assert!(there(DomctlCmd::CREATEDOMAIN, I::V12, machine));
        assert!(!there(DomctlCmd::CREATEDOMAIN, I::V0F, machine));
        assert!(!there(DomctlCmd::CREATEDOMAIN, I::Stable, machine));
        assert!(there(DomctlCmd::GETMEMLIST, I::V0F, machine));
        assert!(!there(DomctlCmd::GETMEMLIST, I::V12, machine));
        assert!(there(DomctlCmd::GET_DOMAIN_STATE, I::Stable, machine));
        assert!(!there(DomctlCmd::GET_DOMAIN_STATE, I::V18, machine));
        assert!(there(DomctlCmd::DISABLE_MIGRATE, I::V12, machine));
        assert!(!there(DomctlCmd::DISABLE_MIGRATE, I::V13, machine));
        assert!(!there(DomctlCmd::SET_PAGING_MEMPOOL_SIZE, I::V14, machine));
        assert!(there(DomctlCmd::SET_PAGING_MEMPOOL_SIZE, I::V15, machine));
        assert!(!there(DomctlCmd::SOFT_RESET_CONT, I::V17, machine));
        assert!(
            !there(DomctlCmd(30), I::V17, machine) && !there(DomctlCmd(u32::MAX), I::V17, machine)
        );
    }
    assert!(there(DomctlCmd::SHADOW_OP, I::V18, x86) && there(DomctlCmd::SHADOW_OP, I::V14, arm));
    assert!(!there(DomctlCmd::SHADOW_OP, I::V15, arm));
    assert!(
        there(DomctlCmd::IOPORT_PERMISSION, I::V17, x86)
            && !there(DomctlCmd::IOPORT_PERMISSION, I::V17, arm)
    );
    assert!(!there(DomctlCmd::VUART_OP, I::V17, x86) && there(DomctlCmd::VUART_OP, I::V17, arm));
    let sysctl = |cmd, version| {
        sysctl::lookup(cmd, sysctl::Interface::of(version).expect("served"), x86).is_some()
    };
    assert!(sysctl(SysctlCmd::SCHED_ID, 0x10) && !sysctl(SysctlCmd::PHYSINFO, 0x10));
    assert!(sysctl(SysctlCmd::PHYSINFO, 0x16) && !sysctl(SysctlCmd::TMEM_OP, 0x13));
    // What callers of 4.10 are served, all of it.
    let of_4_10: Vec<_> = domctl::TABLE
        .iter()
        .filter(|op| op.x86.contains(0xf))
        .map(|op| op.number)
        .collect();
    assert_eq!(of_4_10, [3, 4, 5, 6, 16]);
}

#[test]
fn the_tables_agree_with_themselves() {
    for op in domctl::TABLE.iter().chain(sysctl::TABLE) {
        assert!(
            op.is_reserved() == (op.x86 == Span::NONE && op.arm == Span::NONE),
            "{}",
            op.name
        );
        assert!(!op.out || op.shape.is_some(), "{}", op.name);
        if let Some(shape) = op.shape {
            for machine in Machine::ALL {
                assert!(
                    (1..=128).contains(&shape.size(0x18, machine)),
                    "{}",
                    op.name
                );
            }
        }
    }
    let reserved = |table: &[Op]| -> Vec<u32> {
        let reserved = table.iter().filter(|op| op.is_reserved());
        reserved.map(|op| op.number).collect()
    };
    assert_eq!(
        reserved(domctl::TABLE),
        [7, 8, 23, 26, 41, 44, 49, 51, 52, 53, 70, 80]
    );
    assert_eq!(reserved(sysctl::TABLE), [24, 28]);
    assert_eq!(domctl::TABLE.len(), DomctlCmd::NAMED.len());
}

#[test]
fn offsets_are_found_by_name() {
    let shape = const { &CreateDomain::SHAPE };
    let of = |name, version, machine| shape.offset(name, version, machine);
    assert_eq!(of("arch.gic_version", 0x12, Machine::Arm64), Some(44));
    assert_eq!(of("arch.nr_spis", 0x17, Machine::Arm64), Some(64));
    assert_eq!(of("arch.misc_flags", 0x13, Machine::X86_64), Some(52));
    assert_eq!(of("arch.misc_flags", 0x12, Machine::X86_64), None);
    assert_eq!(of("cpupool_id", 0x15, Machine::X86_64), Some(52));
    assert_eq!(of("cpupool_id", 0x14, Machine::X86_64), None);
    assert_eq!(of("arch.gic", 0x17, Machine::Arm64), None);
}

#[test]
fn a_shutdown_is_told_with_its_reason() {
    let flags = DomainInfoFlags::HVM_GUEST.with_shutdown(ShutdownReason::CRASH);
    assert_eq!(flags.bits(), 0x3_0006);
    assert_eq!(flags.shutdown(), Some(ShutdownReason::CRASH));
    assert_eq!(DomainInfoFlags::PAUSED.shutdown(), None);
    let again = flags.with_shutdown(ShutdownReason(0x101));
    assert_eq!(again.shutdown(), Some(ShutdownReason(1)));
}

#[test]
fn unions_are_what_their_tags_say() {
    let op = domctl::SchedulerOp {
        sched_id: Scheduler::CREDIT2,
        cmd: SchedulerCmd::GET_INFO,
        params: SchedParams::Credit(SchedCredit {
            weight: 256,
            cap: 50,
        }),
    };
    let mut payload = Payload::ZERO;
    op.encode(&mut payload, domctl::Interface::V17, Machine::Arm64);
    assert_eq!(payload.0[..12], [6, 0, 0, 0, 1, 0, 0, 0, 0, 1, 50, 0]);
    payload.0[4] = SchedulerCmd::GET_VCPU_INFO.0 as u8;
    let vcpus = domctl::SchedulerOp::decode(&payload, domctl::Interface::V17, Machine::Arm64);
    let vcpus = vcpus.map(|op| op.params);
    let expected = SchedVcpus {
        vcpus: Handle(50 << 16 | 256),
        nr_vcpus: 0,
    };
    assert_eq!(vcpus, Ok(SchedParams::Vcpus(expected)));

    let vcpu = SchedVcpu {
        params: SchedParams::Rtds(SchedRtds {
            period: 1,
            budget: 2,
            flags: RtdsFlags::EXTRA,
        }),
        vcpuid: 7,
    };
    assert_eq!(
        vcpu.bytes(),
        [1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]
    );
    assert_eq!(SchedVcpu::read(Scheduler::RTDS, &vcpu.bytes()), Ok(vcpu));

    let mut payload = Payload::ZERO;
    let path = DtPath {
        size: 5,
        path: Handle(0x1000),
    };
    let assign = AssignDevice {
        device: Device::Dt(path),
        flags: AssignFlags::RDM_RELAXED,
    };
    assign.encode(&mut payload, domctl::Interface::V12, Machine::Arm64);
    assert_eq!(
        payload.0[..20],
        [
            1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0
        ]
    );
}

#[test]
fn bit_maps_are_a_handle_and_a_length() {
    let map = Bitmap {
        bitmap: Handle(0x1122),
        nr_bits: 9,
    };
    let mut bytes = [0xff; 16];
    map.put(&mut bytes, 0x17, Machine::X86_64);
    assert_eq!(bytes[..12], [0x22, 0x11, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(Bitmap::get(&bytes, 0x12, Machine::Arm64), Ok(map));
    assert_eq!(
        Bitmap::get(&bytes[..11], 0x12, Machine::Arm64),
        Err(DecodeError::Short)
    );
}
