//! Binding, and what the ports then say.

use super::*;
use crate::evtchn::{Status, Use, raise_global_virq, raise_virq, set_virq_handler};
use crate::{DomainId, Error};
use xen_abi::event_channel::EvtchnState;

fn uses(domain: &Domain<Soft>, port: Port) -> Use {
    domain.evtchn.status(port).unwrap().used_for
}

#[test]
fn ports_are_taken_lowest_first_and_used_again() {
    let (machine, domains) = machine();
    let d = &domains[1];
    let ports: [_; 3] = core::array::from_fn(|_| d.evtchn.alloc_unbound(DomainId(2)).unwrap().0);
    assert_eq!(ports, [1, 2, 3]);
    assert_eq!(uses(d, Port(2)), Use::Unbound(DomainId(2)));
    d.evtchn.close(&machine.hv, d, Port(2)).unwrap();
    assert_eq!(uses(d, Port(2)), Use::Closed);
    assert_eq!(d.evtchn.alloc_unbound(DomainId(0)), Ok(Port(2)));
    assert_eq!(d.evtchn.alloc_unbound(DomainId(0)), Ok(Port(4)));
    end(machine, domains);
}

#[test]
fn ports_end_at_the_domains_limit_and_the_interfaces() {
    let (machine, domains) = machine();
    let small = Domain::new(
        &machine.hv,
        crate::DomainConfig {
            max_port: 70,
            ..Machine::config(9)
        },
    )
    .unwrap();
    for port in 1..=70 {
        assert_eq!(small.evtchn.alloc_unbound(DomainId(0)), Ok(Port(port)));
    }
    assert_eq!(small.evtchn.alloc_unbound(DomainId(0)), Err(Error::NoSpc));
    assert!(small.evtchn.is_valid(Port(70)) && !small.evtchn.is_valid(Port(71)));
    assert_eq!(small.evtchn.status(Port(71)), Err(Error::Inval));
    machine.destroy(small);

    let d = &domains[0];
    for port in 1..4096 {
        assert_eq!(d.evtchn.alloc_unbound(DomainId(0)), Ok(Port(port)));
    }
    assert_eq!(d.evtchn.alloc_unbound(DomainId(0)), Err(Error::NoSpc));
    d.evtchn.init_control(d, V0, crate::Gfn(0), 0).unwrap();
    assert_eq!(d.evtchn.alloc_unbound(DomainId(0)), Ok(Port(4096)));
    end(machine, domains);
}

#[test]
fn no_ports_at_all() {
    let (machine, domains) = machine();
    let none = Domain::new(
        &machine.hv,
        crate::DomainConfig {
            max_port: 0,
            ..Machine::config(9)
        },
    )
    .unwrap();
    assert_eq!(none.evtchn.alloc_unbound(DomainId(0)), Err(Error::NoSpc));
    assert_eq!(
        none.evtchn.status(Port(0)).map(|s| s.used_for),
        Ok(Use::Closed)
    );
    machine.destroy(none);
    end(machine, domains);
}

#[test]
fn interdomain_ends_point_at_each_other() {
    let (machine, domains) = machine();
    let [_, a, b] = &domains;
    let _ = b.evtchn.bind_ipi(b, V1).unwrap();
    let (pa, pb) = connect(&machine, a, b);
    assert_eq!(
        a.evtchn.status(pa),
        Ok(Status {
            used_for: Use::Interdomain(b.id(), pb),
            vcpu: V0
        })
    );
    assert_eq!(
        b.evtchn.status(pb),
        Ok(Status {
            used_for: Use::Interdomain(a.id(), pa),
            vcpu: V0
        })
    );
    // What was sent before the binding is lost, so the new end starts out pending, and only it.
    assert!(b.evtchn.is_pending(pb) && !a.evtchn.is_pending(pa));
    end(machine, domains);
}

