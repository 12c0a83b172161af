//! Closing, resetting, and the end of domains.

use core::sync::atomic::Ordering;

use super::*;
use crate::evtchn::Use;
use crate::evtchn::channel::State;
use crate::{DomainId, Error, Gfn};

#[test]
fn closing_leaves_the_peer_waiting() {
    let (machine, domains) = machine();
    let ([_, a, b], hv) = (&domains, &machine.hv);
    let (pa, pb) = connect(&machine, a, b);
    b.evtchn.close(hv, b, pb).unwrap();
    assert_eq!(a.evtchn.status(pa).unwrap().used_for, Use::Unbound(b.id()));
    assert_eq!(b.evtchn.status(pb).unwrap().used_for, Use::Closed);
    assert!(!b.evtchn.is_pending(pb));
    assert_eq!(a.evtchn.send(hv, a, pa), Ok(()));
    assert_eq!(b.evtchn.send(hv, b, pb), Err(Error::Inval));
    // It can be connected to again.
    assert_eq!(b.evtchn.bind_interdomain(hv, b, a, pa), Ok(pb));
    end(machine, domains);
}

#[test]
fn what_is_not_open_cannot_be_closed() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    for port in [Port(0), Port(2), Port(100), Port(131_072), Port(u32::MAX)] {
        assert_eq!(d.evtchn.close(hv, d, port), Err(Error::Inval), "{port}");
    }
    assert_eq!(d.evtchn.close(hv, d, port), Ok(()));
    assert_eq!(d.evtchn.close(hv, d, port), Err(Error::Inval));
    end(machine, domains);
}

#[test]
fn closing_withdraws_the_event() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    d.evtchn.send(hv, d, port).unwrap();
    assert!(guest::pending_bit(d, port));
    d.evtchn.close(hv, d, port).unwrap();
    assert!(!guest::pending_bit(d, port));
    assert_eq!(d.evtchn.bind_ipi(d, V0), Ok(port));
    assert!(!d.evtchn.is_pending(port));
    end(machine, domains);
}

#[test]
fn closing_unbinds_a_physical_interrupt() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[0], &machine.hv);
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    // As if the architecture had bound it.
    drop(d.evtchn.channel(port).unwrap().replace(State::Pirq(9)));
    d.evtchn.ports.lock().pirqs.insert(9, port);
    assert_eq!(d.evtchn.status(port).unwrap().used_for, Use::Pirq(9));
    assert_eq!(d.evtchn.bind_pirq(hv, d, 9, true), Err(Error::Exist));
    assert_eq!(d.evtchn.send(hv, d, port), Err(Error::Inval));
    assert_eq!(d.evtchn.bind_vcpu(d, port, V1), Ok(()));
    assert!(d.evtchn.raise_pirq(hv, d, 9) && d.evtchn.is_pending(port));
    d.evtchn.close(hv, d, port).unwrap();
    assert!(!d.evtchn.raise_pirq(hv, d, 9) && !d.evtchn.is_pending(port));
    end(machine, domains);
}

#[test]
fn reset_in_steps() {
    let (machine, domains) = machine();
    let ([dom0, a, _], hv) = (&domains, &machine.hv);
    let (there, _) = connect(&machine, dom0, a);
    let guest = guest::FifoGuest::new(&machine, a, 2, 2);
    for _ in 0..200 {
        a.evtchn.bind_ipi(a, V1).unwrap();
    }
    a.evtchn.bind_virq(a, 0, V0).unwrap();
    hv.arch.yield_every.store(1, Ordering::SeqCst);
    let mut restarts = 0;
    while let Err(error) = a.evtchn.reset(hv, a) {
        assert_eq!(error, Error::Restart);
        restarts += 1;
    }
    hv.arch.yield_every.store(0, Ordering::SeqCst);
    assert_eq!(restarts, 202 / 32);
    assert_eq!(
        dom0.evtchn.status(there).unwrap().used_for,
        Use::Unbound(a.id())
    );
    // Back to 2-level, with all ports, VIRQs and pages free.
    assert_eq!(a.evtchn.expand_array(hv, a, Gfn(9)), Err(Error::OpNotSupp));
    assert_eq!(a.evtchn.bind_virq(a, 0, V0), Ok(Port(1)));
    for gfn in 0..3 {
        let mfn = a.p2m.lookup(Gfn(gfn)).unwrap().mfn;
        assert_eq!(hv.frames.count(mfn), 1, "{gfn}");
    }
    let port = a.evtchn.bind_ipi(a, V0).unwrap();
    a.evtchn.send(hv, a, port).unwrap();
    assert!(guest::pending_bit(a, port));
    drop(guest);
    end(machine, domains);
}

