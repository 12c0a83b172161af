//! PCI devices for dom0: what QEMU is told, and the drivers that dom0 needs.

use super::in_option;
use crate::cli::{Arch, BootArgs, Disk, DiskModel, Hypervisor, NetworkModel};
use anyhow::{Context as _, Result};
use std::path::Path;

/// The file system that is at hand on each disk, and what its checksums need.
const FILE_SYSTEM: [&str; 2] = ["crc32c_generic", "ext4"];

/// QEMU's options.
pub(super) fn args(boot: &BootArgs, scratch: &Path) -> Result<Vec<String>> {
    let mut args = Vec::new();
    if let Some(disk) = &boot.disk {
        let image = match disk {
            Disk::Image(path) => path.clone(),
            Disk::Empty(size) => {
                let image = scratch.join("disk");
                std::fs::File::create(&image)
                    .and_then(|file| file.set_len(*size))
                    .with_context(|| format!("cannot make {}", image.display()))?;
                image
            }
        };
        args.push("-drive".to_owned());
        args.push(format!(
            "if=none,id=disk,format=raw,file={}",
            in_option(&image)
        ));
        for device in disk_devices(boot.disk_model) {
            let more = if device.starts_with("virtio") {
                translated(boot)
            } else {
                ""
            };
            args.extend(["-device".to_owned(), format!("{device}{more}")]);
        }
    }
    if boot.network {
        args.extend(["-netdev", "user,id=network", "-device"].map(str::to_owned));
        // Nobody boots from it.
        let card = network_card(boot.network_model);
        let more = if boot.network_model == NetworkModel::Virtio {
            translated(boot)
        } else {
            ""
        };
        args.push(format!("{card},netdev=network,romfile={more}"));
    }
    Ok(args)
}

/// Xen gives a PVH dom0 memory that is somewhere else in the machine, so its devices go through the IOMMU; QEMU's virtio
/// devices do that when they are told to. Oxen's dom0 is where it believes to be.
fn translated(boot: &BootArgs) -> &'static str {
    if (boot.arch, boot.hypervisor) == (Arch::X86_64, Hypervisor::Xen) {
        ",disable-legacy=on,iommu_platform=on"
    } else {
        ""
    }
}

fn disk_devices(model: DiskModel) -> &'static [&'static str] {
    match model {
        DiskModel::Virtio => &["virtio-blk-pci,drive=disk"],
        DiskModel::Nvme => &["nvme,drive=disk,serial=oxen"],
        DiskModel::Ahci => &["ich9-ahci,id=sata", "ide-hd,drive=disk,bus=sata.0"],
    }
}

fn network_card(model: NetworkModel) -> &'static str {
    match model {
        NetworkModel::Virtio => "virtio-net-pci",
        NetworkModel::E1000 => "e1000",
        NetworkModel::E1000e => "e1000e",
    }
}

/// The kernel modules with which Linux uses them; those that these need are not named.
pub(super) fn drivers(boot: &BootArgs) -> Vec<&'static str> {
    let mut drivers = Vec::new();
    if boot.disk.is_some() {
        drivers.extend(match boot.disk_model {
            DiskModel::Virtio => ["virtio_pci", "virtio_blk"].as_slice(),
            DiskModel::Nvme => &["nvme"],
            DiskModel::Ahci => &["ahci", "sd_mod"],
        });
        drivers.extend(FILE_SYSTEM);
    }
    if boot.network {
        drivers.extend(match boot.network_model {
            NetworkModel::Virtio => ["virtio_pci", "virtio_net"].as_slice(),
            NetworkModel::E1000 => &["e1000"],
            NetworkModel::E1000e => &["e1000e"],
        });
    }
    drivers
}

#[cfg(test)]
mod tests {
    use super::super::boot;
    use super::*;

    #[test]
    fn devices_are_on_pci() {
        let dir = std::env::temp_dir().join(format!("oxen-devices-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(args(&boot(&[]), &dir).unwrap().is_empty());
        let words = args(&boot(&["--disk", "3M", "--network"]), &dir).unwrap();
        assert_eq!(std::fs::metadata(dir.join("disk")).unwrap().len(), 3 << 20);
        assert!(words.iter().any(|w| w.starts_with("virtio-blk-pci")));
        assert!(words.iter().any(|w| w.starts_with("virtio-net-pci")));
        let words = args(&boot(&["--disk", "/a,b.img"]), &dir).unwrap();
        assert!(words[1].ends_with("file=/a,,b.img"), "{words:?}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn virtio_goes_through_xens_iommu() {
        let words = |more: &[&str]| {
            let words = ["--arch", "x86_64", "--disk", "x.img", "--network"];
            args(&boot(&[&words[..], more].concat()), Path::new("/nowhere")).unwrap()
        };
        let translated = |words: Vec<String>| words.iter().filter(|w| w.contains("iommu")).count();
        assert_eq!(translated(words(&["--hypervisor", "xen"])), 2);
        assert_eq!(translated(words(&[])), 0);
        let others = ["--disk-model", "nvme", "--network-model", "e1000"];
        let others = words(&[&others[..], &["--hypervisor", "xen"]].concat());
        assert_eq!(translated(others), 0);
    }

    #[test]
    fn models_choose_devices_and_drivers() {
        let nothing = Path::new("/nowhere");
        for (model, device, driver) in [
            ("nvme", "nvme,drive=disk,serial=oxen", "nvme"),
            ("ahci", "ide-hd,drive=disk,bus=sata.0", "ahci"),
        ] {
            let boot = boot(&["--disk", "x.img", "--disk-model", model]);
            let words = args(&boot, nothing).unwrap();
            assert!(words.contains(&device.to_owned()), "{words:?}");
            assert!(drivers(&boot).contains(&driver));
            assert!(drivers(&boot).contains(&"ext4"));
        }
        for model in ["e1000", "e1000e"] {
            let boot = boot(&["--network", "--network-model", model]);
            let words = args(&boot, nothing).unwrap();
            assert_eq!(words[3], format!("{model},netdev=network,romfile="));
            assert_eq!(drivers(&boot), [model]);
        }
        assert!(drivers(&boot(&[])).is_empty());
    }
}