#[test]
fn interdomain_needs_a_port_that_waits_for_the_caller() {
    let (machine, domains) = machine();
    let [dom0, a, b] = &domains;
    let hv = &machine.hv;
    let for_dom0 = a.evtchn.alloc_unbound(dom0.id()).unwrap();
    let ipi = a.evtchn.bind_ipi(a, V0).unwrap();
    for port in [for_dom0, ipi, Port(0), Port(9), Port(5000), Port(u32::MAX)] {
        assert_eq!(
            b.evtchn.bind_interdomain(hv, b, a, port),
            Err(Error::Inval),
            "{port}"
        );
    }
    // Nothing was taken by the attempts.
    assert_eq!(b.evtchn.bind_ipi(b, V0), Ok(Port(1)));
    let taken = dom0.evtchn.bind_interdomain(hv, dom0, a, for_dom0).unwrap();
    assert_eq!(
        dom0.evtchn.bind_interdomain(hv, dom0, a, for_dom0),
        Err(Error::Inval)
    );
    assert_eq!(uses(dom0, taken), Use::Interdomain(a.id(), for_dom0));
    end(machine, domains);
}

#[test]
fn a_domain_can_connect_to_itself() {
    let (machine, domains) = machine();
    let d = &domains[1];
    let (first, second) = connect(&machine, d, d);
    assert_eq!(uses(d, first), Use::Interdomain(d.id(), second));
    d.evtchn.send(&machine.hv, d, second).unwrap();
    assert!(d.evtchn.is_pending(first));
    d.evtchn.close(&machine.hv, d, second).unwrap();
    assert_eq!(uses(d, first), Use::Unbound(d.id()));
    end(machine, domains);
}

#[test]
fn virqs_are_bound_once() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let e = &d.evtchn;
    let timer = e.bind_virq(d, 0, V1).unwrap();
    assert_eq!(
        e.status(timer),
        Ok(Status {
            used_for: Use::Virq(0),
            vcpu: V1
        })
    );
    assert_eq!(e.bind_virq(d, 0, V1), Err(Error::Exist));
    assert!(e.bind_virq(d, 0, V0).is_ok());
    assert_eq!(e.bind_virq(d, 0, VcpuId(2)), Err(Error::NoEnt));
    assert_eq!(e.bind_virq(d, 0, VcpuId(4)), Err(Error::NoEnt));
    for unknown in [5, 7, 14, 15, 24, u32::MAX] {
        assert_eq!(e.bind_virq(d, unknown, V0), Err(Error::Inval), "{unknown}");
    }
    for global in [2, 3, 4, 6, 8, 9, 10, 11, 12, 16] {
        assert_eq!(e.bind_virq(d, global, V1), Err(Error::Inval), "{global}");
        assert!(e.bind_virq(d, global, V0).is_ok(), "{global}");
        assert_eq!(e.bind_virq(d, global, V0), Err(Error::Exist), "{global}");
    }
    e.close(hv, d, timer).unwrap();
    assert_eq!(e.bind_virq(d, 0, V1), Ok(timer));
    end(machine, domains);
}

#[test]
fn virqs_reach_the_vcpu_they_belong_to() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let ports = [V0, V1].map(|v| d.evtchn.bind_virq(d, 0, v).unwrap());
    raise_virq(hv, &d.vcpu(V1).unwrap(), 0);
    assert_eq!(ports.map(|p| d.evtchn.is_pending(p)), [false, true]);
    assert_eq!(guest::handle_two_level(&d.vcpu(V0).unwrap()), []);
    assert_eq!(guest::handle_two_level(&d.vcpu(V1).unwrap()), [ports[1].0]);
    d.evtchn.close(hv, d, ports[1]).unwrap();
    raise_virq(hv, &d.vcpu(V1).unwrap(), 0);
    raise_virq(hv, &d.vcpu(V1).unwrap(), 99);
    assert!(!guest::take_upcall(&d.vcpu(V1).unwrap()));
    end(machine, domains);
}

#[test]
fn global_virqs_go_to_their_handler() {
    let (machine, domains) = machine();
    let ([dom0, a, b], hv) = (&domains, &machine.hv);
    let ports = [dom0, a].map(|d| d.evtchn.bind_virq(d, 3, V0).unwrap());
    let raised = |expected| {
        raise_global_virq(hv, 3);
        let got = [(dom0, ports[0]), (a, ports[1])].map(|(d, p)| d.evtchn.is_pending(p));
        for d in [dom0, a] {
            guest::handle_two_level(&d.vcpu(V0).unwrap());
        }
        assert_eq!(got, expected);
    };
    raised([true, false]);
    set_virq_handler(hv, 3, a).unwrap();
    raised([false, true]);
    // A handler that did not bind it gets nothing, and nobody else does.
    set_virq_handler(hv, 3, b).unwrap();
    raised([false, false]);
    set_virq_handler(hv, 3, dom0).unwrap();
    raised([true, false]);
    for not_global in [0, 1, 13, 17, 5, 24, u32::MAX] {
        assert_eq!(set_virq_handler(hv, not_global, a), Err(Error::Inval));
    }
    raise_global_virq(hv, u32::MAX);

    set_virq_handler(hv, 3, a).unwrap();
    a.evtchn.destroy(hv, a).unwrap();
    assert_eq!(set_virq_handler(hv, 3, a), Err(Error::Inval));
    raise_global_virq(hv, 3);
    assert!(dom0.evtchn.is_pending(ports[0]));
    end(machine, domains);
}

