//! Pausing, holding, shutting down, resuming.

use xen_abi::domctl::{DomainInfoFlags, DomctlCmd, Subscribe};
use xen_abi::event_channel::{AllocUnbound, BindInterdomain, EvtchnOp};
use xen_abi::sched::{RemoteShutdown, SchedOp, ShutdownReason};
use xen_abi::xen::Hypercall;
use xen_core::sched::Scheduler as _;
use xen_core::{Error, VcpuId};

use super::*;
use crate::tests::{NOBODY, err};

const SECOND: u64 = 1_000_000_000;

fn shut_down(dom0: &Guest<'_>, id: u16, reason: ShutdownReason) {
    let mut op = RemoteShutdown {
        domain_id: id,
        pad: 0,
        reason,
    };
    let result = dom0.op(Hypercall::SCHED_OP, SchedOp::REMOTE_SHUTDOWN.0, &mut op);
    assert_eq!(result, 0);
}

#[test]
fn a_new_domain_waits_for_its_toolstack() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    assert!(domain.stopped() && !domain.control.has_started());
    assert!(
        dom0.info(1)
            .unwrap()
            .flags
            .contains(DomainInfoFlags::PAUSED)
    );
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    assert!(!domain.stopped() && domain.control.has_started());
    assert!(
        !dom0
            .info(1)
            .unwrap()
            .flags
            .contains(DomainInfoFlags::PAUSED)
    );
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), err(Error::Inval));
    assert!(!domain.stopped());
    drop(domain);
    world.end([dom0]);
}

#[test]
fn pauses_are_counted() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for _ in 0..255 {
        assert_eq!(dom0.order(DomctlCmd::PAUSEDOMAIN, 1), 0);
    }
    assert_eq!(dom0.order(DomctlCmd::PAUSEDOMAIN, 1), err(Error::Overflow));
    for _ in 0..255 {
        assert!(one.domain().stopped());
        assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    }
    assert!(!one.domain().stopped());
    for cmd in [DomctlCmd::PAUSEDOMAIN, DomctlCmd::UNPAUSEDOMAIN] {
        assert_eq!(dom0.order(cmd, 0), err(Error::Inval));
        assert_eq!(dom0.order(cmd, NOBODY), err(Error::Srch));
    }
    world.end([dom0, one]);
}

