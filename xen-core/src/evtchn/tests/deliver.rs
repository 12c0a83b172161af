//! 2-level delivery, polling, and the change to FIFO.

use core::sync::atomic::Ordering;

use super::*;
use crate::soft::Call;
use crate::vcpu::Wait;
use crate::{DomainId, Error, Gfn, Time};

#[test]
fn one_can_send_only_through_what_leads_somewhere() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let unbound = d.evtchn.alloc_unbound(DomainId(2)).unwrap();
    let virq = d.evtchn.bind_virq(d, 1, V0).unwrap();
    assert_eq!(d.evtchn.send(hv, d, unbound), Ok(()));
    assert!(!d.evtchn.is_pending(unbound));
    for port in [virq, Port(0), Port(9), Port(64), Port(u32::MAX)] {
        assert_eq!(d.evtchn.send(hv, d, port), Err(Error::Inval), "{port}");
    }
    end(machine, domains);
}

#[test]
fn an_event_reaches_the_vcpu_once() {
    let (machine, domains) = machine();
    let ([_, a, b], hv) = (&domains, &machine.hv);
    let (pa, pb) = connect(&machine, a, b);
    let vcpu = b.vcpu(V0).unwrap();
    assert_eq!(guest::handle_two_level(&vcpu), [pb.0]);
    hv.arch.take_calls();
    for _ in 0..3 {
        a.evtchn.send(hv, a, pa).unwrap();
    }
    let upcalls = hv
        .arch
        .take_calls()
        .into_iter()
        .filter(|c| matches!(c, Call::Upcall(..)));
    assert_eq!(
        upcalls.collect::<alloc::vec::Vec<_>>(),
        [Call::Upcall(b.id(), V0)]
    );
    assert_eq!(guest::handle_two_level(&vcpu), [pb.0]);
    assert_eq!(guest::handle_two_level(&vcpu), []);
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn ports_can_be_unmasked_before_any_is_bound() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V0).unwrap();
    guest::set_mask(d, 1);
    d.evtchn.unmask(hv, Port(1)).unwrap();
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    assert_eq!(port, Port(1));
    d.evtchn.send(hv, d, port).unwrap();
    assert_eq!(guest::handle_two_level(&vcpu), [1]);
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn masked_events_wait_for_unmasking() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V1).unwrap();
    let port = d.evtchn.bind_ipi(d, V1).unwrap();
    guest::set_mask(d, port.0);
    d.evtchn.send(hv, d, port).unwrap();
    assert!(d.evtchn.is_pending(port) && !guest::take_upcall(&vcpu));
    d.evtchn.unmask(hv, port).unwrap();
    assert_eq!(guest::handle_two_level(&vcpu), [port.0]);
    // Nothing is announced that is not pending.
    d.evtchn.unmask(hv, port).unwrap();
    assert!(!guest::take_upcall(&vcpu));
    for port in [Port(64), Port(4096), Port(u32::MAX)] {
        assert_eq!(d.evtchn.unmask(hv, port), Err(Error::Inval), "{port}");
        assert!(!d.evtchn.is_pending(port) && !d.evtchn.is_valid(port));
    }
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn events_wake_who_sleeps() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V0).unwrap();
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    vcpu.block(hv);
    assert!(vcpu.waits().contains(Wait::BLOCKED));
    d.evtchn.send(hv, d, port).unwrap();
    assert!(!vcpu.waits().contains(Wait::BLOCKED));
    // With the upcall pending, it does not fall asleep.
    vcpu.block(hv);
    assert!(!vcpu.waits().contains(Wait::BLOCKED));
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn polls_end_by_their_ports_masked_or_not() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V0).unwrap();
    let blocked = || vcpu.waits().contains(Wait::BLOCKED);
    let ports: [_; 3] = core::array::from_fn(|_| d.evtchn.bind_ipi(d, V1).unwrap());
    for port in ports {
        guest::set_mask(d, port.0);
    }
    vcpu.poll(hv, &ports[..1], Time::NEVER);
    assert!(blocked());
    assert_eq!(d.evtchn.polling(), 1);
    d.evtchn.send(hv, d, ports[1]).unwrap();
    assert!(blocked());
    d.evtchn.send(hv, d, ports[0]).unwrap();
    assert!(!blocked());
    assert_eq!(d.evtchn.polling(), 0);

    // Pending already: no sleep.
    vcpu.poll(hv, &ports[..2], Time::NEVER);
    assert!(!blocked());
    assert_eq!(d.evtchn.polling(), 0);

    // Of several, any; by FIFO too, where the port has no word yet.
    d.evtchn.init_control(d, V0, Gfn(0), 0).unwrap();
    vcpu.poll(hv, &[ports[2], Port(0)], Time::NEVER);
    assert!(blocked());
    d.evtchn.send(hv, d, ports[2]).unwrap();
    assert!(!blocked());
    assert_eq!(d.evtchn.polling(), 0);
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn polls_end_by_time_interrupts_and_upcalls() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V0).unwrap();
    let blocked = || vcpu.waits().contains(Wait::BLOCKED);
    let ports: [_; 2] = [V1, V0].map(|v| d.evtchn.bind_ipi(d, v).unwrap());
    vcpu.poll(hv, &ports[..1], Time(5_000));
    assert!(blocked());
    assert!(vcpu.end_poll(hv) && !blocked());
    assert_eq!(hv.timers.next_deadline(crate::CpuId(0)), None);

    // The upcall for another port ends it, and no later event does so once more.
    vcpu.poll(hv, &ports[..1], Time(9_000));
    d.evtchn.send(hv, d, ports[1]).unwrap();
    assert!(!blocked());
    assert_eq!(
        (d.evtchn.polling(), hv.timers.next_deadline(crate::CpuId(0))),
        (0, None)
    );
    assert!(!vcpu.poll_wake(hv, ports[0]));
    guest::handle_two_level(&vcpu);

    vcpu.arch.interrupt.store(true, Ordering::SeqCst);
    vcpu.poll(hv, &ports[..1], Time::NEVER);
    assert!(!blocked());
    drop(vcpu);
    end(machine, domains);
}

