//! `sched_op`: what a vCPU does to itself and its domain.

use core::sync::atomic::Ordering::SeqCst;

use xen_abi::Handle;
use xen_abi::event_channel::{AllocUnbound, BindIpi, EvtchnSend};
use xen_abi::sched::{Poll, RemoteShutdown, Shutdown, ShutdownReason, Watchdog};
use xen_abi::xen::Hypercall;
use xen_core::soft::Call;
use xen_core::vcpu::Wait;
use xen_core::{Arch, Error};

use super::{ARG, Guest, LIST, NOBODY, NOWHERE, SELF, World, err};

const SCHED: Hypercall = Hypercall::SCHED_OP;
const SECOND: u64 = 1_000_000_000;

fn shutdown(guest: &Guest<'_>, op: u32, reason: u32) -> i64 {
    let reason = ShutdownReason(reason);
    guest.op(SCHED, op, &mut Shutdown { reason })
}

fn blocked(guest: &Guest<'_>) -> bool {
    guest.vcpu.waits().contains(Wait::BLOCKED)
}

/// Masks or unmasks upcalls, and sets or clears a pending one.
fn upcall(guest: &Guest<'_>, pending: u8, mask: u8) {
    let (page, at) = guest.vcpu.info.arch_place(&guest.vcpu).unwrap();
    page.store_u8(at, pending, SeqCst);
    page.store_u8(at + 1, mask, SeqCst);
}

fn mask(guest: &Guest<'_>) -> u8 {
    let (page, at) = guest.vcpu.info.arch_place(&guest.vcpu).unwrap();
    page.load_u8(at + 1, SeqCst)
}

/// Ports that anybody may connect to, or the vCPU sends itself events through.
fn port(guest: &Guest<'_>) -> u32 {
    let mut ipi = BindIpi { vcpu: 0, port: 0 };
    assert_eq!(guest.op(Hypercall::EVENT_CHANNEL_OP, 7, &mut ipi), 0);
    ipi.port
}

fn send(guest: &Guest<'_>, port: u32) {
    assert_eq!(
        guest.op(Hypercall::EVENT_CHANNEL_OP, 4, &mut EvtchnSend { port }),
        0
    );
}

fn poll(guest: &Guest<'_>, ports: &[u32], timeout: u64) -> i64 {
    guest.put(LIST, ports);
    let nr_ports = ports.len() as u32;
    let mut poll = Poll {
        ports: Handle(LIST),
        nr_ports,
        pad: 0,
        timeout,
    };
    guest.op(SCHED, 3, &mut poll)
}

#[test]
fn shutting_down() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    assert_eq!(shutdown(&one, 2, 2), 0);
    assert_eq!(one.domain().shutdown_code(), Some(ShutdownReason::SUSPEND));
    assert!(one.domain().stopped());
    // Once and for all.
    assert_eq!(shutdown(&one, 2, 0), 0);
    assert_eq!(one.domain().shutdown_code(), Some(ShutdownReason::SUSPEND));
    assert_eq!(world.machine.hv.arch.take_calls(), []);
    // The hardware domain takes the machine with it.
    assert_eq!(shutdown(&dom0, 2, 1), 0);
    assert_eq!(
        world.machine.hv.arch.take_calls(),
        [Call::Power { reboot: true }]
    );
    world.end([dom0, one]);
}

#[test]
fn shutdown_codes() {
    let world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    // Kept for later, and any number of 8 bits will do.
    assert_eq!(shutdown(&one, 5, 3), 0);
    assert_eq!(one.domain().shutdown_code(), None);
    assert_eq!(shutdown(&one, 2, 0), 0);
    assert_eq!(one.domain().shutdown_code(), Some(ShutdownReason::CRASH));
    assert_eq!(shutdown(&two, 2, 0x1ff), 0);
    assert_eq!(two.domain().shutdown_code(), Some(ShutdownReason(0xff)));
    world.end([one, two]);
}

