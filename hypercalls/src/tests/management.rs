//! What toolstacks alone ask about another domain's memory and parameters; what of it is there without management.

use xen_abi::Handle;
use xen_abi::hvm_op::{HvmOp, Param};
use xen_abi::hvm_params::HvmParam;
use xen_abi::memory::{
    ForeignMemoryMap, MemFlags, MemoryMap, MemoryOp, PodTarget, Reservation,
    ReservedDeviceMemoryMap,
};
use xen_abi::xen::Hypercall;
use xen_core::soft::Call;
use xen_core::{DomainId, Error, GuestPhysAddr};
use zerocopy::FromZeros;

use super::{ARG, Guest, LIST, SELF, World, err};
#[cfg(feature = "mgmt_hypercalls")]
use super::{
    FREE, NOBODY, NOWHERE, PAGES,
    memory::{DECREASE, POPULATE, change},
};

const MEMORY: Hypercall = Hypercall::MEMORY_OP;
/// `HVM_PARAM_IDENT_PT`.
const IDENT_PT: HvmParam = HvmParam::IDENT_PT;

fn claim(guest: &Guest<'_>, domid: u16, pages: u64) -> i64 {
    claim_with(guest, domid, pages, &|_| {})
}

fn claim_with(guest: &Guest<'_>, domid: u16, pages: u64, change: &dyn Fn(&mut Reservation)) -> i64 {
    let mut args = Reservation {
        extent_start: Handle::NULL,
        nr_extents: pages,
        extent_order: 0,
        mem_flags: MemFlags::empty(),
        domid,
        pad: [0; 6],
    };
    change(&mut args);
    guest.op(MEMORY, MemoryOp::CLAIM_PAGES.0, &mut args)
}

fn pod(guest: &Guest<'_>, op: MemoryOp, domid: u16, pages: u64) -> (i64, PodTarget) {
    let mut args = PodTarget::new_zeroed();
    (args.domid, args.target_pages) = (domid, pages);
    (args.pod_cache_pages, args.pod_entries) = (7, 7);
    let result = guest.op(MEMORY, op.0, &mut args);
    (result, args)
}

fn reserved(guest: &Guest<'_>, flags: u32) -> (i64, u32) {
    let mut args = ReservedDeviceMemoryMap::new_zeroed();
    (args.flags, args.nr_entries) = (flags, 5);
    let result = guest.op(MEMORY, MemoryOp::RESERVED_DEVICE_MEMORY_MAP.0, &mut args);
    (result, args.nr_entries)
}

fn set_map(guest: &Guest<'_>, domid: u16) -> i64 {
    let mut args = ForeignMemoryMap {
        domid,
        pad: [0; 6],
        map: MemoryMap {
            nr_entries: 1,
            pad: 0,
            buffer: Handle(LIST),
        },
    };
    guest.op(MEMORY, MemoryOp::SET_MEMORY_MAP.0, &mut args)
}

#[test]
#[cfg(feature = "mgmt_hypercalls")]
fn a_claim_is_kept() {
    let world = World::with_frames(1024);
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    let frames = world.machine.hv.frames;
    let free = frames.free_frames();
    assert_eq!(claim(&dom0, 1, PAGES + 100), 0);
    assert_eq!(one.domain().claim.pages(), 100);
    assert_eq!(frames.claimed_frames(), 100);
    assert_eq!(
        claim(&dom0, 1, PAGES + 200),
        err(Error::Inval),
        "one at a time"
    );
    // Others may have what is left, and no more.
    let left = free - 100;
    let mut got = 0;
    while change(&two, POPULATE, SELF, 0, &[2000 + got]) == 1 {
        got += 1;
    }
    // The rest went into the map's own tables.
    assert!(got <= left && left - got < 32, "{got} of {left}");
    assert_eq!(
        claim(&dom0, 2, two.domain().pages() + 50),
        err(Error::NoMem)
    );
    // Room for its map's own tables, which nobody claims.
    assert_eq!(change(&two, DECREASE, SELF, 0, &[2000, 2001]), 2);
    // What it gets counts against the claim; what it gives back is everybody's.
    let list: [u64; 100] = core::array::from_fn(|n| FREE + n as u64);
    assert_eq!(change(&dom0, POPULATE, 1, 0, &list[..60]), 60);
    assert_eq!(one.domain().claim.pages(), 40);
    assert_eq!(change(&dom0, POPULATE, 1, 0, &list[60..]), 40);
    assert_eq!(frames.claimed_frames(), 0);
    assert_eq!(change(&dom0, DECREASE, 1, 0, &list), 100);
    assert_eq!(frames.claimed_frames(), 0);
    // Ended by the toolstack, and with its domain.
    assert_eq!(claim(&dom0, 1, PAGES + 10), 0);
    assert_eq!(claim(&dom0, 1, 0), 0);
    assert_eq!(frames.claimed_frames(), 0);
    assert_eq!(claim(&dom0, 1, PAGES + 10), 0);
    let domain = one.domain().clone();
    drop(one);
    while domain.kill(&world.machine.hv).is_err() {}
    assert_eq!(frames.claimed_frames(), 0);
    world.machine.destroy(domain);
    world.end([dom0, two]);
}