#[test]
fn a_vcpu_made_later_gets_its_events() {
    let machine = Machine::new(512, 1);
    let hv = &machine.hv;
    let d = machine.domain(1, 0, 4);
    let (first, second) = connect(&machine, &d, &d);
    assert!(d.evtchn.is_pending(second));
    let vcpu = d.add_vcpu(hv, V0).unwrap();
    d.evtchn.send(hv, &d, second).unwrap();
    assert_eq!(guest::handle_two_level(&vcpu), [first.0, second.0]);
    drop(vcpu);
    machine.destroy(d);
    assert_eq!(hv.frames.allocated(), []);
}

#[test]
fn control_blocks_are_checked() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let e = &d.evtchn;
    for offset in [4, 1, 4032, 4025, 4096, u32::MAX, u32::MAX - 7] {
        assert_eq!(
            e.init_control(d, V0, Gfn(0), offset),
            Err(Error::Inval),
            "{offset}"
        );
    }
    assert_eq!(e.init_control(d, V0, Gfn(999), 0), Err(Error::Inval));
    assert_eq!(e.init_control(d, V0, Gfn(u64::MAX), 0), Err(Error::Inval));
    assert_eq!(e.init_control(d, VcpuId(2), Gfn(0), 0), Err(Error::NoEnt));
    // All these changed nothing.
    assert_eq!(e.set_priority(Port(0), 0), Err(Error::NoSys));
    assert_eq!(e.expand_array(hv, d, Gfn(1)), Err(Error::OpNotSupp));
    let port = e.bind_ipi(d, V0).unwrap();
    e.send(hv, d, port).unwrap();
    assert!(guest::pending_bit(d, port));

    assert_eq!(e.init_control(d, V0, Gfn(0), 4024), Ok(17));
    assert_eq!(e.init_control(d, V0, Gfn(0), 0), Err(Error::Inval));
    assert_eq!(e.init_control(d, V1, Gfn(0), 0), Ok(17));
    assert_eq!(e.set_priority(port, 15), Ok(()));
    assert_eq!(e.set_priority(port, 16), Err(Error::Inval));
    assert_eq!(e.set_priority(Port(64), 0), Err(Error::Inval));
    end(machine, domains);
}

#[test]
fn the_array_has_128_pages() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    d.evtchn.init_control(d, V0, Gfn(0), 0).unwrap();
    for bad in [999, u64::MAX] {
        assert_eq!(d.evtchn.expand_array(hv, d, Gfn(bad)), Err(Error::Inval));
    }
    for gfn in 1..129 {
        assert_eq!(d.evtchn.expand_array(hv, d, Gfn(gfn)), Ok(()));
    }
    assert_eq!(d.evtchn.expand_array(hv, d, Gfn(129)), Err(Error::NoSpc));
    end(machine, domains);
}

#[test]
fn pending_events_move_over_to_fifo() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V0).unwrap();
    let ports: [_; 4] = core::array::from_fn(|_| d.evtchn.bind_ipi(d, V0).unwrap());
    d.evtchn.send(hv, d, ports[0]).unwrap();
    d.evtchn.send(hv, d, ports[2]).unwrap();
    d.evtchn.init_control(d, V0, Gfn(0), 0).unwrap();
    assert!(!guest::pending_bit(d, ports[0]) && d.evtchn.is_pending(ports[0]));
    // Without words, further events are kept as well; unless their port is closed.
    d.evtchn.send(hv, d, ports[1]).unwrap();
    d.evtchn.close(hv, d, ports[2]).unwrap();
    assert_eq!(d.evtchn.bind_ipi(d, V0), Ok(ports[2]));
    guest::take_upcall(&vcpu);
    d.evtchn.expand_array(hv, d, Gfn(1)).unwrap();
    assert_eq!(
        ports.map(|p| d.evtchn.is_pending(p)),
        [true, true, false, false]
    );
    assert!(guest::take_upcall(&vcpu));
    drop(vcpu);
    end(machine, domains);
}
