//! `memory_op`: mapping the shared info page, grant table, other domains' memory, devices.

use alloc::vec::Vec;

use xen_abi::Handle;
use xen_abi::memory::{AddToPhysmap, AddToPhysmapBatch, MapSpace, MemoryOp, RemoveFromPhysmap};
use xen_abi::xen::Hypercall;
use xen_core::p2m::P2mType;
use xen_core::{Error, Gfn, PAGE_SIZE};

use super::memory::{POPULATE, change};
use super::{FREE, Guest, LIST, NOBODY, NOWHERE, PAGES, SELF, World, err};

const MEMORY: Hypercall = Hypercall::MEMORY_OP;
/// Lists of indices, guest frames, errors.
pub(super) const LISTS: [u64; 3] = [LIST, LIST + PAGE_SIZE, LIST + 2 * PAGE_SIZE];

pub(super) fn add(guest: &Guest<'_>, domid: u16, space: MapSpace, idx: u64, gpfn: u64) -> i64 {
    let mut args = AddToPhysmap {
        domid,
        size: 0,
        space,
        idx,
        gpfn,
    };
    guest.op(MEMORY, MemoryOp::ADD_TO_PHYSMAP.0, &mut args)
}

pub(super) fn remove(guest: &Guest<'_>, domid: u16, gpfn: u64) -> i64 {
    let mut args = RemoveFromPhysmap {
        domid,
        pad: [0; 6],
        gpfn,
    };
    guest.op(MEMORY, MemoryOp::REMOVE_FROM_PHYSMAP.0, &mut args)
}

pub(super) fn batch_args(
    domid: u16,
    space: MapSpace,
    foreign: u16,
    size: usize,
) -> AddToPhysmapBatch {
    AddToPhysmapBatch {
        domid,
        space: space.0 as u16,
        size: size as u16,
        foreign_domid: foreign,
        idxs: Handle(LISTS[0]),
        gpfns: Handle(LISTS[1]),
        errs: Handle(LISTS[2]),
    }
}

/// Maps several pages: (index, guest frame); the error of each.
pub(super) fn batch(
    guest: &Guest<'_>,
    domid: u16,
    space: MapSpace,
    foreign: u16,
    pages: &[(u64, u64)],
) -> Result<Vec<i64>, i64> {
    for (n, (idx, gfn)) in (0..).zip(pages) {
        guest.put(LISTS[0] + n * 8, idx);
        guest.put(LISTS[1] + n * 8, gfn);
        guest.put(LISTS[2] + n * 4, &1i32);
    }
    let mut args = batch_args(domid, space, foreign, pages.len());
    match guest.op(MEMORY, MemoryOp::ADD_TO_PHYSMAP_BATCH.0, &mut args) {
        0 => Ok((0..pages.len() as u64)
            .map(|n| guest.get::<i32>(LISTS[2] + n * 4).into())
            .collect()),
        error => Err(error),
    }
}

fn kind(guest: &Guest<'_>, gfn: u64) -> Option<P2mType> {
    guest.domain().p2m.lookup(Gfn(gfn)).map(|e| e.kind)
}

#[test]
fn shared_info() {
    let world = World::new();
    let domu = world.guest(1);
    assert_eq!(add(&domu, SELF, MapSpace::SHARED_INFO, 0, FREE), 0);
    assert_eq!(kind(&domu, FREE), Some(P2mType::Shared));
    domu.put(FREE * PAGE_SIZE + 4000, &7u64);
    let page = domu.domain().shared_info.page();
    assert_eq!(page.load_u64(4000, core::sync::atomic::Ordering::SeqCst), 7);
    assert_eq!(
        add(&domu, SELF, MapSpace::SHARED_INFO, 1, FREE),
        err(Error::Inval)
    );
    // In place of memory, which is given back.
    assert_eq!(add(&domu, SELF, MapSpace::SHARED_INFO, 0, 5), 0);
    assert_eq!(domu.domain().pages(), PAGES - 1);
    assert_eq!(change(&domu, POPULATE, SELF, 0, &[5]), 1);
    assert_eq!(kind(&domu, 5), Some(P2mType::RamRw));
    // Not memory: it cannot be given back as such.
    assert_eq!(change(&domu, super::memory::DECREASE, SELF, 0, &[FREE]), 0);
    assert_eq!(remove(&domu, SELF, FREE), 0);
    assert_eq!(remove(&domu, SELF, FREE), err(Error::NoEnt));
    assert_eq!(domu.domain().pages(), PAGES);
    let end = 1 << domu.domain().p2m.gfn_bits();
    for bad in [end, u64::MAX] {
        assert_eq!(
            add(&domu, SELF, MapSpace::SHARED_INFO, 0, bad),
            err(Error::Inval)
        );
        assert_eq!(remove(&domu, SELF, bad), err(Error::NoEnt));
    }
    world.end([domu]);
}

