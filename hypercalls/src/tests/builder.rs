//! What one domain does to another before it runs, and what keeps others from it: event channels, grant tables.

use xen_abi::Handle;
use xen_abi::event_channel::{AllocUnbound, BindInterdomain, EvtchnOp, EvtchnState, Status};
use xen_abi::grant_table::{GetVersion, GrantStatus, GrantTableOp, QuerySize, SetupTable};
use xen_abi::memory::MemoryOp;
use xen_abi::xen::Hypercall;
use xen_core::Error;
use xen_core::soft::Call;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::memory::{DECREASE, POPULATE, change};
use super::{ARG, FREE, Guest, LIST, NOBODY, PAGES, SELF, World, err};

const EVENTS: Hypercall = Hypercall::EVENT_CHANNEL_OP;

fn unbound(guest: &Guest<'_>, dom: u16, remote: u16) -> Result<u32, i64> {
    let mut op = AllocUnbound {
        dom,
        remote_dom: remote,
        port: 0,
    };
    match guest.op(EVENTS, EvtchnOp::ALLOC_UNBOUND.0, &mut op) {
        0 => Ok(op.port),
        error => Err(error),
    }
}

fn status(guest: &Guest<'_>, dom: u16, port: u32) -> Result<(EvtchnState, u32), i64> {
    let mut op = Status::new_zeroed();
    (op.dom, op.port) = (dom, port);
    match guest.op(EVENTS, EvtchnOp::STATUS.0, &mut op) {
        0 => Ok((op.status, op.detail)),
        error => Err(error),
    }
}

#[test]
fn ports_for_its_store_and_console() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    // To the builder by its number, by the name for itself, and to a domain that may come later.
    let ports = [0, SELF, NOBODY].map(|remote| unbound(&dom0, 1, remote).unwrap());
    let waits = |remote: u16| Ok((EvtchnState::UNBOUND, remote.into()));
    assert_eq!(status(&dom0, 1, ports[0]), waits(0));
    assert_eq!(status(&dom0, 1, ports[1]), waits(0));
    assert_eq!(status(&one, SELF, ports[2]), waits(NOBODY));
    let mut bind = BindInterdomain {
        remote_dom: 1,
        remote_port: ports[0],
        pad: 0,
        local_port: 0,
    };
    assert_eq!(dom0.op(EVENTS, EvtchnOp::BIND_INTERDOMAIN.0, &mut bind), 0);
    let connected = Ok((EvtchnState::INTERDOMAIN, 0));
    assert_eq!(status(&dom0, 1, ports[0]), connected);
    // A daemon that ends: the port waits for the next.
    assert_eq!(
        dom0.op(EVENTS, EvtchnOp::CLOSE.0, &mut { bind.local_port }),
        0
    );
    assert_eq!(status(&dom0, 1, ports[0]), waits(0));
    let free = status(&dom0, 1, ports[2] + 1);
    assert_eq!(free, Ok((EvtchnState::CLOSED, 0)));

    for victim in [0, 1] {
        assert_eq!(unbound(&two, victim, 2), Err(err(Error::Perm)));
        assert_eq!(status(&two, victim, ports[0]), Err(err(Error::Perm)));
    }
    assert_eq!(unbound(&dom0, NOBODY, 0), Err(err(Error::Srch)));
    assert_eq!(status(&dom0, NOBODY, 1), Err(err(Error::Srch)));
    world.end([dom0, one, two]);
}

/// An operation on a grant table: its answer.
fn grants<T: FromBytes + IntoBytes + Immutable>(
    guest: &Guest<'_>,
    op: GrantTableOp,
    args: &mut T,
) -> i64 {
    guest.put(ARG, args);
    let result = guest.call(Hypercall::GRANT_TABLE_OP, &[op.0.into(), ARG, 1]);
    *args = guest.get(ARG);
    result
}

