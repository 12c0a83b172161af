//! What a boot loader hands to Oxen on x86: multiboot 1 and 2, and PVH.
//!
//! Three protocols, one [`BootInfo`] that owns everything, so that nothing of the loader's is needed afterwards but the
//! modules. The readers see physical memory through [`PhysicalMemory`] and stay within the lengths that it confirms: what a
//! loader got wrong ends in a [`BootInfoError`] or in a note. The crate `multiboot2` reads through raw pointers and panics
//! on damaged tags, so it is not used.

mod mb1;
mod mb2;
mod pvh;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Value of EAX with which a multiboot 1 loader enters.
pub const MULTIBOOT1_MAGIC: u32 = 0x2bad_b002;
/// Value of EAX with which a multiboot 2 loader enters.
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;
/// First word of PVH's start info (public header `arch-x86/hvm/start_info.h`).
pub const PVH_MAGIC: u32 = 0x336e_c578;

/// No command line is longer.
const MAX_STRING: u64 = 4096;
/// No loader gives more modules, or more pieces of memory.
const MAX_MODULES: u32 = 64;
const MAX_REGIONS: u64 = 1024;

/// Physical memory for reading.
pub trait PhysicalMemory {
    /// The `len` bytes at `address`; `None` if they cannot be reached.
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]>;
}

/// How Oxen was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Multiboot 1.
    Multiboot1,
    /// Multiboot 2.
    Multiboot2,
    /// PVH, by the note XEN_ELFNOTE_PHYS32_ENTRY.
    Pvh,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiboot1 => "multiboot 1",
            Self::Multiboot2 => "multiboot 2",
            Self::Pvh => "PVH",
        })
    }
}

/// What is in a piece of the physical address space. The numbers are the firmware's (E820) types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// RAM for everybody.
    Ram,
    /// Anything that is not to be touched.
    Reserved,
    /// ACPI tables: RAM once they have been read.
    AcpiReclaimable,
    /// Memory of the firmware's that survives sleeping.
    AcpiNvs,
    /// RAM with errors.
    Unusable,
    /// Memory that keeps its content.
    Persistent,
    /// A type without a meaning here: reserved.
    Other(u32),
}

impl MemoryKind {
    /// The kind that an E820 type names.
    pub const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => Self::Ram,
            2 => Self::Reserved,
            3 => Self::AcpiReclaimable,
            4 => Self::AcpiNvs,
            5 => Self::Unusable,
            7 => Self::Persistent,
            other => Self::Other(other),
        }
    }

    /// Its E820 type.
    pub const fn to_e820(self) -> u32 {
        match self {
            Self::Ram => 1,
            Self::Reserved => 2,
            Self::AcpiReclaimable => 3,
            Self::AcpiNvs => 4,
            Self::Unusable => 5,
            Self::Persistent => 7,
            Self::Other(kind) => kind,
        }
    }

    /// The kind that a UEFI memory type is after the boot services ended (UEFI 2.10, 7.2).
    pub const fn from_efi(kind: u32) -> Self {
        match kind {
            // Loader code and data, boot services code and data, free memory.
            1..=4 | 7 => Self::Ram,
            8 => Self::Unusable,
            9 => Self::AcpiReclaimable,
            10 => Self::AcpiNvs,
            14 => Self::Persistent,
            _ => Self::Reserved,
        }
    }
}

/// A piece of the physical address space. Never empty, and does not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// What is there.
    pub kind: MemoryKind,
}

impl Region {
    /// First address after it.
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }
}

/// A file that the loader left in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Physical address of its first byte.
    pub base: u64,
    /// Size in bytes; may be 0. The end does not wrap.
    pub size: u64,
    /// What is said with it, without the file's name.
    pub command_line: String,
}

/// The pointer to ACPI's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsdpSource {
    /// Where it is.
    Address(u64),
    /// A copy of it: 20 bytes, or 36.
    Copy([u8; 36], usize),
}

/// What a framebuffer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// Characters and attributes of a VGA.
    Text,
    /// Dots whose colours are numbers of a palette.
    Indexed,
    /// Dots whose colours are three numbers: lowest bit and number of bits of red, green and blue.
    Rgb([(u8, u8); 3]),
}

/// The screen as the loader left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address.
    pub base: u64,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Dots, or characters, in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits per dot, or character.
    pub bits: u8,
    /// What it shows.
    pub pixels: Pixels,
}

/// What the loader got wrong without its being needed. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A text could not be read, was not UTF-8, or did not end.
    BadText(&'static str),
    /// The module with this number lies where no memory can be.
    BadModule(u32),
    /// There are more modules than can be noted.
    TooManyModules(u32),
    /// The memory map has pieces that are empty or wrap; they were left out.
    BadRegions(u32),
    /// UEFI's boot services still run.
    BootServicesRun,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadText(what) => write!(f, "the boot loader's {what} cannot be read as text"),
            Self::BadModule(n) => {
                write!(f, "boot module {n} has an impossible place; it is ignored")
            }
            Self::TooManyModules(n) => {
                write!(
                    f,
                    "there are {n} boot modules, of which {MAX_MODULES} are used"
                )
            }
            Self::BadRegions(n) => {
                write!(f, "{n} pieces of the memory map are empty or impossible")
            }
            Self::BootServicesRun => {
                write!(f, "the boot loader did not end UEFI's boot services")
            }
        }
    }
}

