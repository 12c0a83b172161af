//! The structure that a PVH kernel is started with (public header `arch-x86/hvm/start_info.h`).
//!
//! Everything it points to but the modules and ACPI's tables is in one piece of memory, so that one placement and one
//! copy suffice.

use crate::multiboot::Region;
use crate::range::PhysRange;
use alloc::vec::Vec;
use core::fmt;
use xen_abi::arch_x86::{
    HVM_START_MAGIC, HvmMemmapEntry, HvmModlistEntry, HvmStartInfo, MemmapType,
};
use xen_abi::xen::StartInfoFlags;
use xen_core::GuestPhysAddr;
use zerocopy::IntoBytes;

/// The first version with a memory map, and the current one.
const VERSION: u32 = 1;
/// A command line that x86 Linux takes as a whole, without the NUL; it cuts a longer one.
pub const COMMAND_LINE_MAX: usize = 2047;
/// Modules that a kernel is given.
const MAX_MODULES: usize = 64;
/// 32-bit code has to reach it.
const LIMIT: u64 = 1 << 32;

/// Why there can be no start information. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartInfoError {
    /// A command line has a NUL in it.
    Nul,
    /// A command line has this many bytes.
    CommandLine(usize),
    /// There are this many modules.
    Modules(usize),
    /// It, or what it points to, would not be below 4 GiB, or at 0.
    Place(u64),
}

impl fmt::Display for StartInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul => f.write_str("a command line for dom0 has a NUL in it"),
            Self::CommandLine(n) => write!(
                f,
                "a command line for dom0 has {n} bytes, of which dom0 takes {COMMAND_LINE_MAX}"
            ),
            Self::Modules(n) => write!(f, "dom0 cannot take {n} modules"),
            Self::Place(at) => write!(f, "dom0's start information cannot be at {at:#x}"),
        }
    }
}

impl core::error::Error for StartInfoError {}

/// A module for the kernel. The first is the initial ramdisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Where it is.
    pub range: PhysRange,
    /// Bytes of it that are used.
    pub size: u64,
    /// Its command line; may be empty.
    pub command_line: &'a str,
}

/// What the kernel is told.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo<'a> {
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The modules.
    pub modules: &'a [Module<'a>],
    /// ACPI's root pointer, if there is one.
    pub rsdp: Option<GuestPhysAddr>,
    /// dom0's memory map.
    pub memory: &'a [Region],
}

const MODULES_AT: usize = size_of::<HvmStartInfo>();

impl StartInfo<'_> {
    fn memory_at(&self) -> usize {
        MODULES_AT + self.modules.len() * size_of::<HvmModlistEntry>()
    }

    fn texts_at(&self) -> usize {
        self.memory_at() + self.memory.len() * size_of::<HvmMemmapEntry>()
    }

    /// Size in bytes of what [`StartInfo::encode`] makes.
    pub fn size(&self) -> usize {
        let lines = self.modules.iter().map(|module| module.command_line);
        let lines = lines.filter(|line| !line.is_empty());
        let lines: usize = lines.map(|line| line.len() + 1).sum();
        self.texts_at() + self.command_line.len() + 1 + lines
    }

    /// The bytes that go to `at`, which is also what EBX has at the kernel's entry.
    ///
    /// # Errors
    /// [`StartInfoError`].
    pub fn encode(&self, at: u32) -> Result<Vec<u8>, StartInfoError> {
        let base = u64::from(at);
        if at == 0 || base + self.size() as u64 > LIMIT {
            return Err(StartInfoError::Place(base));
        }
        if self.modules.len() > MAX_MODULES {
            return Err(StartInfoError::Modules(self.modules.len()));
        }
        let mut texts = Vec::new();
        let texts_at = base + self.texts_at() as u64;
        let mut add_text = |line: &str| {
            if line.contains('\0') {
                return Err(StartInfoError::Nul);
            }
            if line.len() > COMMAND_LINE_MAX {
                return Err(StartInfoError::CommandLine(line.len()));
            }
            let place = texts_at + texts.len() as u64;
            texts.extend_from_slice(line.as_bytes());
            texts.push(0);
            Ok(place)
        };
        let cmdline_paddr = add_text(self.command_line)?;
        let mut list = Vec::new();
        for module in self.modules {
            let start = module.range.start().0;
            if start == 0 || module.range.end().0 > LIMIT || module.size > module.range.size() {
                return Err(StartInfoError::Place(start));
            }
            list.push(HvmModlistEntry {
                paddr: start,
                size: module.size,
                cmdline_paddr: match module.command_line {
                    "" => 0,
                    line => add_text(line)?,
                },
                reserved: 0,
            });
        }
        let present = |count: usize, offset: usize| match count {
            0 => 0,
            _ => base + offset as u64,
        };
        let info = HvmStartInfo {
            magic: HVM_START_MAGIC,
            version: VERSION,
            flags: StartInfoFlags::PRIVILEGED | StartInfoFlags::INITDOMAIN,
            nr_modules: list.len() as u32,
            modlist_paddr: present(list.len(), MODULES_AT),
            cmdline_paddr,
            rsdp_paddr: self.rsdp.map_or(0, |at| at.0),
            memmap_paddr: present(self.memory.len(), self.memory_at()),
            memmap_entries: self.memory.len() as u32,
            reserved: 0,
        };
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(info.as_bytes());
        bytes.extend_from_slice(list.as_bytes());
        for region in self.memory {
            let entry = HvmMemmapEntry {
                addr: region.base,
                size: region.size,
                kind: MemmapType(region.kind.to_e820()),
                reserved: 0,
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.extend_from_slice(&texts);
        Ok(bytes)
    }
}
