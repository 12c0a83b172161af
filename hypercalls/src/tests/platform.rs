//! `platform_op`, `physdev_op`, `vm_assist`.

use core::sync::atomic::Ordering::SeqCst;

use xen_abi::platform::{PlatformCmd, PlatformOp, SetTime64};
use xen_abi::xen::Hypercall;
use xen_core::soft::Soft;
use xen_core::{Arch, Domain, Error};

use super::{ARG, Guest, SELF, World, err};

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
        for cmd in [0, 17, 49, 50, 55, 61, 63, 64, 99] {
            assert_eq!(call(&dom0, cmd, version), err(Error::NoSys));
            assert_eq!(call(&domu, cmd, version), err(Error::Perm));
        }
    }
    world.end([dom0, domu]);
}

#[test]
fn physdev_op_has_no_operations() {
    let world = World::new();
    let dom0 = world.guest(0);
    for op in 0..40 {
        assert_eq!(
            dom0.call(Hypercall::PHYSDEV_OP, &[op, ARG]),
            err(Error::NoSys)
        );
    }
    world.end([dom0]);
}

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
        SELF.into(),
    ] {
        assert_eq!(assist(0, kind), err(Error::Inval));
    }
    assert_eq!(assist(2, 5), err(Error::NoSys));
    assert_eq!(assist(u64::from(u32::MAX), 5), err(Error::NoSys));
    assert_eq!(assist(2, 4), err(Error::Inval));
    assert_eq!(bits(), 0);
    world.end([domu]);
}
