//! `vcpu_op`: registering run-state areas. What is written there, and when, is tested beside the areas themselves.

use xen_abi::Handle;
use xen_abi::memory::MapSpace;
use xen_abi::vcpu::RegisterMemoryArea;
use xen_abi::xen::Hypercall;
use xen_core::soft::Machine;
use xen_core::vcpu::RUNSTATE_SIZE;
use xen_core::{DomainConfig, Error, PAGE_SIZE};

use super::physmap::add;
use super::{ARG, FREE, Guest, NOWHERE, SELF, World, err};

const VCPU: Hypercall = Hypercall::VCPU_OP;
const VIRTUAL: u64 = 5;
const PHYSICAL: u64 = 14;
const OFFLINE: u64 = 3;
const UNTOUCHED: u64 = 0x5555_5555_5555_5555;

fn register(guest: &Guest<'_>, op: u64, vcpu: u64, addr: u64) -> i64 {
    guest.put(ARG, &RegisterMemoryArea { addr: Handle(addr) });
    guest.call(VCPU, &[op, vcpu, ARG])
}

/// Marks a place, to see whether something is written there.
fn mark(guest: &Guest<'_>, at: u64) {
    guest.put(at, &[0x55u8; RUNSTATE_SIZE]);
}

#[test]
fn an_area_is_written_when_it_is_registered() {
    let world = World::new();
    let one = world.guest(1);
    for (op, at) in [
        (VIRTUAL, 0x8000),
        (PHYSICAL, 0x9000),
        (VIRTUAL, 0x8fe4),
        (PHYSICAL, 0x9fd0),
    ] {
        for vcpu in [0, 1] {
            mark(&one, at);
            assert_eq!(register(&one, op, vcpu, at), 0);
            // The state is 32 bits wide, with 32 bits of padding; the vCPUs of these tests are off.
            assert_eq!(one.get::<u64>(at), OFFLINE);
            assert_ne!(one.get::<u64>(at + 8), UNTOUCHED);
        }
    }
    world.end([one]);
}

#[test]
fn virtual_addresses_are_the_callers() {
    let world = World::new();
    let one = world.guest(1);
    one.map_page(0x50_0000, Some(9));
    one.map_page(0x50_1000, Some(4));
    mark(&one, 0xaff0 - 0x2000 + 0x1000);
    assert_eq!(register(&one, VIRTUAL, 1, 0x50_0ff0), 0);
    assert_eq!(one.get::<u64>(0x9ff0), OFFLINE);
    // The rest is in the other page.
    mark(&one, 0x4000);
    assert_eq!(register(&one, VIRTUAL, 1, 0x50_0ff0), 0);
    assert_ne!(one.get::<u64>(0x4000), UNTOUCHED);
    assert_eq!(one.get::<u64>(0x4020), UNTOUCHED);
    world.end([one]);
}

#[test]
fn bad_addresses() {
    let world = World::new();
    let one = world.guest(1);
    // The second page of the area is missing.
    one.unmap(0x9000);
    for at in [NOWHERE, 0x9000, 0x8fe0, u64::MAX - 100, u64::MAX] {
        assert_eq!(register(&one, VIRTUAL, 0, at), err(Error::Fault), "{at:#x}");
    }
    for at in [0x8fd8, 0x8fff, 0x8001, 0x8004, u64::MAX - 1] {
        assert_eq!(register(&one, PHYSICAL, 0, at), err(Error::Nxio), "{at:#x}");
    }
    for at in [NOWHERE, 1 << 52, !0xfff] {
        assert_eq!(
            register(&one, PHYSICAL, 0, at),
            err(Error::Fault),
            "{at:#x}"
        );
    }
    // The hypervisor's pages are not the domain's memory.
    assert_eq!(add(&one, SELF, MapSpace::SHARED_INFO, 0, FREE), 0);
    assert_eq!(
        register(&one, PHYSICAL, 0, FREE * PAGE_SIZE),
        err(Error::Access)
    );
    assert_eq!(
        register(&one, VIRTUAL, 0, FREE * PAGE_SIZE),
        err(Error::Fault)
    );
    // What the pointer to the address says does not matter if it leads nowhere.
    for op in [VIRTUAL, PHYSICAL] {
        assert_eq!(one.call(VCPU, &[op, 0, NOWHERE]), err(Error::Fault));
        assert_eq!(one.call(VCPU, &[op, 7, NOWHERE]), err(Error::NoEnt));
    }
    world.end([one]);
}

#[test]
fn unregistering_lets_the_frames_go() {
    let world = World::new();
    let one = world.guest(1);
    let frames = world.machine.hv.frames;
    let held = || frames.count(one.domain().p2m.lookup(xen_core::Gfn(8)).unwrap().mfn);
    assert_eq!(held(), 1);
    for first in [VIRTUAL, PHYSICAL] {
        for (last, none) in [(VIRTUAL, 0), (PHYSICAL, u64::MAX)] {
            assert_eq!(register(&one, first, 0, 0x8000), 0);
            assert_eq!(held(), 2);
            assert_eq!(register(&one, first, 0, 0x8040), 0);
            assert_eq!(held(), 2);
            // A registration that fails changes nothing.
            assert!(register(&one, last, 0, NOWHERE) < 0);
            assert_eq!(held(), 2);
            assert_eq!(register(&one, last, 0, none), 0);
            assert_eq!(held(), 1);
        }
    }
    // What is registered when the domain ends is let go, too.
    assert_eq!(register(&one, PHYSICAL, 0, 0x8000), 0);
    world.end([one]);
}

#[test]
fn addresses_that_are_walked_at_each_update() {
    let world = World::new();
    let one = world.guest_with(DomainConfig {
        runstate_translated: Some(false),
        ..Machine::config(1)
    });
    mark(&one, 0x8000);
    assert_eq!(register(&one, VIRTUAL, 0, 0x8000), 0);
    assert_eq!(one.get::<u64>(0x8000), OFFLINE);
    // Any address is accepted; another vCPU's means something in its own page tables.
    assert_eq!(register(&one, VIRTUAL, 0, NOWHERE), 0);
    mark(&one, 0x8000);
    assert_eq!(register(&one, VIRTUAL, 1, 0x8000), 0);
    assert_eq!(one.get::<u64>(0x8000), UNTOUCHED);
    assert_eq!(register(&one, VIRTUAL, 0, 0), 0);
    world.end([one]);
}
