//! What is booted by `cargo xen test`, and what must be seen.

mod runner;
mod toolstack;
mod uefi;
mod x86;
mod x86_ends;
mod x86_guests;

/// What counts as success.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// The command in dom0 ends with status 0 and its output has all of these.
    Output(&'static [&'static str]),
    /// The console has all of these, in this order, and QEMU ends by itself if `ends`.
    Console {
        lines: &'static [&'static str],
        ends: bool,
    },
    /// The guest's last word is `TEST name: N passed, 0 failed`.
    Verdict,
    /// `cargo xen run`, as users type it, ends with this status and prints all of these.
    Exit {
        status: u8,
        says: &'static [&'static str],
    },
    /// `cargo xen run` on a terminal: each first text is awaited, then the keys beside it are typed. After that it ends
    /// by itself with status 0.
    Script(&'static [(&'static str, &'static str)]),
    /// `cargo xen debug` prints a line that brings gdb to the machine, halted before its first instruction.
    Debugger,
}

/// One boot.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub name: String,
    /// Words for `cargo xen run`.
    pub words: Vec<String>,
    /// What runs in dom0.
    pub exec: Option<&'static str>,
    pub expect: Expect,
    /// Seconds.
    pub bound: u64,
    /// Takes long, and shows little that others do not: booted with `--all`, or by its name, only.
    pub long: bool,
}