#[test]
#[cfg(feature = "mgmt_hypercalls")]
fn claims_that_are_refused() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let inval = err(Error::Inval);
    assert_eq!(claim(&dom0, 1, PAGES), inval);
    assert_eq!(claim(&dom0, 1, 1), inval);
    assert_eq!(claim(&dom0, 1, one.domain().max_pages() + 1), inval);
    assert_eq!(claim(&dom0, 1, u64::MAX), inval);
    assert_eq!(claim(&dom0, 1, one.domain().max_pages()), err(Error::NoMem));
    for nobody in [NOBODY, SELF, 0x7ff2] {
        assert_eq!(claim(&dom0, nobody, 100), inval);
    }
    for whose in [0, 1] {
        assert_eq!(claim(&one, whose, 100), err(Error::Perm));
    }
    let with = |change: &dyn Fn(&mut Reservation)| claim_with(&dom0, 1, 100, change);
    assert_eq!(with(&|a| a.extent_start = Handle(LIST)), inval);
    assert_eq!(with(&|a| a.extent_order = 9), inval);
    assert_eq!(with(&|a| a.mem_flags = MemFlags::EXACT_NODE_REQUEST), inval);
    assert_eq!(dom0.call(MEMORY, &[1 << 6 | 24, ARG]), inval);
    assert_eq!(dom0.call(MEMORY, &[24, NOWHERE]), err(Error::Fault));
    assert_eq!(world.machine.hv.frames.claimed_frames(), 0);
    world.end([dom0, one]);
}

#[test]
#[cfg(feature = "mgmt_hypercalls")]
fn nothing_is_populated_on_demand() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for (op, pages) in [
        (MemoryOp::SET_POD_TARGET, 5),
        (MemoryOp::SET_POD_TARGET, one.domain().max_pages()),
        (MemoryOp::GET_POD_TARGET, u64::MAX),
    ] {
        let (result, told) = pod(&dom0, op, 1, pages);
        assert_eq!(result, 0);
        assert_eq!((told.tot_pages, told.target_pages), (PAGES, pages));
        assert_eq!((told.pod_cache_pages, told.pod_entries), (0, 0));
        assert_eq!(pod(&dom0, op, NOBODY, 5).0, err(Error::Srch));
        assert_eq!(pod(&one, op, 1, 5).0, err(Error::Perm));
        assert_eq!(
            dom0.call(MEMORY, &[op.0.into(), NOWHERE]),
            err(Error::Fault)
        );
    }
    let more = one.domain().max_pages() + 1;
    assert_eq!(
        pod(&dom0, MemoryOp::SET_POD_TARGET, 1, more).0,
        err(Error::Inval)
    );
    assert_eq!(one.domain().pages(), PAGES);
    // Devices need nothing mapped.
    assert_eq!(reserved(&dom0, 0), (0, 0));
    assert_eq!(reserved(&dom0, 1), (0, 0));
    assert_eq!(reserved(&dom0, 2), (err(Error::Inval), 5));
    assert_eq!(dom0.call(MEMORY, &[27, NOWHERE]), err(Error::Fault));
    world.end([dom0, one]);
}

#[test]
#[cfg(not(feature = "mgmt_hypercalls"))]
fn without_management_it_is_not_there() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let absent = err(Error::NoSys);
    for number in [Hypercall::DOMCTL, Hypercall::SYSCTL] {
        // Before an argument is read.
        assert_eq!(dom0.call(number, &[super::NOWHERE]), absent);
        assert_eq!(one.call(number, &[super::NOWHERE]), absent);
    }
    assert_eq!(claim(&dom0, 1, 100), absent);
    for op in [MemoryOp::SET_POD_TARGET, MemoryOp::GET_POD_TARGET] {
        assert_eq!(pod(&dom0, op, 1, 5).0, absent);
    }
    assert_eq!(reserved(&dom0, 0).0, absent);
    assert_eq!(set_map(&dom0, 1), absent);
    // One's own is one's own business.
    assert_eq!(set_map(&dom0, SELF), 0);
    assert_eq!(set_map(&one, 1), 0);
    world.end([dom0, one]);
}

#[test]
#[cfg(feature = "mgmt_hypercalls")]
fn another_domains_map() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    assert_eq!(set_map(&dom0, 1), 0);
    assert_eq!(one.domain().memory_map.read().len(), 1);
    world.end([dom0, one]);
}

#[test]
fn the_identity_map() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let set = |guest: &Guest<'_>, domid, value| {
        guest.put(
            ARG,
            &Param {
                domid,
                pad: 0,
                index: IDENT_PT,
                value,
            },
        );
        guest.once(Hypercall::HVM_OP, &[HvmOp::SET_PARAM.0, ARG])
    };
    let told = || {
        let calls = world.machine.hv.arch.take_calls();
        calls
            .into_iter()
            .filter(|call| matches!(call, Call::IdentityMap(..)))
            .collect::<Vec<_>>()
    };
    // With management or without, it comes to an end, and not by being made again and again.
    assert_eq!(set(&dom0, 1, 0xfeff_e000), Some(0));
    let address = GuestPhysAddr(0xfeff_e000);
    assert_eq!(told(), [Call::IdentityMap(DomainId(1), address)]);
    assert_eq!(one.domain().params.lock()[IDENT_PT.0 as usize], address.0);
    assert_eq!(set(&one, SELF, 0), Some(err(Error::Perm)));
    assert_eq!(told(), []);

    let held = world
        .machine
        .hv
        .management
        .acquire()
        .expect("nobody has it");
    if cfg!(feature = "mgmt_hypercalls") {
        assert_eq!(set(&dom0, 1, 0x1000), None);
        assert_eq!(dom0.again(), None);
        assert_eq!(told(), []);
        drop(held);
        assert_eq!(dom0.again(), Some(0));
    } else {
        assert_eq!(set(&dom0, 1, 0x1000), Some(0));
        drop(held);
    }
    assert_eq!(
        told(),
        [Call::IdentityMap(DomainId(1), GuestPhysAddr(0x1000))]
    );
    world.end([dom0, one]);
}
