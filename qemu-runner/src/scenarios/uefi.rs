//! Boots from UEFI firmware.

use super::{Expect, LOOK, Scenario, XEN_LINES, scenario};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "uefi-grub-gicv3",
            "--firmware uefi --smp 2 --gic 3",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            180,
        ),
        scenario(
            "uefi-grub-gicv2",
            "--firmware uefi --smp 2 --gic 2",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            180,
        ),
        // The firmware itself starts the Image, and nobody brings a kernel.
        scenario(
            "uefi-direct",
            "--firmware uefi --damage no-loader --smp 1",
            None,
            Expect::Console {
                lines: &["Oxen cannot start", "no kernel module"],
                ends: true,
            },
            120,
        ),
        scenario(
            "bad-uefi-acpi-only",
            "--firmware uefi --damage no-device-tree --smp 1",
            None,
            Expect::Console {
                lines: &["Oxen needs a device tree, and this firmware has none"],
                ends: false,
            },
            120,
        ),
        scenario(
            "bad-uefi-el1",
            "--firmware uefi --damage no-virtualization --smp 1",
            None,
            Expect::Console {
                lines: &["Oxen must be entered at EL2 (this CPU is at EL1)"],
                ends: false,
            },
            120,
        ),
    ]
}
