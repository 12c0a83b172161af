//! `memory_op`: reservations, and what is asked about them.

use xen_abi::Handle;
use xen_abi::memory::{MemFlags, MemoryOp, RemoveFromPhysmap, Reservation};
use xen_abi::xen::Hypercall;
use xen_core::soft::Machine;
use xen_core::{DomainConfig, Error, Gfn, PAGE_SIZE};

use super::{ARG, FREE, Guest, LIST, NOBODY, NOWHERE, PAGES, SELF, World, err};

const MEMORY: Hypercall = Hypercall::MEMORY_OP;
pub(super) const DECREASE: MemoryOp = MemoryOp::DECREASE_RESERVATION;
pub(super) const POPULATE: MemoryOp = MemoryOp::POPULATE_PHYSMAP;

pub(super) fn reservation(domid: u16, count: usize, order: u32) -> Reservation {
    Reservation {
        extent_start: Handle(LIST),
        nr_extents: count as u64,
        extent_order: order,
        mem_flags: MemFlags::empty(),
        domid,
        pad: [0; 6],
    }
}

/// Changes a reservation by a list of extents; the number of them that were done.
pub(super) fn change(guest: &Guest<'_>, op: MemoryOp, domid: u16, order: u32, list: &[u64]) -> i64 {
    guest.put(LIST, list);
    guest.op(MEMORY, op.0, &mut reservation(domid, list.len(), order))
}

fn ask(guest: &Guest<'_>, op: MemoryOp, domid: u16) -> i64 {
    guest.op(MEMORY, op.0, &mut { domid })
}

fn change_flags(guest: &Guest<'_>, flags: u32, list: &[u64]) -> i64 {
    guest.put(LIST, list);
    let mut args = reservation(SELF, list.len(), 0);
    args.mem_flags = MemFlags::from_bits_retain(flags);
    guest.op(MEMORY, POPULATE.0, &mut args)
}

#[test]
fn memory_comes_and_goes() {
    let world = World::new();
    let domu = world.guest(1);
    assert_eq!(change(&domu, POPULATE, SELF, 0, &[FREE, FREE + 2]), 2);
    assert_eq!(change(&domu, POPULATE, 1, 2, &[FREE + 8]), 1);
    assert_eq!(domu.domain().pages(), PAGES + 6);
    assert_eq!(
        ask(&domu, MemoryOp::CURRENT_RESERVATION, SELF),
        PAGES as i64 + 6
    );
    for gfn in [FREE, FREE + 2, FREE + 8, FREE + 11] {
        // New memory is empty, whatever it was before.
        assert_eq!(domu.bytes(gfn * PAGE_SIZE, 4096), [0; 4096]);
        domu.put(gfn * PAGE_SIZE, &[gfn; 512]);
    }
    assert!(!domu.is_mapped(FREE + 1));
    assert_eq!(change(&domu, DECREASE, SELF, 0, &[FREE + 2, FREE]), 2);
    assert_eq!(change(&domu, DECREASE, SELF, 1, &[FREE + 10, FREE + 8]), 2);
    assert_eq!(domu.domain().pages(), PAGES);
    assert!(!domu.is_mapped(FREE) && !domu.is_mapped(FREE + 11));
    // Over memory that is there: the old frame is given back.
    domu.put(5 * PAGE_SIZE, &1u64);
    assert_eq!(change(&domu, POPULATE, SELF, 0, &[5]), 1);
    assert_eq!(domu.get::<u64>(5 * PAGE_SIZE), 0);
    assert_eq!(domu.domain().pages(), PAGES);
    world.end([domu]);
}

#[test]
fn the_answer_is_the_number_done() {
    let world = World::new();
    let domu = world.guest(1);
    // The third is not there.
    assert_eq!(change(&domu, DECREASE, SELF, 0, &[20, 21, FREE, 22]), 2);
    assert!(domu.is_mapped(22));
    // The second half of the second extent is not there: what was taken of it is gone.
    assert_eq!(change(&domu, DECREASE, SELF, 1, &[30, 19]), 1);
    assert!(!domu.is_mapped(19));
    assert_eq!(domu.domain().pages(), PAGES - 5);
    // No frame of the address space.
    let end = 1 << domu.domain().p2m.gfn_bits();
    for bad in [end, u64::MAX, 1 << 52] {
        assert_eq!(change(&domu, POPULATE, SELF, 0, &[FREE, bad, FREE + 1]), 1);
        assert_eq!(change(&domu, DECREASE, SELF, 0, &[FREE, bad, FREE + 1]), 1);
        assert_eq!(change(&domu, POPULATE, SELF, 3, &[bad - 4]), 0);
        assert_eq!(change(&domu, DECREASE, SELF, 3, &[bad - 4]), 0);
    }
    assert_eq!(domu.domain().pages(), PAGES - 5);
    // A list that ends in the middle of nowhere.
    domu.unmap(LIST + PAGE_SIZE);
    let at = LIST + PAGE_SIZE - 8;
    domu.put(at, &FREE);
    let mut args = reservation(SELF, 2, 0);
    args.extent_start = Handle(at);
    assert_eq!(domu.op(MEMORY, POPULATE.0, &mut args), 1);
    assert!(domu.is_mapped(FREE));
    args.extent_start = Handle(u64::MAX - 3);
    assert_eq!(domu.op(MEMORY, DECREASE.0, &mut args), 0);
    assert_eq!(domu.call(MEMORY, &[POPULATE.0.into(), NOWHERE]), 0);
    world.end([domu]);
}

