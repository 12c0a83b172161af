//! The machine's registers, ports and interrupts.

use xen_abi::domctl::{
    GsiAction, GsiPermission, IomemPermission, IoportMapping, IoportPermission, IrqPermission,
    MappingAction, MemoryMapping, PirqNumber,
};
use xen_core::p2m::P2mType;
use xen_core::soft::{DEVICES, HIDDEN_DEVICE};
use xen_core::{Error, Gfn, Mfn};

use super::*;
use crate::tests::{FREE, err};

const DEVICE: u64 = DEVICES.start;

fn permit(guest: &Guest<'_>, id: u16, first_mfn: u64, nr_mfns: u64, allow: bool) -> i64 {
    let args = IomemPermission {
        first_mfn,
        nr_mfns,
        allow_access: allow.into(),
    };
    guest.domctl(DomctlCmd::IOMEM_PERMISSION, id, args)
}

fn map(guest: &Guest<'_>, id: u16, gfn: u64, mfn: u64, count: u64, add: bool) -> i64 {
    let args = MemoryMapping {
        first_gfn: gfn,
        first_mfn: mfn,
        nr_mfns: count,
        add_mapping: if add {
            MappingAction::ADD
        } else {
            MappingAction::REMOVE
        },
    };
    guest.domctl(DomctlCmd::MEMORY_MAPPING, id, args)
}

#[test]
fn frames_are_given_by_who_has_them() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let control = &domu.domain().control;
    let (inval, perm) = (err(Error::Inval), err(Error::Perm));
    assert_eq!(permit(&dom0, 1, DEVICE, 16, true), 0);
    assert!(control.may_map(Mfn(DEVICE)..Mfn(DEVICE + 16)));
    assert_eq!(permit(&dom0, 1, DEVICE + 4, 4, false), 0);
    assert!(!control.may_map(Mfn(DEVICE)..Mfn(DEVICE + 5)));
    assert!(control.may_map(Mfn(DEVICE + 8)..Mfn(DEVICE + 16)));
    for (first, count, answer) in [
        (DEVICE, 0, inval),
        (0, 0, inval),
        (u64::MAX, 2, inval),
        (u64::MAX, 1, perm),
        (0, u64::MAX, perm),
        (HIDDEN_DEVICE.0, 1, perm),
        (DEVICES.end - 1, 2, perm),
        (DEVICE, 1 << 40, perm),
        (3, 1, perm),
    ] {
        assert_eq!(permit(&dom0, 1, first, count, true), answer, "{first:x}");
    }
    world.end([dom0, domu]);
}

#[test]
fn frames_are_mapped() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let kind = |gfn| {
        let entry = domu.domain().p2m.lookup(Gfn(gfn));
        entry.map(|e| (e.mfn.0, e.kind))
    };
    let perm = err(Error::Perm);
    assert_eq!(map(&dom0, 1, FREE, DEVICE, 4, true), perm, "not given");
    assert_eq!(permit(&dom0, 1, DEVICE, 100, true), 0);
    assert_eq!(map(&dom0, 1, FREE, DEVICE, 64, true), 0);
    assert_eq!(kind(FREE), Some((DEVICE, P2mType::Mmio)));
    assert_eq!(kind(FREE + 63), Some((DEVICE + 63, P2mType::Mmio)));
    assert_eq!(kind(FREE + 64), None);
    // In other places, and in other order.
    assert_eq!(map(&dom0, 1, FREE, DEVICE + 1, 2, true), 0);
    assert_eq!(kind(FREE + 1), Some((DEVICE + 2, P2mType::Mmio)));
    assert_eq!(map(&dom0, 1, FREE, DEVICE, 65, true), err(Error::TooBig));
    assert_eq!(map(&dom0, 1, FREE, DEVICE, 0, true), err(Error::Inval));
    assert_eq!(map(&dom0, 1, u64::MAX, DEVICE, 2, true), err(Error::Inval));
    assert_eq!(map(&dom0, 1, FREE, u64::MAX, 2, true), err(Error::Inval));
    assert_eq!(map(&dom0, 1, FREE, u64::MAX, 1, true), err(Error::Inval));
    assert_eq!(map(&dom0, 1, 1 << 40, DEVICE, 1, true), err(Error::Inval));
    assert_eq!(map(&dom0, 1, FREE, DEVICE + 99, 2, true), perm);
    // Its memory is not taken from under it.
    assert_eq!(map(&dom0, 1, 30, DEVICE, 4, true), err(Error::Busy));
    assert_eq!(kind(32), None);
    // Only that mapping is taken out, whatever else is there.
    assert_eq!(
        map(&dom0, 1, FREE, DEVICE, 4, false),
        err(Error::Inval),
        "two of them"
    );
    assert_eq!(kind(FREE), Some((DEVICE + 1, P2mType::Mmio)));
    assert_eq!(kind(FREE + 2), None);
    assert_eq!(map(&dom0, 1, FREE, DEVICE + 1, 2, false), 0);
    assert_eq!(map(&dom0, 1, FREE, DEVICE + 1, 2, false), 0);
    assert_eq!(map(&dom0, 1, 3, DEVICE + 1, 1, false), err(Error::Inval));
    assert_eq!(kind(3).map(|k| k.1), Some(P2mType::RamRw));
    world.end([dom0, domu]);
}

