//! INIT and start-up interrupts, again and again.
#![expect(unsafe_code, reason = "code for real mode in low memory")]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use guest_rt::machine::lapic::{self, BASE, FIRST_MSR, base, registers as r};
use guest_rt::machine::{self as m, cpu, peek, peek16, poke16, smp, start_info};
use guest_rt::tests::Tests;

/// Rounds of each kind.
const ROUNDS: u32 = 8;
/// The vCPU that is started.
const OTHER: usize = 1;

static STARTED: AtomicU32 = AtomicU32::new(0);
static STAY: AtomicBool = AtomicBool::new(false);
static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static COUNTER: AtomicU64 = AtomicU64::new(0);

pub(crate) fn test(t: &mut Tests) {
    if m::platform().vcpus() < 2 {
        return;
    }
    in_turn(t);
    while_it_runs(t);
    ignored(t);
    registers(t);
    pages(t);
    halted(t);
    // And in peace.
    in_turn(t);
}

fn main(_: usize) {
    STARTED.fetch_add(1, Ordering::SeqCst);
    while STAY.load(Ordering::SeqCst) {
        COUNTER.fetch_add(1, Ordering::SeqCst);
        guest_rt::hypercall::yield_now();
    }
}

fn started(n: u32) -> bool {
    m::wait_for(|| STARTED.load(Ordering::SeqCst) >= n)
}

/// Started, off, started.
fn in_turn(t: &mut Tests) {
    STARTED.store(0, Ordering::SeqCst);
    for n in 1..=ROUNDS {
        t.expect("start", smp::start(OTHER, main), 0);
        t.check("it runs", started(n));
        t.check("it is off", m::wait_for(|| smp::is_off(OTHER)));
    }
    t.expect("as often", STARTED.load(Ordering::SeqCst), ROUNDS);
}

/// Reset from the middle of what it does, and started again.
fn while_it_runs(t: &mut Tests) {
    STARTED.store(0, Ordering::SeqCst);
    STAY.store(true, Ordering::SeqCst);
    for n in 1..=ROUNDS {
        t.expect("start", smp::start(OTHER, main), 0);
        t.check("it runs", started(n));
        let before = COUNTER.load(Ordering::SeqCst);
        t.check(
            "it counts",
            m::wait_for(|| COUNTER.load(Ordering::SeqCst) != before),
        );
    }
    lapic::send_init(OTHER);
    guest_rt::hypercall::yield_now();
    let before = COUNTER.load(Ordering::SeqCst);
    for _ in 0..10 {
        guest_rt::hypercall::yield_now();
    }
    t.expect("it waits", COUNTER.load(Ordering::SeqCst), before);
}

/// A start-up interrupt starts a vCPU that waits for it, and no other; the second one is too late.
fn ignored(t: &mut Tests) {
    STARTED.store(0, Ordering::SeqCst);
    let page = smp::prepare(OTHER, raw).unwrap_or(0);
    lapic::send_init(OTHER);
    lapic::send_startup(OTHER, page);
    lapic::send_startup(OTHER, page);
    t.check("it runs", started(1));
    lapic::send_startup(OTHER, page);
    for _ in 0..10 {
        guest_rt::hypercall::yield_now();
    }
    t.expect("once", STARTED.load(Ordering::SeqCst), 1);
}

/// Entered with nothing but a stack. It stays, without a hypercall.
extern "C" fn raw() -> ! {
    const ID: u32 = r::ID / 16;
    let base = cpu::read_msr(BASE);
    SEEN[0].store(base, Ordering::SeqCst);
    let read = |register: u32| -> u64 {
        if base & base::X2APIC == 0 {
            peek((base & 0xffff_f000) + u64::from(register)).into()
        } else {
            cpu::read_msr(FIRST_MSR + register / 16)
        }
    };
    SEEN[1].store(
        read(r::TASK_PRIORITY) << 32 | read(r::SPURIOUS),
        Ordering::SeqCst,
    );
    SEEN[2].store(read(r::LINT0) << 32 | read(r::TIMER), Ordering::SeqCst);
    SEEN[3].store(read(ID * 16), Ordering::SeqCst);
    STARTED.fetch_add(1, Ordering::SeqCst);
    loop {
        core::hint::spin_loop();
    }
}

