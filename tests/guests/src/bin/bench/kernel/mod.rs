//! The measurements that all architectures have, and their order.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;

use core::sync::atomic::{AtomicU64, Ordering};

use guest_rt::hypercall::{op, plain, yield_now};
use guest_rt::machine as m;
use guest_rt::{Boot, println};
use xen_abi::event_channel::{BindIpi, EvtchnOp, EvtchnSend};
use xen_abi::sched::SchedOp;
use xen_abi::version::VersionOp;
use xen_abi::xen::Hypercall;

const SWITCH: &str = "vcpu-switch-and-back";
const EVENT: &str = "event-to-waiting-vcpu";

/// Interrupts that the second vCPU took, or times that it gave way.
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static READY: AtomicU64 = AtomicU64::new(0);
static MODE: AtomicU64 = AtomicU64::new(0);
const YIELD: u64 = 0;
const WAIT: u64 = 1;

/// Prints how many ticks of a clock something took.
fn say(name: &str, ticks: u64, iterations: u64, hz: u64) {
    println!("BENCH {name} {ticks} ticks {iterations} iterations {hz} hz");
}

/// Measures `run`, which says whether it did what it should.
fn report(name: &str, iterations: u64, mut run: impl FnMut() -> bool) {
    // Once to warm up: the first time takes other ways.
    run();
    let begun = m::ticks();
    for _ in 0..iterations {
        if !run() {
            return missing(name, "it did not happen");
        }
    }
    say(name, m::ticks() - begun, iterations, m::frequency());
}

/// Prints why there is no figure.
fn missing(name: &str, why: &str) {
    println!("BENCH {name} not measured: {why}");
}

/// One more round of the second vCPU's.
fn round() {
    ROUNDS.fetch_add(1, Ordering::SeqCst);
}

/// What the second vCPU does.
fn sibling(_: usize) {
    arch::prepare_sibling();
    READY.store(1, Ordering::SeqCst);
    loop {
        if MODE.load(Ordering::SeqCst) == YIELD {
            round();
            yield_now();
        } else {
            arch::wait_and_take();
        }
    }
}

/// Lets the sibling do one round; false if it does not within a twentieth of a second.
fn wait_for_round(kick: impl FnOnce()) -> bool {
    let before = ROUNDS.load(Ordering::SeqCst);
    let deadline = m::ticks() + m::frequency() / 20;
    kick();
    while ROUNDS.load(Ordering::SeqCst) == before {
        if m::ticks() > deadline {
            return false;
        }
        yield_now();
    }
    true
}

pub(crate) fn start(boot: Boot) {
    match arch::boot(&boot) {
        Some((ticks, hz)) => say("boot", ticks, 1, hz),
        None => missing("boot", "no clock here counts from power-on"),
    }
    report("null-hypercall", 2000, || {
        plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0) > 0
    });
    arch::exits();
    report("yield-alone", 1000, || {
        plain(Hypercall::SCHED_OP, SchedOp::YIELD.0, 0) == 0
    });
    let announced = arch::prepare();
    if m::smp::start(1, sibling) != 0 {
        for name in [SWITCH, arch::IPI, EVENT] {
            missing(name, "there is no second vCPU");
        }
        return println!("BENCH end");
    }
    while READY.load(Ordering::SeqCst) == 0 {
        yield_now();
    }
    report(SWITCH, 500, || wait_for_round(|| ()));
    MODE.store(WAIT, Ordering::SeqCst);
    for _ in 0..10 {
        yield_now();
    }
    report(arch::IPI, 500, || wait_for_round(arch::interrupt_sibling));
    if announced {
        events();
    } else {
        missing(EVENT, "the device tree names no interrupt for events");
    }
    println!("BENCH end");
}

fn events() {
    let mut ipi = BindIpi { vcpu: 1, port: 0 };
    op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::BIND_IPI.0, &mut ipi);
    report(EVENT, 500, || {
        wait_for_round(|| {
            let mut send = EvtchnSend { port: ipi.port };
            op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::SEND.0, &mut send);
        })
    });
}