#[test]
fn a_paused_domain_is_off_the_cpus() {
    let world = World::new();
    let hv = &world.machine.hv;
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    vcpu.up(hv);
    world.pick_elsewhere();
    assert_eq!(hv.sched.running(vcpu.slot().unwrap()), Some(CpuId(1)));
    dom0.put_domctl(DomctlCmd::PAUSEDOMAIN, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    assert_eq!(dom0.again(), None);
    // It is on its way, and none of the attempts counts.
    assert!(domain.stopped() && !domain.control.is_paused());
    world.step_elsewhere();
    assert_eq!(dom0.again(), Some(0));
    assert!(domain.control.is_paused());
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    assert!(!domain.stopped());
    drop((vcpu, domain));
    world.end([dom0]);
}

#[test]
fn whoever_does_not_come_back_holds_nobody_for_ever() {
    let world = World::new();
    let hv = &world.machine.hv;
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    domain.vcpu(VcpuId(0)).unwrap().up(hv);
    world.pick_elsewhere();
    dom0.put_domctl(DomctlCmd::PAUSEDOMAIN, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    hv.arch.advance(SECOND / 2);
    assert_eq!(dom0.again(), None);
    // The time begins anew with each attempt.
    hv.arch.advance(SECOND / 2);
    xen_core::step(hv, crate::dispatch);
    assert!(domain.stopped());
    hv.arch.advance(SECOND / 2);
    hv.raise(xen_core::softirq::TIMER);
    xen_core::step(hv, crate::dispatch);
    assert!(!domain.stopped() && !domain.control.is_paused());
    // Another operation lets go of it, too.
    assert_eq!(dom0.again(), None);
    assert!(domain.stopped());
    assert_eq!(dom0.order(DomctlCmd::GETDOMAININFO, 1), 0);
    assert!(domain.stopped(), "asking does not change anything");
    world.step_elsewhere();
    assert_eq!(dom0.order(DomctlCmd::PAUSEDOMAIN, 1), 0);
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    assert!(!domain.stopped());
    drop(domain);
    world.end([dom0]);
}

#[test]
fn the_end_is_told_when_all_vcpus_are_off_the_cpus() {
    let world = World::new();
    let hv = &world.machine.hv;
    let dom0 = world.guest(0);
    let port = dom0.bind_dom_exc();
    let domain = dom0.build(1, 2);
    assert!(dom0.take_event(port), "it was made");
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    domain.vcpu(VcpuId(1)).unwrap().up(hv);
    world.pick_elsewhere();
    shut_down(&dom0, 1, ShutdownReason::REBOOT);
    assert_eq!(domain.shutdown_code(), Some(ShutdownReason::REBOOT));
    assert_eq!(dom0.info(1).unwrap().flags.shutdown(), None);
    assert!(!dom0.take_event(port));
    world.step_elsewhere();
    assert!(dom0.take_event(port));
    let flags = dom0.info(1).unwrap().flags;
    assert_eq!(flags.shutdown(), Some(ShutdownReason::REBOOT));
    // Nothing more comes of it.
    shut_down(&dom0, 1, ShutdownReason::CRASH);
    world.step_elsewhere();
    assert!(!dom0.take_event(port));
    assert_eq!(domain.shut_down(), Some(ShutdownReason::REBOOT));
    drop(domain);
    world.end([dom0]);
}

#[test]
fn a_suspended_domain_is_resumed() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let port = dom0.bind_dom_exc();
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    // Nothing is undone in one that runs.
    assert_eq!(dom0.order(DomctlCmd::RESUMEDOMAIN, 1), 0);
    assert!(!domain.stopped());
    for _ in 0..2 {
        shut_down(&dom0, 1, ShutdownReason::SUSPEND);
        assert!(dom0.take_event(port));
        assert_eq!(domain.shut_down(), Some(ShutdownReason::SUSPEND));
        assert_eq!(dom0.order(DomctlCmd::RESUMEDOMAIN, 1), 0);
        assert_eq!((domain.shutdown_code(), domain.shut_down()), (None, None));
        assert!(!domain.stopped());
    }
    assert_eq!(dom0.order(DomctlCmd::RESUMEDOMAIN, 0), err(Error::Inval));
    drop(domain);
    world.end([dom0]);
}

#[test]
fn a_suspension_is_told_to_its_subscriber() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let global = dom0.bind_dom_exc();
    let mut unbound = AllocUnbound {
        dom: 1,
        remote_dom: 0,
        port: 0,
    };
    let events = Hypercall::EVENT_CHANNEL_OP;
    assert_eq!(dom0.op(events, EvtchnOp::ALLOC_UNBOUND.0, &mut unbound), 0);
    let mut bind = BindInterdomain {
        remote_dom: 1,
        pad: 0,
        remote_port: unbound.port,
        local_port: 0,
    };
    assert_eq!(dom0.op(events, EvtchnOp::BIND_INTERDOMAIN.0, &mut bind), 0);
    assert!(dom0.take_event(bind.local_port), "as every new one is");
    for (port, by_port) in [(unbound.port, true), (77, false), (0, false)] {
        let wish = Subscribe { port };
        assert_eq!(dom0.domctl(DomctlCmd::SUBSCRIBE, 1, wish), 0);
        shut_down(&dom0, 1, ShutdownReason::SUSPEND);
        assert_eq!(dom0.take_event(bind.local_port), by_port);
        // A port that leads nowhere tells nobody.
        assert_eq!(dom0.take_event(global), port == 0);
        assert_eq!(dom0.order(DomctlCmd::RESUMEDOMAIN, 1), 0);
    }
    // Other reasons are told as ever.
    let wish = Subscribe { port: unbound.port };
    assert_eq!(dom0.domctl(DomctlCmd::SUBSCRIBE, 1, wish), 0);
    shut_down(&dom0, 1, ShutdownReason::CRASH);
    assert!(!dom0.take_event(bind.local_port) && dom0.take_event(global));
    drop(domain);
    world.end([dom0]);
}