/// What INIT does to the APIC's registers: all as at reset, but its mode and identifier.
fn registers(t: &mut Tests) {
    STARTED.store(0, Ordering::SeqCst);
    STAY.store(true, Ordering::SeqCst);
    t.expect("start", smp::start(OTHER, dirty), 0);
    t.check("it runs", started(1));
    let mode = SEEN[0].load(Ordering::SeqCst);
    let id = SEEN[3].load(Ordering::SeqCst);
    let page = smp::prepare(OTHER, raw).unwrap_or(0);
    lapic::send_init(OTHER);
    lapic::send_startup(OTHER, page);
    t.check("it runs again", started(2));
    let seen = |n: usize| SEEN[n].load(Ordering::SeqCst);
    t.expect("its mode", seen(0), mode);
    t.expect("no priority, switched off", seen(1), 0xff);
    t.expect("masked", seen(2), 0x1_0000 << 32 | 0x1_0000);
    t.expect("its identifier", seen(3), id);
}

fn dirty(_: usize) {
    SEEN[0].store(lapic::read_base(), Ordering::SeqCst);
    SEEN[3].store(lapic::read(r::ID).into(), Ordering::SeqCst);
    lapic::write(r::LINT0, 0x80);
    lapic::write(r::TIMER, 0x80);
    lapic::write(r::TASK_PRIORITY, 0x40);
    STARTED.fetch_add(1, Ordering::SeqCst);
    loop {
        guest_rt::hypercall::yield_now();
    }
}

/// Offset of the word where [`STUB`] stores what it found in CS.
const FOUND: u64 = 0x100;
/// `CLI; MOV AX, CS; MOV DS, AX; MOV [0x100], AX; HLT`, and JMP back to it.
const STUB: [u8; 11] = [
    0xfa, 0x8c, 0xc8, 0x8e, 0xd8, 0xa3, 0x00, 0x01, 0xf4, 0xeb, 0xfd,
];

/// The vector says at which page it starts, in real mode. There it halts with interrupts masked, and starts again after
/// that too.
fn pages(t: &mut Tests) {
    let info = start_info::get();
    let first = info.low_page().unwrap_or(0);
    let mut tried = 0;
    for page in (first..0x9f).step_by(7) {
        let at = u64::from(page) << 12;
        if !info.is_memory(at, 4096) || tried == 6 {
            continue;
        }
        tried += 1;
        // SAFETY: low memory that holds nothing: the start information is before the first of these pages.
        unsafe {
            core::ptr::copy_nonoverlapping(
                STUB.as_ptr(),
                core::ptr::with_exposed_provenance_mut(at as usize),
                STUB.len(),
            );
        }
        poke16(at + FOUND, 0);
        lapic::send_init(OTHER);
        lapic::send_startup(OTHER, page);
        let segment = u16::from(page) << 8;
        t.check(
            "it starts at its page",
            m::wait_for(|| peek16(at + FOUND) == segment),
        );
    }
    t.check("several pages", tried > 1);
}

/// A vCPU that halted with interrupts masked is off for the hypervisor, or waits; INIT brings it back either way.
fn halted(t: &mut Tests) {
    STARTED.store(0, Ordering::SeqCst);
    STAY.store(false, Ordering::SeqCst);
    for n in 1..=ROUNDS {
        t.expect("start", smp::start(OTHER, halt), 0);
        t.check("it runs", started(n));
    }
    lapic::send_init(OTHER);
}

fn halt(_: usize) {
    m::mask();
    STARTED.fetch_add(1, Ordering::SeqCst);
    loop {
        cpu::halt();
    }
}
