//! dom0's initramfs: busybox, the Xen drivers of the kernel, perhaps a toolstack, and an init that runs a command or a
//! shell.

mod cpio;
mod modules;

pub(crate) use cpio::Archive;
pub(crate) use modules::Modules;

use crate::debian::Kernel;
use crate::paths;
use crate::toolstack::Toolstacks;
use anyhow::Result;
use std::path::Path;

/// The line before the command's output starts, and the one behind it, which goes on with the status.
pub(crate) const START: &str = "--- cargo xen: output starts ---";
pub(crate) const END: &str = "--- cargo xen: output ends, status ";

/// Drivers that dom0's toolstack and tests use.
const MODULES: [&str; 5] = [
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
];

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt102
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
for module in /lib/drivers/*.ko; do insmod "$module"; done
[ -d /proc/xen ] && mount -t xenfs xenfs /proc/xen
hostname dom0
# What poweroff, reboot and halt send to process 1; a shell hears of it only while it waits.
trap 'poweroff -f' USR2
trap 'reboot -f' TERM
trap 'halt -f' USR1
if [ -f /exec.sh ]; then
    echo 1 > /proc/sys/kernel/printk
    echo "@START@"
    [ ! -x /toolstack/start ] || /toolstack/start
    sh /exec.sh < /dev/null 2>&1 &
    wait $!
    echo "@END@$?"
    poweroff -f
fi
[ ! -x /toolstack/start ] || /toolstack/start
echo
echo "Oxen: dom0 is up. poweroff ends it; Ctrl-a three times reaches the hypervisor's keys; Ctrl-] x ends QEMU."
cd /root
while true; do
    setsid cttyhack sh -l < /dev/console > /dev/console 2>&1 &
    wait $!
done
"#;

/// What is in dom0's initramfs.
pub(crate) struct Contents<'a> {
    /// A statically linked one.
    pub busybox: &'a Path,
    /// The kernel whose modules are taken, if it is known.
    pub kernel: Option<&'a Kernel>,
    /// Modules to load beside the usual ones.
    pub drivers: &'a [&'a str],
    pub toolstacks: Option<&'a Toolstacks>,
    /// A command that runs instead of a shell; the machine powers off after it.
    pub exec: Option<&'a str>,
}

impl Contents<'_> {
    /// Writes the archive.
    pub(crate) fn make(&self, to: &Path) -> Result<()> {
        let mut archive = Archive::default();
        for dir in ["bin", "dev", "lib/drivers"] {
            archive.folder(dir)?;
        }
        archive.file("bin/busybox", 0o755, &paths::read(self.busybox)?)?;
        let init = INIT.replace("@START@", START).replace("@END@", END);
        archive.file("init", 0o755, init.as_bytes())?;
        if let Some(kernel) = self.kernel {
            let mut modules = Modules::in_folder(&kernel.modules)?;
            for name in MODULES.iter().chain(self.drivers) {
                modules.load(name)?;
            }
            modules.add_to(&mut archive, "lib/drivers")?;
        }
        if let Some(toolstacks) = self.toolstacks {
            toolstacks.add_to(&mut archive)?;
        }
        if let Some(command) = self.exec {
            archive.file("exec.sh", 0o755, format!("{command}\n").as_bytes())?;
        }
        paths::write(to, archive.compressed()?)
    }
}
