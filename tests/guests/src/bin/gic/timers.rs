//! Timers and waiting for interrupts.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::machine::{self as m, Interrupt, MAX_VCPUS, gic, smp};
use guest_rt::tests::Tests;

use super::arm64::{counted, vcpus};

const ENABLE: u64 = 1;
const MASKED: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;
/// Interrupts that each vCPU's timer makes when all work.
const TICKS: u32 = 20;

/// How often each vCPU took a timer interrupt, and those that came before their time.
static FIRED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
static EARLY: AtomicU32 = AtomicU32::new(0);
/// Vcpus whose timers are to be tried.
static WORK: AtomicU32 = AtomicU32::new(0);

/// The two timers behind one face.
#[derive(Clone, Copy)]
struct Timer {
    interrupt: Interrupt,
    physical: bool,
}

impl Timer {
    fn all() -> [Option<Self>; 2] {
        let platform = m::platform();
        let timer = |interrupt: Option<Interrupt>, physical| {
            interrupt.map(|interrupt| Self {
                interrupt,
                physical,
            })
        };
        [
            timer(platform.virtual_timer, false),
            timer(platform.physical_timer, true),
        ]
    }

    fn now(self) -> u64 {
        if self.physical {
            m::physical_ticks()
        } else {
            m::ticks()
        }
    }

    fn control(self) -> u64 {
        if self.physical {
            m::physical_timer_control()
        } else {
            m::timer_control()
        }
    }

    fn set_control(self, value: u64) {
        if self.physical {
            m::set_physical_timer_control(value);
        } else {
            m::set_timer_control(value);
        }
    }

    fn compare(self) -> u64 {
        if self.physical {
            m::physical_timer_compare()
        } else {
            m::timer_compare()
        }
    }

    fn set(self, deadline: u64, control: u64) {
        if self.physical {
            m::set_physical_timer_compare(deadline);
        } else {
            m::set_timer_compare(deadline);
        }
        self.set_control(control);
    }
}

/// A timer of the calling vCPU has fired.
fn fired(taken: gic::Taken) {
    for timer in Timer::all().into_iter().flatten() {
        if timer.interrupt.intid == taken.intid() {
            if timer.now() < timer.compare() || timer.control() & STATUS == 0 {
                EARLY.fetch_add(1, Ordering::SeqCst);
            }
            timer.set_control(0);
        }
    }
    FIRED[smp::index()].fetch_add(1, Ordering::SeqCst);
}

fn count() -> u32 {
    FIRED[smp::index()].load(Ordering::SeqCst)
}

/// Lets the calling vCPU's timers interrupt it.
pub(crate) fn init_vcpu() {
    for timer in Timer::all().into_iter().flatten() {
        timer.set_control(0);
        gic::register(timer.interrupt.intid, fired);
        gic::enable(smp::index(), timer.interrupt.intid);
    }
}

/// A moment that is not measured, only waited for.
fn soon(timer: Timer) -> u64 {
    timer.now() + m::frequency() / 200
}

pub(crate) fn all(t: &mut Tests) {
    init_vcpu();
    for timer in Timer::all() {
        let Some(timer) = timer else {
            t.check("the device tree has both timers", false);
            continue;
        };
        t.check("a timer is level-sensitive", !timer.interrupt.edge);
        interrupts(t, timer);
        registers(t, timer);
        wait_masked(t, timer);
    }
    t.expect("nothing came early", EARLY.load(Ordering::SeqCst), 0);
    pending_wait(t);
}

fn interrupts(t: &mut Tests, timer: Timer) {
    m::unmask();
    for deadline in [soon(timer), timer.now(), 0] {
        let before = count();
        timer.set(deadline, ENABLE);
        t.check("a timer interrupts", m::wait_for(|| count() == before + 1));
    }
    // Disabled, or masked: nothing.
    let before = count();
    for control in [0, MASKED, ENABLE | MASKED] {
        timer.set(0, control);
        let later = m::ticks() + m::frequency() / 200;
        m::wait_for(|| m::ticks() > later);
        t.expect("a timer that may not interrupt", count(), before);
    }
    timer.set_control(ENABLE);
    t.check("it may now", m::wait_for(|| count() == before + 1));
    m::mask();
}

