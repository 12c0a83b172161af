//! Several vCPUs, each with its own values in all of its registers, on as few CPUs as the machine has.
#![expect(unsafe_code, reason = "a bare-metal kernel")]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_rt::Random;
use guest_rt::hypercall::{plain, yield_now};
use guest_rt::machine as m;
use guest_rt::tests::Tests;
use xen_abi::sched::SchedOp;
use xen_abi::xen::Hypercall;

global_asm!(include_str!("kept.S"));

unsafe extern "C" {
    fn fill_vectors(seed: u64);
    fn check_vectors(seed: u64) -> u64;
    fn hold_registers(seed: u64, rounds: u64) -> u64;
}

/// Times that each vCPU chooses new values.
const ROUNDS: u32 = 150;
/// Rounds of the loop that is to be interrupted.
const SPIN: u64 = 400_000;

/// vCPUs that are through.
static DONE: AtomicU32 = AtomicU32::new(0);
/// Values found changed.
static WRONG: AtomicU64 = AtomicU64::new(0);
/// The first register found changed, by its place in the list, plus one.
static WHICH: AtomicU64 = AtomicU64::new(0);
/// Times one vCPU saw the counter behind what another had seen.
static BACKWARDS: AtomicU64 = AtomicU64::new(0);
/// The latest count that any vCPU has seen.
static LATEST: AtomicU64 = AtomicU64::new(0);

macro_rules! registers {
    ($($name:literal $mask:expr,)*) => {
        /// Registers that a guest may put anything into, and the bits that it may.
        const COUNT: usize = [$($name),*].len();
        const NAMES: [&str; COUNT] = [$($name),*];

        /// Gives each register a value.
        fn write(values: &[u64; COUNT]) {
            let mut values = values.iter();
            // SAFETY: none of these means anything to this kernel while no exception comes.
            unsafe {
                $(
                    let value: u64 = values.next().map_or(0, |v| v & $mask);
                    asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack));
                )*
                asm!("isb", options(nostack));
            }
        }

        /// Whether each still has it.
        fn check(values: &[u64; COUNT]) {
            let mut values = values.iter();
            let mut place = 0;
            $(
                let expected: u64 = values.next().map_or(0, |v| v & $mask);
                let found: u64;
                // SAFETY: reading has no effect.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) found, options(nostack)) };
                place += 1;
                if found != expected {
                    WRONG.fetch_add(1, Ordering::Relaxed);
                    WHICH.store(place, Ordering::Relaxed);
                }
            )*
        }
    };
}

const WORD: u64 = 0xffff_ffff;
/// An address in the lower half, aligned like an instruction.
const ADDRESS: u64 = 0x0000_ffff_ffff_fffc;

registers! {
    "tpidr_el0" u64::MAX, "tpidrro_el0" u64::MAX, "sp_el0" 0x0000_ffff_ffff_fff0, "elr_el1" ADDRESS,
    "esr_el1" 0x1fff_ffff, "far_el1" ADDRESS, "contextidr_el1" WORD, "ttbr1_el1" 0x0000_00ff_ffff_f000,
    "cntkctl_el1" 0x3, "cntv_cval_el0" u64::MAX >> 1, "csselr_el1" 0x2, "spsr_el1" 0xf000_0000,
    "par_el1" 0xff_ffff_f000,
}

/// FPCR: rounding mode, flush to zero, default NaN. FPSR: flags.
fn float_controls(seed: u64) -> (u64, u64) {
    (seed & 7 << 22, seed & 0x1f)
}

fn set_float(seed: u64) {
    let (control, status) = float_controls(seed);
    // SAFETY: the kernel computes nothing in floating point.
    unsafe {
        asm!("msr S3_3_C4_C4_0, {}", "msr S3_3_C4_C4_1, {}", in(reg) control, in(reg) status, options(nostack));
        fill_vectors(seed);
    }
}

fn check_float(seed: u64) -> u64 {
    let (control, status): (u64, u64);
    // SAFETY: reading has no effect.
    let wrong = unsafe {
        asm!("mrs {}, S3_3_C4_C4_0", "mrs {}, S3_3_C4_C4_1", out(reg) control, out(reg) status, options(nostack));
        check_vectors(seed)
    };
    wrong + u64::from((control, status) != float_controls(seed))
}

