//! The boot modules: what the boot loader put into memory for us, and the two command lines.
//!
//! Binding: Xen's `docs/misc/arm/device-tree/booting.txt`. A module is a child of `/chosen` (or of a node below it, as
//! old loaders have it) that is compatible with `multiboot,module`, with a `reg`. A second string says what it is; the
//! first module without one is the kernel, the second the ramdisk.
//!
//! Differences from Xen: an unnamed module is never looked into for an XSM policy's magic number, since there is no
//! XSM; a kernel or ramdisk named as such is preferred to an unnamed one; modules that overlap something or lie outside
//! of RAM are an error before anything is loaded. Domains described in the tree (dom0less) are not built, and said so.

use crate::dt::{DtError, Node, Tree};
use crate::range::PhysRange;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use xen_core::HostPhysAddr;

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// dom0's kernel.
    Kernel,
    /// dom0's initial ramdisk.
    Ramdisk,
    /// An XSM policy, which Oxen does not use.
    XsmPolicy,
    /// A device tree for a guest.
    DeviceTree,
    /// The binding gives it no meaning.
    Unknown,
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
            Self::XsmPolicy => "XSM policy",
            Self::DeviceTree => "device tree",
            Self::Unknown => "unknown",
        })
    }
}

/// A boot module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Path of the node that lists it.
    pub path: String,
    /// What it is.
    pub kind: ModuleKind,
    /// Where it is.
    pub range: PhysRange,
    /// Its own command line.
    pub bootargs: Option<&'a str>,
}

/// Something in `/chosen` that has no effect, to be told to the administrator. `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A domain to be built besides dom0.
    DomainNotSupported(String),
    /// A module that is not used, because there is another of its kind or its kind has no use.
    Unused(String, ModuleKind),
    /// A node with a module's specific name that lacks the generic one.
    NotGeneric(String),
    /// A module without `reg`: the UEFI stub was to load it.
    NoRegion(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DomainNotSupported(path) => write!(
                f,
                "{path} describes a domain: only dom0 is built from the device tree"
            ),
            Self::Unused(path, kind) => write!(f, "boot module {path} ({kind}) is not used"),
            Self::NotGeneric(path) => {
                write!(f, "{path} is no boot module: multiboot,module is missing")
            }
            Self::NoRegion(path) => write!(f, "boot module {path} has no reg and is not used"),
        }
    }
}

/// Why the modules cannot be used. `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// The tree is malformed.
    Tree(DtError),
    /// A module's node does not list exactly one region.
    Regions(String),
    /// Two things lie over each other.
    Overlap {
        /// A module.
        module: String,
        /// Where it is.
        range: PhysRange,
        /// What it overlaps.
        other: String,
        /// Where that is.
        other_range: PhysRange,
    },
    /// A module is not in RAM.
    OutsideRam {
        /// The module.
        module: String,
        /// Where it is.
        range: PhysRange,
    },
}

impl From<DtError> for ModuleError {
    fn from(error: DtError) -> Self {
        Self::Tree(error)
    }
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Regions(path) => write!(f, "boot module {path} does not list exactly one region"),
            Self::Overlap {
                module,
                range,
                other,
                other_range,
            } => write!(
                f,
                "boot module {module} at {range} overlaps {other} at {other_range}"
            ),
            Self::OutsideRam { module, range } => {
                write!(f, "boot module {module} at {range} is not in RAM")
            }
        }
    }
}

impl core::error::Error for ModuleError {}

/// The modules and command lines of `/chosen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootModules<'a> {
    /// dom0's kernel.
    pub kernel: Option<Module<'a>>,
    /// dom0's initial ramdisk: a module, or what `linux,initrd-start` and `-end` tell.
    pub ramdisk: Option<Module<'a>>,
    /// All other modules with a region: memory that is taken until they are discarded.
    pub others: Vec<Module<'a>>,
    /// Oxen's command line.
    pub xen_cmdline: Option<&'a str>,
    /// dom0's command line.
    pub dom0_cmdline: Option<&'a str>,
    /// What is ignored.
    pub notes: Vec<Note>,
}

