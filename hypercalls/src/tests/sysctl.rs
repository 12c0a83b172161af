//! `sysctl`, as toolstacks of several releases use it.

mod host;
mod policy;
mod pools;
mod random;
mod ring;

use xen_abi::sysctl::{Interface, Sysctl, SysctlCmd};
use xen_abi::versioned::{Machine, Payload};
use xen_abi::xen::Hypercall;
use xen_core::Error;

use super::{ARG, Guest, World, err};

const SYSCTL: Hypercall = Hypercall::SYSCTL;
/// The software machine's layouts.
const MACHINE: Machine = Machine::X86_64;
/// The versions in which all operations are there.
const FULL: [Interface; 4] = [
    Interface::V13,
    Interface::V14,
    Interface::V15,
    Interface::V16,
];

/// Makes the call with these bytes; what it answers, and the bytes afterwards.
fn raw(guest: &Guest<'_>, cmd: SysctlCmd, version: u32, payload: Payload) -> (i64, Payload) {
    let mut args = Sysctl {
        cmd,
        interface_version: version,
        u: payload,
    };
    guest.put(ARG, &args);
    let result = guest.call(SYSCTL, &[ARG]);
    args = guest.get(ARG);
    (result, args.u)
}

/// Makes the call with a payload, which comes back changed.
macro_rules! ask {
    ($guest:expr, $cmd:ident, $interface:expr, $args:expr) => {{
        let mut payload = xen_abi::versioned::Payload::ZERO;
        $args.encode(&mut payload, $interface, super::MACHINE);
        let cmd = xen_abi::sysctl::SysctlCmd::$cmd;
        let (result, payload) = super::raw($guest, cmd, $interface.number(), payload);
        *$args = super::decoded(&payload, $interface, $args);
        result
    }};
}
pub(crate) use ask;

/// Decodes a payload as the type of `like`.
fn decoded<T: xen_abi::versioned::Wire>(payload: &Payload, interface: Interface, _like: &T) -> T {
    T::get(&payload.0, interface.number(), MACHINE).expect("what was encoded before")
}

#[test]
fn versions_that_are_not_served() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for version in [0, 1, 0xf, 0x11, 0x12, 0x17, 0x18, u32::MAX] {
        for cmd in [1, 3, 13, 28, 99] {
            for guest in [&dom0, &one] {
                let (result, bytes) = raw(guest, SysctlCmd(cmd), version, Payload([0xa5; 128]));
                assert_eq!(result, err(Error::Access));
                assert_eq!(bytes.0, [0xa5; 128]);
            }
        }
    }
    world.end([dom0, one]);
}

#[test]
fn operations_that_are_not_there() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    // Trace, counters, pages out of use, lock profile, live patches; removed; never given; Arm's.
    let unknown = [2, 5, 14, 15, 27, 24, 28, 13, 30, 31, 0, u32::MAX];
    for interface in FULL {
        for cmd in unknown {
            let (result, bytes) = raw(&dom0, SysctlCmd(cmd), interface.number(), Payload([7; 128]));
            assert_eq!(result, err(Error::NoSys), "{cmd}");
            assert_eq!(bytes.0, [7; 128]);
            // Who may not use any does not learn which there are.
            let (result, _) = raw(&one, SysctlCmd(cmd), interface.number(), Payload::ZERO);
            assert_eq!(result, err(Error::Perm), "{cmd}");
        }
        for (cmd, error) in [
            (SysctlCmd::COVERAGE_OP, Error::OpNotSupp),
            (SysctlCmd::PSR_CMT_OP, Error::NoDev),
            (SysctlCmd::PSR_ALLOC, Error::NoDev),
        ] {
            let (result, _) = raw(&dom0, cmd, interface.number(), Payload::ZERO);
            assert_eq!(result, err(error), "{cmd:?}");
        }
    }
    // The oldest callers have two operations.
    let old = Interface::V10.number();
    let served = |cmd| raw(&dom0, SysctlCmd(cmd), old, Payload::ZERO).0 != err(Error::NoSys);
    let two: Vec<u32> = (0..40).filter(|cmd| served(*cmd)).collect();
    assert_eq!(two, [4, 19]);
    world.end([dom0, one]);
}

#[test]
fn one_at_a_time() {
    let world = World::new();
    let dom0 = world.guest(0);
    let held = world.machine.hv.management.acquire();
    dom0.put(
        ARG,
        &Sysctl {
            cmd: SysctlCmd::PHYSINFO,
            interface_version: 0x15,
            u: Payload([9; 128]),
        },
    );
    for _ in 0..3 {
        assert_eq!(dom0.once(SYSCTL, &[ARG]), None);
        assert_eq!(dom0.get::<Sysctl>(ARG).u.0, [9; 128]);
    }
    drop(held);
    assert_eq!(dom0.again(), Some(0));
    world.end([dom0]);
}
