//! Boots on x86-64.

use super::{DEVICES, Expect, LOAD, Scenario, scenario};

/// What an administrator looks at first.
const LOOK: &str = "cat /sys/hypervisor/type /sys/hypervisor/guest_type /proc/xen/capabilities; \
    nproc; uname -r; dmesg | grep -i xen";
const ONE_CPU: [&str; 4] = ["\nxen\n", "\nPVH\n", "control_d", "\n1\n"];
const FOUR_CPUS: [&str; 4] = ["\nxen\n", "\nPVH\n", "control_d", "\n4\n"];

/// A file system is made on the disk and mounted, and what was written into it is read back from the disk; the gateway of
/// QEMU's network answers.
const MOUNT: &str = "set -e; n=0; until disk=$(ls /dev/vda /dev/nvme0n1 /dev/sda 2>/dev/null | head -n 1); \
    [ -n \"$disk\" ] && [ -e /sys/class/net/eth0 ]; do n=$((n+1)); [ $n -lt 60 ]; sleep 0.5; done; \
    mke2fs \"$disk\" >/dev/null; mkdir /mnt; mount -t ext4 \"$disk\" /mnt; \
    dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null; cp /tmp/data /mnt/data; umount /mnt; \
    echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 -o ro \"$disk\" /mnt; \
    cmp /mnt/data /tmp/data && echo the disk is right; \
    ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 3 -w 30 10.0.2.2; cat /proc/interrupts";

pub(super) fn all(guests: &[String]) -> Vec<Scenario> {
    let mut list = dom0();
    list.extend(devices());
    list.extend(firmware());
    list.extend(bad());
    list.extend(kernels(guests));
    list
}

fn boots(name: &str, words: &str, exec: &'static str, output: &'static [&'static str]) -> Scenario {
    let words = format!("--arch x86_64 {words}");
    scenario(name, &words, Some(exec), Expect::Output(output), 240)
}

/// Debian as dom0, on machines of all kinds.
fn dom0() -> Vec<Scenario> {
    vec![
        // Debian's own Xen, by the same way that Oxen takes: shows that machine, kernel and initramfs are right.
        boots("x86-xen-dom0", "--hypervisor xen", LOOK, &ONE_CPU),
        boots("x86-dom0-debian-13", "--dom0 debian-13", LOOK, &ONE_CPU),
        boots(
            "x86-dom0-debian-13-smp-4",
            "--dom0 debian-13 --smp 4",
            LOOK,
            &FOUR_CPUS,
        ),
        boots("x86-dom0-debian-12", "--dom0 debian-12", LOOK, &ONE_CPU).long(),
        boots(
            "x86-dom0-debian-12-smp-4",
            "--dom0 debian-12 --smp 4",
            LOOK,
            &FOUR_CPUS,
        ),
        boots(
            "x86-dom0-more-vcpus-than-cpus",
            "--smp 2 --cmdline dom0_max_vcpus=4",
            LOAD,
            &["done 8", "\n4\n"],
        ),
        boots(
            "x86-dom0-null-scheduler",
            "--smp 4 --cmdline sched=null",
            LOAD,
            &["done 8", "\n4\n"],
        )
        .long(),
        boots(
            "x86-dom0-xapic",
            "--smp 2 --cpu max,-rdtscp,-x2apic",
            LOOK,
            &["\nxen\n", "control_d", "\n2\n"],
        ),
        boots(
            "x86-dom0-large-memory",
            "--memory 8G --dom0-mem 6G",
            "cat /sys/hypervisor/type; awk '/MemTotal/ { print int($2 / 1048576) }' /proc/meminfo",
            &["\nxen\n", "\n5\n"],
        ),
        boots(
            "x86-dom0-debian-12-large-memory",
            "--memory 8G --dom0-mem 6G --dom0 debian-12 --smp 4",
            LOOK,
            &FOUR_CPUS,
        )
        .long(),
        boots(
            "x86-dom0-debug-build",
            "--debug --smp 2",
            LOOK,
            &["\nxen\n", "\n2\n"],
        )
        .long(),
        boots(
            "x86-dom0-without-options",
            "--no-default-features --features svm",
            LOOK,
            &ONE_CPU,
        ),
        scenario(
            "x86-dom0-reboots",
            "--arch x86_64",
            Some("reboot -f"),
            Expect::Console {
                lines: &["Oxen", "Hardware domain shut down: rebooting machine"],
                ends: true,
            },
            240,
        ),
    ]
}

/// Real DMA in both directions, level interrupts and messages, through emulated and virtio PCI devices.
fn devices() -> Vec<Scenario> {
    vec![
        boots(
            "x86-devices-virtio",
            "--disk 8M --network --smp 2",
            DEVICES,
            &[
                "the disk is right",
                "0% packet loss",
                "MSI",
                "virtio0-req",
                "virtio1-input",
            ],
        ),
        boots(
            "x86-devices-ahci-e1000",
            "--dom0 debian-13 --disk 8M --disk-model ahci --network --network-model e1000",
            MOUNT,
            &[
                "the disk is right",
                "0% packet loss",
                "MSI",
                "fasteoi   eth0",
            ],
        ),
        boots(
            "x86-devices-nvme-e1000e",
            "--dom0 debian-12 --disk 8M --disk-model nvme --network --network-model e1000e",
            MOUNT,
            &[
                "the disk is right",
                "0% packet loss",
                "MSI",
                "nvme0q1",
                "eth0-rx-0",
            ],
        ),
        boots(
            "x86-devices-virtio-mounted-debian-12",
            "--dom0 debian-12 --disk 8M --network --smp 4",
            MOUNT,
            &["the disk is right", "0% packet loss", "virtio0-req"],
        )
        .long(),
        boots(
            "x86-xen-devices",
            "--hypervisor xen --disk 8M --disk-model nvme --network --network-model e1000",
            MOUNT,
            &["the disk is right", "0% packet loss", "nvme0q1"],
        )
        .long(),
        boots(
            "x86-xen-devices-virtio",
            "--hypervisor xen --dom0 debian-12 --disk 8M --network",
            MOUNT,
            &["the disk is right", "0% packet loss", "virtio0-req"],
        )
        .long(),
    ]
}

/// The ways in: from the same file by multiboot 1 (all other boots), multiboot 2 on both kinds of firmware, and PVH.
fn firmware() -> Vec<Scenario> {
    vec![
        boots(
            "x86-grub-bios",
            "--firmware bios --smp 2",
            LOOK,
            &["\nPVH\n", "\n2\n"],
        ),
        boots(
            "x86-grub-uefi",
            "--firmware uefi --smp 2",
            LOOK,
            &["\nPVH\n", "\n2\n"],
        ),
        boots(
            "x86-grub-uefi-devices",
            "--firmware uefi --disk 8M --network --network-model e1000",
            DEVICES,
            &["the disk is right", "0% packet loss"],
        )
        .long(),
        boots(
            "x86-xen-grub-bios",
            "--hypervisor xen --firmware bios",
            LOOK,
            &ONE_CPU,
        )
        .long(),
        scenario(
            "x86-pvh",
            "--arch x86_64 --firmware pvh --dom0 builtin",
            None,
            Expect::Console {
                lines: &[
                    "(PVH)",
                    "hello from a guest of Xen's interface",
                    "type help",
                ],
                ends: false,
            },
            60,
        ),
    ]
}

fn refuses(name: &str, words: &str, lines: &'static [&'static str]) -> Scenario {
    let expect = Expect::Console { lines, ends: true };
    scenario(name, &format!("--arch x86_64 {words}"), None, expect, 90)
}

