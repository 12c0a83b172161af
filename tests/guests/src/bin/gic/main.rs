//! The interrupt controller and the timers that a guest sees, version 2 or 3.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod order;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod registers;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod shared;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod software;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod storm;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod timers;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod arm64 {
    use core::sync::atomic::{AtomicU32, Ordering};

    use guest_rt::Boot;
    use guest_rt::machine::{self as m, MAX_VCPUS, gic, smp};
    use guest_rt::tests::Tests;

    /// Shared interrupts that no device has, on the boards that these tests run on.
    pub(crate) const SPARE: u32 = 180;
    /// How many of them.
    pub(crate) const SPARES: u32 = 40;

    /// INTIDs that are counted.
    const COUNTED: usize = (SPARE + SPARES) as usize;
    static COUNTS: [[AtomicU32; COUNTED]; MAX_VCPUS] =
        [const { [const { AtomicU32::new(0) }; COUNTED] }; MAX_VCPUS];
    /// The CPU interface that the last software-generated interrupt of a vCPU came from.
    static SOURCES: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
    static READY: AtomicU32 = AtomicU32::new(0);
    static STOP: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn start(_: Boot) {
        let mut t = Tests::new("gic");
        gic::init();
        gic::init_vcpu();
        if gic::lines() < SPARE + SPARES {
            return t.check("enough interrupts", false);
        }
        super::registers::all(&mut t);
        gic::init();
        gic::init_vcpu();
        for intid in (0..16).chain(SPARE..SPARE + SPARES) {
            gic::register(intid, count);
        }
        super::order::all(&mut t);
        super::timers::all(&mut t);
        start_others(&mut t);
        super::software::all(&mut t);
        super::shared::all(&mut t);
        super::timers::on_each(&mut t);
        super::storm::all(&mut t);
        stop_others(&mut t);
        t.expect(
            "interrupts nobody asked for",
            (0..vcpus()).map(gic::unexpected).sum(),
            0,
        );
        t.finish();
    }

    pub(crate) fn vcpus() -> usize {
        m::platform().vcpus()
    }

    /// The handler that counts.
    pub(crate) fn count(taken: gic::Taken) {
        let vcpu = smp::index();
        if let Some(place) = COUNTS[vcpu].get(taken.intid() as usize) {
            SOURCES[vcpu].store(taken.source(), Ordering::SeqCst);
            place.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often a vCPU has taken an interrupt that is [`count`]ed.
    pub(crate) fn counted(vcpu: usize, intid: u32) -> u32 {
        COUNTS[vcpu]
            .get(intid as usize)
            .map_or(0, |c| c.load(Ordering::SeqCst))
    }

    /// Who sent the last software-generated interrupt that a vCPU took (version 2).
    pub(crate) fn last_source(vcpu: usize) -> u32 {
        SOURCES[vcpu].load(Ordering::SeqCst)
    }

    /// The others take interrupts until they are told to stop.
    fn other(_: usize) {
        gic::init_vcpu();
        for sgi in 0..16 {
            gic::enable(smp::index(), sgi);
        }
        super::timers::init_vcpu();
        READY.fetch_add(1, Ordering::SeqCst);
        while STOP.load(Ordering::SeqCst) == 0 {
            // Masked, so that what comes before the WFI ends it.
            if !super::timers::has_work() && !super::storm::has_work() {
                m::wait();
            }
            m::unmask();
            super::timers::work();
            super::storm::work();
            m::mask();
        }
    }

    fn start_others(t: &mut Tests) {
        for vcpu in 1..vcpus() {
            t.expect("start a vCPU", smp::start(vcpu, other), 0);
        }
        let all = vcpus() as u32 - 1;
        t.check(
            "all vCPUs are there",
            m::wait_for(|| READY.load(Ordering::SeqCst) == all),
        );
        for sgi in 0..16 {
            gic::enable(0, sgi);
        }
        m::unmask();
    }

    fn stop_others(t: &mut Tests) {
        STOP.store(1, Ordering::SeqCst);
        gic::send(1, gic::Target::Others);
        for vcpu in 1..vcpus() {
            let off = || smp::is_off(vcpu);
            t.check("a vCPU turns itself off", m::wait_for(off));
        }
        m::mask();
    }
}

guest_rt::kernel!(only "aarch64", arm64::start);
