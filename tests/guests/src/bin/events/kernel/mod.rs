//! All of it, in order.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;
mod delivery;
mod fifo;
mod many;
mod place;
mod ports;
mod wait;

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::Boot;
use guest_rt::machine::{self as m, Target, events, smp};
use guest_rt::tests::Tests;

static READY: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicU32 = AtomicU32::new(0);

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("events");
    arch::prepare(&mut t);
    t.expect("map shared info", events::init(ports::count), 0);
    events::init_vcpu();
    m::unmask();

    place::before_the_others(&mut t);
    start_others(&mut t);
    place::of_the_others(&mut t);
    fifo::not_yet(&mut t);
    both(&mut t);
    many::two_level_is_full(&mut t);

    fifo::change(&mut t);
    both(&mut t);
    fifo::all(&mut t);

    fifo::back(&mut t);
    delivery::all(&mut t);
    stop_others(&mut t);
    t.finish();
}

pub(crate) fn vcpus() -> usize {
    m::platform().vcpus()
}

/// What has to hold in either interface.
fn both(t: &mut Tests) {
    delivery::all(t);
    wait::all(t);
    many::all(t);
}

/// The others take events until they are told to stop.
fn other(_: usize) {
    arch::prepare_vcpu();
    events::init_vcpu();
    READY.fetch_add(1, Ordering::SeqCst);
    while STOP.load(Ordering::SeqCst) == 0 {
        // Masked, so that what comes before the WFI ends it.
        if !wait::has_work() && !many::has_work() {
            m::wait();
        }
        m::unmask();
        wait::work();
        many::work();
        m::mask();
    }
}

fn start_others(t: &mut Tests) {
    for vcpu in 1..vcpus() {
        t.expect("place its vcpu_info", events::register_info(vcpu), 0);
        t.expect("start a vCPU", smp::start(vcpu, other), 0);
    }
    let all = vcpus() as u32 - 1;
    t.check(
        "all vCPUs are there",
        m::wait_for(|| READY.load(Ordering::SeqCst) == all),
    );
}

fn stop_others(t: &mut Tests) {
    STOP.store(1, Ordering::SeqCst);
    arch::poke(Target::Others);
    for vcpu in 1..vcpus() {
        let off = || smp::is_off(vcpu);
        t.check("a vCPU turns itself off", m::wait_for(off));
    }
    m::mask();
}
