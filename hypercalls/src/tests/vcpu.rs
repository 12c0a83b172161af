//! `vcpu_op`: turning vCPUs on and off, and `vcpu_info`.

use core::sync::atomic::Ordering::SeqCst;

use xen_abi::event_channel::{BindIpi, EvtchnSend};
use xen_abi::memory::MapSpace;
use xen_abi::sched::ShutdownReason;
use xen_abi::vcpu::{RegisterVcpuInfo, Runstate, RunstateInfo};
use xen_abi::xen::Hypercall;
use xen_core::p2m::P2mType;
use xen_core::soft::Soft;
use xen_core::{Arch, Error, Gfn, PAGE_SIZE};

use super::memory::{DECREASE, change};
use super::physmap::add;
use super::{ARG, FREE, Guest, NOWHERE, PAGES, SELF, World, err};

const VCPU: Hypercall = Hypercall::VCPU_OP;
const SIZE: u64 = Soft::LAYOUT.vcpu_info_size as u64;

fn register(guest: &Guest<'_>, vcpu: u64, gfn: u64, offset: u32) -> i64 {
    guest.put(
        ARG,
        &RegisterVcpuInfo {
            mfn: gfn,
            offset,
            rsvd: 0,
        },
    );
    guest.call(VCPU, &[10, vcpu, ARG])
}

/// Binds an IPI of a vCPU and sends it one.
fn event(guest: &Guest<'_>, vcpu: u32) -> u32 {
    let mut ipi = BindIpi { vcpu, port: 0 };
    assert_eq!(guest.op(Hypercall::EVENT_CHANNEL_OP, 7, &mut ipi), 0);
    let port = ipi.port;
    assert_eq!(
        guest.op(Hypercall::EVENT_CHANNEL_OP, 4, &mut EvtchnSend { port }),
        0
    );
    port
}

#[test]
fn on_and_off() {
    let world = World::new();
    let one = world.guest(1);
    let op = |op: u64, id: u64| one.call(VCPU, &[op, id]);
    assert_eq!((op(3, 0), op(3, 1)), (0, 0));
    assert_eq!(op(1, 1), 0);
    assert_eq!(op(1, 1), 0);
    assert_eq!((op(3, 0), op(3, 1)), (0, 1));
    assert_eq!(op(1, 0), 0);
    assert_eq!(op(2, 1), 0);
    assert_eq!(op(2, 1), 0);
    assert_eq!((op(3, 0), op(3, 1)), (1, 0));
    assert_eq!(one.domain().shutdown_code(), None);
    // The last one leaves nobody to turn one on.
    assert_eq!(op(2, 0), 0);
    let code = one.domain().shutdown_code();
    assert_eq!(code, Some(ShutdownReason::POWEROFF));
    for id in [2, 3, 4, 4000, u64::from(u32::MAX)] {
        // No such vCPU, whatever the operation.
        for number in [1, 3, 5, 10, 12, 99] {
            assert_eq!(op(number, id), err(Error::NoEnt));
        }
    }
    // The software machine does not have all operations.
    for number in [0, 11, 12, 16, 99, u64::from(u32::MAX)] {
        assert_eq!(op(number, 0), err(Error::Inval));
    }
    world.end([one]);
}

#[test]
fn run_state_by_copy() {
    let world = World::new();
    let one = world.guest(1);
    assert_eq!(one.call(VCPU, &[4, 1, ARG]), 0);
    let state: RunstateInfo = one.get(ARG);
    assert_eq!(state.state, Runstate::OFFLINE);
    assert_eq!((one.call(VCPU, &[1, 0]), one.call(VCPU, &[1, 1])), (0, 0));
    world.machine.hv.arch.advance(500);
    assert_eq!(one.call(VCPU, &[2, 1]), 0);
    assert_eq!(one.call(VCPU, &[4, 1, ARG]), 0);
    let later: RunstateInfo = one.get(ARG);
    assert_eq!(later.state, Runstate::OFFLINE);
    assert_eq!(later.time[1], state.time[1] + 500);
    assert_eq!(later.state_entry_time, world.machine.hv.arch.now().0);
    assert_eq!(one.call(VCPU, &[4, 1, NOWHERE]), err(Error::Fault));
    world.end([one]);
}

