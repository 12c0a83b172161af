//! HLT ends by whatever interrupts.

use core::sync::atomic::{AtomicBool, Ordering};

use guest_rt::hypercall::op;
use guest_rt::machine::interrupts::register;
use guest_rt::machine::lapic::{self, DEADLINE, Target, lvt, registers as r};
use guest_rt::machine::{self as m, cpu, ticks};
use guest_rt::tests::Tests;
use xen_abi::sched::{Poll, SchedOp};
use xen_abi::xen::Hypercall;

use super::modes::Mode;
use super::{crew, log, nmi};

const TIMER: u8 = 0x62;
const IPI: u8 = 0x74;

pub(crate) fn test(t: &mut Tests, _: Mode) {
    register(TIMER, log::vector);
    register(IPI, log::vector);
    log::take(0);
    // What is requested by now ends it at once.
    lapic::send(IPI, Target::Me);
    m::wait();
    t.expect("requested before", log::take(0), log::just(&[IPI.into()]));
    lapic::write(r::TIMER, TIMER.into());
    lapic::write(r::INITIAL, 500_000);
    m::wait();
    t.expect("by a count", log::take(0), log::just(&[TIMER.into()]));
    lapic::write(r::TIMER, lvt::PERIODIC | u32::from(TIMER));
    lapic::write(r::INITIAL, 500_000);
    for _ in 0..3 {
        m::wait();
    }
    lapic::write(r::INITIAL, 0);
    lapic::write(r::TIMER, lvt::MASKED);
    t.check("by a period", log::count(0) >= 3);
    log::settle();
    log::take(0);
    if cpu::cpuid(1, 0).ecx >> 24 & 1 != 0 {
        lapic::write(r::TIMER, lvt::DEADLINE | u32::from(TIMER));
        let due = ticks() + 3_000_000;
        cpu::write_msr(DEADLINE, due);
        m::wait();
        t.expect("by a deadline", log::take(0), log::just(&[TIMER.into()]));
        t.check("not early", ticks() >= due);
        lapic::write(r::TIMER, lvt::MASKED);
    }
    others(t);
    held_back(t);
}

/// Whether the other vCPU has masked interrupts, and halts next.
static READY: AtomicBool = AtomicBool::new(false);

/// Another vCPU halts, and is woken by an interrupt or one that cannot be masked.
fn others(t: &mut Tests) {
    for vcpu in 1..crew::size() {
        log::take(vcpu);
        for n in 1..=3 {
            READY.store(false, Ordering::SeqCst);
            crew::ask(vcpu, |me| {
                m::mask();
                let before = log::count(me);
                READY.store(true, Ordering::SeqCst);
                while log::count(me) == before {
                    m::wait();
                }
                m::unmask();
            });
            t.check("it halts", m::wait_for(|| READY.load(Ordering::SeqCst)));
            guest_rt::hypercall::yield_now();
            lapic::send(IPI, Target::One(vcpu));
            t.check("by another vCPU", crew::done(vcpu));
            t.expect("as often", log::count(vcpu), n);
        }
        READY.store(false, Ordering::SeqCst);
        crew::ask(vcpu, |_| {
            m::mask();
            READY.store(true, Ordering::SeqCst);
            m::wait();
            READY.store(false, Ordering::SeqCst);
            m::unmask();
        });
        t.check("it halts", m::wait_for(|| READY.load(Ordering::SeqCst)));
        // The first one may come before HLT.
        let woken = m::wait_for(|| {
            nmi::send(vcpu);
            !READY.load(Ordering::SeqCst)
        });
        t.check("by an NMI", woken && crew::done(vcpu));
        log::take(vcpu);
    }
}

/// What the priority holds back does not end it: the timer behind it does.
fn held_back(t: &mut Tests) {
    lapic::write(r::TASK_PRIORITY, 0x70);
    lapic::send(TIMER, Target::Me);
    register(0x84, log::vector);
    lapic::write(r::TIMER, 0x84);
    lapic::write(r::INITIAL, 500_000);
    m::wait();
    t.expect("not by what is held back", log::take(0), log::just(&[0x84]));
    lapic::write(r::TIMER, lvt::MASKED);
    lapic::write(r::TASK_PRIORITY, 0);
    t.check("which comes then", log::arrive(1));
    t.expect("it", log::take(0), log::just(&[TIMER.into()]));
    // So does waiting for an event by hypercall end when its time is up, with interrupts masked.
    let mut poll = Poll {
        ports: xen_abi::Handle(0),
        nr_ports: 0,
        pad: 0,
        timeout: 1,
    };
    t.expect(
        "a poll ends",
        op(Hypercall::SCHED_OP, SchedOp::POLL.0, &mut poll),
        0,
    );
}
