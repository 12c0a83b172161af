//! The firmware's ACPI tables, read from bytes (ACPI specification 6.5, chapter 5; PCI firmware specification for MCFG).
//!
//! Everything is bounded by the length that a table says it has and its checksum confirms, so that damaged tables end in
//! an error or are left out with a note, never in a panic. The crate `acpi` casts memory to structures by the lengths it
//! finds and cannot promise that; the tests hold this reader against it on sound tables.

mod aml;
mod fadt;
mod madt;
mod misc;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

pub use aml::SleepTypes;
pub use fadt::{Fadt, GenericAddress, Space};
pub use madt::{Cpu, IoApic, LocalNmi, Madt, Override, Polarity, Trigger};
pub use misc::{CpuAffinity, Hpet, McfgSegment, MemoryAffinity, Srat, hpet, mcfg, srat};

/// Size in bytes of the header that all tables share.
pub const HEADER: usize = 36;
/// No table is larger; DSDTs of servers come near a megabyte.
const MAX_TABLE: u32 = 16 << 20;
/// More tables than any machine has.
const MAX_TABLES: usize = 256;

/// Physical memory for reading.
pub trait PhysicalMemory {
    /// The `len` bytes at `address`; `None` if they cannot be reached.
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]>;
}

/// What is wrong with the tables. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// There is no pointer to the tables.
    NoRsdp,
    /// The pointer to the tables is damaged.
    BadRsdp,
    /// A table lies where nothing can be read.
    Unreachable([u8; 4], u64),
    /// A table has another signature than it should have there.
    Signature([u8; 4], u64),
    /// A table's length makes no sense.
    Length([u8; 4], u32),
    /// A table's bytes do not sum up to zero.
    Checksum([u8; 4]),
    /// A table that Oxen needs is not there.
    Missing([u8; 4]),
    /// A structure in a table has a length that makes no sense.
    Entry([u8; 4], usize),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRsdp => write!(f, "the firmware has no ACPI tables"),
            Self::BadRsdp => write!(f, "the pointer to the ACPI tables is damaged"),
            Self::Unreachable(s, at) => {
                write!(
                    f,
                    "ACPI table {} at {at:#x} cannot be read",
                    s.escape_ascii()
                )
            }
            Self::Signature(s, at) => {
                write!(f, "there is no ACPI table {} at {at:#x}", s.escape_ascii())
            }
            Self::Length(s, n) => {
                write!(f, "ACPI table {} cannot have {n} bytes", s.escape_ascii())
            }
            Self::Checksum(s) => write!(f, "ACPI table {} has a wrong checksum", s.escape_ascii()),
            Self::Missing(s) => write!(f, "the firmware has no ACPI table {}", s.escape_ascii()),
            Self::Entry(s, at) => {
                write!(
                    f,
                    "ACPI table {} is damaged at byte {at:#x}",
                    s.escape_ascii()
                )
            }
        }
    }
}

impl core::error::Error for AcpiError {}

/// Reads little-endian numbers; `None` past the end.
pub(crate) trait Fields {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
    fn u8(&self, at: usize) -> Option<u8> {
        self.array::<1>(at).map(|[b]| b)
    }
    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
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

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0
}

/// The root pointer: where the table of tables is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsdp {
    /// Physical address of the RSDT or XSDT.
    pub root: u64,
    /// Its entries have 8 bytes (XSDT).
    pub extended: bool,
}

impl Rsdp {
    /// Decodes a root pointer, 20 bytes of version 1 or 36 of later ones; `None` if it is none, or damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != b"RSD PTR " || !sums_to_zero(bytes.get(..20)?) {
            return None;
        }
        let rsdt = u64::from(bytes.u32(16)?);
        if bytes.u8(15)? >= 2
            && let Some(length) = bytes.u32(20).filter(|n| *n >= 36)
            && bytes
                .get(..length.min(36) as usize)
                .is_some_and(|b| length > 36 || sums_to_zero(b))
            && let Some(xsdt) = bytes.u64(24).filter(|a| *a != 0)
        {
            return Some(Self {
                root: xsdt,
                extended: true,
            });
        }
        (rsdt != 0).then_some(Self {
            root: rsdt,
            extended: false,
        })
    }

    /// Looks where a BIOS leaves it: in the first KiB of its extended data area, then from 0xE0000 on, every 16 bytes.
    pub fn search(memory: &dyn PhysicalMemory) -> Option<(u64, Self)> {
        // The BIOS data area has the segment of the extended one.
        let ebda = memory
            .bytes(0x40e, 2)
            .and_then(|b| b.u16(0))
            .map(|segment| u64::from(segment) << 4)
            .filter(|at| (0x8_0000..0xa_0000).contains(at));
        let areas = ebda
            .map(|at| (at, 1024))
            .into_iter()
            .chain([(0xe_0000, 0x2_0000)]);
        for (base, size) in areas {
            let Some(area) = memory.bytes(base, size) else {
                continue;
            };
            for at in (0..area.len()).step_by(16) {
                if let Some(found) = area.get(at..).and_then(Self::parse) {
                    return Some((base + at as u64, found));
                }
            }
        }
        None
    }
}

