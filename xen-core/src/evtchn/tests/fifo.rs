//! FIFO delivery to kernels that follow the protocol, and to some that do not.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::guest::{BLOCKS, FifoGuest, LINKED, MASKED, PENDING, WORDS};
use super::*;
use crate::{Error, Gfn};

#[test]
fn queues_are_served_by_priority_and_in_order() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let mut guest = FifoGuest::new(&machine, d, 2, 1);
    let ports: Vec<_> = (0..64).map(|_| d.evtchn.bind_ipi(d, V1).unwrap()).collect();
    let mut expected = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let priority = (n as u32 * 7) % 16;
        d.evtchn.set_priority(*port, priority).unwrap();
        d.evtchn.send(hv, d, *port).unwrap();
        d.evtchn.send(hv, d, *port).unwrap();
        expected.push((port.0, priority));
    }
    expected.sort_by_key(|(_, priority)| *priority);
    let vcpu = d.vcpu(V1).unwrap();
    assert!(vcpu.info.upcall_pending(&vcpu));
    assert_eq!(guest.drain(&vcpu), expected);
    assert_eq!(guest.drain(&vcpu), []);
    drop((guest, vcpu));
    end(machine, domains);
}

#[test]
fn after_a_reset_events_are_announced_in_the_old_way_again() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let vcpu = d.vcpu(V1).unwrap();
    let port = d.evtchn.bind_ipi(d, V1).unwrap();
    // The word that it is announced in stays so when the guest goes over to FIFO.
    d.evtchn.send(hv, d, port).unwrap();
    let mut guest = FifoGuest::new(&machine, d, 2, 1);
    guest.drain(&vcpu);
    assert!(!vcpu.info.upcall_pending(&vcpu));
    assert_eq!(d.evtchn.reset(hv, d), Ok(()));
    let port = d.evtchn.bind_ipi(d, V1).unwrap();
    d.evtchn.send(hv, d, port).unwrap();
    assert!(vcpu.info.upcall_pending(&vcpu));
    drop((guest, vcpu));
    end(machine, domains);
}

#[test]
fn masked_ports_are_linked_when_unmasked() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let mut guest = FifoGuest::new(&machine, d, 2, 1);
    let vcpu = d.vcpu(V0).unwrap();
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    guest.word(port.0, |w| w | MASKED);
    d.evtchn.send(hv, d, port).unwrap();
    assert_eq!(guest.word(port.0, |w| w), PENDING | MASKED);
    assert!(!guest::take_upcall(&vcpu));
    d.evtchn.unmask(hv, port).unwrap();
    assert!(vcpu.info.upcall_pending(&vcpu));
    assert_eq!(guest.drain(&vcpu), [(port.0, 7)]);
    d.evtchn.unmask(hv, port).unwrap();
    assert!(!vcpu.info.upcall_pending(&vcpu));
    drop((guest, vcpu));
    end(machine, domains);
}

#[test]
fn a_port_still_in_a_queue_is_not_used_again() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let mut guest = FifoGuest::new(&machine, d, 2, 1);
    let vcpu = d.vcpu(V0).unwrap();
    let port = d.evtchn.bind_ipi(d, V0).unwrap();
    d.evtchn.send(hv, d, port).unwrap();
    d.evtchn.close(hv, d, port).unwrap();
    assert_eq!(guest.word(port.0, |w| w), LINKED);
    assert_eq!(d.evtchn.bind_ipi(d, V0), Ok(Port(port.0 + 1)));
    assert_eq!(guest.drain(&vcpu), []);
    assert_eq!(d.evtchn.bind_ipi(d, V0), Ok(port));
    drop((guest, vcpu));
    end(machine, domains);
}

#[test]
fn a_vcpu_without_control_block_gets_its_events_later() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let mut guest = FifoGuest::new(&machine, d, 1, 1);
    let vcpu = d.vcpu(V1).unwrap();
    let port = d.evtchn.bind_ipi(d, V1).unwrap();
    d.evtchn.send(hv, d, port).unwrap();
    assert_eq!(guest.word(port.0, |w| w), PENDING);
    d.evtchn.init_control(d, V1, BLOCKS, 128).unwrap();
    d.evtchn.send(hv, d, port).unwrap();
    assert_eq!(guest.drain(&vcpu), [(port.0, 7)]);
    drop((guest, vcpu));
    end(machine, domains);
}

#[derive(Clone, Debug)]
enum Op {
    Send(u32),
    Step(u32),
    Priority(u32, u32),
    Move(u32, u32),
    Mask(u32),
    Unmask(u32),
}

const PORTS: u32 = 6;

