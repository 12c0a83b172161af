//! Which way to go wrong.

mod bytes;
mod faults;
mod map;
mod msrs;
mod page;
mod task;

use guest_rt::hypercall::op;
use guest_rt::tests::Tests;
use guest_rt::{Boot, println};
use xen_abi::sched::{SchedOp, Watchdog};
use xen_abi::xen::Hypercall;

/// A word of the command line, and what it does.
type Way = (&'static str, fn(&mut Tests));

/// Those that this kernel survives come first: without a word all of them are taken.
const SURVIVED: [Way; 4] = [
    ("ends-msrs", msrs::all),
    ("ends-user", bytes::user),
    ("ends-kernel", bytes::kernel),
    ("ends-page", page::over_itself),
];
const FATAL: [Way; 9] = [
    ("ends-triple", faults::triple),
    ("ends-stack", faults::no_stack),
    ("ends-gates", faults::no_gates),
    ("ends-halt", faults::halt),
    ("ends-apic", faults::no_apic),
    ("ends-jump", faults::jump_to_device),
    ("ends-walk", faults::tables_in_device),
    ("ends-nothing", faults::tables_nowhere),
    ("ends-task", task::switch),
];

pub(crate) fn start(boot: Boot) {
    let mut t = Tests::new("ends");
    for (word, way) in FATAL {
        if boot.says(word.as_bytes()) {
            println!("now {word}");
            // A vCPU that lives on and does nothing is ended by this.
            watchdog(3);
            way(&mut t);
            println!("FAIL {word} is survived");
            return t.finish();
        }
    }
    let chosen = SURVIVED.iter().any(|(word, _)| boot.says(word.as_bytes()));
    for (word, way) in SURVIVED {
        if !chosen || boot.says(word.as_bytes()) {
            println!("now {word}");
            way(&mut t);
        }
    }
    t.finish();
}

/// Asks for the domain's end in so many seconds.
fn watchdog(seconds: u32) {
    let mut dog = Watchdog {
        id: 0,
        timeout: seconds,
    };
    op(Hypercall::SCHED_OP, SchedOp::WATCHDOG.0, &mut dog);
}