/// Why there is no boot information. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootInfoError {
    /// The loader's magic number is of no known protocol.
    UnknownLoader(u32),
    /// A structure cannot be reached.
    Unreachable(&'static str, u64),
    /// A structure's size or magic makes no sense.
    Damaged(&'static str),
    /// The loader says nothing of memory.
    NoMemoryMap,
}

impl fmt::Display for BootInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLoader(magic) => write!(
                f,
                "the boot loader speaks neither multiboot 1, multiboot 2 nor PVH (magic {magic:#x})"
            ),
            Self::Unreachable(what, at) => {
                write!(f, "the boot loader's {what} at {at:#x} cannot be read")
            }
            Self::Damaged(what) => write!(f, "the boot loader's {what} is damaged"),
            Self::NoMemoryMap => write!(f, "the boot loader gives no memory map"),
        }
    }
}

impl core::error::Error for BootInfoError {}

/// What the loader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo {
    /// How Oxen was loaded.
    pub protocol: Protocol,
    /// What the loader calls itself; may be empty.
    pub loader: String,
    /// Oxen's command line, without the file's name.
    pub command_line: String,
    /// The physical address space, in ascending order. Pieces may overlap if the firmware says so.
    pub memory: Vec<Region>,
    /// The modules, in the loader's order.
    pub modules: Vec<Module>,
    /// The pointer to ACPI's tables, if the loader passes it on.
    pub rsdp: Option<RsdpSource>,
    /// The screen, if the loader describes it.
    pub framebuffer: Option<Framebuffer>,
    /// What is wrong with it.
    pub notes: Vec<Note>,
}

impl BootInfo {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            loader: String::new(),
            command_line: String::new(),
            memory: Vec::new(),
            modules: Vec::new(),
            rsdp: None,
            framebuffer: None,
            notes: Vec::new(),
        }
    }

    /// Reads what a loader left. `magic`: EAX at entry, or [`PVH_MAGIC`] at PVH's entry; `address`: EBX at entry.
    ///
    /// # Errors
    /// [`BootInfoError`].
    pub fn read(
        memory: &dyn PhysicalMemory,
        magic: u32,
        address: u32,
    ) -> Result<Self, BootInfoError> {
        let mut info = match magic {
            MULTIBOOT1_MAGIC => mb1::read(memory, address)?,
            MULTIBOOT2_MAGIC => mb2::read(memory, address)?,
            PVH_MAGIC => pvh::read(memory, address)?,
            other => return Err(BootInfoError::UnknownLoader(other)),
        };
        if info.memory.is_empty() {
            return Err(BootInfoError::NoMemoryMap);
        }
        info.memory.sort_by_key(|r| r.base);
        Ok(info)
    }

    /// Adds a piece of memory; `false` if it is empty or wraps.
    fn region(&mut self, base: u64, size: u64, kind: MemoryKind) -> bool {
        let possible = size != 0 && base.checked_add(size).is_some();
        if possible {
            self.memory.push(Region { base, size, kind });
        }
        possible
    }

    fn module(&mut self, number: u32, base: u64, end: Option<u64>, command_line: String) {
        match end.and_then(|end| end.checked_sub(base)) {
            Some(size) => self.modules.push(Module {
                base,
                size,
                command_line,
            }),
            None => self.notes.push(Note::BadModule(number)),
        }
    }

    fn text(&mut self, memory: &dyn PhysicalMemory, address: u64, what: &'static str) -> String {
        string(memory, address).unwrap_or_else(|| {
            self.notes.push(Note::BadText(what));
            String::new()
        })
    }

    /// Takes the file's name from the front of command lines, for loaders that put it there: all but GRUB 2.
    fn strip_names(&mut self) {
        let grub2 = self
            .loader
            .strip_prefix("GRUB ")
            .is_some_and(|version| !version.starts_with('0'));
        let strip = |line: &mut String| {
            let text = line.trim_start();
            let text = match text.split_once(char::is_whitespace) {
                _ if grub2 => text,
                Some((_, rest)) => rest.trim_start(),
                None => "",
            };
            *line = String::from(text);
        };
        strip(&mut self.command_line);
        for module in &mut self.modules {
            strip(&mut module.command_line);
        }
    }
}

/// Reads little-endian numbers; `None` past the end.
trait Fields {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
    fn u8(&self, at: usize) -> Option<u8> {
        self.array::<1>(at).map(|[b]| b)
    }
    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

impl Fields for [u8] {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// The zero-terminated text at `address`; `None` if it cannot be read, does not end, or is not UTF-8.
fn string(memory: &dyn PhysicalMemory, address: u64) -> Option<String> {
    let mut text = Vec::new();
    let mut at = address;
    let end = address.checked_add(MAX_STRING)?;
    while at < end {
        // To the end of the page: the next one may not be there.
        let piece = memory.bytes(at, (4096 - at % 4096).min(end - at))?;
        match piece.iter().position(|b| *b == 0) {
            Some(n) => {
                text.extend_from_slice(piece.get(..n)?);
                return String::from_utf8(text).ok();
            }
            None => text.extend_from_slice(piece),
        }
        at += piece.len() as u64;
    }
    None
}

/// The screen that multiboot's fields describe: address, pitch, width, height, bits, kind, and from `color` on what
/// depends on the kind. Both versions have the fields in the same order.
fn framebuffer(fields: &[u8], color: usize) -> Option<Framebuffer> {
    let pixels = match fields.u8(21)? {
        0 => Pixels::Indexed,
        1 => {
            let field = |n: usize| Some((fields.u8(color + 2 * n)?, fields.u8(color + 2 * n + 1)?));
            Pixels::Rgb([field(0)?, field(1)?, field(2)?])
        }
        2 => Pixels::Text,
        _ => return None,
    };
    Some(Framebuffer {
        base: fields.u64(0)?,
        pitch: fields.u32(8)?,
        width: fields.u32(12)?,
        height: fields.u32(16)?,
        bits: fields.u8(20)?,
        pixels,
    })
}