impl Scenario {
    fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

fn scenario(
    name: &str,
    words: &str,
    exec: Option<&'static str>,
    expect: Expect,
    bound: u64,
) -> Scenario {
    let words = words.split_whitespace().map(str::to_owned).collect();
    Scenario {
        name: name.to_owned(),
        words,
        exec,
        expect,
        bound,
        long: false,
    }
}

/// What an administrator looks at first, and what it must show on a machine with `nproc` vCPUs.
const LOOK: &str = "cat /sys/hypervisor/type /proc/xen/capabilities; nproc; dmesg | grep -i xen";
const XEN_LINES: [&str; 4] = [
    "xen",
    "control_d",
    "Using FIFO-based ABI",
    "Grant tables using version 1",
];

/// Makes every vCPU busy for a while, with more processes than vCPUs.
const LOAD: &str = "for n in 1 2 3 4 5 6 7 8; do (i=0; while [ $i -lt 4000 ]; do i=$((i+1)); done; echo done $n) & done; wait; nproc";

/// Real DMA in both directions, and interrupts, through PCI devices: what was written to a disk is read back from it,
/// not from a cache, and the gateway of QEMU's network answers.
const DEVICES: &str = "set -e; dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>/dev/null; \
    dd if=/tmp/data of=/dev/vda bs=64k conv=fsync 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches; \
    dd if=/dev/vda bs=64k count=64 2>/dev/null | cmp - /tmp/data && echo the disk is right; \
    ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 3 -w 20 10.0.2.2; cat /proc/interrupts";

/// Which interrupts came, and the version.
const INTERRUPTS: &str =
    "cat /proc/interrupts; cat /sys/hypervisor/version/major /sys/hypervisor/version/minor";

/// All boots; `guests` are the kernels of tests/guests for arm64, `x86_guests` those for x86-64.
pub(crate) fn all(guests: &[String], x86_guests: &[String]) -> Vec<Scenario> {
    let mut list = vec![
        scenario(
            "dom0-debian-12",
            "--smp 2",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            120,
        ),
        scenario(
            "dom0-smp-4",
            "--smp 4",
            Some(LOOK),
            Expect::Output(&["\n4\n", "Using FIFO-based ABI"]),
            120,
        ),
        scenario(
            "dom0-gicv2",
            "--gic 2 --smp 4",
            Some(LOOK),
            Expect::Output(&["\n4\n", "control_d"]),
            120,
        ),
        scenario(
            "dom0-gicv2-one-cpu",
            "--gic 2 --smp 1",
            Some(LOOK),
            Expect::Output(&["\n1\n", "control_d"]),
            120,
        ),
        scenario(
            "dom0-gicv3-one-cpu",
            "--gic 3 --smp 1",
            Some(LOOK),
            Expect::Output(&["\n1\n", "control_d"]),
            120,
        ),
        scenario(
            "dom0-debian-11",
            "--dom0 debian-11",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            120,
        ),
        scenario(
            "dom0-debian-13",
            "--dom0 debian-13",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            120,
        ),
        scenario(
            "dom0-more-vcpus-than-cpus",
            "--smp 2 --cmdline dom0_max_vcpus=6",
            Some(LOAD),
            Expect::Output(&["done 8", "\n6\n"]),
            180,
        ),
        scenario(
            "dom0-one-cpu-four-vcpus",
            "--smp 1 --cmdline dom0_max_vcpus=4",
            Some(LOAD),
            Expect::Output(&["\n4\n"]),
            180,
        ),
        scenario(
            "dom0-null-scheduler",
            "--smp 4 --cmdline sched=null",
            Some(LOAD),
            Expect::Output(&["\n4\n"]),
            180,
        ),
        scenario(
            "dom0-neoverse",
            "--cpu neoverse-n1 --smp 2",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            120,
        ),
        scenario(
            "dom0-interrupts",
            "--smp 2",
            Some(INTERRUPTS),
            Expect::Output(&["arch_timer", "-virq", "\n17\n"]),
            120,
        ),
        scenario(
            "dom0-devices-gicv2",
            "--gic 2 --disk 8M --network",
            Some(DEVICES),
            // Frames of GICv2m turn messages into interrupts.
            Expect::Output(&["the disk is right", "0% packet loss", "MSI", "virtio0-req"]),
            120,
        ),
        scenario(
            "dom0-devices-gicv3",
            "--gic 3 --disk 8M --network",
            Some(DEVICES),
            Expect::Output(&["the disk is right", "0% packet loss", "virtio0", "virtio1"]),
            120,
        ),
        scenario(
            "dom0-large-memory",
            "--memory 6G --dom0-mem 4G",
            Some("grep MemTotal /proc/meminfo"),
            Expect::Output(&["MemTotal:        4"]),
            120,
        ),
        scenario(
            "dom0-debug-build",
            "--debug --smp 2",
            Some(LOOK),
            Expect::Output(&XEN_LINES),
            240,
        ),
        scenario(
            "dom0-without-options",
            "--no-default-features --features gicv3 --smp 2",
            Some("cat /sys/hypervisor/type"),
            Expect::Output(&["xen"]),
            120,
        ),
        scenario(
            "dom0-reboots",
            "--smp 1",
            Some("reboot -f"),
            Expect::Console {
                lines: &["Oxen", "Hardware domain shut down: rebooting machine"],
                ends: true,
            },
            120,
        ),
        scenario(
            "bad-no-kernel",
            "--damage no-kernel",
            None,
            Expect::Console {
                lines: &["Oxen cannot start", "no kernel module"],
                ends: true,
            },
            60,
        ),
        scenario(
            "bad-kernel-is-no-kernel",
            "--dom0 Cargo.toml",
            None,
            Expect::Console {
                lines: &["Oxen cannot start", "neither an arm64 Image"],
                ends: true,
            },
            60,
        ),
        scenario(
            "bad-too-little-memory",
            "--memory 512M --dom0-mem 2G",
            None,
            Expect::Console {
                lines: &["Oxen cannot start", "too little memory for dom0"],
                ends: true,
            },
            60,
        ),
        scenario(
            "bad-truncated-device-tree",
            "--damage truncated-tree",
            None,
            Expect::Console {
                lines: &["Oxen cannot start"],
                ends: false,
            },
            20,
        ),
        scenario(
            "bad-corrupt-device-tree",
            "--damage corrupt-tree",
            None,
            Expect::Console {
                lines: &["Oxen cannot start"],
                ends: false,
            },
            20,
        ),
        scenario(
            "bad-entered-at-el1",
            "--damage no-virtualization --smp 1",
            None,
            Expect::Console {
                lines: &["Oxen must be entered at EL2 (this CPU is at EL1)"],
                ends: false,
            },
            20,
        ),
        scenario(
            "unknown-parameter",
            "--cmdline no_such_parameter=1",
            Some("true"),
            Expect::Console {
                lines: &["\"no_such_parameter=1\" is unknown"],
                ends: true,
            },
            120,
        ),
    ];
    for guest in guests.iter().filter(|g| *g != "bench" && *g != "builtin") {
        for gic in [2, 3] {
            // It keeps a vCPU busy with each kind of loop, and needs one more.
            let more = if guest == "loops" {
                " --cmdline dom0_max_vcpus=5"
            } else {
                ""
            };
            let words = format!("--dom0 guest:{guest} --smp 4 --gic {gic}{more}");
            list.push(scenario(
                &format!("guest-{guest}-gicv{gic}"),
                &words,
                None,
                Expect::Verdict,
                120,
            ));
        }
    }
    list.extend(variants().filter(|s| {
        let kernel = s.words.iter().find_map(|w| w.strip_prefix("guest:"));
        kernel.is_some_and(|k| guests.iter().any(|g| g == k))
    }));
    if guests.iter().any(|g| g == "builtin") {
        list.push(scenario(
            "guest-builtin",
            "--dom0 builtin --dom0-cmdline poweroff",
            None,
            Expect::Console {
                lines: &["Hardware domain halted"],
                ends: true,
            },
            60,
        ));
    }
    list.extend(uefi::all());
    list.extend(runner::all());
    list.extend(x86::all(x86_guests));
    list.extend(x86_guests::all());
    list.extend(x86_ends::all());
    list.extend(toolstack::all());
    list
}

/// Guest kernels on machines, or with words, that ask for something else than the usual two boots do.
fn variants() -> impl Iterator<Item = Scenario> {
    let verdict = |name: &str, words: &str| scenario(name, words, None, Expect::Verdict, 120);
    let ends = |name: &str, words: &str, lines: &'static [&'static str]| {
        let expect = Expect::Console { lines, ends: true };
        scenario(name, words, None, expect, 60)
    };
    [
        verdict(
            "guest-grants-version-2",
            "--dom0 guest:grants --cmdline gnttab=max-ver:2 --dom0-cmdline grants-v2",
        ),
        // All vCPUs on one CPU: what is not saved and restored is seen.
        verdict(
            "guest-sysregs-one-cpu",
            "--dom0 guest:sysregs --smp 1 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-sysregs-gicv2-one-cpu",
            "--dom0 guest:sysregs --smp 1 --gic 2 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-sysregs-neoverse",
            "--dom0 guest:sysregs --smp 2 --cpu neoverse-n1",
        ),
        // Extensions that Oxen has to hide are there.
        verdict(
            "guest-sysregs-max",
            "--dom0 guest:sysregs --smp 2 --cpu max",
        ),
        // Nobody ever waits: only preemption lets the others go on.
        verdict(
            "guest-loops-one-cpu",
            "--dom0 guest:loops --smp 1 --cmdline dom0_max_vcpus=5",
        ),
        verdict(
            "guest-hostile-one-cpu",
            "--dom0 guest:hostile --smp 1 --cmdline dom0_max_vcpus=4",
        ),
        // vCPUs that take turns: what comes while one is off its CPU.
        verdict(
            "guest-gic-gicv2-one-cpu",
            "--dom0 guest:gic --smp 1 --gic 2 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-gic-gicv3-one-cpu",
            "--dom0 guest:gic --smp 1 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-gic-eight-vcpus",
            "--dom0 guest:gic --smp 2 --gic 2 --cmdline dom0_max_vcpus=8",
        ),
        verdict(
            "guest-events-gicv2-one-cpu",
            "--dom0 guest:events --smp 1 --gic 2 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-events-gicv3-one-cpu",
            "--dom0 guest:events --smp 1 --cmdline dom0_max_vcpus=4",
        ),
        verdict(
            "guest-events-one-vcpu",
            "--dom0 guest:events --smp 1 --cmdline dom0_max_vcpus=1",
        ),
        verdict(
            "guest-psci-one-cpu",
            "--dom0 guest:psci --smp 1 --cmdline dom0_max_vcpus=4",
        ),
        ends(
            "guest-crashes",
            "--dom0 guest:loops --dom0-cmdline loops-crash",
            &["crashing, as asked", "Hardware domain crashed"],
        ),
        ends(
            "guest-watchdog",
            "--dom0 guest:loops --smp 1 --dom0-cmdline loops-watchdog",
            &[
                "spinning under a watchdog",
                "Hardware domain watchdog expired",
            ],
        ),
        ends(
            "guest-nested-aborts",
            "--dom0 guest:loops --smp 1 --dom0-cmdline loops-nested",
            &[
                "no handler for what happens next",
                "Hardware domain watchdog expired",
            ],
        ),
    ]
    .into_iter()
}
