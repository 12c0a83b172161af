//! dom0's initramfs: busybox, the Xen drivers of the kernel, and an init that runs a command or a shell.

use crate::debian::Kernel;
use crate::paths;
use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The line before the command's output starts, and the one behind it, which goes on with the status.
pub(crate) const START: &str = "--- cargo xen: output starts ---";
pub(crate) const END: &str = "--- cargo xen: output ends, status ";

/// Drivers that dom0's toolstack and tests use, in the order in which they can be loaded.
const MODULES: [&str; 5] = [
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
];

/// Drivers of the PCI devices that the runner can give dom0, likewise.
const DEVICE_MODULES: [&str; 7] = [
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
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
    sh /exec.sh < /dev/null 2>&1 &
    wait $!
    echo "@END@$?"
    poweroff -f
fi
echo
echo "Oxen: dom0 is up. poweroff ends it; Ctrl-a three times reaches the hypervisor's keys; Ctrl-] x ends QEMU."
cd /root
while true; do
    setsid cttyhack sh -l < /dev/console > /dev/console 2>&1 &
    wait $!
done
"#;

/// Makes the archive, if `devices` with the drivers of PCI devices. With `exec`, that command runs and the machine powers off.
pub(crate) fn make(
    busybox: &Path,
    kernel: Option<&Kernel>,
    devices: bool,
    exec: Option<&str>,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "lib", "lib/drivers"] {
        archive.add(dir, 0o040_755, &[])?;
    }
    archive.add("bin/busybox", 0o100_755, &paths::read(busybox)?)?;
    let init = INIT.replace("@START@", START).replace("@END@", END);
    archive.add("init", 0o100_755, init.as_bytes())?;
    if let Some(kernel) = kernel {
        for (n, (name, file)) in drivers(&kernel.modules, devices)?.into_iter().enumerate() {
            archive.add(
                &format!("lib/drivers/{n:02}-{name}.ko"),
                0o100_644,
                &driver(&file)?,
            )?;
        }
    }
    if let Some(command) = exec {
        archive.add("exec.sh", 0o100_755, format!("{command}\n").as_bytes())?;
    }
    let file =
        std::fs::File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut gzip = GzEncoder::new(file, Compression::fast());
    gzip.write_all(&archive.finish()?)?;
    gzip.finish()?;
    Ok(())
}

/// The drivers that the kernel has as modules, in loading order; others are built in.
fn drivers(modules: &Path, devices: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    let files = crate::debian::files(modules)?;
    let named = |module: &str| {
        files.iter().find(|f| {
            let name = f.file_name().unwrap_or_default().to_string_lossy();
            name == format!("{module}.ko") || name == format!("{module}.ko.xz")
        })
    };
    let devices: &[_] = if devices { &DEVICE_MODULES } else { &[] };
    Ok(MODULES
        .iter()
        .chain(devices)
        .filter_map(|m| Some((*m, named(m)?.clone())))
        .collect())
}

/// A module's content; newer kernels ship them compressed.
fn driver(file: &Path) -> Result<Vec<u8>> {
    let bytes = paths::read(file)?;
    if file.extension().is_none_or(|e| e != "xz") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    lzma_rust2::XzReader::new(&bytes[..], true)
        .read_to_end(&mut plain)
        .with_context(|| format!("cannot unpack {}", file.display()))?;
    Ok(plain)
}

/// A cpio archive in the format that Linux unpacks (Documentation/driver-api/early-userspace/buffer-format).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).context("a file is too large for the archive")?;
        let links = if mode & 0o040_000 != 0 { 2 } else { 1 };
        let name_size = name.len() as u32 + 1;
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}")?;
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_names_and_padding() {
        let mut archive = Archive::default();
        archive.add("a", 0o100_644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