#[test]
fn grant_table_frames() {
    const STATUS: u64 = 1 << 31;
    let world = World::new();
    let domu = world.guest(1);
    let grants = MapSpace::GRANT_TABLE;
    assert_eq!(domu.domain().grants.size(), (1, 8));
    assert_eq!(add(&domu, SELF, grants, 0, FREE), 0);
    assert_eq!(add(&domu, SELF, grants, 3, FREE + 3), 0);
    assert_eq!(domu.domain().grants.size(), (4, 8));
    for bad in [
        8,
        u64::MAX,
        1 << 32,
        STATUS,
        STATUS | 1,
        u64::from(u32::MAX),
    ] {
        assert_eq!(
            add(&domu, SELF, grants, bad, FREE + 5),
            err(Error::Inval),
            "{bad:#x}"
        );
    }
    domu.domain().grants.set_version(2).unwrap();
    assert_eq!(add(&domu, SELF, grants, STATUS, FREE + 6), 0);
    for bad in [1, 2, 1000, u64::from(u32::MAX)] {
        assert_eq!(
            add(&domu, SELF, grants, STATUS | bad, FREE + 5),
            err(Error::Inval)
        );
    }
    assert!(!domu.is_mapped(FREE + 5));
    assert_eq!(domu.domain().grants.size(), (4, 8));
    world.end([domu]);
}

#[test]
fn spaces_that_are_not_served() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    for space in [6, 99, u32::MAX] {
        assert_eq!(
            add(&domu, SELF, MapSpace(space), 0, FREE),
            err(Error::NoSys)
        );
    }
    assert_eq!(
        add(&dom0, SELF, MapSpace::GMFN_FOREIGN, 0, FREE),
        err(Error::NoSys)
    );
    assert_eq!(
        batch(&dom0, SELF, MapSpace::GMFN_RANGE, 0, &[(0, FREE)]),
        Err(err(Error::OpNotSupp))
    );
    let unknown = batch(&dom0, SELF, MapSpace(6), 0, &[(0, FREE), (1, FREE)]);
    assert_eq!(unknown, Ok([err(Error::NoSys); 2].into()));
    world.end([dom0, domu]);
}

#[test]
fn whose_address_space() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    let info = MapSpace::SHARED_INFO;
    assert_eq!(add(&dom0, 1, info, 0, FREE), 0);
    assert!(one.is_mapped(FREE) && !dom0.is_mapped(FREE));
    assert_eq!(remove(&dom0, 1, FREE), 0);
    for (who, error) in [(2, Error::Perm), (0, Error::Perm), (NOBODY, Error::Srch)] {
        assert_eq!(add(&one, who, info, 0, FREE), err(error));
        assert_eq!(remove(&one, who, 5), err(error));
        assert_eq!(batch(&one, who, info, 0, &[(0, FREE)]), Err(err(error)));
    }
    assert!(two.is_mapped(5) && !two.is_mapped(FREE));
    world.end([dom0, one, two]);
}

#[test]
fn foreign_memory() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    let foreign = MapSpace::GMFN_FOREIGN;
    one.put(7 * PAGE_SIZE, b"of domain 1");
    let pages = [(7, FREE), (FREE, FREE + 1), (8, FREE + 2), (9, u64::MAX)];
    let inval = err(Error::Inval);
    assert_eq!(
        batch(&dom0, SELF, foreign, 1, &pages),
        Ok([0, inval, 0, inval].into())
    );
    assert_eq!(dom0.bytes(FREE * PAGE_SIZE, 11), b"of domain 1");
    assert_eq!(kind(&dom0, FREE), Some(P2mType::ForeignRw));
    assert!(!dom0.is_mapped(FREE + 1));
    assert_eq!(dom0.domain().pages(), PAGES);
    // What is foreign here, or the hypervisor's, cannot be handed on.
    assert_eq!(add(&one, SELF, MapSpace::SHARED_INFO, 0, FREE), 0);
    assert_eq!(
        batch(&dom0, SELF, foreign, 1, &[(FREE, FREE + 3)]),
        Ok([inval].into())
    );
    assert_eq!(change(&dom0, super::memory::DECREASE, SELF, 0, &[FREE]), 0);
    // The frame lives on here when its owner gives it away.
    assert_eq!(change(&one, super::memory::DECREASE, SELF, 0, &[7]), 1);
    assert_eq!(dom0.bytes(FREE * PAGE_SIZE, 11), b"of domain 1");
    assert_eq!(remove(&dom0, SELF, FREE), 0);
    assert_eq!(remove(&dom0, SELF, FREE + 2), 0);

    // Nobody, oneself by either name, and domains without the right: each page says so.
    let errors = |guest, domid, whose| batch(guest, domid, foreign, whose, &[(5, FREE), (6, FREE)]);
    for nobody in [NOBODY, SELF, 0, 0x7ff1, 0x7ff2] {
        assert_eq!(
            errors(&dom0, SELF, nobody),
            Ok([err(Error::Srch); 2].into())
        );
    }
    assert_eq!(errors(&dom0, 1, 1), Ok([inval; 2].into()));
    assert_eq!(errors(&one, SELF, 2), Ok([err(Error::Perm); 2].into()));
    assert_eq!(errors(&one, SELF, 0), Ok([err(Error::Perm); 2].into()));
    // dom0 may see domain 2, but domain 1 may not, not even by dom0's doing.
    assert_eq!(errors(&dom0, 1, 2), Ok([err(Error::Perm); 2].into()));
    world.end([dom0, one, two]);
}