/// What cannot work ends with one sentence.
fn bad() -> Vec<Scenario> {
    vec![
        refuses(
            "x86-bad-no-virtualization",
            "--cpu max,-svm",
            &["Oxen cannot start: the CPU does not offer SVM"],
        ),
        refuses(
            "x86-bad-no-kernel",
            "--damage no-kernel",
            &["Oxen cannot start: dom0 cannot be built: there is no boot module"],
        ),
        refuses(
            "x86-bad-kernel-is-no-kernel",
            "--dom0 Cargo.toml --initrd Cargo.toml",
            &[
                "Oxen cannot start: dom0 cannot be built: the kernel is neither a bzImage nor an ELF file",
            ],
        ),
        refuses(
            "x86-bad-kernel-is-damaged",
            "--damage corrupt-kernel",
            &["Oxen cannot start: dom0 cannot be built: the kernel's zstd data is damaged"],
        ),
        refuses(
            "x86-bad-kernel-without-pvh-entry",
            "--dom0 builtin --damage no-pvh-entry",
            &["Oxen cannot start: dom0 cannot be built: the kernel cannot be started as PVH"],
        ),
        refuses(
            "x86-bad-too-little-memory",
            "--memory 512M --dom0-mem 1G",
            &[
                "Oxen cannot start: dom0 cannot be built: there is too little memory for dom0: 1024 MiB are asked for",
            ],
        ),
    ]
}

/// The kernels of tests/guests, each on four CPUs, and where vCPUs take turns.
fn kernels(guests: &[String]) -> Vec<Scenario> {
    let mut list = Vec::new();
    for name in guests.iter().filter(|g| *g != "bench" && *g != "builtin") {
        // It keeps a vCPU busy with each kind of loop, and needs one more.
        let (more, bound) = if name == "loops" { (5, 300) } else { (4, 180) };
        for (machine, smp) in [("", 4), ("-one-cpu", 1)] {
            list.push(scenario(
                &format!("x86-guest-{name}{machine}"),
                &format!(
                    "--arch x86_64 --dom0 guest:{name} --smp {smp} --cmdline dom0_max_vcpus={more}"
                ),
                None,
                Expect::Verdict,
                bound,
            ));
        }
    }
    if guests.iter().any(|g| g == "builtin") {
        list.push(scenario(
            "x86-guest-builtin",
            "--arch x86_64 --dom0 builtin --dom0-cmdline poweroff",
            None,
            Expect::Console {
                lines: &["(multiboot 1)", "Hardware domain halted"],
                ends: true,
            },
            60,
        ));
    }
    list
}
