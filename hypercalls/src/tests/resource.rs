//! `memory_op`: what the hypervisor keeps for a domain, mapped by one that manages it.

use xen_abi::Handle;
use xen_abi::memory::{AcquireResource, GrantTableId, MemoryOp, ResourceType};
use xen_abi::xen::Hypercall;
use xen_core::{Error, PAGE_SIZE};
use zerocopy::FromZeros;

use super::{ARG, FREE, Guest, LIST, NOBODY, NOWHERE, SELF, World, err};

fn acquire(guest: &Guest<'_>, domid: u16, id: u32, frame: u64, list: &[u64]) -> i64 {
    guest.put(LIST, list);
    let mut args = args(domid, id);
    (args.frame, args.nr_frames) = (frame, list.len() as u32);
    args.frame_list = Handle(LIST);
    make(guest, &mut args)
}

fn args(domid: u16, id: u32) -> AcquireResource {
    let mut args = AcquireResource::new_zeroed();
    (args.domid, args.kind, args.id) = (domid, ResourceType::GRANT_TABLE, id);
    args
}

fn make(guest: &Guest<'_>, args: &mut AcquireResource) -> i64 {
    guest.op(Hypercall::MEMORY_OP, MemoryOp::ACQUIRE_RESOURCE.0, args)
}

const SHARED: u32 = GrantTableId::SHARED.0;
const STATUS: u32 = GrantTableId::STATUS.0;

#[test]
fn a_toolstack_seeds_a_grant_table() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let mut size = args(1, SHARED);
    assert_eq!(make(&dom0, &mut size), 0);
    assert_eq!(size.nr_frames, one.domain().grants.size().1);
    assert_eq!(acquire(&dom0, 1, SHARED, 0, &[FREE, FREE + 1]), 0);
    dom0.put((FREE + 1) * PAGE_SIZE + 8, &0x1234u64);
    let frame = one.domain().grants.shared_frame(1).unwrap();
    let order = core::sync::atomic::Ordering::SeqCst;
    assert_eq!(frame.page().load_u64(8, order), 0x1234);
    drop(frame);
    // The table grew to it. Beyond its limit there is nothing.
    assert_eq!(one.domain().grants.size().0, 2);
    let end = u64::from(size.nr_frames);
    let inval = err(Error::Inval);
    assert_eq!(acquire(&dom0, 1, SHARED, end - 1, &[FREE + 2]), 0);
    assert_eq!(acquire(&dom0, 1, SHARED, end, &[FREE + 2]), inval);
    assert_eq!(acquire(&dom0, 1, SHARED, end - 1, &[FREE, FREE]), inval);
    // Status frames belong to version 2.
    assert_eq!(acquire(&dom0, 1, STATUS, 0, &[FREE + 3]), inval);
    one.domain().grants.set_version(2).unwrap();
    assert_eq!(acquire(&dom0, 1, STATUS, 0, &[FREE + 3]), 0);
    world.end([dom0, one]);
}

#[test]
fn the_frames_outlive_their_domain() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    assert_eq!(acquire(&dom0, 1, SHARED, 0, &[FREE]), 0);
    let domain = one.domain().clone();
    drop(one);
    world.machine.destroy(domain);
    dom0.put(FREE * PAGE_SIZE, &1u64);
    world.end([dom0]);
}

#[test]
fn memory_in_the_way_is_given_back() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let pages = dom0.domain().pages();
    assert_eq!(acquire(&dom0, 1, SHARED, 0, &[20]), 0);
    assert_eq!(dom0.domain().pages(), pages - 1);
    world.end([dom0, one]);
}

#[test]
fn long_lists_are_continued() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    world.yield_every(1);
    let list: [u64; 8] = core::array::from_fn(|n| FREE + n as u64);
    let before = dom0.restarts();
    assert_eq!(acquire(&dom0, 1, SHARED, 0, &list), 0);
    assert_eq!(dom0.restarts(), before + 7);
    assert!(list.iter().all(|gfn| dom0.is_mapped(*gfn)));
    world.end([dom0, one]);
}

#[test]
fn what_is_refused() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for (domid, error) in [(SELF, Error::Srch), (NOBODY, Error::Srch), (0, Error::Perm)] {
        assert_eq!(make(&dom0, &mut args(domid, SHARED)), err(error));
    }
    // Whoever does not manage it, itself included.
    for domid in [0, 1] {
        assert_eq!(make(&one, &mut args(domid, SHARED)), err(Error::Perm));
    }
    let inval = err(Error::Inval);
    let change = |change: &dyn Fn(&mut AcquireResource)| {
        let mut args = args(1, SHARED);
        change(&mut args);
        make(&dom0, &mut args)
    };
    assert_eq!(change(&|a| a.pad = 1), inval);
    assert_eq!(change(&|a| a.id = 2), inval);
    assert_eq!(change(&|a| a.kind = ResourceType::IOREQ_SERVER), inval);
    assert_eq!(change(&|a| a.kind = ResourceType::VMTRACE_BUF), inval);
    assert_eq!(change(&|a| a.kind = ResourceType(9)), err(Error::OpNotSupp));
    // Asked for frames without a place for them, or with one for none.
    assert_eq!(change(&|a| a.nr_frames = 1), inval);
    assert_eq!(change(&|a| a.frame_list = Handle(LIST)), inval);
    for (frame, nr_frames) in [(1 << 32, 0), (u64::MAX, 1), (1, u32::MAX), (0, u32::MAX)] {
        let wide = change(&|a| {
            (a.frame, a.nr_frames, a.frame_list) = (frame, nr_frames, Handle(LIST));
        });
        assert_eq!(wide, inval, "{frame:#x} {nr_frames:#x}");
    }
    let nowhere = change(&|a| (a.nr_frames, a.frame_list) = (1, Handle(NOWHERE)));
    assert_eq!(nowhere, err(Error::Fault));
    // Nobody but a restart sets progress, and none begins at the end.
    dom0.put(ARG, &args(1, SHARED));
    let op = u64::from(MemoryOp::ACQUIRE_RESOURCE.0);
    assert_eq!(dom0.call(Hypercall::MEMORY_OP, &[1 << 6 | op, ARG]), inval);
    world.end([dom0, one]);
}