#[test]
fn shutting_down_others() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    let remote = |guest: &Guest<'_>, domain_id: u16| {
        let reason = ShutdownReason::REBOOT;
        guest.op(
            SCHED,
            4,
            &mut RemoteShutdown {
                domain_id,
                pad: 0,
                reason,
            },
        )
    };
    assert_eq!(remote(&one, 2), err(Error::Perm));
    assert_eq!(remote(&one, 1), err(Error::Perm));
    assert_eq!(remote(&one, 0), err(Error::Perm));
    for nobody in [NOBODY, SELF] {
        assert_eq!(remote(&dom0, nobody), err(Error::Srch));
        assert_eq!(remote(&one, nobody), err(Error::Srch));
    }
    assert_eq!(two.domain().shutdown_code(), None);
    assert_eq!(remote(&dom0, 2), 0);
    assert_eq!(two.domain().shutdown_code(), Some(ShutdownReason::REBOOT));
    assert_eq!(world.machine.hv.arch.take_calls(), []);
    world.end([dom0, one, two]);
}

#[test]
fn blocking() {
    let world = World::new();
    let one = world.guest(1);
    upcall(&one, 0, 1);
    assert_eq!(one.call(SCHED, &[1]), 0);
    assert!(blocked(&one));
    assert_eq!(mask(&one), 0, "blocking lets events in");
    one.vcpu.kick(&world.machine.hv);
    assert!(!blocked(&one));
    // Not with an event there already, masked as it was.
    upcall(&one, 1, 1);
    assert_eq!(one.call(SCHED, &[1]), 0);
    assert!(!blocked(&one));
    upcall(&one, 0, 0);
    one.vcpu.arch.interrupt.store(true, SeqCst);
    assert_eq!(one.call(SCHED, &[1]), 0);
    assert!(!blocked(&one));
    assert_eq!(one.call(SCHED, &[0]), 0);
    assert!(!blocked(&one));
    world.end([one]);
}

#[test]
fn what_only_the_registers_show_keeps_from_waiting() {
    let world = World::new();
    let one = world.guest(1);
    upcall(&one, 0, 0);
    for op in [1, 3] {
        {
            let mut context = one.vcpu.context();
            (context.held_interrupt, context.masked) = (true, true);
        }
        one.vcpu.arch.interrupt.store(false, SeqCst);
        let answer = if op == 1 {
            one.call(SCHED, &[1])
        } else {
            poll(&one, &[], 0)
        };
        assert_eq!(answer, 0);
        assert!(!blocked(&one), "{op}");
        // Blocking lets interrupts in, polling does not.
        assert_eq!(one.vcpu.context().masked, op == 3);
    }
    world.end([one]);
}

#[test]
fn polling() {
    let world = World::new();
    let one = world.guest(1);
    let other = Guest::of(&world, one.domain().clone(), 1);
    let ports = [port(&one), port(&one), port(&one)];
    upcall(&one, 0, 1);
    for several in [false, true] {
        let ports = if several { &ports[..2] } else { &ports[..1] };
        assert_eq!(poll(&one, ports, 0), 0);
        assert!(blocked(&one));
        assert_eq!(mask(&one), 1, "polling leaves the mask alone");
        send(&other, *ports.last().unwrap());
        assert!(!blocked(&one));
        // It is pending still.
        assert_eq!(poll(&one, ports, 0), 0);
        assert!(!blocked(&one));
        let page = one.domain().shared_info.page();
        page.store_u64(xen_core::soft::Soft::LAYOUT.evtchn_pending, 0, SeqCst);
        upcall(&one, 0, 1);
    }
    // A port that it does not poll; masked upcalls wake nobody.
    assert_eq!(poll(&one, &ports[..1], 0), 0);
    send(&other, ports[2]);
    assert!(blocked(&one));
    send(&other, ports[0]);
    assert!(!blocked(&one));
    // For nothing at all, with an event that can be delivered.
    upcall(&one, 1, 0);
    assert_eq!(poll(&one, &[], 0), 0);
    assert!(!blocked(&one));
    drop(other);
    world.end([one]);
}