#[test]
fn devices_are_for_the_hardware_domain() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let device = MapSpace::DEV_MMIO;
    let refused = Err(err(Error::Access));
    assert_eq!(batch(&domu, SELF, device, 0, &[(0, FREE)]), refused);
    assert_eq!(batch(&dom0, 1, device, 0, &[(0, FREE)]), refused);
    assert_eq!(
        batch(&dom0, SELF, device, 1, &[(0, FREE)]),
        Err(err(Error::OpNotSupp))
    );
    assert_eq!(add(&domu, SELF, device, 0, FREE), err(Error::Access));
    // Memory is no device, and the software machine has none.
    let ram = world.machine.hv.frames.end().0 - 1;
    for frame in [ram, 0] {
        assert_eq!(
            batch(&dom0, SELF, device, 0, &[(frame, FREE)]),
            Ok([err(Error::Perm)].into())
        );
        assert_eq!(add(&dom0, SELF, device, frame, FREE), err(Error::Perm));
    }
    world.end([dom0, domu]);
}

#[test]
fn lists_that_end_in_nowhere() {
    let world = World::new();
    let domu = world.guest(1);
    let grants = MapSpace::GRANT_TABLE;
    assert_eq!(batch(&domu, SELF, grants, 0, &[]), Ok([].into()));
    // What must be 0 for other spaces is not looked at.
    assert_eq!(batch(&domu, SELF, grants, 9, &[(0, FREE)]), Ok([0].into()));
    for bad in 0..3 {
        let mut args = batch_args(SELF, grants, 0, 2);
        let size = if bad == 2 { 4 } else { 8 };
        let place = [&mut args.idxs, &mut args.gpfns, &mut args.errs];
        // The first element is there, the second is not.
        *place[bad] = Handle(0xa000 - size);
        domu.unmap(0xa000);
        domu.put(LISTS[0], &[1u64, 2]);
        domu.put(LISTS[1], &[FREE + 1, FREE + 2]);
        domu.put(0xa000 - 8, &(FREE + 1));
        let result = domu.op(MEMORY, MemoryOp::ADD_TO_PHYSMAP_BATCH.0, &mut args);
        assert_eq!(result, err(Error::Fault), "{bad}");
        let place = [&mut args.idxs, &mut args.gpfns, &mut args.errs];
        *place[bad] = Handle(NOWHERE);
        let result = domu.op(MEMORY, MemoryOp::ADD_TO_PHYSMAP_BATCH.0, &mut args);
        assert_eq!(result, err(Error::Fault), "{bad}");
    }
    world.end([domu]);
}

#[test]
fn progress_in_a_batch() {
    let world = World::new();
    let domu = world.guest(1);
    let pages = [(0, FREE), (1, FREE + 1), (2, FREE + 2)];
    assert_eq!(
        batch(&domu, SELF, MapSpace::GRANT_TABLE, 0, &pages),
        Ok([0; 3].into())
    );
    for (_, gfn) in pages {
        assert_eq!(remove(&domu, SELF, gfn), 0);
    }
    let mut args = batch_args(SELF, MapSpace::GRANT_TABLE, 0, 3);
    let op = MemoryOp::ADD_TO_PHYSMAP_BATCH.0;
    for start in [3, 4, 0xffff, 0x10000, (1 << 26) - 1] {
        assert_eq!(
            domu.op(MEMORY, start << 6 | op, &mut args),
            err(Error::Inval),
            "{start}"
        );
    }
    assert_eq!(domu.op(MEMORY, 2 << 6 | op, &mut args), 0);
    assert!(!domu.is_mapped(FREE) && !domu.is_mapped(FREE + 1) && domu.is_mapped(FREE + 2));
    world.end([domu]);
}

