//! `platform_op`, `vm_assist`.

use core::sync::atomic::Ordering::SeqCst;

use xen_abi::platform::{
    CpuOl, FirmwareInfo, FirmwareInfoType, PcpuFlags, PcpuInfo, PcpuVersion, PlatformCmd,
    PlatformOp, PminfoType, SetProcessorPminfo, SetTime32, SetTime64, TextConsole, VgaType,
};
use xen_abi::xen::Hypercall;
use xen_core::soft::Soft;
use xen_core::{Arch, Domain, Error};

use super::{ARG, Guest, LIST, NOWHERE, World, err};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

const SECOND: u64 = 1_000_000_000;

fn set_time(guest: &Guest<'_>, time: SetTime64) -> i64 {
    let op = PlatformOp::new(PlatformCmd::SETTIME64, &time).unwrap();
    guest.put(ARG, &op);
    guest.call(Hypercall::PLATFORM_OP, &[ARG])
}

fn time(secs: u64, nsecs: u32, system_time: u64) -> SetTime64 {
    SetTime64 {
        secs,
        nsecs,
        mbz: 0,
        system_time,
    }
}

/// What a domain sees: version, seconds, nanoseconds.
fn wallclock(domain: &Domain<Soft>) -> (u32, u64, u32) {
    let page = domain.shared_info.page();
    let at = Soft::LAYOUT.wallclock;
    let low = page.load_u32(at + 4, SeqCst);
    let high = page.load_u32(Soft::LAYOUT.wallclock_sec_hi, SeqCst);
    let secs = u64::from(high) << 32 | u64::from(low);
    (
        page.load_u32(at, SeqCst),
        secs,
        page.load_u32(at + 8, SeqCst),
    )
}

#[test]
fn the_wall_clock() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    assert_eq!(set_time(&dom0, time(3 << 32, 7, 0)), 0);
    for guest in [&dom0, &domu] {
        let (version, secs, nsecs) = wallclock(guest.domain());
        assert_eq!((secs, nsecs), (3 << 32, 7));
        assert!(version != 0 && version % 2 == 0);
    }
    // The time given is that at a system time, what is shown is that of system time 0.
    assert_eq!(set_time(&dom0, time(100, 5, 2 * SECOND + 6)), 0);
    let (version, secs, nsecs) = wallclock(domu.domain());
    assert_eq!((version, secs, nsecs), (4, 97, SECOND as u32 - 1));
    // One made later sees it when it is shown to it.
    let late = world.guest(2);
    assert_eq!(wallclock(late.domain()), (0, 0, 0));
    world.machine.hv.publish_wallclock(late.domain());
    assert_eq!(wallclock(late.domain()), (2, 97, SECOND as u32 - 1));
    // An update that was begun is ended.
    let page = late.domain().shared_info.page();
    page.store_u32(Soft::LAYOUT.wallclock, u32::MAX, SeqCst);
    world.machine.hv.publish_wallclock(late.domain());
    assert_eq!(wallclock(late.domain()).0, 0);
    world.end([dom0, domu, late]);
}

#[test]
fn times_that_are_refused() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let wrong = SetTime64 {
        mbz: 1,
        ..time(1, 0, 0)
    };
    assert_eq!(set_time(&dom0, wrong), err(Error::Inval));
    assert_eq!(set_time(&dom0, time(u64::MAX, 0, 0)), err(Error::Inval));
    assert_eq!(
        set_time(&dom0, time(u64::MAX / SECOND, u32::MAX, 0)),
        err(Error::Inval)
    );
    assert_eq!(set_time(&domu, time(1, 0, 0)), err(Error::Perm));
    assert_eq!(wallclock(domu.domain()), (0, 0, 0));
    // More system time than time: before 1970, which wraps.
    assert_eq!(set_time(&dom0, time(0, 0, 1)), 0);
    assert_eq!(wallclock(domu.domain()).1, u64::MAX / SECOND);
    world.end([dom0, domu]);
}

