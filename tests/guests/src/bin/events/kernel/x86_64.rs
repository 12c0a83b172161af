//! What is different on x86-64.

use guest_rt::hypercall::{call, is_oxen, op};
use guest_rt::machine::{self as m, Target, interrupts, lapic};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{BindVirq, EvtchnOp};
use xen_abi::vcpu::{SetSingleshotTimer, SingleshotFlags, VcpuOp};
use xen_abi::xen::{Hypercall, Virq};

use super::ports::{bind_vcpu, close, comes_to, counted, send};
use super::vcpus;

const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
const ENXIO: i64 = -6;
const EBUSY: i64 = -16;
const EINVAL: i64 = -22;
const ETIME: i64 = -62;
const MILLISECOND: u64 = 1_000_000;
/// Xen's timers may be early by `timer_slop`, 50 microseconds unless told otherwise.
const SLOP: u64 = 50_000;

/// The vector that ends another vCPU's wait.
const POKE: u8 = 0x50;
/// A `vcpu_info` behind the page that is named: Xen says EINVAL from 4.18 on.
pub(crate) fn beyond_a_page() -> i64 {
    if is_oxen() { ENXIO } else { EINVAL }
}

/// A second `vcpu_info`.
pub(crate) const fn moved_twice() -> i64 {
    EBUSY
}

/// Interrupts of the vCPU that boots.
pub(crate) fn prepare(_: &mut Tests) {
    interrupts::register(POKE, |_| ());
}

/// Interrupts of another vCPU: the runtime has set them up.
pub(crate) const fn prepare_vcpu() {}

/// Ends the wait of a vCPU.
pub(crate) fn poke(to: Target) {
    lapic::send(POKE, to);
}

/// An event is announced to this vCPU, which masks its interrupts: the local APIC does not know of it.
pub(crate) fn announced(t: &mut Tests) {
    let known = lapic::is_requested(interrupts::EVENTS);
    t.check("not by the local APIC", !known);
}

/// A vCPU that blocks with interrupts masked is not woken by an event: HLT is how a vCPU waits, and does so with what
/// is pending already.
pub(crate) fn block_masked(t: &mut Tests, ipi: u32) {
    for _ in 0..3 {
        let before = counted(ipi);
        m::mask();
        send(ipi);
        m::wait();
        t.expect("taken", counted(ipi), before + 1);
        poke(Target::Me);
        t.check("requested", lapic::is_requested(POKE));
        m::wait();
        t.check("taken, too", !lapic::is_requested(POKE));
        m::unmask();
    }
}

fn timer(op: VcpuOp, vcpu: usize, arg: u64) -> i64 {
    call(Hypercall::VCPU_OP, [op.0.into(), vcpu as u64, arg, 0, 0])
}

/// Sets the one-shot timer of a vCPU.
fn shoot(vcpu: usize, when: u64, flags: SingleshotFlags) -> i64 {
    let mut shot = SetSingleshotTimer {
        timeout_abs_ns: when,
        flags,
        pad: 0,
    };
    let arg = core::ptr::from_mut(&mut shot) as u64;
    timer(VcpuOp::SET_SINGLESHOT_TIMER, vcpu, arg)
}

/// The virtual timer, by each way to set it.
pub(crate) fn virtual_timer(t: &mut Tests) {
    let mut bind = BindVirq {
        virq: Virq::TIMER,
        vcpu: 0,
        port: 0,
    };
    t.expect("bind the timer", op(E, EvtchnOp::BIND_VIRQ.0, &mut bind), 0);
    let port = bind.port;
    t.expect("a virtual interrupt stays", bind_vcpu(port, 0), EINVAL);
    t.expect("and is not sent", send(port), EINVAL);
    let anytime = SingleshotFlags::from_bits_retain(0);
    let future = SingleshotFlags::FUTURE;

    let mut before = counted(port);
    for delay in [MILLISECOND, 5 * MILLISECOND, 0] {
        let deadline = m::system_time() + delay;
        t.expect("set it", shoot(0, deadline, anytime), 0);
        comes_to(t, "it comes", port, before, 0);
        t.check("not before its time", m::system_time() >= deadline - SLOP);
        before += 1;
    }
    t.expect("a time that is over", shoot(0, 1, anytime), 0);
    comes_to(t, "comes at once", port, before, 0);
    before += 1;
    // From 4.18 on Xen takes no notice of the flag: a kernel that is told of the error cannot do better than set it anew.
    match shoot(0, 1, future) {
        0 => {
            comes_to(t, "comes at once, too", port, before, 0);
            before += 1;
        }
        error => t.expect("must not be over", error, ETIME),
    }
    let deadline = m::system_time() + MILLISECOND;
    let late = m::system_time() + 1_000_000 * MILLISECOND;
    t.expect("set it far away", shoot(0, late, future), 0);
    t.expect("and stop it", timer(VcpuOp::STOP_SINGLESHOT_TIMER, 0, 0), 0);
    t.expect(
        "stop it again",
        timer(VcpuOp::STOP_SINGLESHOT_TIMER, 0, 0),
        0,
    );
    m::wait_for(|| m::system_time() > deadline + MILLISECOND);
    t.expect("nothing comes", counted(port), before);

    let other = vcpus() - 1;
    if other != 0 {
        t.expect("that of another", shoot(other, late, anytime), EINVAL);
    }
    let deadline = m::system_time() + MILLISECOND;
    let answer = call(Hypercall::SET_TIMER_OP, [deadline, 0, 0, 0, 0]);
    t.expect("set it by the older call", answer, 0);
    comes_to(t, "it comes, too", port, before, 0);
    t.check("not before its time", m::system_time() >= deadline - SLOP);
    let answer = call(Hypercall::SET_TIMER_OP, [0; 5]);
    t.expect("stop it by that", answer, 0);
    t.expect(
        "no periodic timer runs",
        timer(VcpuOp::STOP_PERIODIC_TIMER, 0, 0),
        0,
    );
    t.expect("close", close(port), 0);
}