const GENERIC: [&str; 2] = ["multiboot,module", "xen,multiboot-module"];
const KINDS: [(&str, ModuleKind); 6] = [
    ("multiboot,kernel", ModuleKind::Kernel),
    ("xen,linux-zimage", ModuleKind::Kernel),
    ("multiboot,ramdisk", ModuleKind::Ramdisk),
    ("xen,linux-initrd", ModuleKind::Ramdisk),
    ("xen,xsm-policy", ModuleKind::XsmPolicy),
    ("multiboot,device-tree", ModuleKind::DeviceTree),
];

/// What a node says it is; `None` if it has none of the binding's names.
fn stated_kind(node: Node<'_, '_>) -> Option<ModuleKind> {
    let named = KINDS.iter().find(|(name, _)| node.is_compatible(&[name]));
    named
        .map(|(_, kind)| *kind)
        .or_else(|| node.is_compatible(&GENERIC).then_some(ModuleKind::Unknown))
}

/// Whether a node is a boot module or describes a domain, and so is of no concern to dom0.
pub(crate) fn is_hypervisors(node: Node<'_, '_>) -> bool {
    stated_kind(node).is_some() || node.is_compatible(&["xen,domain"])
}

impl<'a> BootModules<'a> {
    /// Finds the modules and command lines of `tree`. A tree without `/chosen` has none.
    ///
    /// # Errors
    /// A module or one of the properties is malformed.
    pub fn find(tree: &Tree<'a>) -> Result<Self, ModuleError> {
        let mut found = Self::default();
        let Some(chosen) = tree.find("/chosen") else {
            return Ok(found);
        };
        let mut unnamed = Vec::new();
        for child in chosen.children().filter(Node::is_available) {
            if child.is_compatible(&["xen,domain"]) {
                found.notes.push(Note::DomainNotSupported(child.path()));
                for module in child.children() {
                    found.take_domains_module(module)?;
                }
            } else if stated_kind(child).is_some() {
                found.take_module(child, &mut unnamed)?;
            } else {
                for grandchild in child.children().filter(Node::is_available) {
                    found.take_module(grandchild, &mut unnamed)?;
                }
            }
        }
        let guesses = [ModuleKind::Kernel, ModuleKind::Ramdisk];
        for (index, mut module) in unnamed.into_iter().enumerate() {
            module.kind = *guesses.get(index).unwrap_or(&ModuleKind::Unknown);
            found.place(module);
        }
        found.take_initrd(chosen)?;
        found.take_cmdlines(chosen)?;
        Ok(found)
    }

    fn take_module(
        &mut self,
        node: Node<'_, 'a>,
        unnamed: &mut Vec<Module<'a>>,
    ) -> Result<(), ModuleError> {
        let Some(kind) = stated_kind(node) else {
            return Ok(());
        };
        let path = node.path();
        if !node.is_compatible(&GENERIC) {
            self.notes.push(Note::NotGeneric(path));
            return Ok(());
        }
        let Some(module) = read_module(node, kind)? else {
            self.notes.push(Note::NoRegion(path));
            return Ok(());
        };
        if kind == ModuleKind::Unknown {
            unnamed.push(module);
        } else {
            self.place(module);
        }
        Ok(())
    }

    /// A module of a domain that is not built: its memory is taken all the same.
    fn take_domains_module(&mut self, node: Node<'_, 'a>) -> Result<(), ModuleError> {
        if let Some(kind) = stated_kind(node)
            && let Some(module) = read_module(node, kind)?
        {
            self.others.push(module);
        }
        Ok(())
    }

    fn place(&mut self, module: Module<'a>) {
        let slot = match module.kind {
            ModuleKind::Kernel => Some(&mut self.kernel),
            ModuleKind::Ramdisk => Some(&mut self.ramdisk),
            _ => None,
        };
        match slot {
            Some(slot @ None) => *slot = Some(module),
            _ => {
                self.notes
                    .push(Note::Unused(module.path.clone(), module.kind));
                self.others.push(module);
            }
        }
    }