#[test]
fn limits() {
    let world = World::with_frames(2048);
    let domu = world.guest_with(DomainConfig {
        max_pages: PAGES + 3,
        ..Machine::config(1)
    });
    let dom0 = world.guest(0);
    // Its own maximum.
    assert_eq!(
        ask(&domu, MemoryOp::MAXIMUM_RESERVATION, SELF),
        PAGES as i64 + 3
    );
    let list = [FREE, FREE + 1, FREE + 2, FREE + 3];
    assert_eq!(change(&domu, POPULATE, SELF, 0, &list), 3);
    assert_eq!(change(&domu, POPULATE, SELF, 0, &list[3..]), 0);
    assert_eq!(domu.domain().pages(), PAGES + 3);
    // The largest extent: 2 MiB, for one that manages others more.
    assert_eq!(change(&domu, DECREASE, SELF, 10, &[0]), 0);
    assert_eq!(change(&dom0, DECREASE, SELF, 19, &[0]), 0);
    assert_eq!(change(&dom0, DECREASE, SELF, u32::MAX, &[0]), 0);
    assert_eq!(domu.domain().pages(), PAGES + 3);
    assert_eq!(change(&dom0, POPULATE, SELF, 10, &[1 << 12]), 1);
    // The machine's memory.
    assert_eq!(change(&dom0, POPULATE, SELF, 11, &[1 << 13]), 0);
    assert_eq!(dom0.domain().pages(), PAGES + 1024);
    assert_eq!(change(&dom0, DECREASE, SELF, 10, &[1 << 12]), 1);
    assert_eq!(dom0.domain().pages(), PAGES);
    // More extents than a command can count.
    dom0.put(LIST, &FREE);
    for count in [1u64 << 26, 1 << 58, u64::MAX] {
        let mut args = reservation(SELF, 0, 0);
        args.nr_extents = count;
        assert_eq!(dom0.op(MEMORY, POPULATE.0, &mut args), 0);
    }
    assert_eq!(dom0.domain().pages(), PAGES);
    // Memory mapped nowhere is of no use.
    assert_eq!(
        change(&dom0, MemoryOp::INCREASE_RESERVATION, SELF, 0, &[FREE]),
        0
    );
    world.end([domu, dom0]);
}

#[test]
fn a_p2m_without_pages_gives_the_frames_back() {
    let world = World::new();
    let domu = world.guest(1);
    let (used, _) = domu.domain().p2m.pool();
    domu.domain().p2m.set_pool(used).unwrap();
    let free = world.machine.hv.frames.free_frames();
    assert_eq!(change(&domu, POPULATE, SELF, 0, &[40, 1 << 14]), 1);
    assert_eq!(domu.domain().pages(), PAGES + 1);
    assert_eq!(world.machine.hv.frames.free_frames(), free - 1);
    world.end([domu]);
}

#[test]
fn where_and_how_memory_is_wanted() {
    const ON_DEMAND: u32 = 1 << 16;
    const EXACT: u32 = 1 << 17;
    let world = World::new();
    let domu = world.guest(1);
    // Addresses of so many bits: the machine has memory below 2^40 at most, and none in the first page.
    assert_eq!(change_flags(&domu, 12, &[FREE]), 0);
    assert_eq!(change_flags(&domu, 13, &[FREE]), 0);
    assert_eq!(change_flags(&domu, 48, &[FREE]), 1);
    assert_eq!(change_flags(&domu, 255, &[FREE]), 1);
    assert_eq!(change_flags(&domu, ON_DEMAND, &[FREE]), 0);
    // Any node, node 0, node 5; the last one is a wish.
    assert_eq!(change_flags(&domu, EXACT, &[FREE]), 1);
    assert_eq!(change_flags(&domu, EXACT | 1 << 8, &[FREE]), 1);
    assert_eq!(change_flags(&domu, EXACT | 6 << 8, &[FREE]), 0);
    assert_eq!(change_flags(&domu, 6 << 8, &[FREE]), 1);
    assert_eq!(domu.domain().pages(), PAGES + 1);
    world.end([domu]);
}