/// A table whose length and checksum are right.
#[derive(Clone, Copy, Debug)]
pub struct Table<'m> {
    /// Where it is.
    pub address: u64,
    /// All of it, header included.
    pub bytes: &'m [u8],
}

impl<'m> Table<'m> {
    /// The four letters that name it.
    pub fn signature(&self) -> [u8; 4] {
        self.bytes.array(0).unwrap_or_default()
    }

    /// Reads the table at `address`.
    fn read(
        memory: &'m dyn PhysicalMemory,
        address: u64,
        expected: [u8; 4],
    ) -> Result<Self, AcpiError> {
        let header = memory
            .bytes(address, HEADER as u64)
            .ok_or(AcpiError::Unreachable(expected, address))?;
        let signature: [u8; 4] = header.array(0).unwrap_or_default();
        if expected != ANY && signature != expected {
            return Err(AcpiError::Signature(expected, address));
        }
        let length = header.u32(4).unwrap_or(0);
        if !(HEADER as u32..=MAX_TABLE).contains(&length) {
            return Err(AcpiError::Length(signature, length));
        }
        let bytes = memory
            .bytes(address, length.into())
            .ok_or(AcpiError::Unreachable(signature, address))?;
        if sums_to_zero(bytes) {
            Ok(Self { address, bytes })
        } else {
            Err(AcpiError::Checksum(signature))
        }
    }
}

/// Stands for any signature when a table is read, and for its name in errors.
const ANY: [u8; 4] = *b"????";

/// All tables that the root names, as far as they are sound.
#[derive(Debug)]
pub struct Tables<'m> {
    memory: &'m dyn PhysicalMemory,
    tables: Vec<Table<'m>>,
    /// What was left out and why.
    pub notes: Vec<AcpiError>,
}

impl fmt::Debug for dyn PhysicalMemory + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhysicalMemory")
    }
}

impl<'m> Tables<'m> {
    /// Reads the table of tables and all tables in it. Damaged ones are left out and noted.
    ///
    /// # Errors
    /// [`AcpiError`] if the table of tables is damaged.
    pub fn read(memory: &'m dyn PhysicalMemory, rsdp: Rsdp) -> Result<Self, AcpiError> {
        let (name, width) = if rsdp.extended {
            (*b"XSDT", 8)
        } else {
            (*b"RSDT", 4)
        };
        let root = Table::read(memory, rsdp.root, name)?;
        let mut all = Self {
            memory,
            tables: Vec::new(),
            notes: Vec::new(),
        };
        let entries = root.bytes.get(HEADER..).unwrap_or_default();
        for entry in entries.chunks_exact(width).take(MAX_TABLES) {
            let address = match width {
                8 => entry.u64(0).unwrap_or(0),
                _ => entry.u32(0).unwrap_or(0).into(),
            };
            if address == 0 {
                continue;
            }
            match Table::read(memory, address, ANY) {
                Ok(table) => all.tables.push(table),
                Err(error) => all.notes.push(error),
            }
        }
        Ok(all)
    }

    /// All tables that the root names.
    pub fn all(&self) -> &[Table<'m>] {
        &self.tables
    }

    /// The first table with this signature.
    ///
    /// # Errors
    /// [`AcpiError::Missing`].
    pub fn find(&self, signature: &[u8; 4]) -> Result<Table<'m>, AcpiError> {
        self.tables
            .iter()
            .find(|t| t.signature() == *signature)
            .copied()
            .ok_or(AcpiError::Missing(*signature))
    }

    /// The interrupt controllers and CPUs.
    ///
    /// # Errors
    /// [`AcpiError`] if the table is not there or damaged.
    pub fn madt(&self) -> Result<Madt, AcpiError> {
        Madt::parse(self.find(b"APIC")?.bytes)
    }

    /// The fixed hardware.
    ///
    /// # Errors
    /// [`AcpiError`] if the table is not there or damaged.
    pub fn fadt(&self) -> Result<Fadt, AcpiError> {
        Fadt::parse(self.find(b"FACP")?.bytes)
    }

    /// The table with most of the firmware's code, which the fixed hardware's table names.
    ///
    /// # Errors
    /// [`AcpiError`] if it is damaged.
    pub fn dsdt(&self, fadt: &Fadt) -> Result<Table<'m>, AcpiError> {
        Table::read(self.memory, fadt.dsdt, *b"DSDT")
    }

    /// What has to be written to power the machine off, from the firmware's code.
    pub fn power_off(&self, fadt: &Fadt) -> Option<SleepTypes> {
        let dsdt = self.dsdt(fadt).ok();
        let code = dsdt
            .iter()
            .chain(self.tables.iter().filter(|t| t.signature() == *b"SSDT"));
        code.filter_map(|t| t.bytes.get(HEADER..))
            .find_map(SleepTypes::find)
    }
}
