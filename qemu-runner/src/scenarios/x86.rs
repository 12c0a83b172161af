//! Boots on x86-64.

use super::{Expect, Scenario, scenario};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        // Debian's own Xen, by the same way that Oxen takes: shows that machine, kernel and initramfs are right.
        scenario(
            "x86-xen-dom0",
            "--arch x86_64 --hypervisor xen",
            Some("cat /sys/hypervisor/type /proc/xen/capabilities; nproc; uname -m"),
            Expect::Output(&["\nxen\n", "control_d", "\n1\n", "x86_64"]),
            240,
        ),
        scenario(
            "x86-starts",
            "--arch x86_64 --smp 4",
            None,
            Expect::Console {
                lines: &[
                    "Loaded by qemu (multiboot 1)",
                    "4 online",
                    "Module 1",
                    "Virtualization: SVM",
                    "Oxen does not build a dom0 on x86-64 yet",
                ],
                ends: true,
            },
            120,
        ),
        scenario(
            "x86-bad-no-virtualization",
            "--arch x86_64 --cpu max,-svm",
            None,
            Expect::Console {
                lines: &[
                    "Loaded by qemu",
                    "Oxen cannot start: the CPU does not offer SVM",
                ],
                ends: true,
            },
            120,
        ),
    ]
}
