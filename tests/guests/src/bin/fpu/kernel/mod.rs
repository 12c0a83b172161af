//! Each vCPU loads what is its own, is disturbed, and looks at it again.

mod area;
mod disturb;
mod others;
mod rules;
mod time;

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use guest_rt::machine as m;
use guest_rt::tests::Tests;
use guest_rt::{Boot, Random, println};

/// Rounds of each vCPU.
const ROUNDS: u32 = 150;
/// Every so many rounds other values are loaded.
const KEPT: u32 = 5;

/// Rounds that ended well.
static RIGHT: AtomicU32 = AtomicU32::new(0);
/// vCPUs that are ready to begin, and those that are through.
static READY: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("fpu");
    m::mask();
    area::prepare();
    rules::test(&mut t);
    t.expect("shared info", m::events::init(|_| ()), 0);
    disturb::prepare();
    let vcpus = m::platform().vcpus();
    for vcpu in 1..vcpus {
        t.expect("a vCPU starts", m::smp::start(vcpu, part), 0);
    }
    part(0);
    t.check(
        "all are through",
        m::wait_for(|| DONE.load(Ordering::SeqCst) == vcpus),
    );
    let all = ROUNDS * vcpus as u32;
    t.expect("rounds that ended well", RIGHT.load(Ordering::SeqCst), all);
    println!(
        "{vcpus} vCPUs, {} interrupts, components {:#x}",
        disturb::interrupts(),
        area::supported()
    );
    t.check("they were disturbed", disturb::interrupts() > all / 8);
    t.finish();
}

/// What each vCPU does.
fn part(me: usize) {
    if me != 0 {
        area::prepare();
    }
    m::lapic::init_vcpu();
    let vcpus = m::platform().vcpus();
    READY.fetch_add(1, Ordering::SeqCst);
    while READY.load(Ordering::SeqCst) < vcpus {
        guest_rt::hypercall::yield_now();
    }
    let mut random = Random::new(0xf0_0d + me as u64);
    let mut clock = time::Clock::new();
    let (mut registers, mut other) = (area::Values::new(me), others::Values::default());
    for round in 0..ROUNDS {
        if round % KEPT == 0 {
            registers.load(&mut random);
            other = others::Values::new(&mut random);
            other.load();
        }
        m::unmask();
        disturb::something(me, &mut random);
        m::mask();
        let right = registers.is_there() & other.is_there() & clock.goes_on();
        RIGHT.fetch_add(right.into(), Ordering::SeqCst);
        if !right {
            println!("vCPU {me}, round {round}");
        }
    }
    others::Values::default().load();
    DONE.fetch_add(1, Ordering::SeqCst);
}
