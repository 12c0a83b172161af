//! The machine: QEMU's command line, its device tree with the boot modules added, and what is placed where.

use crate::cli::{Arch, BootArgs, Damage, Dom0, Hypervisor};
use crate::paths::{self, Paths};
use crate::process::{self, find_program, tethered};
use crate::units::{MIB, align_up, format_size};
use crate::{build, debian, initramfs};
use anyhow::{Context as _, Result, bail};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// QEMU's `virt` board: where RAM starts, where the image and the device tree go.
const RAM: u64 = 0x4000_0000;
const IMAGE: u64 = RAM + 2 * MIB;
const STUB: u64 = RAM + 24 * MIB;
const TREE: u64 = RAM + 128 * MIB;
/// Boot modules go below the device tree if they fit, else behind it.
const MODULES_LOW: u64 = RAM + 32 * MIB;
const MODULES_HIGH: u64 = TREE + 32 * MIB;
const BLOCK: u64 = 2 * MIB;

/// A machine that can be started.
pub(crate) struct Machine {
    qemu: PathBuf,
    args: Vec<String>,
    /// The hypervisor's ELF file, for debuggers.
    pub elf: Option<PathBuf>,
}

/// A boot module: file, address, kinds in the device tree.
struct Module {
    file: PathBuf,
    at: u64,
    size: u64,
    kind: &'static str,
}

impl Machine {
    /// Builds and collects everything that `boot` asks for. With `exec`, dom0 runs that command and powers off.
    pub(crate) fn prepare(
        paths: &Paths,
        boot: &BootArgs,
        exec: Option<&str>,
        scratch: &Path,
    ) -> Result<Self> {
        if boot.arch == Arch::X86_64 {
            bail!(
                "booting on x86_64 is not supported yet; `cargo xen build --arch x86_64` builds the skeleton"
            );
        }
        let qemu = crate::setup::qemu()?;
        let (hypervisor, elf) = match boot.hypervisor {
            Hypervisor::Oxen => {
                let built = build::hypervisor(paths, boot.arch, &boot.build)?;
                (built.image, Some(built.elf))
            }
            Hypervisor::Xen => (debian::xen(paths)?, None),
        };
        let modules = place(modules(paths, boot, exec, scratch)?)?;
        let mut args = board(boot);
        let mut dumped = args.clone();
        let plain = scratch.join("board.dtb");
        dumped[1].push_str(&format!(",dumpdtb={}", plain.display()));
        process::output(Command::new(&qemu).args(&dumped).stderr(Stdio::null()))?;
        let tree = damaged(
            boot.damage,
            with_modules(&paths::read(&plain)?, boot, &modules)?,
        );
        let blob = scratch.join("boot.dtb");
        paths::write(&blob, &tree)?;
        let image = hypervisor.display();
        if matches!(
            boot.damage,
            Some(Damage::TruncatedTree | Damage::CorruptTree)
        ) {
            // QEMU refuses such a tree: a few instructions stand in for the boot loader that does not look.
            let stub = scratch.join("stub");
            paths::write(&stub, jump(TREE, IMAGE))?;
            args.extend(loader(&stub, STUB));
            args.extend(loader(&hypervisor, IMAGE));
            args.extend(loader(&blob, TREE));
            args.extend(["-device".into(), format!("loader,addr={STUB:#x},cpu-num=0")]);
        } else {
            args.extend([
                "-kernel".into(),
                image.to_string(),
                "-dtb".into(),
                blob.display().to_string(),
            ]);
        }
        for module in &modules {
            args.extend(loader(&module.file, module.at));
        }
        Ok(Self { qemu, args, elf })
    }

    /// QEMU with the serial line on stdin and stdout.
    pub(crate) fn command(&self, extra: &[&str]) -> Command {
        let mut command = tethered(&self.qemu);
        command.args(&self.args).args(extra);
        command
    }
}

fn loader(file: &Path, at: u64) -> [String; 2] {
    [
        "-device".into(),
        format!("loader,file={},addr={at:#x},force-raw=on", file.display()),
    ]
}

