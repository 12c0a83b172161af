//! The runner's own promises: exit statuses, what it says of a guest that dies, the terminal, the debugger.

use super::{Expect, Scenario, scenario};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "run-passes-the-exit-status",
            "--smp 1",
            Some("echo said; exit 7"),
            Expect::Exit {
                status: 7,
                says: &["said\n"],
            },
            120,
        ),
        scenario(
            "run-dom0-dies",
            "--smp 1",
            Some("echo c > /proc/sysrq-trigger"),
            Expect::Exit {
                status: 125,
                says: &[
                    "Kernel panic",
                    "sysrq",
                    "the machine ended before the command did",
                ],
            },
            120,
        ),
        scenario(
            "run-dom0-without-init",
            "--smp 1 --dom0-cmdline rdinit=/no/such",
            Some("true"),
            Expect::Exit {
                status: 125,
                says: &["Kernel panic", "the machine ended before the command did"],
            },
            120,
        ),
        scenario(
            "run-times-out",
            "--smp 1 --timeout 20",
            Some("sleep 600"),
            Expect::Exit {
                status: 124,
                says: &["timed out: the command did not end within 20 s"],
            },
            120,
        ),
        scenario(
            "run-unknown-feature",
            "--features gicv9",
            Some("true"),
            Expect::Exit {
                status: 1,
                says: &["Oxen has no feature `gicv9`; it has", "gicv2, gicv3"],
            },
            60,
        ),
        scenario("run-terminal", "--smp 2", None, Expect::Script(&KEYS), 180),
        scenario("debug-gdb", "--smp 1", None, Expect::Debugger, 120),
    ]
}

/// A shell in dom0, the way to Oxen's keys and back, and a reboot to the shell again.
const KEYS: [(&str, &str); 13] = [
    ("root # ", "echo dom0-$((6*7))\r"),
    ("dom0-42\n", ""),
    ("root # ", "\x01\x01\x01"),
    ("*** Serial input to Xen", "h"),
    ("key 'R' => reboot machine", "d"),
    ("(XEN) d0v1:", "q"),
    ("(XEN) domain 0: ", "e"),
    ("event channels of domain 0:", "a"),
    ("dump timers", "m"),
    ("frames free", "\x01\x01\x01"),
    ("*** Serial input to DOM0", "\x01\x01\x01R"),
    ("root # ", "poweroff\r"),
    ("Hardware domain", ""),
];
