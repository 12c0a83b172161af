//! `multicall`.

use alloc::vec::Vec;

use xen_abi::xen::{Hypercall, MulticallEntry};
use xen_core::{Error, PAGE_SIZE};

use super::memory::{DECREASE, POPULATE, reservation};
use super::{ARG, FREE, Guest, LIST, NOWHERE, PAGES, SELF, World, err};

const MULTICALL: Hypercall = Hypercall::MULTICALL;
const CALLS: u64 = 0x10_000;
const SIZE: u64 = size_of::<MulticallEntry>() as u64;

fn entry(op: Hypercall, args: &[u64]) -> MulticallEntry {
    let mut entry = MulticallEntry {
        op,
        result: 0x5555,
        args: [0; 6],
    };
    entry.args[..args.len()].copy_from_slice(args);
    entry
}

fn results(guest: &Guest<'_>, count: u64) -> Vec<i64> {
    (0..count)
        .map(|n| guest.get::<MulticallEntry>(CALLS + n * SIZE).result as i64)
        .collect()
}

#[test]
fn each_entry_has_a_result() {
    let world = World::new();
    let domu = world.guest(1);
    let calls = [
        entry(Hypercall::XEN_VERSION, &[0]),
        entry(Hypercall(99), &[]),
        entry(Hypercall(1 << 32 | 17), &[]),
        entry(MULTICALL, &[CALLS, 1]),
        entry(Hypercall::XEN_VERSION, &[8, NOWHERE]),
        entry(Hypercall::XEN_VERSION, &[7]),
    ];
    domu.put(CALLS, &calls);
    assert_eq!(domu.call(MULTICALL, &[CALLS, 6]), 0);
    let nosys = err(Error::NoSys);
    let expected = [
        4 << 16 | 17,
        nosys,
        nosys,
        err(Error::Inval),
        err(Error::Fault),
        4096,
    ];
    assert_eq!(results(&domu, 6), expected);
    // An error of an entry is no error of the whole, and its arguments stay as they are.
    let first: MulticallEntry = domu.get(CALLS);
    assert_eq!((first.op, first.args), (calls[0].op, calls[0].args));
    assert_eq!(domu.call(MULTICALL, &[NOWHERE, 0]), 0);
    world.end([domu]);
}

#[test]
fn a_list_that_ends_in_nowhere() {
    let world = World::new();
    let domu = world.guest(1);
    let at = CALLS + PAGE_SIZE - SIZE - SIZE / 2;
    domu.unmap(CALLS + PAGE_SIZE);
    domu.put(at, &entry(Hypercall::XEN_VERSION, &[7]));
    domu.put(at + SIZE, &[0u64; 4]);
    for count in [2, u64::from(u32::MAX)] {
        assert_eq!(domu.call(MULTICALL, &[at, count]), err(Error::Fault));
        // What came before was done.
        assert_eq!(domu.get::<MulticallEntry>(at).result, 4096);
        domu.put(at, &entry(Hypercall::XEN_VERSION, &[7]));
    }
    for list in [u64::MAX, u64::MAX - SIZE + 1, u64::MAX - 1000] {
        assert_eq!(domu.call(MULTICALL, &[list, 3]), err(Error::Fault));
    }
    world.end([domu]);
}

#[test]
fn a_list_that_a_call_overwrites() {
    let world = World::new();
    let domu = world.guest(1);
    // The first call writes zeroes and a handle over the second entry's number: it becomes another call.
    domu.put(
        CALLS,
        &[
            entry(Hypercall::XEN_VERSION, &[8, CALLS + SIZE]),
            entry(Hypercall::XEN_VERSION, &[0]),
        ],
    );
    assert_eq!(domu.call(MULTICALL, &[CALLS, 2]), 0);
    assert_eq!(results(&domu, 2), [0, err(Error::NoSys)]);
    // And an entry's own result wins over what its call wrote there.
    domu.put(CALLS, &entry(Hypercall::XEN_VERSION, &[8, CALLS]));
    assert_eq!(domu.call(MULTICALL, &[CALLS, 1]), 0);
    assert_eq!(
        domu.get::<MulticallEntry>(CALLS),
        MulticallEntry {
            result: 0,
            ..entry(Hypercall::XEN_VERSION, &[8, CALLS])
        }
    );
    world.end([domu]);
}

#[test]
fn restarts_inside() {
    for n in 0..9 {
        let world = World::new();
        let domu = world.guest(1);
        let more: Vec<u64> = (FREE..FREE + 20).collect();
        let less: Vec<u64> = (20..30).collect();
        domu.put(LIST, &more[..]);
        domu.put(LIST + PAGE_SIZE, &less[..]);
        domu.put(ARG, &reservation(SELF, more.len(), 0));
        let mut second = reservation(SELF, less.len(), 0);
        second.extent_start.0 += PAGE_SIZE;
        domu.put(ARG + 64, &second);
        domu.put(
            CALLS,
            &[
                entry(Hypercall::XEN_VERSION, &[0]),
                entry(Hypercall::MEMORY_OP, &[POPULATE.0.into(), ARG]),
                entry(Hypercall::MEMORY_OP, &[DECREASE.0.into(), ARG + 64]),
                entry(Hypercall::XEN_VERSION, &[7]),
            ],
        );
        world.yield_every(n);
        assert_eq!(domu.call(MULTICALL, &[CALLS, 4]), 0);
        assert_eq!(results(&domu, 4), [4 << 16 | 17, 20, 10, 4096], "every {n}");
        assert_eq!(domu.domain().pages(), PAGES + 10);
        assert_eq!(domu.restarts() > 0, n > 0);
        world.end([domu]);
    }
}

#[test]
fn progress_is_kept_in_the_entry() {
    let world = World::new();
    let domu = world.guest(1);
    domu.put(LIST, &[FREE, FREE + 1, FREE + 2]);
    domu.put(ARG, &reservation(SELF, 3, 0));
    domu.put(
        CALLS,
        &[
            entry(Hypercall::XEN_VERSION, &[7]),
            entry(Hypercall::MEMORY_OP, &[POPULATE.0.into(), ARG]),
        ],
    );
    world.yield_every(1);
    assert_eq!(domu.once(MULTICALL, &[CALLS, 2]), None);
    // Before the second entry.
    assert_eq!(domu.args()[..2], [CALLS + SIZE, 1]);
    assert_eq!(domu.again(), None);
    // In it: the call as it is to be made again.
    assert_eq!(domu.args()[..2], [CALLS + SIZE, 1]);
    let inner: MulticallEntry = domu.get(CALLS + SIZE);
    assert_eq!(inner.args[..2], [1 << 6 | u64::from(POPULATE.0), ARG]);
    assert!(domu.is_mapped(FREE) && !domu.is_mapped(FREE + 1));
    // What the guest makes of it meanwhile is its own business.
    domu.put(CALLS + SIZE, &entry(Hypercall::MULTICALL, &[CALLS, 2]));
    assert_eq!(domu.again(), Some(0));
    assert_eq!(results(&domu, 2)[1], err(Error::Inval));
    assert_eq!(domu.domain().pages(), PAGES + 1);
    world.end([domu]);
}
