//! Sent, taken; masked, unmasked; moved; closed.

use guest_rt::hypercall::op;
use guest_rt::machine::{self as m, events};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{EvtchnOp, Status};
use xen_abi::xen::{DOMID_SELF, Hypercall};
use zerocopy::FromZeros;

use super::ports::{bind_vcpu, close, comes_to, connected, counted, ipi, port, send, unbound};
use super::{arch, vcpus};

const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
const ENOENT: i64 = -2;
const EINVAL: i64 = -22;

pub(crate) fn all(t: &mut Tests) {
    between_ports(t);
    between_vcpus(t);
    masked(t);
    interrupts_masked(t);
    moved(t);
    closed_while_pending(t);
    arch::virtual_timer(t);
}

fn between_ports(t: &mut Tests) {
    let waiting = port(t, "a waiting port", unbound());
    let before = counted(waiting);
    t.expect("send to nobody", send(waiting), 0);
    t.expect("close it", close(waiting), 0);
    t.expect("nothing came", counted(waiting), before);
    let Ok((first, second)) = connected() else {
        return t.check("two connected ports", false);
    };
    let silent = counted(first);
    let before = counted(second);
    t.expect("send", send(first), 0);
    comes_to(t, "the other port's event", second, before, 0);
    t.expect("not the sender's", counted(first), silent);
    let before = counted(first);
    t.expect("send back", send(second), 0);
    comes_to(t, "and back", first, before, 0);
    t.check(
        "nothing is pending",
        !events::is_pending(first) && !events::is_pending(second),
    );
    t.expect("close one", close(first), 0);
    t.expect("close the other", close(second), 0);
    t.expect("send by a closed port", send(second), EINVAL);
}

fn between_vcpus(t: &mut Tests) {
    for vcpu in 0..vcpus() {
        let ipi = port(t, "a port of a vCPU", ipi(vcpu));
        for _ in 0..3 {
            let before = counted(ipi);
            t.expect("send", send(ipi), 0);
            comes_to(t, "to that vCPU", ipi, before, vcpu);
        }
        t.expect("close", close(ipi), 0);
    }
}

fn masked(t: &mut Tests) {
    for vcpu in [0, vcpus() - 1] {
        let ipi = port(t, "a port of a vCPU", ipi(vcpu));
        let other = port(t, "another of it", super::ports::ipi(vcpu));
        let before = counted(ipi);
        events::mask(ipi);
        t.expect("send, masked", (send(ipi), send(ipi)), (0, 0));
        t.check("it is pending", events::is_pending(ipi));
        let last = counted(other);
        send(other);
        comes_to(t, "another port's", other, last, vcpu);
        t.expect("not the masked one's", counted(ipi), before);
        t.expect("unmask", events::unmask(ipi), 0);
        comes_to(t, "two are one", ipi, before, vcpu);
        t.check("it is unmasked", !events::is_masked(ipi));
        t.expect("unmask it again", events::unmask(ipi), 0);
        send(other);
        comes_to(t, "the other port's", other, last + 1, vcpu);
        t.expect("nothing more", counted(ipi), before + 1);
        t.expect("close", (close(ipi), close(other)), (0, 0));
    }
    t.expect("unmask no port", events::unmask(u32::MAX), EINVAL);
}

/// The vCPU does not let interrupts in: the event waits for that.
fn interrupts_masked(t: &mut Tests) {
    let ipi = port(t, "a port of mine", ipi(0));
    let before = counted(ipi);
    m::mask();
    t.expect("send", (send(ipi), send(ipi)), (0, 0));
    t.check(
        "announced",
        events::upcall_pending(0) && events::is_pending(ipi),
    );
    t.expect("not taken", counted(ipi), before);
    arch::announced(t);
    m::unmask();
    comes_to(t, "then it is", ipi, before, 0);
    // Taken by polling: the interrupt finds nothing, or does not come.
    m::mask();
    send(ipi);
    events::upcall();
    t.expect("taken by polling", counted(ipi), before + 2);
    m::unmask();
    send(ipi);
    comes_to(t, "and the next by interrupt", ipi, before + 2, 0);
    t.expect("close", close(ipi), 0);
}

fn moved(t: &mut Tests) {
    let Ok((first, second)) = connected() else {
        return t.check("two connected ports", false);
    };
    for vcpu in (0..vcpus()).rev() {
        t.expect("move", bind_vcpu(second, vcpu as u32), 0);
        let mut status = Status::new_zeroed();
        (status.dom, status.port) = (DOMID_SELF, second);
        op(E, EvtchnOp::STATUS.0, &mut status);
        t.expect("status says so", status.vcpu, vcpu as u32);
        let before = counted(second);
        send(first);
        comes_to(t, "to the new vCPU", second, before, vcpu);
    }
    // Pending and masked, it is announced where it is bound when it is unmasked.
    let last = vcpus() - 1;
    let before = counted(second);
    events::mask(second);
    send(first);
    t.expect("move while pending", bind_vcpu(second, last as u32), 0);
    t.expect("unmask", events::unmask(second), 0);
    if events::is_fifo() {
        // It may be in the queue of the vCPU that it was sent to.
        m::wait_for(|| counted(second) != before);
        t.expect("it comes", counted(second), before + 1);
    } else {
        comes_to(t, "it comes there", second, before, last);
    }
    t.expect("move to no vCPU", bind_vcpu(second, 4000), ENOENT);
    t.expect("move no port", bind_vcpu(u32::MAX, 0), EINVAL);
    t.expect("close", (close(first), close(second)), (0, 0));
}

fn closed_while_pending(t: &mut Tests) {
    let ipi = port(t, "a port of mine", ipi(0));
    let before = counted(ipi);
    events::mask(ipi);
    send(ipi);
    t.check("pending", events::is_pending(ipi));
    t.expect("close", close(ipi), 0);
    t.check("not pending any more", !events::is_pending(ipi));
    // The next one has the same number, and starts afresh.
    let again = port(t, "a port again", super::ports::ipi(0));
    t.expect("the same number", again, ipi);
    t.expect("unmask", events::unmask(again), 0);
    t.expect("nothing came", counted(ipi), before);
    send(again);
    comes_to(t, "its own event", again, before, 0);
    t.expect("close", close(again), 0);
    // Announced, but closed before it is taken.
    let ipi = port(t, "a port of mine", super::ports::ipi(0));
    let other = port(t, "another one", super::ports::ipi(0));
    let (before, last) = (counted(ipi), counted(other));
    m::mask();
    send(ipi);
    send(other);
    t.expect("close while announced", close(ipi), 0);
    m::unmask();
    comes_to(t, "the other comes", other, last, 0);
    t.expect("the closed one does not", counted(ipi), before);
    t.expect("close", close(other), 0);
}
