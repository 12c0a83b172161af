//! The end of domains.

use xen_abi::domctl::{DomainInfoFlags, SetTarget};
use xen_core::p2m::P2mType;
use xen_core::{Error, Gfn, VcpuId};

use super::*;
use crate::tests::{FREE, NOBODY, err};

const DESTROY: DomctlCmd = DomctlCmd::DESTROYDOMAIN;

#[test]
fn nothing_is_left_of_it() {
    let world = World::new();
    let dom0 = world.guest(0);
    let frames = world.machine.hv.frames;
    let before = frames.allocated();
    for round in 0..5 {
        let domain = dom0.build(0, 3);
        let id = domain.id().0;
        if round % 2 == 0 {
            assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, id), 0);
            domain.vcpu(VcpuId(2)).unwrap().up(&world.machine.hv);
        }
        let weak = Arc::downgrade(&domain);
        drop(domain);
        assert_eq!(dom0.order(DESTROY, id), 0);
        assert!(weak.upgrade().is_none());
        assert_eq!(frames.allocated(), before);
        assert_eq!(dom0.info(id), Err(err(Error::Srch)));
        assert_eq!(dom0.order(DESTROY, id), err(Error::Srch));
    }
    assert_eq!(dom0.order(DESTROY, 0), err(Error::Inval));
    assert_eq!(dom0.order(DESTROY, NOBODY), err(Error::Srch));
    world.end([dom0]);
}

#[test]
fn it_goes_in_steps() {
    let world = World::new();
    let dom0 = world.guest(0);
    let before = world.machine.hv.frames.allocated();
    let port = dom0.bind_dom_exc();
    drop(dom0.build(1, 1));
    world.domain(1).set_max_pages(1 << 16);
    for n in 0..200 {
        let hv = &world.machine.hv;
        let frame = hv.frames.alloc_page(DomainId(1)).unwrap();
        world.domain(1).charge_pages(1).unwrap();
        // Each in a leaf of its own.
        let at = Gfn(FREE + 2 * n);
        world
            .domain(1)
            .p2m
            .map_new(at, frame, P2mType::RamRw)
            .unwrap();
    }
    dom0.take_event(port);
    world.yield_every(1);
    dom0.put_domctl(DESTROY, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    assert!(dom0.take_event(port), "it is dying");
    assert!(dom0.info(1).unwrap().flags.contains(DomainInfoFlags::DYING));
    dom0.put_domctl(DESTROY, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    assert!(!dom0.take_event(port));
    // What others would still do with it comes to nothing, and does not save it.
    assert_eq!(
        dom0.domctl(DomctlCmd::MAX_VCPUS, 1, MaxVcpus { max: 1 }),
        err(Error::Inval)
    );
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    assert!(world.domain(1).stopped());
    dom0.put_domctl(DESTROY, V, 1, Payload::ZERO);
    let restarts = dom0.restarts();
    assert_eq!(dom0.call(Hypercall::DOMCTL, &[ARG]), 0);
    assert!(dom0.restarts() > restarts);
    assert!(dom0.take_event(port), "it is gone");
    world.yield_every(0);
    assert_eq!(world.machine.hv.frames.allocated(), before);
    world.end([dom0]);
}

#[test]
fn its_vcpus_come_off_the_cpus_first() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    domain.vcpu(VcpuId(0)).unwrap().up(&world.machine.hv);
    drop(domain);
    world.pick_elsewhere();
    dom0.put_domctl(DESTROY, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    assert_eq!(dom0.again(), None);
    assert_eq!(world.domain(1).pages(), 8, "nothing was taken from it");
    world.step_elsewhere();
    assert_eq!(dom0.again(), Some(0));
    world.end([dom0]);
}

#[test]
fn what_others_hold_stays_until_they_let_go() {
    let world = World::new();
    let dom0 = world.guest(0);
    let before = world.machine.hv.frames.allocated();
    let domain = dom0.build(1, 1);
    let (frame, _) = domain.p2m.frame(Gfn(3), true).unwrap();
    let mfn = frame.mfn();
    let mapped = dom0
        .domain()
        .p2m
        .map_new(Gfn(FREE), frame, P2mType::ForeignRw);
    assert_eq!(mapped, Ok(()));
    drop(domain);
    assert_eq!(dom0.order(DESTROY, 1), 0);
    assert_eq!(world.machine.hv.frames.count(mfn), 1);
    // Another domain of that number has nothing to do with it.
    let other = dom0.build(1, 1);
    assert!(other.p2m.lookup(Gfn(FREE)).is_none());
    drop(other);
    assert_eq!(dom0.order(DESTROY, 1), 0);
    dom0.domain().p2m.unmap_if(Gfn(FREE), |_| Ok(())).unwrap();
    let after = world.machine.hv.frames.allocated();
    // Only a page-table page of dom0's may have come to be.
    assert!(
        after
            .iter()
            .filter(|f| !before.contains(f))
            .all(|f| f.1 == DomainId::XEN)
    );
    world.end([dom0]);
}

#[test]
fn a_device_model_serves_nobody_in_its_place() {
    let world = World::new();
    let (dom0, model) = (world.guest(0), world.guest(1));
    let serve = |model, target| dom0.domctl(DomctlCmd::SET_TARGET, model, SetTarget { target });
    assert_eq!(serve(1, NOBODY), err(Error::Srch));
    assert_eq!(serve(1, 1), err(Error::Inval));
    drop(dom0.build(2, 1));
    assert_eq!(serve(1, 2), 0);
    assert_eq!(serve(1, 2), err(Error::Inval), "once");
    assert_eq!(serve(1, 0), err(Error::Inval));
    assert!(world.domain(2).is_served_by(model.domain()));
    assert_eq!(dom0.order(DESTROY, 2), 0);
    drop(dom0.build(2, 1));
    assert!(!world.domain(2).is_served_by(model.domain()));
    assert_eq!(serve(1, 2), 0);
    world.end([dom0, model]);
}
