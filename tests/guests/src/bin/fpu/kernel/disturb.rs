//! What makes vCPUs exit, and change places.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::Random;
use guest_rt::hypercall::{plain, yield_now};
use guest_rt::machine::interrupts::register;
use guest_rt::machine::lapic::{self, Target, lvt, registers as r};
use guest_rt::machine::{self as m, cpu};
use xen_abi::version::VersionOp;
use xen_abi::xen::Hypercall;

const TIMER: u8 = 0xd1;
const IPI: u8 = 0xe1;
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn prepare() {
    let count = |_: u8| {
        INTERRUPTS.fetch_add(1, Ordering::SeqCst);
    };
    register(TIMER, count);
    register(IPI, count);
}

/// Interrupts so far.
pub(crate) fn interrupts() -> u32 {
    INTERRUPTS.load(Ordering::SeqCst)
}

/// Does one of many things; interrupts are let in.
pub(crate) fn something(me: usize, random: &mut Random) {
    let vcpus = m::platform().vcpus();
    lapic::write(r::TIMER, TIMER.into());
    match random.next() % 8 {
        0 => (0..3).for_each(|_| yield_now()),
        1 => lapic::send(IPI, Target::One((me + 1) % vcpus)),
        2 => lapic::send(IPI, Target::Others),
        3 => {
            // A sleep.
            m::mask();
            lapic::write(r::INITIAL, 20_000);
            m::wait();
            m::unmask();
        }
        4 => {
            // Interrupts while it runs, for longer than a time slice now and then.
            lapic::write(r::TIMER, lvt::PERIODIC | u32::from(TIMER));
            lapic::write(r::INITIAL, 100_000);
            let until = m::ticks() + random.next() % 4_000_000;
            while m::ticks() < until {
                core::hint::spin_loop();
            }
        }
        5 => (0..20).for_each(|_| {
            cpu::cpuid(1, 0);
            plain(Hypercall::XEN_VERSION, VersionOp::VERSION.0, 0);
        }),
        6 => {
            lapic::send(IPI, Target::Me);
            yield_now();
        }
        _ => {
            lapic::read(r::CURRENT);
            yield_now();
        }
    }
    lapic::write(r::INITIAL, 0);
    lapic::write(r::TIMER, lvt::MASKED);
}