#[test]
fn ipis_and_pirqs() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[0], &machine.hv);
    let ipi = d.evtchn.bind_ipi(d, V1).unwrap();
    assert_eq!(
        d.evtchn.status(ipi),
        Ok(Status {
            used_for: Use::Ipi,
            vcpu: V1
        })
    );
    assert_eq!(d.evtchn.bind_ipi(d, VcpuId(3)), Err(Error::NoEnt));
    // The software machine routes no interrupts through event channels; no port is taken.
    assert_eq!(d.evtchn.bind_pirq(hv, d, 7, true), Err(Error::NoSys));
    assert!(!d.evtchn.raise_pirq(hv, d, 7));
    assert_eq!(d.evtchn.bind_ipi(d, V0), Ok(Port(2)));
    end(machine, domains);
}

#[test]
fn only_ports_of_no_vcpu_move() {
    let (machine, domains) = machine();
    let (d, e) = (&domains[0], &domains[0].evtchn);
    let unbound = e.alloc_unbound(DomainId(1)).unwrap();
    let (connected, _) = connect(&machine, d, &domains[1]);
    let global = e.bind_virq(d, 2, V0).unwrap();
    for port in [unbound, connected, global] {
        assert_eq!(e.bind_vcpu(d, port, V1), Ok(()));
        assert_eq!(e.status(port).unwrap().vcpu, V1);
        assert_eq!(e.bind_vcpu(d, port, VcpuId(2)), Err(Error::NoEnt));
        assert_eq!(e.bind_vcpu(d, port, VcpuId(u32::MAX)), Err(Error::NoEnt));
    }
    raise_global_virq(&machine.hv, 2);
    assert!(guest::take_upcall(&d.vcpu(V1).unwrap()) && !guest::take_upcall(&d.vcpu(V0).unwrap()));
    let own = e.bind_virq(d, 0, V0).unwrap();
    let ipi = e.bind_ipi(d, V0).unwrap();
    for port in [own, ipi, Port(0), Port(63), Port(64), Port(u32::MAX)] {
        assert_eq!(e.bind_vcpu(d, port, V1), Err(Error::Inval), "{port}");
    }
    end(machine, domains);
}

#[test]
fn the_dump_names_every_port() {
    let (machine, domains) = machine();
    let d = &domains[1];
    d.evtchn.alloc_unbound(DomainId(2)).unwrap();
    let (port, peer) = connect(&machine, d, &domains[0]);
    d.evtchn.bind_virq(d, 1, V1).unwrap();
    guest::set_mask(d, 3);
    domains[0]
        .evtchn
        .send(&machine.hv, &domains[0], peer)
        .unwrap();
    let mut text = alloc::string::String::new();
    d.evtchn.dump(&mut text).unwrap();
    let lines: alloc::vec::Vec<_> = text.lines().skip(2).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "1 [0/0/ -]: s=2 n=0 x=0 d=2",
            "2 [1/0/ -]: s=3 n=0 x=0 d=0 p=1",
            "3 [0/1/ -]: s=5 n=1 x=0 v=1"
        ]
    );
    assert_eq!(port, Port(2));
    end(machine, domains);
}

#[test]
fn the_numbers_of_uses_are_those_of_the_interface() {
    let all = [
        Use::Closed,
        Use::Unbound(DomainId(1)),
        Use::Interdomain(DomainId(1), Port(1)),
        Use::Pirq(1),
    ];
    let numbers = [
        EvtchnState::CLOSED,
        EvtchnState::UNBOUND,
        EvtchnState::INTERDOMAIN,
        EvtchnState::PIRQ,
    ];
    assert_eq!(all.map(Use::code), numbers);
    assert_eq!(
        [Use::Virq(1), Use::Ipi].map(Use::code),
        [EvtchnState::VIRQ, EvtchnState::IPI]
    );
}
