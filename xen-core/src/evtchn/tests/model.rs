//! Random operations of three domains against a plain model of what they should do.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::guest::{FifoGuest, MASKED, handle_two_level, set_mask};
use super::*;
use crate::evtchn::{Use, raise_virq};
use crate::{DomainId, Error, Result};

#[derive(Clone, Debug)]
enum Op {
    Alloc(usize, usize),
    Bind(usize, usize, u32),
    Virq(usize, u32, u32),
    Ipi(usize, u32),
    Close(usize, u32),
    Send(usize, u32),
    Raise(usize, u32, u32),
    Move(usize, u32, u32),
    Mask(usize, u32),
    Unmask(usize, u32),
    Handle(usize),
    Fifo(usize),
    Reset(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (d, p, v) = (0..3usize, 0..7u32, 0..3u32);
    let virq = prop_oneof![Just(0u32), Just(1), Just(2), Just(5)];
    prop_oneof![
        4 => (d.clone(), d.clone()).prop_map(|(a, b)| Op::Alloc(a, b)),
        4 => (d.clone(), d.clone(), p.clone()).prop_map(|(a, b, p)| Op::Bind(a, b, p)),
        1 => (d.clone(), virq.clone(), v.clone()).prop_map(|(a, i, v)| Op::Virq(a, i, v)),
        1 => (d.clone(), v.clone()).prop_map(|(a, v)| Op::Ipi(a, v)),
        3 => (d.clone(), p.clone()).prop_map(|(a, p)| Op::Close(a, p)),
        6 => (d.clone(), p.clone()).prop_map(|(a, p)| Op::Send(a, p)),
        2 => (d.clone(), virq, 0..2u32).prop_map(|(a, i, v)| Op::Raise(a, i, v)),
        2 => (d.clone(), p.clone(), v).prop_map(|(a, p, v)| Op::Move(a, p, v)),
        2 => (d.clone(), 1..7u32).prop_map(|(a, p)| Op::Mask(a, p)),
        2 => (d.clone(), p).prop_map(|(a, p)| Op::Unmask(a, p)),
        3 => d.clone().prop_map(Op::Handle),
        1 => d.clone().prop_map(Op::Fifo),
        1 => d.prop_map(Op::Reset),
    ]
}

/// What one domain should look like.
#[derive(Default)]
struct Model {
    ports: BTreeMap<u32, (Use, u32)>,
    pending: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    /// With FIFO: ports that are in a queue.
    linked: BTreeSet<u32>,
    /// With FIFO: the masks of the 2-level interface, as they were.
    masked_before: Option<BTreeSet<u32>>,
}

impl Model {
    fn open(&mut self, used_for: Use, vcpu: u32) -> Port {
        let port = (1..)
            .find(|p| !self.ports.contains_key(p) && !self.linked.contains(p))
            .unwrap();
        self.ports.insert(port, (used_for, vcpu));
        Port(port)
    }
    fn raise(&mut self, port: u32) {
        self.pending.insert(port);
        self.announce(port);
    }
    fn announce(&mut self, port: u32) {
        if self.masked_before.is_some()
            && self.pending.contains(&port)
            && !self.masked.contains(&port)
        {
            self.linked.insert(port);
        }
    }
    fn used_for(&self, port: u32) -> Use {
        self.ports.get(&port).map_or(Use::Closed, |p| p.0)
    }
    fn virq(&self, virq: u32, vcpu: u32) -> Option<u32> {
        // Global ones (2) may notify any vCPU.
        let found =
            |(_, p): &(&u32, &(Use, u32))| p.0 == Use::Virq(virq) && (virq == 2 || p.1 == vcpu);
        self.ports.iter().find(found).map(|(port, _)| *port)
    }
}

fn close(models: &mut [Model; 3], d: usize, port: u32) -> Result<()> {
    let (used_for, _) = models[d].ports.remove(&port).ok_or(Error::Inval)?;
    models[d].pending.remove(&port);
    if let Use::Interdomain(peer, at) = used_for {
        models[usize::from(peer.0)].ports.get_mut(&at.0).unwrap().0 =
            Use::Unbound(DomainId(d as u16));
    }
    Ok(())
}

struct World {
    machine: Machine,
    domains: [Arc<Domain<Soft>>; 3],
    guests: [Option<FifoGuest>; 3],
    models: [Model; 3],
}

impl World {
    fn new() -> Self {
        let (machine, domains) = machine();
        Self {
            machine,
            domains,
            guests: Default::default(),
            models: Default::default(),
        }
    }

