//! Guest kernels on x86-64 on machines, or with words, that ask for something else than the usual two boots do, and on
//! Debian's Xen, whose answers are the measure.

use super::{Expect, Scenario, scenario};

pub(super) fn all() -> Vec<Scenario> {
    let mut list = vec![
        verdict(
            "grants-version-2",
            "grants",
            "gnttab=max-ver:2",
            "grants-v2",
        ),
        verdict("events-one-vcpu", "events", "dom0_max_vcpus=1", ""),
        ends(
            "crashes",
            "loops-crash",
            &["crashing, as asked", "Hardware domain crashed"],
        ),
        ends(
            "watchdog",
            "loops-watchdog",
            &[
                "spinning under a watchdog",
                "Hardware domain watchdog expired",
            ],
        ),
        ends(
            "nested-exceptions",
            "loops-nested",
            &[
                "no handler for what happens next",
                "Hardware domain watchdog expired",
            ],
        ),
        ends(
            "triple-fault",
            "loops-triple",
            &[
                "no gates for what happens next",
                "triple fault",
                "Hardware domain shut down",
            ],
        ),
    ];
    // More than one CPU under QEMU sometimes leaves a vCPU of Xen's default scheduler waiting for ever.
    for (guest, vcpus) in [
        ("hypercalls", 4),
        ("events", 4),
        ("grants", 2),
        ("hostile", 4),
        ("loops", 5),
        ("exceptions", 2),
        ("cpuid", 2),
        ("apic", 4),
        ("ends", 1),
        ("emulate", 1),
        // The x87 and vector registers of several vCPUs get mixed up under Xen under QEMU.
        ("fpu", 1),
    ] {
        let words = format!(
            "--arch x86_64 --hypervisor xen --dom0 guest:{guest} --smp 1 --cmdline dom0_max_vcpus={vcpus}"
        );
        let name = format!("x86-xen-guest-{guest}");
        list.push(scenario(&name, &words, None, Expect::Verdict, 240).long());
    }
    list
}

fn verdict(name: &str, guest: &str, line: &str, guest_line: &str) -> Scenario {
    let mut words = format!("--arch x86_64 --dom0 guest:{guest} --cmdline {line}");
    if !guest_line.is_empty() {
        words = format!("{words} --dom0-cmdline {guest_line}");
    }
    let name = format!("x86-guest-{name}");
    scenario(&name, &words, None, Expect::Verdict, 120)
}

/// An end other than a verdict.
fn ends(name: &str, guest_line: &str, lines: &'static [&'static str]) -> Scenario {
    let words = format!("--arch x86_64 --dom0 guest:loops --smp 1 --dom0-cmdline {guest_line}");
    let name = format!("x86-guest-{name}");
    let expect = Expect::Console { lines, ends: true };
    scenario(&name, &words, None, expect, 60)
}
