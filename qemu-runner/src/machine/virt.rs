//! QEMU's arm64 `virt` board: its device tree with the boot modules added, and what is placed where.

use super::{Payload, common, dom0_line, hypervisor_line, in_option, uefi};
use crate::cli::{BootArgs, Damage, Firmware};
use crate::paths::{self, Paths};
use crate::process::{self, tethered};
use crate::units::{MIB, align_up};
use anyhow::{Context as _, Result};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use std::path::{Path, PathBuf};

/// Where RAM starts, where the image and the device tree go.
const RAM: u64 = 0x4000_0000;
const IMAGE: u64 = RAM + 2 * MIB;
const STUB: u64 = RAM + 24 * MIB;
const TREE: u64 = RAM + 128 * MIB;
/// Boot modules go below the device tree if they fit, else behind it.
const MODULES_LOW: u64 = RAM + 32 * MIB;
const MODULES_HIGH: u64 = TREE + 32 * MIB;
const BLOCK: u64 = 2 * MIB;

/// A boot module: file, address, kind in the device tree.
struct Module {
    file: PathBuf,
    at: u64,
    size: u64,
    kind: &'static str,
}

pub(super) fn args(
    paths: &Paths,
    boot: &BootArgs,
    qemu: &Path,
    hypervisor: &Path,
    payload: Option<Payload>,
    scratch: &Path,
) -> Result<Vec<String>> {
    let mut args = board(boot);
    if boot.firmware == Firmware::Uefi {
        args.extend(uefi::args(paths, boot, hypervisor, payload, scratch)?);
        return Ok(args);
    }
    let modules = place(payload)?;
    let mut dumped = args.clone();
    let plain = scratch.join("board.dtb");
    dumped[1].push_str(&format!(",dumpdtb={}", in_option(&plain)));
    process::output(tethered(qemu).args(&dumped))?;
    let tree = damaged(
        boot.damage,
        with_modules(&paths::read(&plain)?, boot, &modules)?,
    );
    let blob = scratch.join("boot.dtb");
    paths::write(&blob, &tree)?;
    if matches!(
        boot.damage,
        Some(Damage::TruncatedTree | Damage::CorruptTree)
    ) {
        // QEMU refuses such a tree: a few instructions stand in for the boot loader that does not look.
        let stub = scratch.join("stub");
        paths::write(&stub, jump(TREE, IMAGE))?;
        args.extend(loader(&stub, STUB));
        args.extend(loader(hypervisor, IMAGE));
        args.extend(loader(&blob, TREE));
        args.extend(["-device".into(), format!("loader,addr={STUB:#x},cpu-num=0")]);
    } else {
        args.extend([
            "-kernel".into(),
            hypervisor.display().to_string(),
            "-dtb".into(),
            blob.display().to_string(),
        ]);
    }
    for module in &modules {
        args.extend(loader(&module.file, module.at));
    }
    Ok(args)
}

fn loader(file: &Path, at: u64) -> [String; 2] {
    [
        "-device".into(),
        format!("loader,file={},addr={at:#x},force-raw=on", in_option(file)),
    ]
}

/// The options that decide what board it is; the second word is the machine's.
fn board(boot: &BootArgs) -> Vec<String> {
    let virtualization = if boot.damage == Some(Damage::NoVirtualization) {
        "off"
    } else {
        "on"
    };
    // With ACPI this board's firmware hides the device tree.
    let acpi = match (boot.firmware, boot.damage) {
        (Firmware::Uefi, Some(Damage::NoDeviceTree)) => ",acpi=on",
        (Firmware::Uefi, _) => ",acpi=off",
        _ => "",
    };
    let mut args = vec![
        "-M".to_owned(),
        format!(
            "virt,virtualization={virtualization},gic-version={}{acpi}",
            boot.gic()
        ),
    ];
    args.extend(common(boot, false));
    if !boot.icount && boot.smp() > 1 && std::env::consts::ARCH != "aarch64" {
        args.extend(["-accel".into(), "tcg,thread=multi".into()]);
    }
    args
}