#[test]
fn whose_memory() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    assert_eq!(change(&dom0, POPULATE, 1, 0, &[FREE]), 1);
    assert_eq!(one.domain().pages(), PAGES + 1);
    assert_eq!(change(&dom0, DECREASE, 1, 0, &[FREE]), 1);
    assert_eq!(one.domain().pages(), PAGES);
    // Others' memory: an answer, no error.
    for victim in [0, 2, NOBODY, 0x7ff1, 0x7ff2] {
        assert_eq!(change(&one, POPULATE, victim, 0, &[FREE]), 0);
        assert_eq!(change(&one, DECREASE, victim, 0, &[5]), 0);
    }
    assert_eq!(
        (dom0.domain().pages(), two.domain().pages()),
        (PAGES, PAGES)
    );
    for op in [
        MemoryOp::CURRENT_RESERVATION,
        MemoryOp::MAXIMUM_RESERVATION,
        MemoryOp::MAXIMUM_GPFN,
    ] {
        assert!(ask(&dom0, op, 1) > 0);
        assert_eq!(ask(&one, op, 1), ask(&one, op, SELF));
        assert_eq!(ask(&one, op, 2), err(Error::Perm));
        assert_eq!(ask(&one, op, NOBODY), err(Error::Srch));
        assert_eq!(ask(&dom0, op, NOBODY), err(Error::Srch));
    }
    world.end([dom0, one, two]);
}

#[test]
fn what_is_asked() {
    let world = World::new();
    let domu = world.guest(1);
    assert_eq!(ask(&domu, MemoryOp::MAXIMUM_GPFN, SELF), PAGES as i64 - 1);
    assert_eq!(change(&domu, POPULATE, SELF, 0, &[FREE]), 1);
    assert_eq!(ask(&domu, MemoryOp::MAXIMUM_GPFN, SELF), FREE as i64);
    let end = world.machine.hv.frames.end().0 as i64;
    assert_eq!(
        domu.call(MEMORY, &[MemoryOp::MAXIMUM_RAM_PAGE.0.into(), NOWHERE]),
        end
    );
    // Sharing saves nothing; there is nothing to trade.
    for (op, arg, result) in [
        (18, NOWHERE, 0),
        (19, NOWHERE, 0),
        (11, ARG, err(Error::Inval)),
        (11, NOWHERE, err(Error::Fault)),
    ] {
        assert_eq!(domu.call(MEMORY, &[op, arg]), result, "{op}");
    }
    for op in [5, 12, 25, 29] {
        assert_eq!(domu.call(MEMORY, &[op, ARG]), err(Error::NoSys), "{op}");
    }
    world.end([domu]);
}

#[test]
fn progress_that_nobody_made() {
    let world = World::new();
    let domu = world.guest(1);
    domu.put(LIST, &[20u64, 21, 22]);
    domu.put(ARG, &reservation(SELF, 3, 0));
    let from = |op: MemoryOp, start: u64| domu.call(MEMORY, &[start << 6 | u64::from(op.0), ARG]);
    // Starting later is allowed: a guest can skip what it wants to.
    assert_eq!(from(DECREASE, 2), 3);
    assert!(domu.is_mapped(20) && domu.is_mapped(21) && !domu.is_mapped(22));
    for start in [3, 4, 1 << 20, 1 << 26, (1 << 58) - 1] {
        for op in [DECREASE, POPULATE, MemoryOp::INCREASE_RESERVATION] {
            assert_eq!(from(op, start), start as i64);
        }
        for op in [2, 3, 4, 7, 14, 15] {
            assert_eq!(from(MemoryOp(op), start), err(Error::Inval), "{op} {start}");
        }
    }
    assert_eq!(domu.domain().pages(), PAGES - 1);
    assert_eq!(domu.domain().p2m.lookup(Gfn(22)), None);
    let mut remove = RemoveFromPhysmap {
        domid: SELF,
        pad: [0; 6],
        gpfn: 20,
    };
    assert_eq!(domu.op(MEMORY, 1 << 6 | 15, &mut remove), err(Error::Inval));
    assert!(domu.is_mapped(20));
    world.end([domu]);
}
