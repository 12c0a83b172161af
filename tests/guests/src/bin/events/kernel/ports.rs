//! Ports, and what has come of them.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::op;
use guest_rt::machine::{self as m, events, smp};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, Close, EvtchnOp, EvtchnSend,
};
use xen_abi::xen::{DOMID_SELF, Hypercall};

const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
/// Ports that are counted.
pub(crate) const PORTS: usize = events::FIFO_PORTS as usize;

static COUNTS: [AtomicU32; PORTS] = [const { AtomicU32::new(0) }; PORTS];
static TAKERS: [AtomicU32; PORTS] = [const { AtomicU32::new(0) }; PORTS];
/// The last ports taken, the oldest first.
static ORDER: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// The handler of events.
pub(crate) fn count(port: u32) {
    let place = TAKEN.fetch_add(1, Ordering::SeqCst) as usize;
    ORDER[place % ORDER.len()].store(port, Ordering::SeqCst);
    let at = port as usize % PORTS;
    TAKERS[at].store(smp::index() as u32, Ordering::SeqCst);
    COUNTS[at].fetch_add(1, Ordering::SeqCst);
}

/// How often a port's event was taken.
pub(crate) fn counted(port: u32) -> u32 {
    COUNTS[port as usize % PORTS].load(Ordering::SeqCst)
}

/// Who took the last one.
pub(crate) fn taker(port: u32) -> usize {
    TAKERS[port as usize % PORTS].load(Ordering::SeqCst) as usize
}

/// How many events were taken by all.
pub(crate) fn taken() -> u32 {
    TAKEN.load(Ordering::SeqCst)
}

/// The port of the `n`th event taken, as long as it is one of the last 32.
pub(crate) fn nth(n: u32) -> u32 {
    ORDER[n as usize % ORDER.len()].load(Ordering::SeqCst)
}

pub(crate) fn send(port: u32) -> i64 {
    op(E, EvtchnOp::SEND.0, &mut EvtchnSend { port })
}

pub(crate) fn close(port: u32) -> i64 {
    op(E, EvtchnOp::CLOSE.0, &mut Close { port })
}

pub(crate) fn bind_vcpu(port: u32, vcpu: u32) -> i64 {
    op(E, EvtchnOp::BIND_VCPU.0, &mut BindVcpu { port, vcpu })
}

/// A port for interrupts of `vcpu`, or the error.
pub(crate) fn ipi(vcpu: usize) -> Result<u32, i64> {
    let mut bind = BindIpi {
        vcpu: vcpu as u32,
        port: 0,
    };
    match op(E, EvtchnOp::BIND_IPI.0, &mut bind) {
        0 => Ok(bind.port),
        error => Err(error),
    }
}

/// A port that waits for this domain.
pub(crate) fn unbound() -> Result<u32, i64> {
    let mut listen = AllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    match op(E, EvtchnOp::ALLOC_UNBOUND.0, &mut listen) {
        0 => Ok(listen.port),
        error => Err(error),
    }
}

/// Two ports of this domain, connected with each other: the one that waited, and the other.
pub(crate) fn connected() -> Result<(u32, u32), i64> {
    let first = unbound()?;
    let mut connect = BindInterdomain {
        remote_dom: DOMID_SELF,
        pad: 0,
        remote_port: first,
        local_port: 0,
    };
    match op(E, EvtchnOp::BIND_INTERDOMAIN.0, &mut connect) {
        0 => Ok((first, connect.local_port)),
        error => Err(error),
    }
}

/// The port, or a failed check and a port that nobody has.
pub(crate) fn port(t: &mut Tests, what: &str, port: Result<u32, i64>) -> u32 {
    t.expect(what, port.err(), None);
    port.unwrap_or(0)
}

/// Waits for one more event of a port, and looks who took it.
pub(crate) fn comes_to(t: &mut Tests, what: &str, port: u32, before: u32, vcpu: usize) {
    m::wait_for(|| counted(port) != before);
    t.expect(what, (counted(port), taker(port)), (before + 1, vcpu));
}
