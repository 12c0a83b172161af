//! Asking what domains are.

use xen_abi::domctl::{
    DomainCapabilities, DomainInfoFlags, DomainState, DomainStateFlags, INVALID_MAX_VCPU_ID,
    SetDomainHandle, SetVirqHandler,
};
use xen_core::soft::Machine as SoftMachine;
use xen_core::{DomainConfig, Error, VcpuId};

use super::*;
use crate::tests::{NOBODY, SELF, err};

const INFO: DomctlCmd = DomctlCmd::GETDOMAININFO;
const STATE: DomctlCmd = DomctlCmd::GET_DOMAIN_STATE;
const NONE: u16 = DomainId::INVALID.0;

/// Whom a caller of `version` finds at `id`.
fn find(guest: &Guest<'_>, version: Interface, id: u16) -> Result<u16, i64> {
    let (result, wire) = guest.domctl_raw(INFO, version, id, Payload::ZERO);
    let told: DomainInfo = read(version, &wire.u);
    match result {
        0 => {
            assert_eq!(told.domain, wire.domain);
            Ok(wire.domain)
        }
        error => {
            assert_eq!((wire.domain, wire.u), (id, Payload::ZERO));
            Err(error)
        }
    }
}

#[test]
fn old_callers_walk_and_new_ones_do_not() {
    let world = World::new();
    let guests = [0, 3, 9].map(|id| world.guest(id));
    for version in [Interface::V0F].into_iter().chain(VERSIONS) {
        let walks = version <= Interface::V15;
        for id in 0..12 {
            let next = [0, 3, 9].into_iter().find(|known| *known >= id);
            let found = find(&guests[0], version, id);
            let wanted = next.filter(|next| walks || *next == id);
            assert_eq!(found, wanted.ok_or(err(Error::Srch)), "{version:?} {id}");
        }
        for id in [0x7ff0, SELF, NONE, 0xffff] {
            let error = if walks { Error::Inval } else { Error::Srch };
            assert_eq!(find(&guests[0], version, id), Err(err(error)));
        }
    }
    world.end(guests);
}

#[test]
fn what_is_told_of_a_domain() {
    let world = World::new();
    let dom0 = world.guest(0);
    let id = dom0.create(V, 5, |w| w.max_vcpus = 3).unwrap();
    let info = dom0.info(id).unwrap();
    let always = DomainInfoFlags::HVM_GUEST | DomainInfoFlags::HAP;
    assert_eq!(info.flags, always | DomainInfoFlags::PAUSED);
    assert_eq!(
        (info.max_vcpu_id, info.nr_online_vcpus),
        (INVALID_MAX_VCPU_ID, 0)
    );
    assert_eq!((info.tot_pages, info.max_pages), (0, 0));
    assert_eq!((info.handle, info.cpupool), (*b"the new domain's", 0));
    assert_eq!(info.gpaddr_bits, 48);
    let handle = [7; 16];
    let set = SetDomainHandle { handle };
    assert_eq!(dom0.domctl(DomctlCmd::SETDOMAINHANDLE, id, set), 0);
    let made = dom0.domctl(DomctlCmd::MAX_VCPUS, id, MaxVcpus { max: 3 });
    assert_eq!(made, 0);
    let limit = MaxMem { max_memkb: 39 };
    assert_eq!(dom0.domctl(DomctlCmd::MAX_MEM, id, limit), 0);
    world.populate(id, 5);
    let info = dom0.info(id).unwrap();
    assert_eq!((info.tot_pages, info.max_pages), (5, 9));
    assert_eq!((info.max_vcpu_id, info.nr_online_vcpus), (2, 0));
    assert_eq!(info.handle, handle);
    assert_eq!(info.flags, always | DomainInfoFlags::PAUSED);
    // The guest itself sees the new handle, too.
    let (hv, domain) = (&world.machine.hv, world.domain(id));
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, id), 0);
    domain.vcpu(VcpuId(1)).unwrap().up(hv);
    assert_eq!(dom0.info(id).unwrap().flags, always);
    domain.vcpu(VcpuId(1)).unwrap().block(hv);
    let flags = dom0.info(id).unwrap().flags;
    assert_eq!(flags, always | DomainInfoFlags::BLOCKED);
    domain.vcpu(VcpuId(2)).unwrap().up(hv);
    assert_eq!(dom0.info(id).unwrap().flags, always);
    assert_eq!(dom0.info(id).unwrap().nr_online_vcpus, 2);
    drop(domain);
    world.end([dom0]);
}

