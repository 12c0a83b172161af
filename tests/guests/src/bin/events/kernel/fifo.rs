//! What only the FIFO interface has: its beginning, priorities, growth, and the way back.

use guest_rt::hypercall::{is_oxen, op};
use guest_rt::machine::{self as m, events};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{
    EvtchnOp, FIFO_PRIORITY_MIN, FIFO_WORDS_PER_PAGE, Reset, SetPriority,
};
use xen_abi::xen::{DOMID_SELF, Hypercall};

use super::ports::{close, comes_to, connected, counted, ipi, nth, port, send, taken};
use super::vcpus;

const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
const ENOENT: i64 = -2;
const EINVAL: i64 = -22;
const ENOSYS: i64 = -38;
const EOPNOTSUPP: i64 = -95;
/// Bytes of a control block.
const BLOCK: u32 = 72;
/// Where nothing is mapped.
const NOWHERE: u64 = 0x7f_ffff;

/// The last page of the array, which is given late; Xen takes long to fill many.
fn last_page() -> u32 {
    if is_oxen() {
        events::ARRAY_PAGES - 1
    } else {
        1
    }
}

fn set_priority(port: u32, priority: u32) -> i64 {
    op(
        E,
        EvtchnOp::SET_PRIORITY.0,
        &mut SetPriority { port, priority },
    )
}

/// In the two-level interface.
pub(crate) fn not_yet(t: &mut Tests) {
    let mine = port(t, "a port of mine", ipi(0));
    t.expect("no priorities yet", set_priority(mine, 3), ENOSYS);
    t.expect("no array yet", events::expand_array(0), EOPNOTSUPP);
    t.expect("close", close(mine), 0);
}

/// Changes the interface, with events pending across the change.
pub(crate) fn change(t: &mut Tests) {
    let gfn = events::shared_info() >> 12;
    t.expect(
        "control block of no vCPU",
        events::init_control(4000, gfn, 0),
        ENOENT,
    );
    t.expect(
        "control block askew",
        events::init_control(0, gfn, 4),
        EINVAL,
    );
    let across = 4096 - BLOCK + 8;
    t.expect(
        "control block across a page",
        events::init_control(0, gfn, across),
        EINVAL,
    );
    t.check(
        "control block nowhere",
        events::init_control(0, NOWHERE, 0) < 0,
    );

    let pending = port(t, "a port of mine", ipi(0));
    let quiet = port(t, "another one", ipi(0));
    let before = (counted(pending), counted(quiet));
    events::mask(pending);
    send(pending);
    m::mask();
    t.expect("control block", events::use_fifo(0), 0);
    for vcpu in 1..vcpus() {
        t.expect("control block of another vCPU", events::use_fifo(vcpu), 0);
    }
    t.expect("a second time", events::use_fifo(0), EINVAL);
    t.check(
        "array nowhere",
        op(E, EvtchnOp::EXPAND_ARRAY.0, &mut NOWHERE.clone()) < 0,
    );
    t.expect("first page of the array", events::expand_array(0), 0);
    m::unmask();
    comes_to(t, "pending across the change", pending, before.0, 0);
    t.expect("not the other one", counted(quiet), before.1);
    send(quiet);
    comes_to(t, "its own event", quiet, before.1, 0);
    t.expect("close", (close(pending), close(quiet)), (0, 0));
    for page in 1..last_page() {
        t.expect("another page", events::expand_array(page), 0);
    }
}

pub(crate) fn all(t: &mut Tests) {
    priorities(t);
    a_new_priority(t);
    beyond_the_array(t);
}

fn priorities(t: &mut Tests) {
    const WANTED: [u32; 8] = [7, 15, 0, 3, 8, 0, 12, 15];
    let mut ports = [0; WANTED.len()];
    for (place, priority) in ports.iter_mut().zip(WANTED) {
        *place = port(t, "a port of mine", ipi(0));
        t.expect("its priority", set_priority(*place, priority), 0);
    }
    t.expect(
        "no such priority",
        set_priority(ports[0], FIFO_PRIORITY_MIN + 1),
        EINVAL,
    );
    t.expect("no such port", set_priority(u32::MAX, 3), EINVAL);
    for _ in 0..3 {
        let first = taken();
        m::mask();
        for port in ports {
            send(port);
        }
        m::unmask();
        let count = ports.len() as u32;
        t.check("all come", m::wait_for(|| taken() >= first + count));
        t.expect("once each", taken(), first + count);
        // The most urgent first; of the same priority, as they were sent.
        let mut expected: [u32; WANTED.len()] = core::array::from_fn(|n| n as u32);
        expected.sort_unstable_by_key(|n| (WANTED[*n as usize], *n));
        let found: [u32; WANTED.len()] = core::array::from_fn(|n| nth(first + n as u32));
        t.expect("in their order", found, expected.map(|n| ports[n as usize]));
    }
    let failed = ports.iter().filter(|p| close(**p) != 0).count();
    t.expect("close", failed, 0);
}

/// A priority that changes counts from the next event on.
fn a_new_priority(t: &mut Tests) {
    let Ok((first, second)) = connected() else {
        return t.check("two connected ports", false);
    };
    let other = port(t, "a port of mine", ipi(0));
    for (priority, wanted) in [(2, [second, other]), (11, [other, second])] {
        t.expect("a priority", set_priority(second, priority), 0);
        // Once in the queue it was in, if it was.
        let before = counted(second);
        send(first);
        comes_to(t, "it comes", second, before, 0);
        let start = taken();
        m::mask();
        for port in if priority < 7 {
            [other, first]
        } else {
            [first, other]
        } {
            send(port);
        }
        m::unmask();
        t.check("both come", m::wait_for(|| taken() >= start + 2));
        t.expect("in this order", [nth(start), nth(start + 1)], wanted);
    }
    t.expect(
        "close",
        (close(first), close(second), close(other)),
        (0, 0, 0),
    );
}

/// Ports without an event word: their events wait until they have one.
fn beyond_the_array(t: &mut Tests) {
    let beyond = last_page() * FIFO_WORDS_PER_PAGE;
    let mut last = 0;
    let mut first = 0;
    for _ in 0..=beyond {
        match ipi(0) {
            Ok(port) => last = port,
            Err(error) => {
                t.expect("open thousands", error, 0);
                break;
            }
        }
        if first == 0 {
            first = last;
        }
    }
    t.expect("a port beyond the array", last, beyond + first);
    let before = counted(last);
    t.expect("send by it", send(last), 0);
    t.expect("nothing yet", counted(last), before);
    t.expect("the page for it", events::expand_array(last_page()), 0);
    m::wait_for(|| counted(last) != before);
    t.expect("it comes", counted(last), before + 1);
    let failed = (first..=last).filter(|p| close(*p) != 0).count();
    t.expect("close all", failed, 0);
}

/// A reset closes all ports, and goes back to two levels.
pub(crate) fn back(t: &mut Tests) {
    let open = port(t, "a port of mine", ipi(0));
    m::mask();
    let mut reset = Reset { dom: DOMID_SELF };
    t.expect("reset", op(E, EvtchnOp::RESET.0, &mut reset), 0);
    events::was_reset();
    m::unmask();
    t.expect("it is closed", send(open), EINVAL);
    let again = port(t, "a port again", ipi(0));
    t.expect("no priorities", set_priority(again, 3), ENOSYS);
    t.expect("close", close(again), 0);
}
