//! The tests, from moves to what happens in the middle of a repeated instruction.

mod cases;
mod compatible;
mod device;
mod edges;
mod faults;
mod ports;
mod steps;
mod strings;
mod table;
mod twins;

use guest_rt::Boot;
use guest_rt::machine::{self as m, cpu};
use guest_rt::tests::Tests;

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("emulate");
    m::mask();
    // SSE registers are among the operands.
    const OSFXSR: u64 = 1 << 9;
    cpu::set_cr4(cpu::cr4() | OSFXSR);
    device::prepare();
    if device::message().is_none() {
        return t.check("a controller with messages", false);
    }
    twins::test(&mut t);
    strings::test(&mut t);
    compatible::test(&mut t);
    ports::test(&mut t);
    faults::test(&mut t);
    steps::test(&mut t);
    edges::test(&mut t);
    t.finish();
}
