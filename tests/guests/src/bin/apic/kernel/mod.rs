//! The tests, from one vCPU's registers to what goes on between vCPUs.

mod crew;
mod io;
mod ipi;
mod level;
mod log;
mod modes;
mod nmi;
mod priority;
mod registers;
mod startup;
mod timer;
mod upcall;
mod wake;

use guest_rt::machine::lapic;
use guest_rt::tests::Tests;
use guest_rt::{Boot, machine as m, println};

use modes::Mode;

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("apic");
    m::mask();
    modes::test(&mut t);
    for mode in Mode::all() {
        println!("one vCPU, {mode:?}");
        modes::enter(mode);
        registers::test(&mut t, mode);
        priority::test(&mut t, mode);
        timer::test(&mut t, mode);
    }
    io::test(&mut t);
    level::test(&mut t);
    crew::start(&mut t);
    for mode in Mode::all() {
        println!("all vCPUs, {mode:?}");
        crew::everybody(
            &mut t,
            match mode {
                Mode::Memory => |_| modes::enter(Mode::Memory),
                Mode::Msrs => |_| modes::enter(Mode::Msrs),
            },
        );
        ipi::test(&mut t, mode);
        nmi::test(&mut t, mode);
        wake::test(&mut t, mode);
    }
    println!("events");
    upcall::test(&mut t);
    println!("one vCPU without");
    modes::one_is_off(&mut t);
    crew::dismiss(&mut t);
    println!("starting");
    startup::test(&mut t);
    // Nothing came that nobody asked for.
    for vcpu in 0..m::platform().vcpus() {
        t.expect("unexpected interrupts", m::interrupts::unexpected(vcpu), 0);
    }
    t.expect(
        "nothing in service",
        lapic::read(lapic::registers::PROCESSOR_PRIORITY),
        0,
    );
    t.finish();
}
