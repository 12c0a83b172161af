//! Who may call, in which version, about whom; and one at a time.

use xen_abi::domctl::{TABLE, interface};
use xen_abi::versioned::Target;
use xen_core::Error;

use super::*;
use crate::tests::{NOBODY, NOWHERE, err};

/// Numbers of operations, and some that are none's.
fn numbers() -> impl Iterator<Item = DomctlCmd> {
    let known = TABLE.iter().map(|op| op.number);
    known
        .chain([0, 7, 30, 31, 32, 76, 91, 999, 1004, u32::MAX])
        .map(DomctlCmd)
}

#[test]
fn versions_come_first() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    for cmd in numbers() {
        for version in (0..0x20).chain([0xff, u32::MAX]) {
            let wire = Domctl {
                cmd,
                interface_version: version,
                domain: NOBODY,
                pad: [0; 3],
                u: Payload::ZERO,
            };
            if interface(cmd, version).is_some() {
                continue;
            }
            for guest in [&dom0, &domu] {
                guest.put(ARG, &wire);
                let result = guest.call(Hypercall::DOMCTL, &[ARG]);
                assert_eq!(result, err(Error::Access), "{cmd:?} {version:x}");
            }
        }
    }
    for guest in [&dom0, &domu] {
        let result = guest.call(Hypercall::DOMCTL, &[NOWHERE]);
        assert_eq!(result, err(Error::Fault));
    }
    world.end([dom0, domu]);
}

#[test]
fn nobody_else_learns_anything() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    for cmd in numbers() {
        for version in Interface::ALL {
            if interface(cmd, version.number()).is_none() {
                continue;
            }
            for id in [0, 1, NOBODY, 0x7ff0, 0x7ff1, 0x7ff4, 0xffff] {
                let u = Payload([0x5a; Payload::SIZE]);
                domu.put_domctl(cmd, version, id, u);
                let before = domu.bytes(ARG, 0x1000);
                let result = domu.call(Hypercall::DOMCTL, &[ARG]);
                assert_eq!(result, err(Error::Perm), "{cmd:?} {version:?} {id}");
                assert_eq!(domu.bytes(ARG, 0x1000), before);
            }
        }
    }
    world.end([dom0, domu]);
}

#[test]
fn what_is_not_there() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let reserved = [6, 7, 8, 23, 26, 41, 44, 49, 51, 52, 53, 70, 80];
    for cmd in reserved.into_iter().chain([0, 30, 76, 91, u32::MAX]) {
        for version in VERSIONS {
            let u = Payload::ZERO;
            let result = dom0.domctl_raw(DomctlCmd(cmd), version, 1, u).0;
            assert_eq!(result, err(Error::NoSys), "{cmd}");
        }
    }
    for cmd in [
        DomctlCmd::VM_EVENT_OP,
        DomctlCmd::MONITOR_OP,
        DomctlCmd::MEM_SHARING_OP,
        DomctlCmd::SETVNUMAINFO,
        DomctlCmd::SOFT_RESET,
        DomctlCmd::ASSIGN_DEVICE,
        DomctlCmd::DEASSIGN_DEVICE,
        DomctlCmd::TEST_ASSIGN_DEVICE,
        DomctlCmd::GET_DEVICE_GROUP,
    ] {
        assert_eq!(dom0.order(cmd, 1), err(Error::OpNotSupp), "{cmd:?}");
    }
    for cmd in [DomctlCmd::PSR_CMT_OP, DomctlCmd::PSR_ALLOC] {
        assert_eq!(dom0.order(cmd, 1), err(Error::NoDev));
    }
    world.end([dom0]);
}

#[test]
fn domains_that_are_not_there() {
    let world = World::new();
    let dom0 = world.guest(0);
    for op in TABLE {
        let cmd = DomctlCmd(op.number);
        let here = op.span(MACHINE).contains(V.number());
        if !here || op.target != Target::Domain || !crate::domctl::is_served::<Soft>(cmd) {
            continue;
        }
        for id in [NOBODY, 0x7ff0, 0x7ff1, 0x7ff4, 0xffff] {
            assert_eq!(dom0.order(cmd, id), err(Error::Srch), "{cmd:?} {id:x}");
        }
    }
    world.end([dom0]);
}

#[test]
fn one_at_a_time() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let held = world.machine.hv.management.acquire();
    dom0.put_domctl(DomctlCmd::UNPAUSEDOMAIN, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    assert_eq!(dom0.again(), None);
    // Looking is free.
    assert!(dom0.info(1).is_ok());
    dom0.put_domctl(DomctlCmd::UNPAUSEDOMAIN, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    drop(held);
    assert_eq!(dom0.again(), Some(0));
    world.end([dom0]);
}