/// Gives each module a place.
fn place(payload: Option<Payload>) -> Result<Vec<Module>> {
    let Some(payload) = payload else {
        return Ok(Vec::new());
    };
    let files = [(payload.kernel, "xen,linux-zimage")]
        .into_iter()
        .chain(payload.initrd.map(|initrd| (initrd, "xen,linux-initrd")));
    let mut sized = Vec::new();
    for (file, kind) in files {
        let size = std::fs::metadata(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .len();
        sized.push((file, kind, size));
    }
    let total: u64 = sized.iter().map(|(.., size)| align_up(*size, BLOCK)).sum();
    let mut at = if MODULES_LOW + total <= TREE {
        MODULES_LOW
    } else {
        MODULES_HIGH
    };
    let mut placed = Vec::new();
    for (file, kind, size) in sized {
        placed.push(Module {
            file,
            at,
            size,
            kind,
        });
        at = align_up(at + size, BLOCK);
    }
    Ok(placed)
}

/// Adds `/chosen` as Xen's multiboot binding has it.
fn with_modules(board: &[u8], boot: &BootArgs, modules: &[Module]) -> Result<Vec<u8>> {
    let fdt = Fdt::new(board).context("QEMU's device tree cannot be read")?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    if tree.root.child_mut("chosen").is_none() {
        tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    }
    let chosen = tree.root.child_mut("chosen").context("no /chosen")?;
    chosen.add_property(DeviceTreeProperty::new_unchecked("#address-cells", 2u32));
    chosen.add_property(DeviceTreeProperty::new_unchecked("#size-cells", 2u32));
    chosen.add_property(DeviceTreeProperty::new_unchecked(
        "xen,xen-bootargs",
        hypervisor_line(boot).as_str(),
    ));
    chosen.add_property(DeviceTreeProperty::new_unchecked(
        "xen,dom0-bootargs",
        dom0_line(boot).as_str(),
    ));
    for module in modules {
        let mut node = DeviceTreeNode::new_unchecked(format!("module@{:x}", module.at));
        let compatible: &[&str] = &[module.kind, "xen,multiboot-module"];
        node.add_property(DeviceTreeProperty::new_unchecked("compatible", compatible));
        let mut reg = module.at.to_be_bytes().to_vec();
        reg.extend(module.size.to_be_bytes());
        node.add_property(DeviceTreeProperty::new_unchecked("reg", reg));
        chosen.add_child(node);
    }
    Ok(tree.to_dtb())
}

/// The tree as a broken boot loader would hand it over.
fn damaged(damage: Option<Damage>, mut tree: Vec<u8>) -> Vec<u8> {
    match damage {
        Some(Damage::TruncatedTree) => tree.truncate(tree.len() * 3 / 4),
        Some(Damage::CorruptTree) => {
            // In the structure block, where tokens and lengths of properties stand.
            let from = tree.len() / 3;
            for byte in tree.iter_mut().skip(from).step_by(61) {
                *byte = 0xff;
            }
        }
        _ => {}
    }
    tree
}

/// `x0 = tree; jump to image`, as arm64 instructions.
fn jump(tree: u64, image: u64) -> Vec<u8> {
    const CODE: [u32; 4] = [0x5800_0080, 0x5800_00a1, 0xd61f_0020, 0xd503_201f];
    let mut bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(tree.to_le_bytes());
    bytes.extend(image.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::boot;
    use super::*;

    #[test]
    fn the_tree_says_what_the_binding_asks_for() {
        let mut plain = DeviceTree::new();
        plain
            .root
            .add_property(DeviceTreeProperty::new_unchecked("#address-cells", 2u32));
        let module = Module {
            file: "k".into(),
            at: 0x4200_0000,
            size: 0x1234,
            kind: "xen,linux-zimage",
        };
        let bytes = with_modules(
            &plain.to_dtb(),
            &boot(&["--cmdline", "loglvl=all"]),
            &[module],
        )
        .unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for part in [
            "module@42000000",
            "xen,linux-zimage\0xen,multiboot-module",
            "dom0_mem=512M",
            "loglvl=all",
            "console=hvc0",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(Fdt::new(&bytes).is_ok());
    }

    #[test]
    fn damage_makes_a_difference() {
        let tree = DeviceTree::new().to_dtb();
        assert!(damaged(Some(Damage::TruncatedTree), tree.clone()).len() < tree.len());
        assert_eq!(damaged(None, tree.clone()), tree);
    }

    #[test]
    fn the_stub_holds_both_addresses() {
        let stub = jump(0x4800_0000, 0x4020_0000);
        assert_eq!(stub.len(), 32);
        assert_eq!(stub[16..24], 0x4800_0000u64.to_le_bytes());
    }

    #[test]
    fn firmware_has_a_device_tree_unless_it_is_to_have_none() {
        let machine = |words: &[&str]| board(&boot(words))[1].clone();
        assert!(!machine(&["--gic", "2"]).contains("acpi"));
        assert!(machine(&["--firmware", "uefi"]).ends_with("gic-version=3,acpi=off"));
        assert!(
            machine(&["--firmware", "uefi", "--damage", "no-device-tree"]).ends_with("acpi=on")
        );
        assert!(machine(&["--damage", "no-virtualization"]).contains("virtualization=off"));
    }

    #[test]
    fn small_modules_go_below_the_tree_and_large_ones_behind_it() {
        let dir = std::env::temp_dir().join(format!("oxen-place-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, size: u64| {
            let file = dir.join(name);
            std::fs::File::create(&file).unwrap().set_len(size).unwrap();
            file
        };
        let at = |kernel: u64| {
            let payload = Payload {
                kernel: file("k", kernel),
                initrd: Some(file("i", 1)),
            };
            place(Some(payload))
                .unwrap()
                .iter()
                .map(|m| m.at)
                .collect::<Vec<_>>()
        };
        assert_eq!(at(BLOCK + 1), [MODULES_LOW, MODULES_LOW + 2 * BLOCK]);
        assert_eq!(at(96 * MIB)[0], MODULES_HIGH);
        assert!(place(None).unwrap().is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