fn op() -> impl Strategy<Value = Op> {
    let port = 0..PORTS;
    prop_oneof![
        4 => port.clone().prop_map(Op::Send),
        4 => (0..2u32).prop_map(Op::Step),
        1 => (port.clone(), 0..3u32).prop_map(|(p, n)| Op::Priority(p, n)),
        1 => (port.clone(), 0..2u32).prop_map(|(p, v)| Op::Move(p, v)),
        1 => port.clone().prop_map(Op::Mask),
        1 => port.prop_map(Op::Unmask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However sending, handling, moving between vCPUs and priorities, and masking interleave: a port that was sent to
    /// since it was last handled is handled once more, and no other is.
    #[test]
    fn nothing_is_lost_or_doubled(ops in proptest::collection::vec(op(), 1..120)) {
        let (machine, domains) = machine();
        let (d, hv) = (&domains[1], &machine.hv);
        let mut guest = FifoGuest::new(&machine, d, 2, 1);
        // Pairs within the domain, so that both ends can be moved.
        let ports: Vec<_> = (0..PORTS).map(|_| connect(&machine, d, d)).collect();
        let vcpus = [V0, V1].map(|v| d.vcpu(v).unwrap());
        for vcpu in &vcpus {
            guest.drain(vcpu);
        }
        let mut pending = BTreeSet::new();
        let mut masked = BTreeSet::new();
        for op in ops {
            match op {
                Op::Send(n) => {
                    let (from, to) = ports[n as usize];
                    d.evtchn.send(hv, d, from).unwrap();
                    pending.insert(to.0);
                }
                Op::Step(v) => {
                    if let Some(Some((port, _))) = guest.step(&vcpus[v as usize]) {
                        prop_assert!(pending.remove(&port), "{} handled twice", port);
                        prop_assert!(!masked.contains(&port));
                    }
                }
                Op::Priority(n, priority) => d.evtchn.set_priority(ports[n as usize].1, priority).unwrap(),
                Op::Move(n, v) => d.evtchn.bind_vcpu(d, ports[n as usize].1, VcpuId(v)).unwrap(),
                Op::Mask(n) => {
                    let port = ports[n as usize].1.0;
                    guest.word(port, |w| w | MASKED);
                    masked.insert(port);
                }
                Op::Unmask(n) => {
                    d.evtchn.unmask(hv, ports[n as usize].1).unwrap();
                    masked.remove(&ports[n as usize].1.0);
                }
            }
        }
        for (_, port) in &ports {
            d.evtchn.unmask(hv, *port).unwrap();
        }
        let mut handled = BTreeMap::new();
        for vcpu in &vcpus {
            for (port, _) in guest.drain(vcpu) {
                *handled.entry(port).or_insert(0) += 1;
            }
        }
        let expected: BTreeMap<_, _> = pending.into_iter().map(|port| (port, 1)).collect();
        prop_assert_eq!(handled, expected);
        for (_, port) in ports {
            prop_assert_eq!(guest.word(port.0, |w| w & (PENDING | LINKED)), 0);
        }
        drop((guest, vcpus));
        end(machine, domains);
    }

    /// A kernel that writes anything anywhere in the shared pages harms only itself: all operations still end,
    /// and events of other domains still arrive.
    #[test]
    fn scribbling_harms_nobody_else(
        writes in proptest::collection::vec((0..2u64, 0..64usize, any::<u32>(), 0..6u32), 1..150)
    ) {
        let (machine, domains) = machine();
        let ([_, a, b], hv) = (&domains, &machine.hv);
        let guest = FifoGuest::new(&machine, a, 2, 1);
        let ports: Vec<_> = (0..6).map(|_| connect(&machine, b, a)).collect();
        for (page, word, value, n) in writes {
            guest.frame(Gfn(page)).page().store_u32(word * 4, value, Ordering::SeqCst);
            let (far, near) = ports[n as usize];
            prop_assert_eq!(b.evtchn.send(hv, b, far), Ok(()));
            prop_assert_eq!(a.evtchn.send(hv, a, near), Ok(()));
            prop_assert!(b.evtchn.is_pending(far));
            prop_assert_eq!(a.evtchn.set_priority(near, value % 16), Ok(()));
            prop_assert_eq!(a.evtchn.unmask(hv, near), Ok(()));
            a.evtchn.bind_vcpu(a, near, VcpuId(value & 1)).unwrap();
        }
        drop(guest);
        end(machine, domains);
    }
}

/// Another vCPU changes all words all the time.
#[test]
fn words_that_never_stand_still() {
    let (machine, domains) = machine();
    let (d, hv) = (&domains[1], &machine.hv);
    let guest = FifoGuest::new(&machine, d, 2, 1);
    let ports: Vec<_> = (0..4).map(|_| d.evtchn.bind_ipi(d, V0).unwrap()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (words, blocks) = (guest.frame(WORDS), guest.frame(BLOCKS));
            let mut value = 1u32;
            while !stop.load(Ordering::Relaxed) {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for n in 0..5 {
                    // LINKED, so that the hypervisor tries to append; the rest is noise.
                    words.page().store_u32(
                        n * 4,
                        (value.rotate_left(n as u32 * 5) & !(PENDING | MASKED)) | LINKED,
                        Ordering::Relaxed,
                    );
                    words.page().fetch_and_u32(n * 4, !LINKED);
                }
                blocks.page().store_u32(0, value, Ordering::Relaxed);
            }
        });
        for round in 0..20_000usize {
            assert_eq!(d.evtchn.send(hv, d, ports[round % 4]), Ok(()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for port in ports {
        assert_eq!(d.evtchn.close(hv, d, port), Ok(()));
    }
    assert_eq!(d.evtchn.close(hv, d, Port(1)), Err(Error::Inval));
    drop(guest);
    end(machine, domains);
}