    fn vcpu_error(vcpu: u32) -> Result<()> {
        if vcpu < 2 { Ok(()) } else { Err(Error::NoEnt) }
    }

    /// Applies an operation to both; true results must agree.
    fn apply(&mut self, op: &Op) {
        let hv = &self.machine.hv;
        let models = &mut self.models;
        match *op {
            Op::Alloc(a, b) => {
                let (d, remote) = (&self.domains[a], DomainId(b as u16));
                assert_eq!(
                    d.evtchn.alloc_unbound(remote),
                    Ok(models[a].open(Use::Unbound(remote), 0))
                );
            }
            Op::Bind(a, b, port) => {
                let (d, remote) = (&self.domains[a], &self.domains[b]);
                let result = d.evtchn.bind_interdomain(hv, d, remote, Port(port));
                if models[b].used_for(port) != Use::Unbound(d.id()) {
                    assert_eq!(result, Err(Error::Inval));
                    return;
                }
                let own = models[a].open(Use::Interdomain(remote.id(), Port(port)), 0);
                models[b].ports.get_mut(&port).unwrap().0 = Use::Interdomain(d.id(), own);
                models[a].raise(own.0);
                assert_eq!(result, Ok(own));
            }
            Op::Virq(a, virq, vcpu) => {
                let d = &self.domains[a];
                let expected = if virq == 5 || (virq == 2 && vcpu != 0) {
                    Err(Error::Inval)
                } else {
                    match (Self::vcpu_error(vcpu), models[a].virq(virq, vcpu)) {
                        (Err(error), _) => Err(error),
                        (_, Some(_)) => Err(Error::Exist),
                        _ => Ok(models[a].open(Use::Virq(virq), vcpu)),
                    }
                };
                assert_eq!(d.evtchn.bind_virq(d, virq, VcpuId(vcpu)), expected);
            }
            Op::Ipi(a, vcpu) => {
                let d = &self.domains[a];
                let expected = Self::vcpu_error(vcpu).map(|()| models[a].open(Use::Ipi, vcpu));
                assert_eq!(d.evtchn.bind_ipi(d, VcpuId(vcpu)), expected);
            }
            Op::Close(a, port) => {
                let d = &self.domains[a];
                assert_eq!(d.evtchn.close(hv, d, Port(port)), close(models, a, port));
            }
            Op::Send(a, port) => {
                let d = &self.domains[a];
                let (expected, hit) = match models[a].used_for(port) {
                    Use::Interdomain(peer, at) => (Ok(()), Some((usize::from(peer.0), at.0))),
                    Use::Ipi => (Ok(()), Some((a, port))),
                    Use::Unbound(_) => (Ok(()), None),
                    _ => (Err(Error::Inval), None),
                };
                assert_eq!(d.evtchn.send(hv, d, Port(port)), expected);
                if let Some((to, at)) = hit {
                    models[to].raise(at);
                    if !models[to].masked.contains(&at) {
                        let target = &self.domains[to];
                        let vcpus = [V0, V1].map(|v| target.vcpu(v).unwrap());
                        assert!(vcpus.iter().any(|v| v.info.upcall_pending(v)), "no upcall");
                    }
                }
            }
            Op::Raise(a, virq, vcpu) => {
                let d = &self.domains[a];
                raise_virq(hv, &d.vcpu(VcpuId(vcpu)).unwrap(), virq);
                // Only vCPU 0 stands for a global one.
                if let Some(port) = models[a]
                    .virq(virq, vcpu)
                    .filter(|_| virq != 2 || vcpu == 0)
                {
                    models[a].raise(port);
                }
            }
            Op::Move(a, port, vcpu) => {
                let d = &self.domains[a];
                let movable = match models[a].used_for(port) {
                    Use::Unbound(_) | Use::Interdomain(..) | Use::Virq(2) => Ok(()),
                    _ => Err(Error::Inval),
                };
                let expected = Self::vcpu_error(vcpu).and(movable);
                assert_eq!(d.evtchn.bind_vcpu(d, Port(port), VcpuId(vcpu)), expected);
                if expected.is_ok() {
                    models[a].ports.get_mut(&port).unwrap().1 = vcpu;
                }
            }
            Op::Mask(a, port) => {
                match &self.guests[a] {
                    Some(guest) => {
                        guest.word(port, |w| w | MASKED);
                    }
                    None => set_mask(&self.domains[a], port),
                }
                models[a].masked.insert(port);
            }
            Op::Unmask(a, port) => {
                assert_eq!(self.domains[a].evtchn.unmask(hv, Port(port)), Ok(()));
                models[a].masked.remove(&port);
                models[a].announce(port);
            }
            Op::Handle(a) => self.handle(a),
            Op::Fifo(a) => self.start_fifo(a),
            Op::Reset(a) => {
                let d = &self.domains[a];
                assert_eq!(d.evtchn.reset(hv, d), Ok(()));
                for port in models[a].ports.keys().copied().collect::<Vec<_>>() {
                    close(models, a, port).unwrap();
                }
                models[a].linked.clear();
                if let Some(masked) = models[a].masked_before.take() {
                    models[a].masked = masked;
                }
                self.guests[a] = None;
            }
        }
    }