#[test]
fn vcpu_info_moves() {
    let world = World::new();
    let one = world.guest(1);
    let port = event(&one, 1);
    let slot = Soft::LAYOUT.vcpu_info_size;
    let shared = one.domain().shared_info.page();
    assert_eq!(shared.load_u8(slot, SeqCst), 1);
    // A field of the architecture's own.
    shared.store_u64(slot + 24, 0x1234, SeqCst);
    assert_eq!(register(&one, 1, 20, 64), 0);
    let at = 20 * PAGE_SIZE + 64;
    assert_eq!(
        one.get::<u8>(at),
        1,
        "the pending upcall is seen in the new place"
    );
    assert_ne!(one.get::<u64>(at + 8) & 1 << (port / 64), 0);
    assert_eq!(one.get::<u64>(at + 24), 0x1234);
    // From now on events are announced there.
    one.put(at, &[0u8; 16]);
    shared.store_u64(slot, 0, SeqCst);
    shared.store_u64(Soft::LAYOUT.evtchn_pending, 0, SeqCst);
    event(&one, 1);
    assert_eq!(one.get::<u8>(at), 1);
    assert_eq!(shared.load_u8(slot, SeqCst), 0);
    // Also when the guest has given the page away: the hypervisor's reference keeps it.
    assert_eq!(change(&one, DECREASE, SELF, 0, &[20]), 1);
    event(&one, 1);
    world.end([one]);
}

#[test]
fn vcpu_info_of_one_without_a_slot() {
    let world = World::new();
    let one = world.guest(1);
    let domain = one.domain().clone();
    domain
        .add_vcpu(&world.machine.hv, xen_core::VcpuId(2))
        .unwrap();
    one.put(20 * PAGE_SIZE, &[0xffu8; 4096]);
    let third = Guest::of(&world, domain, 2);
    assert_eq!(register(&third, 2, 20, 0), 0);
    let info: [u8; 16] = third.get(20 * PAGE_SIZE);
    // Upcall pending (it may have missed events) and masked; all words to be looked at.
    assert_eq!(info[..2], [1, 1]);
    assert_eq!(info[8..], [0xff; 8]);
    assert_eq!(
        third.bytes(20 * PAGE_SIZE + 16, SIZE as usize - 16),
        [0; SIZE as usize - 16]
    );
    drop(third);
    world.end([one]);
}

#[test]
fn vcpu_info_that_is_refused() {
    let world = World::new();
    let one = world.guest(1);
    for offset in [
        1,
        2,
        4,
        7,
        63,
        4096 - SIZE as u32 + 8,
        4096,
        1 << 31,
        u32::MAX - 7,
    ] {
        assert_eq!(
            register(&one, 0, 20, offset),
            err(Error::Nxio),
            "{offset:#x}"
        );
    }
    // Not the domain's own writable memory.
    assert_eq!(add(&one, SELF, MapSpace::SHARED_INFO, 0, FREE), 0);
    let frame = one.domain().p2m.frame(Gfn(21), false).unwrap().0;
    one.domain()
        .p2m
        .map_frame(Gfn(22), frame, P2mType::RamRo)
        .unwrap();
    for gfn in [FREE, FREE + 1, 22, 1 << 52, u64::MAX] {
        assert_eq!(register(&one, 0, gfn, 0), err(Error::Inval), "{gfn:#x}");
    }
    // Another vCPU that may be running.
    assert_eq!((one.call(VCPU, &[1, 0]), one.call(VCPU, &[1, 1])), (0, 0));
    assert_eq!(register(&one, 1, 20, 0), err(Error::Inval));
    assert_eq!(one.call(VCPU, &[2, 1]), 0);
    assert_eq!(register(&one, 1, 20, 0), 0);
    // Once, and at the very end of a page.
    assert_eq!(register(&one, 0, 20, 4096 - SIZE as u32), 0);
    assert_eq!(register(&one, 0, 20, 0), err(Error::Busy));
    assert_eq!(register(&one, 1, 21, 0), err(Error::Busy));
    let before = one.domain().pages();
    assert_eq!(before, PAGES);
    world.end([one]);
}
