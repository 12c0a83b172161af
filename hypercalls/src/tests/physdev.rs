//! `physdev_op`. The software machine has devices in even segments.

use xen_abi::physdev::{
    DbgpBus, DbgpOp, DbgpOpKind, MmcfgFlags, PciDevice, PciDeviceAdd, PciDeviceFlags,
    PciDeviceReset, PciMmcfgReserved,
};
use xen_abi::xen::Hypercall;
use xen_core::Error;
use xen_core::hardware::{ConfigRegion, PciEvent, PciFunction, PciKind};
use xen_core::soft::Call;

use super::{ARG, Guest, NOWHERE, World, err};

const PHYSDEV: Hypercall = Hypercall::PHYSDEV_OP;
const DEVICE: PciDevice = PciDevice {
    seg: 2,
    bus: 3,
    devfn: 0x0b,
};
const FUNCTION: PciFunction = PciFunction {
    segment: 2,
    bus: 3,
    devfn: 0x0b,
};

fn add(guest: &Guest<'_>, flags: PciDeviceFlags) -> i64 {
    let mut add = PciDeviceAdd {
        seg: DEVICE.seg,
        bus: DEVICE.bus,
        devfn: DEVICE.devfn,
        flags,
        physfn_bus: 7,
        physfn_devfn: 8,
        pad: 0,
    };
    guest.op(PHYSDEV, 25, &mut add)
}

fn reset(guest: &Guest<'_>, dev: PciDevice, flags: u32) -> i64 {
    guest.op(PHYSDEV, 32, &mut PciDeviceReset { dev, flags })
}

/// What the machine was told.
fn told(world: &World) -> Vec<Call> {
    let calls = world.machine.hv.arch.take_calls();
    let wanted = |call: &Call| matches!(call, Call::Pci(..) | Call::PciConfig(_));
    calls.into_iter().filter(wanted).collect()
}

#[test]
fn devices_come_and_go() {
    let world = World::new();
    let dom0 = world.guest(0);
    let added = |kind| Call::Pci(FUNCTION, PciEvent::Added(kind));
    for (flags, kind) in [
        (0, PciKind::Plain),
        (1, PciKind::Extended),
        (2, PciKind::Virtual { bus: 7, devfn: 8 }),
        (3, PciKind::Virtual { bus: 7, devfn: 8 }),
        (4, PciKind::Plain),
        (0xfff8, PciKind::Plain),
    ] {
        assert_eq!(add(&dom0, PciDeviceFlags::from_bits_retain(flags)), 0);
        assert_eq!(told(&world), [added(kind)]);
    }
    for flags in 0..4 {
        assert_eq!(reset(&dom0, DEVICE, flags), 0);
        assert_eq!(told(&world), [Call::Pci(FUNCTION, PciEvent::Reset)]);
    }
    for flags in [4, 8, u32::MAX] {
        assert_eq!(reset(&dom0, DEVICE, flags), err(Error::Inval));
    }
    let mut device = DEVICE;
    assert_eq!(dom0.op(PHYSDEV, 26, &mut device), 0);
    assert_eq!(told(&world), [Call::Pci(FUNCTION, PciEvent::Removed)]);
    assert_eq!(dom0.op(PHYSDEV, 26, &mut device), err(Error::NoDev));
    assert_eq!(reset(&dom0, DEVICE, 0), err(Error::NoDev));
    assert_eq!(told(&world), []);
    world.end([dom0]);
}

#[test]
fn what_is_near_what_follows_the_structure() {
    let world = World::new();
    let dom0 = world.guest(0);
    // It ends where nothing is.
    let at = 32 * xen_core::PAGE_SIZE - 12;
    let add = |flags: u32| {
        dom0.put(at, &[u32::from(DEVICE.seg), flags, 0]);
        dom0.call(PHYSDEV, &[25, at])
    };
    assert_eq!(add(0), 0);
    assert_eq!(add(4), err(Error::Fault));
    assert_eq!(told(&world).len(), 1);
    world.end([dom0]);
}

#[test]
fn configuration_space() {
    let world = World::new();
    let dom0 = world.guest(0);
    let tell = |segment, flags| {
        let mut region = PciMmcfgReserved {
            address: 0xb000_0000,
            segment,
            start_bus: 1,
            end_bus: 0xff,
            flags: MmcfgFlags::from_bits_retain(flags),
        };
        dom0.op(PHYSDEV, 24, &mut region)
    };
    for flags in [0, 1] {
        assert_eq!(tell(4, flags), 0);
        let region = ConfigRegion {
            address: 0xb000_0000,
            segment: 4,
            first_bus: 1,
            last_bus: 0xff,
            reserved: flags == 1,
        };
        assert_eq!(told(&world), [Call::PciConfig(region)]);
    }
    assert_eq!(tell(5, 1), err(Error::NoDev));
    for flags in [2, 3, u32::MAX] {
        assert_eq!(tell(4, flags), err(Error::Inval));
    }
    assert_eq!(told(&world), []);
    world.end([dom0]);
}

#[test]
fn the_console_is_on_no_debug_port() {
    let world = World::new();
    let dom0 = world.guest(0);
    for kind in 0..4 {
        let mut op = DbgpOp {
            op: DbgpOpKind(kind),
            bus: DbgpBus(kind),
            pci: DEVICE,
        };
        assert_eq!(dom0.op(PHYSDEV, 29, &mut op), 0);
    }
    world.end([dom0]);
}

#[test]
fn for_the_owner_of_the_hardware_alone() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for op in 0..40 {
        let served = [24, 25, 26, 29, 32].contains(&op);
        let expected = if served { Error::Fault } else { Error::NoSys };
        assert_eq!(dom0.call(PHYSDEV, &[op, NOWHERE]), err(expected), "{op}");
        for arg in [ARG, NOWHERE] {
            assert_eq!(one.call(PHYSDEV, &[op, arg]), err(Error::NoSys), "{op}");
        }
    }
    assert_eq!(told(&world), []);
    world.end([dom0, one]);
}
