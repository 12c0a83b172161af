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

/// Makes the archive; `devices` are drivers to load beside the usual ones. With `exec`, that command runs and the machine
/// powers off.
pub(crate) fn make(
    busybox: &Path,
    kernel: Option<&Kernel>,
    devices: &[&str],
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
        let mut modules = Modules::in_folder(&kernel.modules)?;
        for name in MODULES.iter().chain(devices) {
            modules.load(name)?;
        }
        for (n, module) in modules.loaded.iter().enumerate() {
            let name = format!("lib/drivers/{n:02}-{}.ko", module.name);
            archive.add(&name, 0o100_644, &module.bytes)?;
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

/// A kernel's modules, and those of them that are wanted, in an order in which they can be loaded.
struct Modules {
    files: Vec<PathBuf>,
    /// What `load` has taken by now.
    loaded: Vec<Module>,
}

struct Module {
    name: String,
    bytes: Vec<u8>,
}

impl Modules {
    fn in_folder(dir: &Path) -> Result<Self> {
        Ok(Self {
            files: crate::debian::files(dir)?,
            loaded: Vec::new(),
        })
    }

    /// Takes a module and, before it, those that it needs. What the kernel has no module of is built in.
    fn load(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if self.loaded.iter().any(|m| m.name == name) {
            return Ok(());
        }
        let Some(file) = self
            .files
            .iter()
            .find(|f| module_name(f).as_ref() == Some(&name))
        else {
            return Ok(());
        };
        let bytes = driver(file)?;
        for needed in depends(&bytes)? {
            // Modules do not need each other in circles.
            self.load(&needed)?;
        }
        self.loaded.push(Module { name, bytes });
        Ok(())
    }
}

/// The name under which the kernel knows the module in a file, if there is one in it.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = name.strip_suffix(".xz").unwrap_or(name);
    Some(name.strip_suffix(".ko")?.replace('-', "_"))
}

/// The modules that a module says it needs: `depends=a,b` among the strings of its section `.modinfo`.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    use object::{Object as _, ObjectSection as _};
    let elf = object::File::parse(module).context("a module is no ELF file")?;
    let Some(section) = elf.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    Ok(needed(section.data()?))
}

fn needed(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|b| *b == 0)
        .filter_map(|s| str::from_utf8(s).ok()?.strip_prefix("depends="))
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
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
    fn modules_are_known_by_the_kernels_names() {
        let name = |file: &str| module_name(Path::new(file));
        assert_eq!(name("/m/nvme-core.ko.xz").as_deref(), Some("nvme_core"));
        assert_eq!(name("/m/virtio_pci.ko").as_deref(), Some("virtio_pci"));
        assert_eq!(name("/m/modules.order"), None);
    }

    #[test]
    fn what_a_module_needs_is_among_its_strings() {
        let info = b"license=GPL\0depends=nvme-core,t10-pi\0retpoline=Y\0";
        assert_eq!(needed(info), ["nvme-core", "t10-pi"]);
        assert!(needed(b"depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_err());
    }

    #[test]
    fn what_is_loaded_already_or_built_in_is_not_loaded() {
        let mut modules = Modules {
            files: vec!["/no/such/ahci.ko".into()],
            loaded: vec![Module {
                name: "ahci".into(),
                bytes: Vec::new(),
            }],
        };
        modules.load("ahci").unwrap();
        modules.load("ext4").unwrap();
        assert_eq!(modules.loaded.len(), 1);
        modules.loaded.clear();
        assert!(modules.load("ahci").is_err(), "the file is missing");
    }

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