fn registers(t: &mut Tests, timer: Timer) {
    let far = timer.now() + 1000 * m::frequency();
    timer.set(far, ENABLE | MASKED);
    t.expect("compare value", timer.compare(), far);
    t.expect("control", timer.control(), ENABLE | MASKED);
    timer.set(0, ENABLE | MASKED);
    t.expect(
        "its time has come",
        timer.control(),
        ENABLE | MASKED | STATUS,
    );
    timer.set_control(0);
    t.expect("off", timer.control() & (ENABLE | MASKED), 0);
    let down = if timer.physical {
        m::set_physical_timer_value(u64::from(u32::MAX >> 4));
        m::physical_timer_value()
    } else {
        m::set_timer_value(u64::from(u32::MAX >> 4));
        m::timer_value()
    };
    t.check(
        "the value counts down",
        down as u32 <= u32::MAX >> 4 && timer.compare() > timer.now(),
    );
}

/// WFI ends when an interrupt is pending that PSTATE masks.
fn wait_masked(t: &mut Tests, timer: Timer) {
    for _ in 0..3 {
        let before = count();
        let deadline = soon(timer);
        timer.set(deadline, ENABLE);
        let mut waits = 0;
        while timer.now() < deadline && waits < 1000 {
            m::wait();
            waits += 1;
        }
        t.check("WFI waits for the timer", timer.now() >= deadline);
        t.expect("nothing was handled", count(), before);
        let shown = m::wait_for(|| gic::highest_pending().intid() == timer.interrupt.intid);
        t.check("it is pending", shown);
        m::unmask();
        t.check(
            "it comes when unmasked",
            m::wait_for(|| count() == before + 1),
        );
        m::mask();
    }
}

/// WFI with a pending interrupt that PSTATE masks ends at once: nothing else would end it.
fn pending_wait(t: &mut Tests) {
    gic::enable(0, 7);
    gic::send(7, gic::Target::Me);
    m::wait();
    t.expect(
        "WFI with something pending",
        gic::highest_pending().intid(),
        7,
    );
    let before = counted(0, 7);
    m::unmask();
    t.check(
        "it comes when unmasked",
        m::wait_for(|| counted(0, 7) == before + 1),
    );
    m::mask();
}

/// Whether the calling vCPU is asked for its part.
pub(crate) fn has_work() -> bool {
    WORK.load(Ordering::SeqCst) >> smp::index() & 1 != 0
}

/// Another vCPU's part of [`on_each`].
pub(crate) fn work() {
    let me = smp::index();
    if has_work() {
        try_own();
        WORK.fetch_and(!(1 << me), Ordering::SeqCst);
    }
}

/// Waits for the calling vCPU's timers by WFI, with interrupts let in behind it.
fn try_own() {
    for _ in 0..TICKS / 2 {
        for timer in Timer::all().into_iter().flatten() {
            let before = count();
            m::mask();
            timer.set(soon(timer), ENABLE);
            while count() == before {
                m::wait();
                m::unmask();
                m::mask();
            }
            m::unmask();
        }
    }
}

/// All vCPUs' timers at the same time.
pub(crate) fn on_each(t: &mut Tests) {
    let before: [u32; MAX_VCPUS] = core::array::from_fn(|n| FIRED[n].load(Ordering::SeqCst));
    WORK.store((1 << vcpus()) - 2, Ordering::SeqCst);
    gic::send(2, gic::Target::Others);
    try_own();
    t.check(
        "all timers are through",
        m::wait_for(|| WORK.load(Ordering::SeqCst) == 0),
    );
    for (vcpu, before) in before.iter().enumerate().take(vcpus()) {
        let fired = FIRED[vcpu].load(Ordering::SeqCst) - before;
        t.expect("each timer as often as set", fired, TICKS);
    }
    t.expect("nothing came early", EARLY.load(Ordering::SeqCst), 0);
}