#[test]
fn polls_that_are_refused() {
    let world = World::new();
    let one = world.guest(1);
    let real = port(&one);
    let mut unbound = AllocUnbound {
        dom: SELF,
        remote_dom: 2,
        port: 0,
    };
    assert_eq!(one.op(Hypercall::EVENT_CHANNEL_OP, 6, &mut unbound), 0);
    for bad in [5000, 131_072, u32::MAX] {
        assert_eq!(poll(&one, &[real, bad], 0), err(Error::Inval));
        assert!(!blocked(&one));
    }
    for nr_ports in [129, 1000, u32::MAX] {
        let mut poll = Poll {
            ports: Handle(LIST),
            nr_ports,
            pad: 0,
            timeout: 1,
        };
        assert_eq!(one.op(SCHED, 3, &mut poll), err(Error::Inval));
    }
    let mut poll = Poll {
        ports: Handle(NOWHERE),
        nr_ports: 1,
        pad: 0,
        timeout: 1,
    };
    assert_eq!(one.op(SCHED, 3, &mut poll), err(Error::Fault));
    assert!(!blocked(&one));
    one.put(LIST, &[unbound.port; 128]);
    let mut poll = Poll {
        ports: Handle(LIST),
        nr_ports: 128,
        pad: 0,
        timeout: 0,
    };
    assert_eq!(one.op(SCHED, 3, &mut poll), 0);
    assert!(blocked(&one));
    world.end([one]);
}

#[test]
fn the_end_of_a_poll() {
    let world = World::new();
    let one = world.guest(1);
    let hv = &world.machine.hv;
    let soon = hv.arch.now().0 + SECOND;
    assert_eq!(poll(&one, &[], soon), 0);
    assert!(blocked(&one));
    assert_eq!(
        hv.timers.next_deadline(hv.arch.this_cpu()).map(|t| t.0),
        Some(soon)
    );
    // The CPU has nothing else to do: it sleeps until then.
    (0..4).for_each(|_| xen_core::step(hv, crate::dispatch));
    assert!(!blocked(&one));
    assert!(hv.arch.now().0 >= soon);
    // A time that has passed ends it at once.
    assert_eq!(poll(&one, &[], 1), 0);
    (0..2).for_each(|_| xen_core::step(hv, crate::dispatch));
    assert!(!blocked(&one));
    // One that ends for another reason takes its timer with it.
    assert_eq!(poll(&one, &[], hv.arch.now().0 + SECOND), 0);
    one.vcpu.kick(hv);
    assert!(!blocked(&one));
    assert_eq!(hv.timers.next_deadline(hv.arch.this_cpu()), None);
    world.end([one]);
}

#[test]
fn watchdogs() {
    let world = World::new();
    let one = world.guest(1);
    let hv = &world.machine.hv;
    let dog = |id: u32, timeout: u32| one.op(SCHED, 6, &mut Watchdog { id, timeout });
    assert_eq!(dog(0, 0), err(Error::Inval));
    assert_eq!(dog(0, 10), 1);
    assert_eq!(dog(0, 20), 2);
    assert_eq!(dog(0, 30), err(Error::NoSpc));
    for id in [3, 77, u32::MAX] {
        assert_eq!(dog(id, 1), err(Error::Inval));
        assert_eq!(dog(id, 0), err(Error::Inval));
    }
    // Kicked, ended, made again.
    assert_eq!(dog(1, 40), 0);
    assert_eq!(
        hv.timers.next_deadline(hv.arch.this_cpu()).map(|t| t.0),
        Some(hv.arch.now().0 + 20 * SECOND)
    );
    assert_eq!(dog(2, 0), 0);
    assert_eq!(dog(2, 0), err(Error::Inval));
    assert_eq!(dog(2, 5), err(Error::Inval));
    assert_eq!(dog(0, 60), 2);
    // Longer than there is time: not before anything else.
    assert_eq!(dog(2, u32::MAX), 0);
    assert_eq!(one.domain().shutdown_code(), None);
    (0..4).for_each(|_| xen_core::step(hv, crate::dispatch));
    assert_eq!(one.domain().shutdown_code(), Some(ShutdownReason::WATCHDOG));
    one.put(ARG, &0u64);
    world.end([one]);
}
