//! The attacks.

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod arch;

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::{call, op, yield_now};
use guest_rt::machine as m;
use guest_rt::tests::Tests;
use guest_rt::{Boot, Random, println};
use xen_abi::event_channel::{AllocUnbound, EvtchnOp, Reset};
use xen_abi::memory::MemoryOp;
use xen_abi::xen::{DOMID_SELF, Hypercall};

/// Random hypercalls made by all vCPUs together.
const CALLS: u32 = 100_000;
const SEED: u64 = 0x0dd_ba11;
/// Random hypercalls that were answered.
static MADE: AtomicU32 = AtomicU32::new(0);
/// vCPUs that are through, or could not be started.
static DONE: AtomicU32 = AtomicU32::new(0);

#[repr(C, align(4096))]
struct Page([u64; 512]);

/// Arguments of hypercalls point here now and then.
static mut SCRATCH: [Page; 4] = [const { Page([0; 512]) }; 4];

pub(crate) fn start(_: Boot) {
    let mut t = Tests::new("hostile");
    arch::wrong_addresses(&mut t);
    random_hypercalls(&mut t);
    t.finish();
}

/// A number that hypercalls may take for a pointer, a count, a frame or an operation.
fn argument(random: &mut Random) -> u64 {
    let scratch = &raw const SCRATCH as u64;
    match random.next() % 8 {
        0 => random.next(),
        1 => random.next() % 64,
        2 => 0,
        3 => u64::MAX - random.next() % 4096,
        // Not memory of this kernel, so that it does not overwrite itself.
        4 => arch::ELSEWHERE + random.next() % 0x1000,
        _ => scratch + random.next() % (3 * 4096),
    }
}

fn random_hypercalls(t: &mut Tests) {
    let mut me = DOMID_SELF;
    let mut pages = || {
        op(
            Hypercall::MEMORY_OP,
            MemoryOp::CURRENT_RESERVATION.0,
            &mut me,
        )
    };
    let before = pages();
    t.check("memory before", before > 0);
    let vcpus = vcpus();
    for index in 1..vcpus {
        t.expect("a vCPU starts", m::smp::start(index, storm), 0);
    }
    storm(0);
    while DONE.load(Ordering::SeqCst) < vcpus as u32 {
        yield_now();
    }
    let asked = CALLS / vcpus as u32 * vcpus as u32;
    t.expect("all were answered", MADE.load(Ordering::SeqCst), asked);
    t.expect("memory after", pages(), before);
    // No channel is left behind that cannot be closed: from the first port on they are free again.
    let mut reset = Reset { dom: DOMID_SELF };
    t.expect(
        "reset of event channels",
        op(Hypercall::EVENT_CHANNEL_OP, EvtchnOp::RESET.0, &mut reset),
        0,
    );
    let mut listen = AllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    let allocated = op(
        Hypercall::EVENT_CHANNEL_OP,
        EvtchnOp::ALLOC_UNBOUND.0,
        &mut listen,
    );
    t.expect("the first port is free", (allocated, listen.port), (0, 1));
}

fn vcpus() -> usize {
    m::platform().vcpus()
}

/// One vCPU's part of the hypercalls, from a seed of its own.
fn storm(index: usize) {
    const NUMBERS: [u64; 16] = [
        7, 12, 13, 17, 18, 20, 21, 24, 32, 33, 34, 15, 26, 35, 36, 60,
    ];
    let mut random = Random::new(SEED + index as u64);
    for n in 0..CALLS / vcpus() as u32 {
        let number = NUMBERS[(random.next() % 16) as usize];
        let mut args = [0; 5];
        args.iter_mut().for_each(|a| *a = argument(&mut random));
        match number {
            // Small operation numbers reach further.
            12 | 17 | 20 | 24 | 32..=34 => args[0] = random.next() % 40,
            // Output would drown the verdict; input is as good.
            18 => args[0] = 1 + random.next() % 5,
            _ => {}
        }
        // Not this kernel's own memory: giving it away ends the test, and rightly.
        if number == 12 && matches!(args[0] & 63, 1 | 6 | 7 | 15 | 23) && args[1] < 1 << 40 {
            args[1] = random.next() | 1 << 60;
        }
        // A batch over all of memory would be its end too.
        if number == 20 {
            args[2] %= 64;
        }
        if number == 13 {
            args[1] %= 4;
            args[0] |= 1 << 60;
        }
        arch::tame(number, &mut args);
        call(Hypercall(number), args);
        MADE.fetch_add(1, Ordering::Relaxed);
        if n % 25_000 == 0 {
            println!("vCPU {index}: {n} random hypercalls");
        }
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}