#[test]
fn memory_is_no_device() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let memory = dom0.domain().p2m.lookup(Gfn(0)).unwrap().mfn;
    // Whatever was given in error.
    for domain in [dom0.domain(), domu.domain()] {
        let all = Mfn(0)..Mfn(u64::MAX);
        domain.control.permit_frames(all, true).unwrap();
    }
    for frame in [memory, HIDDEN_DEVICE] {
        let result = map(&dom0, 1, FREE, frame.0, 1, true);
        assert_eq!(result, err(Error::Perm));
    }
    assert!(domu.domain().p2m.lookup(Gfn(FREE)).is_none());
    world.end([dom0, domu]);
}

#[test]
fn a_device_model_maps_what_both_were_given() {
    let world = World::new();
    let (dom0, model, domu) = (world.guest(0), world.guest(1), world.guest(2));
    let perm = err(Error::Perm);
    assert_eq!(permit(&dom0, 2, DEVICE, 4, true), 0);
    assert_eq!(map(&model, 2, FREE, DEVICE, 4, true), perm);
    model.domain().serve(DomainId(2));
    assert_eq!(map(&model, 2, FREE, DEVICE, 4, true), perm);
    assert_eq!(permit(&dom0, 1, DEVICE, 2, true), 0);
    assert_eq!(map(&model, 2, FREE, DEVICE, 4, true), perm);
    assert_eq!(map(&model, 2, FREE, DEVICE, 2, true), 0);
    assert_eq!(map(&model, 0, FREE, DEVICE, 2, true), perm);
    // It gives nothing away.
    assert_eq!(permit(&model, 2, DEVICE, 1, true), perm);
    world.end([dom0, model, domu]);
}

#[test]
fn interrupts() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let control = &domu.domain().control;
    for version in VERSIONS {
        let irq = |number, allow: bool| {
            let mut args = IrqPermission {
                pirq: PirqNumber(number),
                allow_access: allow.into(),
            };
            dom0.domctl_at(DomctlCmd::IRQ_PERMISSION, version, 1, &mut args)
        };
        assert_eq!(irq(5, true), 0);
        assert!(control.may_use_interrupt(5) && !control.may_use_interrupt(6));
        assert_eq!(irq(5, false), 0);
        assert!(!control.may_use_interrupt(5));
        assert_eq!(irq(7, true), err(Error::Perm));
        assert_eq!(irq(64, true), err(Error::Inval));
    }
    let gsi = |gsi, flags| {
        let mut args = GsiPermission {
            gsi,
            flags: GsiAction::from_bits_retain(flags),
        };
        dom0.domctl_at(DomctlCmd::GSI_PERMISSION, Interface::V17, 1, &mut args)
    };
    assert_eq!(gsi(9, 1), 0);
    assert!(control.may_use_interrupt(9));
    assert_eq!(gsi(9, 0), 0);
    assert!(!control.may_use_interrupt(9));
    assert_eq!(gsi(9, 2), err(Error::Inval));
    assert_eq!(gsi(7, 1), err(Error::Perm));
    world.end([dom0, domu]);
}

#[test]
fn ports() {
    use xen_core::manage::Manage as _;
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let has = |first, count| Soft::has_ports(domu.domain(), first, count);
    let permit = |first_port, nr_ports, allow: bool| {
        let args = IoportPermission {
            first_port,
            nr_ports,
            allow_access: allow.into(),
        };
        dom0.domctl(DomctlCmd::IOPORT_PERMISSION, 1, args)
    };
    assert_eq!(permit(0x60, 5, true), 0);
    assert!(has(0x60, 5) && !has(0x60, 6));
    assert_eq!(permit(0x61, 1, false), 0);
    assert!(!has(0x60, 2) && has(0x62, 3));
    assert_eq!(permit(0xffff, 1, true), 0);
    let inval = err(Error::Inval);
    for (first, count) in [
        (0, 0),
        (0xffff, 2),
        (0x1_0000, 1),
        (1, 0x1_0000),
        (u32::MAX, 1),
        (1, u32::MAX),
    ] {
        assert_eq!(permit(first, count, true), inval);
    }
    assert_eq!(permit(0x3f0, 16, true), err(Error::Perm));
    let map = |first_gport, first_mport, nr_ports, add: u32| {
        let args = IoportMapping {
            first_gport,
            first_mport,
            nr_ports,
            add_mapping: MappingAction(add),
        };
        dom0.domctl(DomctlCmd::IOPORT_MAPPING, 1, args)
    };
    assert_eq!(map(0x100, 0x200, 8, 1), 0);
    assert!(has(0x200, 8));
    assert_eq!(map(0x100, 0x200, 8, 0), 0);
    assert!(!has(0x200, 1));
    assert_eq!(map(0xffff, 0x200, 8, 1), inval);
    assert_eq!(map(0x200, 0xffff, 8, 1), inval);
    assert_eq!(map(0x200, 0x200, 0, 1), inval);
    assert_eq!(map(0x200, 0x3f8, 1, 1), err(Error::Perm));
    world.end([dom0, domu]);
}