#[test]
fn xenstore_may_look() {
    let world = World::new();
    let dom0 = world.guest(0);
    let store = world.guest_with(DomainConfig {
        xenstore: true,
        ..SoftMachine::config(1)
    });
    let other = world.guest(2);
    assert_eq!(find(&store, V, 0), Ok(0));
    assert_eq!(find(&store, V, 2), Ok(2));
    assert_eq!(find(&other, V, 2), Err(err(Error::Perm)));
    assert_eq!(find(&other, V, NOBODY), Err(err(Error::Perm)));
    let flags = dom0.info(1).unwrap().flags;
    assert!(flags.contains(DomainInfoFlags::XS_DOMAIN));
    // It may look, and no more.
    assert_eq!(store.order(DomctlCmd::PAUSEDOMAIN, 2), err(Error::Perm));
    let (result, wire) = store.domctl_raw(STATE, Interface::Stable, 1, Payload::ZERO);
    assert_eq!(result, 0);
    let state: DomainState = read(Interface::Stable, &wire.u);
    assert_eq!(state.caps, DomainCapabilities::XENSTORE);
    let asked = other
        .domctl_raw(STATE, Interface::Stable, 2, Payload::ZERO)
        .0;
    assert_eq!(asked, err(Error::Perm));
    world.end([dom0, store, other]);
}

/// What is told of a domain, or of one that changed.
fn state(guest: &Guest<'_>, id: u16) -> Result<(u16, DomainState), i64> {
    let (result, wire) = guest.domctl_raw(STATE, Interface::Stable, id, Payload::ZERO);
    match result {
        0 => Ok((wire.domain, read(Interface::Stable, &wire.u))),
        error => Err(error),
    }
}

#[test]
fn states_of_domains() {
    let world = World::new();
    let dom0 = world.guest(0);
    let (_, own) = state(&dom0, 0).unwrap();
    assert_eq!(own.state, DomainStateFlags::EXIST);
    assert_eq!(
        own.caps,
        DomainCapabilities::CONTROL | DomainCapabilities::HARDWARE
    );
    assert_eq!(state(&dom0, 1), Err(err(Error::Srch)));
    let mut unique = vec![own.unique_id];
    for _ in 0..3 {
        let domain = dom0.build(1, 1);
        let (_, told) = state(&dom0, 1).unwrap();
        assert!(!unique.contains(&told.unique_id));
        unique.push(told.unique_id);
        domain.shutdown(&world.machine.hv, xen_abi::sched::ShutdownReason::CRASH);
        let (_, told) = state(&dom0, 1).unwrap();
        assert_eq!(
            told.state,
            DomainStateFlags::EXIST | DomainStateFlags::SHUTDOWN
        );
        drop(domain);
        assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 1), 0);
    }
    let mut bad = Payload::ZERO;
    bad.0[5] = 1;
    let result = dom0.domctl_raw(STATE, Interface::Stable, 0, bad).0;
    assert_eq!(result, err(Error::Inval), "padding");
    world.end([dom0]);
}

#[test]
fn who_handles_the_event_is_told_what_changed() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    assert_eq!(state(&dom0, NONE), Err(err(Error::Access)));
    dom0.bind_dom_exc();
    // To begin with all have changed.
    assert_eq!(state(&dom0, NONE).unwrap().0, 0);
    assert_eq!(state(&dom0, NONE).unwrap().0, 1);
    assert_eq!(state(&dom0, NONE), Err(err(Error::NoEnt)));
    let domain = dom0.build(9, 1);
    let (id, told) = state(&dom0, NONE).unwrap();
    assert_eq!((id, told.state), (9, DomainStateFlags::EXIST));
    domain.shutdown(&world.machine.hv, xen_abi::sched::ShutdownReason::CRASH);
    drop(domain);
    let (id, told) = state(&dom0, NONE).unwrap();
    assert_eq!(id, 9);
    assert!(told.state.contains(DomainStateFlags::SHUTDOWN));
    assert_eq!(dom0.order(DomctlCmd::DESTROYDOMAIN, 9), 0);
    let (id, told) = state(&dom0, NONE).unwrap();
    assert_eq!((id, told), (9, zero()));
    assert_eq!(state(&dom0, NONE), Err(err(Error::NoEnt)));
    // The event is another's now.
    let store = SetVirqHandler {
        virq: Virq::DOM_EXC.0,
    };
    assert_eq!(dom0.domctl(DomctlCmd::SET_VIRQ_HANDLER, 1, store), 0);
    assert_eq!(state(&dom0, NONE), Err(err(Error::Access)));
    let port = one.bind_dom_exc();
    drop(dom0.build(9, 1));
    assert!(one.take_event(port));
    world.end([dom0, one]);
}