    /// The guest handles all that was announced: exactly what is pending and not masked.
    fn handle(&mut self, a: usize) {
        let vcpus = [V0, V1].map(|v| self.domains[a].vcpu(v).unwrap());
        let mut handled = Vec::new();
        for vcpu in &vcpus {
            match &mut self.guests[a] {
                Some(guest) => handled.extend(guest.drain(vcpu).into_iter().map(|(port, _)| port)),
                None => handled.extend(handle_two_level(vcpu)),
            }
        }
        handled.sort_unstable();
        let model = &mut self.models[a];
        let expected: Vec<_> = model.pending.difference(&model.masked).copied().collect();
        assert_eq!(handled, expected, "domain {a}");
        model.pending = model.pending.intersection(&model.masked).copied().collect();
        model.linked.clear();
    }

    fn start_fifo(&mut self, a: usize) {
        let model = &mut self.models[a];
        if model.masked_before.is_some() {
            return;
        }
        // The guest starts with all of its words unmasked here.
        model.masked_before = Some(core::mem::take(&mut model.masked));
        self.guests[a] = Some(FifoGuest::new(&self.machine, &self.domains[a], 2, 1));
        for port in model.pending.clone() {
            model.announce(port);
        }
    }

    fn compare(&self) {
        for (domain, model) in self.domains.iter().zip(&self.models) {
            for port in 0..64 {
                let status = domain.evtchn.status(Port(port)).unwrap();
                let (used_for, vcpu) = model.ports.get(&port).copied().unwrap_or((Use::Closed, 0));
                assert_eq!(
                    (status.used_for, status.vcpu),
                    (used_for, VcpuId(vcpu)),
                    "d{} port {port}",
                    domain.id()
                );
                let pending = model.pending.contains(&port);
                assert_eq!(
                    domain.evtchn.is_pending(Port(port)),
                    pending,
                    "d{} port {port}",
                    domain.id()
                );
                if let Use::Interdomain(peer, at) = used_for {
                    let back = self.domains[usize::from(peer.0)]
                        .evtchn
                        .status(at)
                        .unwrap()
                        .used_for;
                    assert_eq!(back, Use::Interdomain(domain.id(), Port(port)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn three_domains_agree_with_the_model(ops in proptest::collection::vec(op(), 1..100)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.compare();
        }
        for domain in 0..3 {
            world.handle(domain);
        }
        let World { machine, domains, guests, .. } = world;
        drop(guests);
        machine.hv.arch.yield_every.store(2, core::sync::atomic::Ordering::SeqCst);
        end(machine, domains);
    }
}