    /// Boot loaders that know nothing of Xen leave the ramdisk the way Linux takes it.
    fn take_initrd(&mut self, chosen: Node<'_, 'a>) -> Result<(), ModuleError> {
        let (start, end) = ("linux,initrd-start", "linux,initrd-end");
        let (Some(first), Some(last)) = (chosen.u64(start)?, chosen.u64(end)?) else {
            return Ok(());
        };
        if first == last {
            return Ok(());
        }
        let range = PhysRange::from_bounds(HostPhysAddr(first), HostPhysAddr(last))
            .ok_or_else(|| chosen.bad_property(end, "lies below the ramdisk's start"))?;
        // A loader may list one ramdisk in both ways.
        if self.modules().all(|module| module.range != range) {
            self.place(Module {
                path: chosen.path(),
                kind: ModuleKind::Ramdisk,
                range,
                bootargs: None,
            });
        }
        Ok(())
    }

    fn take_cmdlines(&mut self, chosen: Node<'_, 'a>) -> Result<(), ModuleError> {
        let for_xen = chosen.cut_str("xen,xen-bootargs")?;
        let for_dom0 = chosen.cut_str("xen,dom0-bootargs")?;
        let plain = chosen.cut_str("bootargs")?;
        let kernels = self.kernel.as_ref().and_then(|kernel| kernel.bootargs);
        let specific = kernels.or(for_dom0);
        // The plain property is the hypervisor's when nothing else is and dom0 has a line of its own.
        let plain_is_xens = for_xen.is_none() && specific.is_some();
        self.xen_cmdline = for_xen.or(plain.filter(|_| plain_is_xens));
        self.dom0_cmdline = specific.or(plain.filter(|_| !plain_is_xens));
        Ok(())
    }

    /// All modules with a region.
    pub fn modules(&self) -> impl Iterator<Item = &Module<'a>> {
        self.kernel.iter().chain(&self.ramdisk).chain(&self.others)
    }

    /// Checks that each module lies in one bank of `ram`, clear of the others and of everything in `taken`: the
    /// hypervisor's image, the device tree, with the names to use in the message.
    ///
    /// # Errors
    /// The first module for which that is not so.
    pub fn check(&self, ram: &[PhysRange], taken: &[(&str, PhysRange)]) -> Result<(), ModuleError> {
        let modules: Vec<&Module<'a>> = self.modules().collect();
        for (index, module) in modules.iter().enumerate() {
            let overlap = |other: &str, other_range| ModuleError::Overlap {
                module: module.path.clone(),
                range: module.range,
                other: other.into(),
                other_range,
            };
            if !ram.iter().any(|bank| bank.covers(&module.range)) {
                return Err(ModuleError::OutsideRam {
                    module: module.path.clone(),
                    range: module.range,
                });
            }
            for (name, range) in taken {
                if range.overlaps(&module.range) {
                    return Err(overlap(name, *range));
                }
            }
            for other in modules.iter().take(index) {
                if other.range.overlaps(&module.range) {
                    return Err(overlap(&other.path, other.range));
                }
            }
        }
        Ok(())
    }
}

/// The module that `node` lists; `None` if it has no `reg`.
fn read_module<'a>(
    node: Node<'_, 'a>,
    kind: ModuleKind,
) -> Result<Option<Module<'a>>, ModuleError> {
    if !node.has("reg") {
        return Ok(None);
    }
    // /chosen has no ranges, yet the binding's addresses are physical: they are not translated.
    let regs = node.reg()?;
    let [reg] = regs.as_slice() else {
        return Err(ModuleError::Regions(node.path()));
    };
    let range = PhysRange::new(HostPhysAddr(reg.address.low), reg.size)
        .ok_or_else(|| node.bad_property("reg", "is empty or wraps around the address space"))?;
    Ok(Some(Module {
        path: node.path(),
        kind,
        range,
        bootargs: node.cut_str("bootargs")?,
    }))
}

#[cfg(test)]
mod tests;
