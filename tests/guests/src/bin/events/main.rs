//! Event channels as they arrive: by interrupt, in the two-level interface and in the FIFO one.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod delivery;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod fifo;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod many;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod place;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod ports;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod wait;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod arm64 {
    use core::sync::atomic::{AtomicU32, Ordering};

    use guest_rt::Boot;
    use guest_rt::machine::{self as m, events, gic, smp};
    use guest_rt::tests::Tests;

    use super::ports::{self, POKE};

    static READY: AtomicU32 = AtomicU32::new(0);
    static STOP: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn start(_: Boot) {
        let mut t = Tests::new("events");
        gic::init();
        gic::init_vcpu();
        gic::enable(0, POKE);
        gic::register(POKE, |_| ());
        t.check(
            "the device tree names an interrupt",
            m::platform().events.is_some(),
        );
        t.expect("map shared info", events::init(ports::count), 0);
        events::init_vcpu();
        m::unmask();

        super::place::before_the_others(&mut t);
        start_others(&mut t);
        super::place::of_the_others(&mut t);
        super::fifo::not_yet(&mut t);
        both(&mut t);
        super::many::two_level_is_full(&mut t);

        super::fifo::change(&mut t);
        both(&mut t);
        super::fifo::all(&mut t);

        super::fifo::back(&mut t);
        super::delivery::all(&mut t);
        stop_others(&mut t);
        t.finish();
    }

    pub(crate) fn vcpus() -> usize {
        m::platform().vcpus()
    }

    /// What has to hold in either interface.
    fn both(t: &mut Tests) {
        super::delivery::all(t);
        super::wait::all(t);
        super::many::all(t);
    }

    /// The others take events until they are told to stop.
    fn other(_: usize) {
        gic::init_vcpu();
        gic::enable(smp::index(), POKE);
        events::init_vcpu();
        READY.fetch_add(1, Ordering::SeqCst);
        while STOP.load(Ordering::SeqCst) == 0 {
            // Masked, so that what comes before the WFI ends it.
            if !super::wait::has_work() && !super::many::has_work() {
                m::wait();
            }
            m::unmask();
            super::wait::work();
            super::many::work();
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
        gic::send(POKE, gic::Target::Others);
        for vcpu in 1..vcpus() {
            let off = || smp::is_off(vcpu);
            t.check("a vCPU turns itself off", m::wait_for(off));
        }
        m::mask();
    }
}

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
guest_rt::kernel!(arm64::start);

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
guest_rt::kernel!(start);

/// There are no events on a host.
#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn start(_: guest_rt::Boot) {}