/// Moves a range of a domain's own pages.
fn move_range(guest: &Guest<'_>, domid: u16, from: u64, to: u64, size: u16) -> i64 {
    let mut args = AddToPhysmap {
        domid,
        size,
        space: MapSpace::GMFN_RANGE,
        idx: from,
        gpfn: to,
    };
    guest.op(MEMORY, MemoryOp::ADD_TO_PHYSMAP.0, &mut args)
}

#[test]
fn pages_move() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let gmfn = MapSpace::GMFN;
    one.put(20 * PAGE_SIZE, &20u64);
    one.put(21 * PAGE_SIZE, &21u64);
    let free = world.machine.hv.frames.free_frames();
    // To a hole, by the domain's builder.
    assert_eq!(add(&dom0, 1, gmfn, 20, FREE), 0);
    assert!(!one.is_mapped(20) && kind(&one, FREE) == Some(P2mType::RamRw));
    assert_eq!(one.get::<u64>(FREE * PAGE_SIZE), 20);
    assert_eq!(one.domain().pages(), PAGES);
    // Over another page, which is given back.
    assert_eq!(add(&one, SELF, gmfn, FREE, 21), 0);
    assert_eq!(one.get::<u64>(21 * PAGE_SIZE), 20);
    assert_eq!(one.domain().pages(), PAGES - 1);
    assert_eq!(change(&one, POPULATE, SELF, 0, &[20]), 1);
    // Where it is already.
    assert_eq!(add(&one, SELF, gmfn, 21, 21), 0);
    assert_eq!(one.get::<u64>(21 * PAGE_SIZE), 20);
    // Nothing to move, nowhere to move it, not memory.
    let end = 1 << one.domain().p2m.gfn_bits();
    for (from, to) in [(FREE, 5), (end, 5), (u64::MAX, 5), (5, end), (5, u64::MAX)] {
        assert_eq!(add(&one, SELF, gmfn, from, to), err(Error::Inval));
    }
    assert_eq!(add(&one, SELF, MapSpace::SHARED_INFO, 0, FREE + 9), 0);
    assert_eq!(add(&one, SELF, gmfn, FREE + 9, 5), err(Error::Inval));
    // Other things that are in the way go.
    assert_eq!(add(&one, SELF, gmfn, 22, FREE + 9), 0);
    assert_eq!(kind(&one, FREE + 9), Some(P2mType::RamRw));
    assert_eq!(add(&one, 0, gmfn, 5, FREE), err(Error::Perm));
    let list = [(23, FREE + 1), (FREE + 50, FREE + 2), (24, FREE + 3)];
    assert_eq!(
        batch(&dom0, 1, gmfn, 0, &list),
        Ok([0, err(Error::Inval), 0].into())
    );
    // A table's page for the second half of the address space is all that is new.
    assert!(free - world.machine.hv.frames.free_frames() <= 2);
    world.end([dom0, one]);
}

#[test]
fn ranges_of_pages_move() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    (20..28).for_each(|n| one.put(n * PAGE_SIZE, &n));
    world.yield_every(1);
    let before = dom0.restarts();
    assert_eq!(move_range(&dom0, 1, 20, FREE, 8), 0);
    assert_eq!(dom0.restarts(), before + 7);
    world.yield_every(0);
    for n in 0..8 {
        assert_eq!(one.get::<u64>((FREE + n) * PAGE_SIZE), 20 + n);
        assert!(!one.is_mapped(20 + n));
    }
    assert_eq!(one.domain().pages(), PAGES);
    // Up to the first that is not there.
    assert_eq!(move_range(&dom0, 1, FREE + 6, 20, 4), err(Error::Inval));
    assert!(one.is_mapped(20) && one.is_mapped(21) && !one.is_mapped(22));
    assert_eq!(move_range(&one, 1, FREE, 0, 0), 0);
    assert_eq!(move_range(&one, 1, u64::MAX, 0, 2), err(Error::Inval));
    assert_eq!(move_range(&one, 0, 5, 6, 1), err(Error::Perm));
    // Nobody but a restart sets progress.
    let args = AddToPhysmap {
        domid: SELF,
        size: 2,
        space: MapSpace::GMFN_RANGE,
        idx: FREE,
        gpfn: 22,
    };
    one.put(super::ARG, &args);
    let op = u64::from(MemoryOp::ADD_TO_PHYSMAP.0);
    let at = |start: u64| one.call(MEMORY, &[start << 6 | op, super::ARG]);
    assert_eq!((at(3), at(2)), (err(Error::Inval), 0));
    assert!(!one.is_mapped(22));
    world.end([dom0, one]);
}
