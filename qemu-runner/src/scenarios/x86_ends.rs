//! x86-64 guests that go wrong, each in a way of its own: the machine ends with them, as they are the hardware domain,
//! and Oxen says why.

use super::{Expect, Scenario, scenario};

/// A word for the guest kernel `ends`, and what Oxen says.
const ENDS: [(&str, &[&str]); 9] = [
    (
        "triple",
        &[
            "now ends-triple",
            "d0v0: triple fault",
            "Hardware domain shut down",
        ],
    ),
    (
        "stack",
        &[
            "now ends-stack",
            "d0v0: triple fault",
            "Hardware domain shut down",
        ],
    ),
    (
        "gates",
        &[
            "now ends-gates",
            "d0v0: triple fault",
            "Hardware domain shut down",
        ],
    ),
    (
        "nothing",
        &[
            "now ends-nothing",
            "d0v0: triple fault",
            "Hardware domain shut down",
        ],
    ),
    ("halt", &["now ends-halt", "Hardware domain halted"]),
    (
        "apic",
        &["now ends-apic", "Hardware domain watchdog expired"],
    ),
    (
        "jump",
        &[
            "now ends-jump",
            "it executes at 0xfee00000, where it has no memory",
            "Hardware domain crashed",
        ],
    ),
    (
        "walk",
        &[
            "now ends-walk",
            "its page tables are at 0xfee00000, where it has no memory",
            "Hardware domain crashed",
        ],
    ),
    // QEMU carries a switch of tasks out; a CPU leaves it to Oxen, which does not.
    ("task", &["now ends-task", "Hardware domain"]),
];

pub(super) fn all() -> Vec<Scenario> {
    let end = |(word, lines): (&str, &'static [&'static str])| {
        let words = format!("--arch x86_64 --dom0 guest:ends --smp 2 --dom0-cmdline ends-{word}");
        let expect = Expect::Console { lines, ends: true };
        scenario(&format!("x86-ends-{word}"), &words, None, expect, 60)
    };
    ENDS.into_iter().map(end).collect()
}