/// TPIDR_EL1 is the runtime's: changed only around one hypercall.
fn thread_register(seed: u64) -> u64 {
    let found: u64;
    // SAFETY: no exception comes in between, and it gets its value back.
    unsafe {
        asm!(
            "mrs {old}, tpidr_el1", "msr tpidr_el1, {seed}", "hvc #0xea1", "mrs {found}, tpidr_el1",
            "msr tpidr_el1, {old}",
            old = out(reg) _, seed = in(reg) seed, found = out(reg) found,
            in("x16") Hypercall::SCHED_OP.0, inout("x0") u64::from(SchedOp::YIELD.0) => _,
            inout("x1") 0u64 => _, out("x2") _, out("x3") _, out("x4") _, options(nostack));
    }
    u64::from(found != seed)
}

/// Notes a count: nobody may have seen a later one before.
fn note_counter() {
    let before = LATEST.load(Ordering::SeqCst);
    let now = m::ticks();
    if now < before {
        BACKWARDS.fetch_add(1, Ordering::Relaxed);
    }
    LATEST.fetch_max(now, Ordering::SeqCst);
}

fn main(index: usize) {
    let mut random = Random::new(0x5eed + index as u64 * 0x1_0001);
    // Each vCPU has its own attributes, controls and priority mask besides.
    let mair = 0xff00 | (0x11 * (index as u64 + 1)) << 32;
    m::set_mair(mair);
    let sctlr = m::sctlr() ^ (index as u64 & 1) << 26 ^ (index as u64 >> 1 & 1) << 14;
    m::set_sctlr(sctlr);
    // SAFETY: floating point is used by the assembly alone; the timer is off, masked and this vCPU's.
    unsafe {
        asm!("msr cpacr_el1, {}", "isb", in(reg) 3u64 << 20, options(nostack));
        asm!("msr cntv_ctl_el0, {}", "isb", in(reg) 2u64, options(nostack));
    }
    if m::gic::version() == 3 {
        m::gic::set_mask(0x40 + 0x10 * index as u8);
    }
    for round in 0..ROUNDS {
        let seed = random.next();
        let values: [u64; COUNT] = core::array::from_fn(|_| random.next());
        write(&values);
        set_float(seed);
        match round % 3 {
            0 => yield_now(),
            // SAFETY: it keeps what a function has to keep.
            1 => _ = WRONG.fetch_add(unsafe { hold_registers(seed, SPIN) }, Ordering::Relaxed),
            _ => _ = WRONG.fetch_add(thread_register(seed), Ordering::Relaxed),
        }
        check(&values);
        WRONG.fetch_add(check_float(seed), Ordering::Relaxed);
        let same = m::mair() == mair && m::sctlr() == sctlr && m::smp::index() == index;
        let mask = m::gic::version() != 3 || m::gic::mask() == 0x40 + 0x10 * index as u8;
        if !same || !mask {
            WRONG.fetch_add(1, Ordering::Relaxed);
            WHICH.store(1000 + u64::from(same), Ordering::Relaxed);
        }
        note_counter();
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}

pub(crate) fn run(t: &mut Tests) {
    let others = m::platform().cpus().len().min(m::MAX_VCPUS) - 1;
    t.check("several vCPUs", others >= 1);
    for index in 1..=others {
        t.expect("a vCPU starts", m::smp::start(index, main), 0);
    }
    main(0);
    while DONE.load(Ordering::SeqCst) <= others as u32 {
        plain(Hypercall::SCHED_OP, SchedOp::YIELD.0, 0);
    }
    let which = WHICH.load(Ordering::SeqCst);
    if which != 0 {
        let name = NAMES
            .get(which as usize - 1)
            .unwrap_or(&"a control register");
        guest_rt::println!("changed: {name} ({which})");
    }
    t.expect("registers that changed", WRONG.load(Ordering::SeqCst), 0);
    t.expect(
        "steps back of the counter",
        BACKWARDS.load(Ordering::SeqCst),
        0,
    );
}