#[test]
fn a_dead_domain_has_no_channels() {
    let (machine, domains) = machine();
    let ([dom0, a, b], hv) = (&domains, &machine.hv);
    let (pa, pb) = connect(&machine, a, b);
    let waiting = a.evtchn.alloc_unbound(b.id()).unwrap();
    for _ in 0..100 {
        connect(&machine, dom0, a);
    }
    drop(guest::FifoGuest::new(&machine, a, 2, 3));
    hv.arch.yield_every.store(1, Ordering::SeqCst);
    assert_eq!(a.evtchn.destroy(hv, a), Err(Error::Restart));
    // From the first step on, nothing can be bound.
    assert_eq!(a.evtchn.bind_ipi(a, V0), Err(Error::Inval));
    assert_eq!(a.evtchn.alloc_unbound(DomainId(0)), Err(Error::Inval));
    assert_eq!(
        b.evtchn.bind_interdomain(hv, b, a, waiting),
        Err(Error::Inval)
    );
    while a.evtchn.destroy(hv, a).is_err() {}
    hv.arch.yield_every.store(0, Ordering::SeqCst);
    assert_eq!(b.evtchn.status(pb).unwrap().used_for, Use::Unbound(a.id()));
    assert_eq!(b.evtchn.send(hv, b, pb), Ok(()));
    let for_a = b.evtchn.alloc_unbound(a.id()).unwrap();
    assert_eq!(
        a.evtchn.bind_interdomain(hv, a, b, for_a),
        Err(Error::Inval)
    );
    assert_eq!(a.evtchn.send(hv, a, pa), Err(Error::Inval));
    assert_eq!(a.evtchn.close(hv, a, pa), Err(Error::Inval));
    assert_eq!(a.evtchn.bind_virq(a, 0, V0), Err(Error::Inval));
    assert_eq!(a.evtchn.bind_vcpu(a, pa, V0), Err(Error::Inval));
    assert_eq!(a.evtchn.init_control(a, V0, Gfn(0), 0), Err(Error::Inval));
    assert_eq!(a.evtchn.expand_array(hv, a, Gfn(9)), Err(Error::OpNotSupp));
    assert_eq!(a.evtchn.reset(hv, a), Err(Error::Inval));
    assert_eq!(a.evtchn.destroy(hv, a), Ok(()));
    end(machine, domains);
}

/// Domains that connect, send and disconnect on several CPUs at once neither deadlock nor leave anything.
#[test]
fn binding_and_sending_from_all_sides() {
    let (machine, domains) = machine();
    let hv = &machine.hv;
    std::thread::scope(|scope| {
        for me in 0..3usize {
            let domains = &domains;
            scope.spawn(move || {
                crate::soft::become_cpu(crate::CpuId(me as u32 % 2));
                let own = &domains[me];
                for round in 0..400usize {
                    let other = &domains[(me + 1 + round % 3) % 3];
                    if let Ok(port) = own.evtchn.alloc_unbound(other.id())
                        && let Ok(peer) = other.evtchn.bind_interdomain(hv, other, own, port)
                    {
                        let _ = own.evtchn.send(hv, own, port);
                        let _ = other.evtchn.send(hv, other, peer);
                        let _ = if round % 2 == 0 {
                            own.evtchn.close(hv, own, port)
                        } else {
                            other.evtchn.close(hv, other, peer)
                        };
                    }
                    if round == 200 {
                        let _ = own.evtchn.init_control(own, V0, Gfn(0), 0);
                        let _ = own.evtchn.expand_array(hv, own, Gfn(1));
                    }
                }
            });
        }
    });
    for domain in &domains {
        for port in 1..64 {
            if let Use::Interdomain(id, peer) = domain.evtchn.status(Port(port)).unwrap().used_for {
                let back = domains[usize::from(id.0)]
                    .evtchn
                    .status(peer)
                    .unwrap()
                    .used_for;
                assert_eq!(back, Use::Interdomain(domain.id(), Port(port)));
            }
        }
    }
    end(machine, domains);
}
