//! Waiting for events without taking them: `SCHEDOP_poll` and `SCHEDOP_block`.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::{op, plain};
use guest_rt::machine::{self as m, Target, events};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::sched::{Poll, SchedOp};
use xen_abi::xen::Hypercall;

use super::ports::{close, comes_to, counted, ipi, port, send};
use super::{arch, vcpus};

const EINVAL: i64 = -22;
const EFAULT: i64 = -14;

/// The port that another vCPU is to send by, after a while; 0 is none.
static ORDER: AtomicU32 = AtomicU32::new(0);

pub(crate) fn all(t: &mut Tests) {
    poll_errors(t);
    poll_for_time(t);
    poll_for_events(t);
    block(t);
}

/// Whether the calling vCPU is asked for its part.
pub(crate) fn has_work() -> bool {
    m::smp::index() == 1 && ORDER.load(Ordering::SeqCst) != 0
}

/// Another vCPU's part.
pub(crate) fn work() {
    if has_work() {
        let port = ORDER.swap(0, Ordering::SeqCst);
        if port != 0 {
            // So that the other one waits by then; it is right either way.
            let later = m::ticks() + m::frequency() / 200;
            m::wait_for(|| m::ticks() > later);
            send(port);
        }
    }
}

/// Has an event sent in a while, by another vCPU if there is one.
fn send_later(port: u32) {
    if vcpus() < 2 {
        send(port);
        return;
    }
    ORDER.store(port, Ordering::SeqCst);
    arch::poke(Target::One(1));
}

fn poll(ports: &[u32], timeout: u64) -> i64 {
    let mut poll = Poll {
        ports: Handle(ports.as_ptr() as u64),
        nr_ports: ports.len() as u32,
        pad: 0,
        timeout,
    };
    op(Hypercall::SCHED_OP, SchedOp::POLL.0, &mut poll)
}

fn poll_errors(t: &mut Tests) {
    t.expect("poll for too many", poll(&[0; 129], 1), EINVAL);
    t.expect("poll for no port", poll(&[u32::MAX], 1), EINVAL);
    let mut nowhere = Poll {
        ports: Handle(0x7f_ffff_f000),
        nr_ports: 1,
        pad: 0,
        timeout: 1,
    };
    let answer = op(Hypercall::SCHED_OP, SchedOp::POLL.0, &mut nowhere);
    t.expect("poll a list that is nowhere", answer, EFAULT);
}

fn poll_for_time(t: &mut Tests) {
    let ipi = port(t, "a port of mine", ipi(0));
    let before = counted(ipi);
    t.expect("poll until a time that is over", poll(&[ipi], 1), 0);
    for ports in [&[ipi][..], &[]] {
        let deadline = m::system_time() + 10_000_000;
        // Any interrupt ends a poll: then it goes on.
        let mut answer = 0;
        for _ in 0..100 {
            answer = poll(ports, deadline);
            if m::system_time() >= deadline {
                break;
            }
        }
        t.expect("poll until later", answer, 0);
        t.check("it was that time", m::system_time() >= deadline);
    }
    t.expect("nothing came", counted(ipi), before);
    t.expect("close", close(ipi), 0);
}

fn poll_for_events(t: &mut Tests) {
    let first = port(t, "a port of mine", ipi(0));
    let second = port(t, "another one", ipi(0));
    let before = counted(second);
    events::mask(first);
    events::mask(second);
    // Pending already.
    send(second);
    t.expect("poll for what is pending", poll(&[first, second], 0), 0);
    t.check("it is left", events::is_pending(second));
    events::clear(second);
    // Pending in a while; a poll may end without reason, as by an interrupt.
    for round in 0..5 {
        send_later(second);
        let mut rounds = 0;
        while !events::is_pending(second) && rounds < 1000 {
            t.expect("poll", poll(&[first, second], 0), 0);
            rounds += 1;
        }
        t.check("poll until it is pending", events::is_pending(second));
        t.expect(
            "masked, it is not taken",
            (round, counted(second)),
            (round, before),
        );
        events::clear(second);
    }
    // Of a vCPU of its own: a port that notifies somebody else can be polled for too.
    let elsewhere = port(t, "a port of the last vCPU", ipi(vcpus() - 1));
    events::mask(elsewhere);
    send_later(elsewhere);
    let mut rounds = 0;
    while !events::is_pending(elsewhere) && rounds < 1000 {
        poll(&[elsewhere], 0);
        rounds += 1;
    }
    t.check("poll for another vCPU's", events::is_pending(elsewhere));
    events::clear(elsewhere);
    for port in [first, second, elsewhere] {
        t.expect("unmask", events::unmask(port), 0);
        t.expect("close", close(port), 0);
    }
}

fn block(t: &mut Tests) {
    let ipi = port(t, "a port of mine", ipi(0));
    for _ in 0..5 {
        let before = counted(ipi);
        send_later(ipi);
        let mut rounds = 0;
        while counted(ipi) == before && rounds < 1000 {
            plain(Hypercall::SCHED_OP, SchedOp::BLOCK.0, 0);
            rounds += 1;
        }
        comes_to(t, "block until it comes", ipi, before, 0);
    }
    arch::block_masked(t, ipi);
    t.expect("close", close(ipi), 0);
}