#[test]
fn its_grant_table() {
    let world = World::new();
    let (dom0, one, two) = (world.guest(0), world.guest(1), world.guest(2));
    let query = |guest, dom| {
        let mut args = QuerySize::new_zeroed();
        args.dom = dom;
        assert_eq!(grants(guest, GrantTableOp::QUERY_SIZE, &mut args), 0);
        (args.status, args.nr_frames, args.max_nr_frames)
    };
    let setup = |guest, dom, count| {
        let mut args = SetupTable::new_zeroed();
        (args.dom, args.nr_frames, args.frame_list) = (dom, count, Handle(LIST));
        assert_eq!(grants(guest, GrantTableOp::SETUP_TABLE, &mut args), 0);
        args.status
    };
    let version = |guest, dom| {
        let mut args = GetVersion::new_zeroed();
        args.dom = dom;
        let result = grants(guest, GrantTableOp::GET_VERSION, &mut args);
        (result, args.version)
    };
    assert_eq!(query(&dom0, 1), (GrantStatus::OKAY, 1, 8));
    assert_eq!(setup(&dom0, 1, 3), GrantStatus::OKAY);
    assert_eq!(query(&dom0, 1), (GrantStatus::OKAY, 3, 8));
    assert_eq!(query(&dom0, SELF).1, 1);
    assert_eq!(setup(&dom0, 1, 9), GrantStatus::GENERAL_ERROR);
    one.domain().grants.set_version(2).unwrap();
    assert_eq!(version(&dom0, 1), (0, 2));
    assert_eq!(version(&dom0, SELF), (0, 1));
    for victim in [0, 1] {
        assert_eq!(query(&two, victim).0, GrantStatus::PERMISSION_DENIED);
        assert_eq!(setup(&two, victim, 4), GrantStatus::PERMISSION_DENIED);
        assert_eq!(version(&two, victim).0, err(Error::Perm));
    }
    assert_eq!(query(&dom0, NOBODY).0, GrantStatus::BAD_DOMAIN);
    assert_eq!(setup(&dom0, NOBODY, 1), GrantStatus::BAD_DOMAIN);
    assert_eq!(version(&dom0, NOBODY).0, err(Error::Srch));
    assert_eq!(query(&dom0, 1).1, 3);
    world.end([dom0, one, two]);
}

#[test]
fn memory_in_large_and_small_pieces() {
    let world = World::with_frames(6000);
    let (dom0, one) = (world.guest(0), world.guest(1));
    let room = one.domain().max_pages();
    one.domain().set_max_pages(PAGES + 2048 + 512 + 2);
    // The builder tries the largest first, and goes on with smaller ones from where it got.
    assert_eq!(change(&dom0, POPULATE, 1, 18, &[1 << 15]), 0);
    assert_eq!(change(&dom0, POPULATE, 1, 11, &[1 << 12, 2 << 12]), 1);
    assert_eq!(change(&dom0, POPULATE, 1, 9, &[1 << 13, 1 << 10]), 1);
    let list = [FREE, FREE + 1, FREE + 2];
    assert_eq!(change(&dom0, POPULATE, 1, 0, &list), 2);
    assert_eq!(one.domain().pages(), one.domain().max_pages());
    // With more urgent work in between, the count is that of all.
    one.domain().set_max_pages(room);
    world.yield_every(1);
    let list: [u64; 5] = core::array::from_fn(|n| FREE + 8 + n as u64);
    let before = dom0.restarts();
    assert_eq!(change(&dom0, POPULATE, 1, 0, &list), 5);
    assert_eq!(dom0.restarts(), before + 4);
    // Large ones go again, in pieces.
    let before = dom0.restarts();
    assert_eq!(change(&dom0, DECREASE, 1, 11, &[1 << 12]), 1);
    assert_eq!(dom0.restarts(), before + 3);
    assert_eq!(change(&dom0, DECREASE, 1, 9, &[1 << 13]), 1);
    assert_eq!(one.domain().pages(), PAGES + 7);
    world.end([dom0, one]);
}

#[test]
fn translations_are_forgotten_once_for_many_pages() {
    let world = World::new();
    let one = world.guest(1);
    let flushes = || {
        let calls = world.machine.hv.arch.take_calls();
        calls
            .into_iter()
            .filter(|call| matches!(call, Call::Flush(..)))
            .count()
    };
    let list: [u64; 150] = core::array::from_fn(|n| FREE + n as u64);
    assert_eq!(change(&one, POPULATE, SELF, 0, &list), 150);
    flushes();
    assert_eq!(change(&one, DECREASE, SELF, 0, &list), 150);
    assert_eq!(flushes(), 3, "once for 64");
    // Pages far from each other, of which one is not there.
    assert_eq!(change(&one, POPULATE, SELF, 0, &[FREE, 3 << 12]), 2);
    flushes();
    let list = [FREE, 3 << 12, FREE + 7, 20];
    assert_eq!(change(&one, DECREASE, SELF, 0, &list), 2);
    assert_eq!(flushes(), 1);
    assert!(one.is_mapped(20));
    assert_eq!(one.domain().pages(), PAGES);
    world.end([one]);
}

#[test]
fn what_it_has() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let ask = |op: MemoryOp| dom0.op(Hypercall::MEMORY_OP, op.0, &mut 1u16);
    assert_eq!(change(&dom0, POPULATE, 1, 0, &[FREE + 5]), 1);
    assert_eq!(ask(MemoryOp::CURRENT_RESERVATION), PAGES as i64 + 1);
    assert_eq!(
        ask(MemoryOp::MAXIMUM_RESERVATION),
        one.domain().max_pages() as i64
    );
    assert_eq!(ask(MemoryOp::MAXIMUM_GPFN), FREE as i64 + 5);
    // No limit does not look like an error.
    let most = one.domain().max_pages();
    one.domain().set_max_pages(u64::MAX);
    assert_eq!(ask(MemoryOp::MAXIMUM_RESERVATION), i64::MAX);
    one.domain().set_max_pages(most);
    world.end([dom0, one]);
}
