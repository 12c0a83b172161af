//! Memory maps.

use xen_abi::arch_x86::MemmapType;
use xen_abi::memory::{E820Entry, ForeignMemoryMap, MemoryMap, VnumaTopologyInfo};
use xen_abi::xen::Hypercall;
use xen_core::{Arch, Error, MEMORY_MAP_ENTRIES};

use super::{ARG, Guest, LIST, NOBODY, NOWHERE, SELF, World, err};

const MEMORY: Hypercall = Hypercall::MEMORY_OP;

fn entry(n: u64) -> E820Entry {
    E820Entry::new(n << 12, 0x1000, MemmapType::RAM)
}

/// Asks for a map: how many entries there are, and what is in the list then.
fn show(guest: &Guest<'_>, op: u32, room: u32, buffer: u64) -> Result<Vec<E820Entry>, i64> {
    let mut map = MemoryMap {
        nr_entries: room,
        pad: 0,
        buffer: xen_abi::Handle(buffer),
    };
    match guest.op(MEMORY, op, &mut map) {
        0 => Ok((0..map.nr_entries.into())
            .map(|n: u64| guest.get(LIST + n * 20))
            .collect()),
        error => Err(error),
    }
}

fn set(guest: &Guest<'_>, domid: u16, count: u32, buffer: u64) -> i64 {
    let mut map = ForeignMemoryMap {
        domid,
        pad: [0; 6],
        map: MemoryMap {
            nr_entries: count,
            pad: 0,
            buffer: xen_abi::Handle(buffer),
        },
    };
    guest.op(MEMORY, 13, &mut map)
}

/// Who sets the map of `one`, and by what name: its builder, or itself where there is no management.
fn setter<'g, 'w>(dom0: &'g Guest<'w>, one: &'g Guest<'w>) -> (&'g Guest<'w>, u16) {
    match cfg!(feature = "mgmt_hypercalls") {
        true => (dom0, 1),
        false => (one, SELF),
    }
}

#[test]
fn a_map_is_what_was_set() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let (setter, name) = setter(&dom0, &one);
    let nothing = Err(err(Error::NoSys));
    assert_eq!(show(&one, 9, 8, LIST), nothing);
    let map: Vec<_> = (0..3).map(entry).collect();
    for (n, entry) in (0..).zip(&map) {
        setter.put(LIST + n * 20, entry);
    }
    assert_eq!(set(setter, name, 3, LIST), 0);
    assert_eq!(show(&one, 9, 128, LIST), Ok(map.clone()));
    // As much of it as there is room for.
    assert_eq!(show(&one, 9, 2, LIST), Ok(map[..2].to_vec()));
    assert_eq!(show(&one, 9, 0, NOWHERE), Ok(vec![]));
    assert_eq!(show(&one, 9, u32::MAX, LIST), Ok(map.clone()));
    assert_eq!(show(&one, 9, 3, NOWHERE), Err(err(Error::Fault)));
    assert_eq!(one.call(MEMORY, &[9, NOWHERE]), err(Error::Fault));
    assert_eq!(show(&dom0, 9, 128, LIST), nothing);
    // One may tell oneself something else.
    one.put(LIST, &entry(77));
    assert_eq!(set(&one, SELF, 1, LIST), 0);
    assert_eq!(show(&one, 9, 128, LIST), Ok(vec![entry(77)]));
    assert_eq!(set(setter, name, 0, NOWHERE), 0);
    assert_eq!(show(&one, 9, 128, LIST), nothing);
    world.end([dom0, one]);
}

#[test]
fn maps_that_are_refused() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let (setter, name) = setter(&dom0, &one);
    let most = MEMORY_MAP_ENTRIES as u32;
    for count in [most + 1, u32::MAX] {
        // Before the domain is looked up.
        assert_eq!(set(&dom0, NOBODY, count, LIST), err(Error::Inval));
    }
    assert_eq!(set(&dom0, NOBODY, 1, LIST), err(Error::Srch));
    assert_eq!(set(&one, 0, 1, LIST), err(Error::Perm));
    assert_eq!(set(setter, name, 1, NOWHERE), err(Error::Fault));
    assert_eq!(dom0.call(MEMORY, &[13, NOWHERE]), err(Error::Fault));
    assert!(one.domain().memory_map.read().is_empty());
    assert_eq!(set(setter, name, most, LIST), 0);
    assert_eq!(one.domain().memory_map.read().len(), MEMORY_MAP_ENTRIES);
    // Nobody but a restart sets progress, and these keep none.
    for op in [9, 10, 13, 26] {
        assert_eq!(dom0.call(MEMORY, &[1 << 6 | op, ARG]), err(Error::Inval));
    }
    world.end([dom0, one]);
}

#[test]
fn the_machines_map() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let map = world.machine.hv.arch.machine_memory_map().to_vec();
    assert_eq!(show(&dom0, 10, 128, LIST), Ok(map.clone()));
    assert_eq!(show(&dom0, 10, 3, LIST), Ok(map));
    assert_eq!(show(&dom0, 10, 2, LIST), Err(err(Error::Inval)));
    assert_eq!(show(&dom0, 10, 3, NOWHERE), Err(err(Error::Fault)));
    assert_eq!(dom0.call(MEMORY, &[10, NOWHERE]), err(Error::Fault));
    assert_eq!(one.call(MEMORY, &[10, NOWHERE]), err(Error::Perm));
    world.end([dom0, one]);
}

#[test]
fn nobody_has_virtual_nodes() {
    let world = World::new();
    let (one, two) = (world.guest(1), world.guest(2));
    let ask = |domid, pad| {
        let null = xen_abi::Handle(0);
        let mut info = VnumaTopologyInfo {
            domid,
            pad,
            nr_vnodes: 1,
            nr_vcpus: 1,
            nr_vmemranges: 1,
            vdistance: null,
            vcpu_to_vnode: null,
            vmemrange: null,
        };
        one.op(MEMORY, 26, &mut info)
    };
    assert_eq!(ask(SELF, 0), err(Error::OpNotSupp));
    assert_eq!(ask(NOBODY, 1), err(Error::Inval));
    assert_eq!(ask(NOBODY, 0), err(Error::Srch));
    assert_eq!(ask(2, 0), err(Error::Perm));
    assert_eq!(one.call(MEMORY, &[26, NOWHERE]), err(Error::Fault));
    world.end([one, two]);
}