#[test]
fn versions_and_commands() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let call = |guest: &Guest<'_>, cmd: u32, interface_version: u32| {
        guest.put(
            ARG,
            &PlatformOp {
                cmd: PlatformCmd(cmd),
                interface_version,
                u: [0; 16],
            },
        );
        guest.call(Hypercall::PLATFORM_OP, &[ARG])
    };
    for version in [0, 7, 0x02ff_ffff, 0x0300_0002, u32::MAX] {
        // The version is looked at before the caller is.
        assert_eq!(call(&dom0, 62, version), err(Error::Access));
        assert_eq!(call(&domu, 62, version), err(Error::Access));
    }
    for version in [0x0300_0000, 0x0300_0001] {
        assert_eq!(call(&dom0, 62, version), 0);
        for cmd in [0, 31, 35, 39, 49, 51, 53, 58, 59, 60, 61, 63, 65, 99] {
            assert_eq!(call(&dom0, cmd, version), err(Error::NoSys));
            assert_eq!(call(&domu, cmd, version), err(Error::Perm));
        }
    }
    world.end([dom0, domu]);
}

/// Makes a call; its argument comes back changed.
fn call<T>(guest: &Guest<'_>, cmd: PlatformCmd, payload: &mut T) -> i64
where
    T: FromBytes + IntoBytes + Immutable,
{
    let mut op = PlatformOp::new(cmd, payload).unwrap();
    guest.put(ARG, &op);
    let result = guest.call(Hypercall::PLATFORM_OP, &[ARG]);
    op = guest.get(ARG);
    *payload = op.payload().unwrap();
    result
}

#[test]
fn the_wall_clock_before_2106() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let mut time = SetTime32 {
        secs: u32::MAX,
        nsecs: u32::MAX,
        system_time: SECOND,
    };
    assert_eq!(call(&dom0, PlatformCmd::SETTIME32, &mut time), 0);
    let (_, secs, nsecs) = wallclock(domu.domain());
    assert_eq!(
        secs * SECOND + u64::from(nsecs),
        (u64::from(u32::MAX) - 1) * SECOND + u64::from(u32::MAX)
    );
    assert_eq!(
        call(&domu, PlatformCmd::SETTIME32, &mut time),
        err(Error::Perm)
    );
    world.end([dom0, domu]);
}

/// Of the two CPUs that the software machine has in these tests, the second one is not there.
#[test]
fn physical_cpus() {
    let world = World::new();
    let dom0 = world.guest(0);
    let info = |xen_cpuid| {
        let mut info = PcpuInfo {
            xen_cpuid,
            max_present: 99,
            flags: PcpuFlags::from_bits_retain(99),
            apic_id: 98,
            acpi_id: 97,
        };
        assert_eq!(call(&dom0, PlatformCmd::GET_CPUINFO, &mut info), 0);
        assert_eq!(info.max_present, 1);
        (info.flags, info.apic_id, info.acpi_id)
    };
    assert_eq!(info(0), (PcpuFlags::ONLINE, 0, 100));
    for nobody in [1, 2, u32::MAX] {
        assert_eq!(info(nobody).0, PcpuFlags::INVALID);
    }
    let version = |xen_cpuid| {
        let mut version = PcpuVersion {
            xen_cpuid,
            max_present: 99,
            vendor_id: [9; 12],
            family: 9,
            model: 9,
            stepping: 9,
        };
        assert_eq!(call(&dom0, PlatformCmd::GET_CPU_VERSION, &mut version), 0);
        let PcpuVersion { family, model, .. } = version;
        (version.vendor_id, family, model, version.stepping)
    };
    assert_eq!(version(0), (*b"OddlyCrafted", 15, 7, 0));
    assert_eq!(version(1), ([0; 12], 0, 0, 0));
    for (cpuid, online, offline) in [
        (0, 0, err(Error::OpNotSupp)),
        (1, err(Error::Inval), err(Error::Inval)),
        (u32::MAX, err(Error::Inval), err(Error::Inval)),
    ] {
        let mut cpu = CpuOl { cpuid };
        assert_eq!(call(&dom0, PlatformCmd::CPU_ONLINE, &mut cpu), online);
        assert_eq!(call(&dom0, PlatformCmd::CPU_OFFLINE, &mut cpu), offline);
    }
    world.end([dom0]);
}

#[test]
fn an_answer_that_cannot_be_given() {
    let world = World::new();
    let dom0 = world.guest(0);
    assert_eq!(
        dom0.call(Hypercall::PLATFORM_OP, &[NOWHERE]),
        err(Error::Fault)
    );
    world.end([dom0]);
}

