//! The list of a domain's frames.

use xen_abi::Handle;
use xen_abi::domctl::GetMemList;
use xen_core::p2m::P2mType;
use xen_core::{Error, Gfn, PAGE_SIZE};

use super::*;
use crate::tests::{FREE, LIST, NOBODY, NOWHERE, err};

const CMD: DomctlCmd = DomctlCmd::GETMEMLIST;
const OLD: Interface = Interface::V0F;

fn args(max_pfns: u64, at: u64) -> GetMemList {
    GetMemList {
        max_pfns,
        start_pfn: 0xdead_beef,
        buffer: Handle(at),
        num_pfns: 77,
    }
}

/// A domain with memory at 0 to 7, at every third frame from [`FREE`] on, in one large piece, and other things between.
fn built(dom0: &Guest<'_>) -> alloc::vec::Vec<u64> {
    let domain = dom0.build(1, 1);
    let (hv, p2m) = (&dom0.world.machine.hv, &domain.p2m);
    let mut frames: alloc::vec::Vec<u64> = (0..8).collect();
    for n in 0..150 {
        let gfn = FREE + 3 * n;
        let frame = hv.frames.alloc_page(domain.id()).unwrap();
        p2m.map_new(Gfn(gfn), frame, P2mType::RamRw).unwrap();
        frames.push(gfn);
    }
    let shared = domain.shared_info.try_clone().unwrap();
    p2m.map_new(Gfn(FREE + 1), shared, P2mType::Shared).unwrap();
    let large = hv
        .frames
        .alloc(domain.id(), 7, xen_core::mem::AllocFlags::empty())
        .unwrap();
    let at = 0x1000;
    p2m.map(Gfn(at), large.mfn(), 128, P2mType::RamRo).unwrap();
    large.into_raw();
    frames.extend(at..at + 128);
    domain.set_max_pages(1 << 16);
    domain.charge_pages(150 + 128).unwrap();
    frames
}

#[test]
fn all_or_as_many_as_there_is_room_for() {
    let world = World::new();
    let dom0 = world.guest(0);
    let frames = built(&dom0);
    for yields in [0, 1, 2] {
        world.yield_every(yields);
        for max in [0, 1, 7, 9, 128, 200, frames.len(), 1 << 20] {
            dom0.put(LIST, &[0u8; 4096]);
            let mut list = args(max as u64, LIST);
            assert_eq!(dom0.domctl_at(CMD, OLD, 1, &mut list), 0);
            let count = max.min(frames.len());
            assert_eq!(list.num_pfns, count as u64);
            let told = dom0.bytes(LIST, count * 8 + 8);
            let wanted = frames[..count].iter().chain([&0]);
            let wanted: alloc::vec::Vec<u8> = wanted.flat_map(|f| f.to_le_bytes()).collect();
            assert_eq!(told, wanted, "{max}");
        }
    }
    assert!(dom0.restarts() > 0);
    world.end([dom0]);
}

#[test]
fn a_fault_leaves_the_count_so_far() {
    let world = World::new();
    let dom0 = world.guest(0);
    let frames = built(&dom0);
    // Room for 40, and then nothing.
    let end = 0x8000;
    dom0.unmap(end);
    for yields in [0, 1] {
        world.yield_every(yields);
        for room in [0u64, 1, 40, 200] {
            let at = end - room * 8;
            let mut list = args(1000, at);
            let result = dom0.domctl_at(CMD, OLD, 1, &mut list);
            assert_eq!((result, list.num_pfns), (err(Error::Fault), room));
            for (n, frame) in frames[..room as usize].iter().enumerate() {
                assert_eq!(dom0.get::<u64>(at + 8 * n as u64), *frame);
            }
        }
        let mut list = args(1000, NOWHERE);
        let result = dom0.domctl_at(CMD, OLD, 1, &mut list);
        assert_eq!((result, list.num_pfns), (err(Error::Fault), 0));
        let mut list = args(1000, u64::MAX - 3);
        let result = dom0.domctl_at(CMD, OLD, 1, &mut list);
        assert_eq!((result, list.num_pfns), (err(Error::Fault), 0));
    }
    world.end([dom0]);
}

#[test]
fn what_is_refused() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let mut list = args((1 << 20) + 1, LIST);
    let result = dom0.domctl_at(CMD, OLD, 1, &mut list);
    assert_eq!(result, err(Error::OpNotSupp));
    // Nothing is written, which would not be there.
    let mut list = args(0, NOWHERE);
    assert_eq!(dom0.domctl_at(CMD, OLD, 1, &mut list), 0);
    for version in VERSIONS {
        let result = dom0.domctl_at(CMD, version, 1, &mut args(8, LIST));
        assert_eq!(result, err(Error::NoSys), "{version:?}");
    }
    let result = dom0.domctl_at(CMD, OLD, NOBODY, &mut args(8, LIST));
    assert_eq!(result, err(Error::Srch));
    // One that is being destroyed has no memory to speak of.
    world.yield_every(1);
    for n in 0..100 {
        let frame = world.machine.hv.frames.alloc_page(DomainId(1)).unwrap();
        world.domain(1).charge_pages(1).unwrap();
        let kind = P2mType::RamRw;
        world
            .domain(1)
            .p2m
            .map_new(Gfn(FREE + 2 * n), frame, kind)
            .unwrap();
    }
    dom0.put_domctl(DomctlCmd::DESTROYDOMAIN, V, 1, Payload::ZERO);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    let result = dom0.domctl_at(CMD, OLD, 1, &mut args(8, LIST));
    assert_eq!(result, err(Error::Inval));
    world.end([dom0]);
}

#[test]
fn progress_that_a_caller_made_up_harms_nobody() {
    let world = World::new();
    let dom0 = world.guest(0);
    let frames = built(&dom0);
    for (num_pfns, start_pfn) in [(0, 5), (3, u64::MAX), (8, 8), (9, 0), (u64::MAX, 0)] {
        let mut list = args(8, LIST);
        (list.num_pfns, list.start_pfn) = (num_pfns, start_pfn);
        dom0.put_domctl(CMD, OLD, 1, payload(OLD, &list));
        let result = dom0.call(Hypercall::DOMCTL, &[ARG, 0x7e6d_656d_6c69_7374]);
        assert_eq!(result, 0);
        let wire: Domctl = dom0.get(ARG);
        let told: GetMemList = read(OLD, &wire.u);
        assert!(told.num_pfns <= 8);
        for n in num_pfns..told.num_pfns {
            let frame = dom0.get::<u64>(LIST + 8 * n);
            assert!(frames.contains(&frame) && frame < PAGE_SIZE << 4);
        }
    }
    world.end([dom0]);
}
