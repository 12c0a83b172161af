//! What is different on arm64.

use guest_rt::hypercall::{is_oxen, op, plain};
use guest_rt::machine::{self as m, Target, gic, smp};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{BindVirq, EvtchnOp};
use xen_abi::sched::SchedOp;
use xen_abi::vcpu::{SetSingleshotTimer, SingleshotFlags, VcpuOp};
use xen_abi::xen::{Hypercall, Virq};

use super::ports::{bind_vcpu, close, comes_to, counted, send};
use super::vcpus;

const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
const ENXIO: i64 = -6;
const EBUSY: i64 = -16;
const EINVAL: i64 = -22;

/// The software-generated interrupt that ends another vCPU's wait.
const POKE: u32 = 1;
/// A `vcpu_info` behind the page that is named.
pub(crate) const fn beyond_a_page() -> i64 {
    ENXIO
}

/// A second `vcpu_info`.
pub(crate) fn moved_twice() -> i64 {
    if is_oxen() { EBUSY } else { EINVAL }
}

/// Interrupts of the vCPU that boots.
pub(crate) fn prepare(t: &mut Tests) {
    gic::init();
    gic::init_vcpu();
    gic::enable(0, POKE);
    gic::register(POKE, |_| ());
    t.check(
        "the device tree names an interrupt",
        m::platform().events.is_some(),
    );
}

/// Interrupts of another vCPU.
pub(crate) fn prepare_vcpu() {
    gic::init_vcpu();
    gic::enable(smp::index(), POKE);
}

/// Ends the wait of a vCPU.
pub(crate) fn poke(to: Target) {
    gic::send(POKE, to);
}

/// An event is announced to this vCPU, which masks its interrupts.
pub(crate) fn announced(t: &mut Tests) {
    let interrupt = m::platform().events.map_or(0, |i| i.intid);
    t.expect(
        "by its interrupt",
        gic::highest_pending().intid(),
        interrupt,
    );
}

/// An interrupt that is pending, masked and in a list register, ends a block before it begins: nothing else would.
fn with_pending_interrupt(t: &mut Tests) {
    for _ in 0..3 {
        m::mask();
        gic::send(POKE, gic::Target::Me);
        t.expect("pending", gic::highest_pending().intid(), POKE);
        t.expect("block", plain(Hypercall::SCHED_OP, SchedOp::BLOCK.0, 0), 0);
        t.check("taken", m::wait_for(|| gic::highest_pending().is_none()));
        m::unmask();
    }
}

/// Blocking with interrupts masked; `ipi` is a port of this vCPU.
pub(crate) fn block_masked(t: &mut Tests, ipi: u32) {
    with_pending_interrupt(t);
    // Announced while interrupts are masked: it does not block, and lets them in.
    let before = counted(ipi);
    m::mask();
    send(ipi);
    t.expect("block", plain(Hypercall::SCHED_OP, SchedOp::BLOCK.0, 0), 0);
    t.check(
        "it lets interrupts in",
        m::wait_for(|| counted(ipi) != before),
    );
    m::unmask();
    comes_to(t, "it has come", ipi, before, 0);
}

/// A virtual interrupt can be bound; on Arm nothing sets the timer behind it.
pub(crate) fn virtual_timer(t: &mut Tests) {
    let last = vcpus() - 1;
    let mut bind = BindVirq {
        virq: Virq::TIMER,
        vcpu: last as u32,
        port: 0,
    };
    t.expect("bind the timer", op(E, EvtchnOp::BIND_VIRQ.0, &mut bind), 0);
    let timer = bind.port;
    t.expect("a virtual interrupt stays", bind_vcpu(timer, 0), EINVAL);
    t.expect("and is not sent", send(timer), EINVAL);
    let mut shot = SetSingleshotTimer {
        timeout_abs_ns: 0,
        flags: SingleshotFlags::from_bits_retain(0),
        pad: 0,
    };
    let args = [
        VcpuOp::SET_SINGLESHOT_TIMER.0.into(),
        last as u64,
        core::ptr::from_mut(&mut shot) as u64,
        0,
        0,
    ];
    let answer = guest_rt::hypercall::call(Hypercall::VCPU_OP, args);
    t.expect("no one-shot timer on Arm", answer, EINVAL);
    t.expect("close", close(timer), 0);
}