#[test]
fn the_firmware_was_not_asked() {
    let world = World::new();
    let dom0 = world.guest(0);
    for (kind, error) in [
        (0, Error::Inval),
        (1, Error::Srch),
        (2, Error::Srch),
        (3, Error::Srch),
        (4, Error::NoSys),
        (5, Error::Srch),
        (6, Error::Inval),
        (u32::MAX, Error::Inval),
    ] {
        for index in [0, 1] {
            let mut info = FirmwareInfo {
                kind: FirmwareInfoType(kind),
                index,
                u: [0; 4],
            };
            let result = call(&dom0, PlatformCmd::FIRMWARE_INFO, &mut info);
            assert_eq!(result, err(error), "{kind}");
        }
    }
    world.end([dom0]);
}

#[test]
fn power_management_is_nobodys() {
    let world = World::new();
    let dom0 = world.guest(0);
    let tell = |id, kind, pdc| {
        let mut info = SetProcessorPminfo {
            id,
            kind: PminfoType(kind),
            pdc: xen_abi::Handle(pdc),
            u: [0; 12],
        };
        call(&dom0, PlatformCmd::SET_PROCESSOR_PMINFO, &mut info)
    };
    for (id, revision, count, result) in [
        (u32::MAX, 1, 1, 0),
        (100, 1, 2, 0),
        // The second CPU is not there.
        (101, 1, 1, err(Error::Inval)),
        (0, 1, 1, err(Error::Inval)),
        (100, 0, 1, err(Error::Inval)),
        (100, 2, 1, err(Error::Inval)),
        (100, 1, 0, err(Error::Inval)),
    ] {
        dom0.put(LIST, &[revision, count, 0xffff_ffffu32]);
        assert_eq!(tell(id, 3, LIST), result, "{id} {revision} {count}");
        let bits = if result == 0 { 0 } else { u32::MAX };
        assert_eq!(dom0.get::<[u32; 3]>(LIST), [revision, count, bits]);
    }
    assert_eq!(tell(100, 3, NOWHERE), err(Error::Fault));
    for kind in [0, 1, 2] {
        assert_eq!(tell(100, kind, LIST), err(Error::NoSys));
    }
    assert_eq!(tell(100, 4, LIST), err(Error::Inval));
    world.end([dom0]);
}

#[test]
fn the_screen() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let ask = |guest: &Guest<'_>| {
        let mut console = TextConsole::new_zeroed();
        let result = call(guest, PlatformCmd::GET_DOM0_CONSOLE, &mut console);
        (result, console)
    };
    assert_eq!(ask(&dom0).0, err(Error::NoDev));
    world.machine.hv.arch.screen.store(true, SeqCst);
    let (result, console) = ask(&dom0);
    assert_eq!(result, size_of::<TextConsole>() as i64);
    assert_eq!(console.video_type, VgaType::TEXT_MODE_3);
    assert_eq!((console.rows, console.columns), (24, 132));
    assert_eq!(console.font_height, 9);
    assert_eq!(ask(&domu).0, err(Error::Perm));
    world.end([dom0, domu]);
}

#[cfg(feature = "vm_assist")]
#[test]
fn vm_assist() {
    let world = World::new();
    let domu = world.guest(1);
    let assist = |command: u64, kind: u64| domu.call(Hypercall::VM_ASSIST, &[command, kind]);
    let bits = || domu.domain().vm_assist.load(SeqCst);
    assert_eq!(assist(0, 5), 0);
    assert_eq!(bits(), 1 << 5);
    assert_eq!(assist(0, 5), 0);
    assert_eq!(assist(1, 5), 0);
    assert_eq!(bits(), 0);
    for kind in [
        0,
        1,
        2,
        3,
        4,
        6,
        32,
        63,
        64,
        u64::from(u32::MAX),
        super::SELF.into(),
    ] {
        assert_eq!(assist(0, kind), err(Error::Inval));
    }
    assert_eq!(assist(2, 5), err(Error::NoSys));
    assert_eq!(assist(u64::from(u32::MAX), 5), err(Error::NoSys));
    assert_eq!(assist(2, 4), err(Error::Inval));
    assert_eq!(bits(), 0);
    world.end([domu]);
}
