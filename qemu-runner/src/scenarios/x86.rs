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
    ]
}