/// The options that decide what board it is; the second word is the machine's.
fn board(boot: &BootArgs) -> Vec<String> {
    let virtualization = if boot.damage == Some(Damage::NoVirtualization) {
        "off"
    } else {
        "on"
    };
    let smp = if boot.icount { 1 } else { boot.smp };
    let mut args = vec![
        "-M".to_owned(),
        format!(
            "virt,virtualization={virtualization},gic-version={}",
            boot.gic
        ),
        "-cpu".into(),
        boot.cpu.clone(),
        "-smp".into(),
        smp.to_string(),
        "-m".into(),
        format_size(boot.memory),
        "-display".into(),
        "none".into(),
        "-monitor".into(),
        "none".into(),
    ];
    if boot.icount {
        args.extend(["-icount".into(), "shift=0,sleep=off".into()]);
    } else if boot.smp > 1 && std::env::consts::ARCH != "aarch64" {
        args.extend(["-accel".into(), "tcg,thread=multi".into()]);
    }
    args
}

fn modules(
    paths: &Paths,
    boot: &BootArgs,
    exec: Option<&str>,
    scratch: &Path,
) -> Result<Vec<(PathBuf, &'static str)>> {
    const KERNEL: &str = "xen,linux-zimage";
    const RAMDISK: &str = "xen,linux-initrd";
    if boot.damage == Some(Damage::NoKernel) {
        return Ok(Vec::new());
    }
    let (kernel, debian_kernel) = match &boot.dom0 {
        Dom0::Guest(name) => (build::guest(paths, name)?.image, None),
        Dom0::Kernel(path) => (path.clone(), None),
        Dom0::Debian(suite) => {
            let kernel = debian::kernel(paths, *suite)?;
            (kernel.image.clone(), Some(kernel))
        }
    };
    if !kernel.is_file() {
        bail!("{} is not a file", kernel.display());
    }
    let mut modules = vec![(kernel, KERNEL)];
    match (&boot.initrd, &boot.dom0) {
        (Some(initrd), _) => modules.push((initrd.clone(), RAMDISK)),
        (None, Dom0::Guest(_)) => {}
        (None, _) => {
            let initrd = scratch.join("initrd.gz");
            initramfs::make(
                &debian::busybox(paths)?,
                debian_kernel.as_ref(),
                exec,
                &initrd,
            )?;
            modules.push((initrd, RAMDISK));
        }
    }
    Ok(modules)
}

/// Gives each module a place.
fn place(modules: Vec<(PathBuf, &'static str)>) -> Result<Vec<Module>> {
    let mut sized = Vec::new();
    for (file, kind) in modules {
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

/// The hypervisor's command line.
fn hypervisor_line(boot: &BootArgs) -> String {
    let line = format!(
        "console=dtuart dom0_mem={} bootscrub=0 {}",
        format_size(boot.dom0_mem),
        boot.cmdline
    );
    line.trim_end().to_owned()
}

/// dom0's command line.
fn dom0_line(boot: &BootArgs) -> String {
    let console = match boot.dom0 {
        Dom0::Guest(_) => "",
        _ => "console=hvc0 earlycon=xenboot quiet panic=1 ",
    };
    format!("{console}{}", boot.dom0_cmdline)
        .trim_end()
        .to_owned()
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

/// Whether gdb that knows arm64 is there.
pub(crate) fn gdb() -> Option<PathBuf> {
    ["gdb-multiarch", "aarch64-linux-gnu-gdb"]
        .iter()
        .find_map(|name| find_program(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn boot(words: &[&str]) -> BootArgs {
        match crate::cli::Cli::parse_from(["cargo xen", "run"].iter().chain(words)).command {
            crate::cli::Command::Run(args) => args.boot,
            other => panic!("{other:?}"),
        }
    }

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
    fn counting_instructions_needs_one_cpu() {
        let args = board(&boot(&["--icount", "--smp", "4"]));
        assert!(args.windows(2).any(|w| w == ["-smp", "1"]));
    }
}
