//! ACPI tables for dom0 (ACPI specification 6.5, chapter 5).
//!
//! dom0 drives the machine and so gets the firmware's tables where they are, but the CPUs in them are the host's. So the
//! root pointer, the list of tables (XSDT) and the list of CPUs and interrupt controllers (MADT) are made anew; of the
//! host's MADT the I/O APICs, the overrides and the NMI inputs are taken over byte by byte. Tables that describe what is
//! Oxen's are left out of the list.
//!
//! The structures are written by hand: there are four, of which two are mostly copies, and the crate `acpi_tables` makes
//! firmware from nothing, and does not edit one.

use super::le;
use super::memory_map::Dom0Memory;
use crate::range::PhysRange;
use alloc::vec::Vec;
use core::fmt;
use xen_core::HostPhysAddr;

/// Size of the header that all tables share.
const HEADER: usize = 36;
/// Offset of the length and of the checksum in it.
const LENGTH_AT: usize = 4;
const CHECKSUM_AT: usize = 9;
/// Offset of what names the maker, and its size: OEM's name, table's name, revision.
const OEM_AT: usize = 10;
const OEM_SIZE: usize = 18;
const CREATOR: &[u8; 8] = b"OXEN\x01\0\0\0";
const RSDP_SIZE: usize = 36;
const RSDP_REVISION: u8 = 2;
const XSDT_REVISION: u8 = 1;
/// Of ACPI 6.0: the newest whose local structures are all that is written here.
const MADT_REVISION: u8 = 4;
/// Offset of the first structure of a MADT.
const MADT_STRUCTURES: usize = 44;
const STAO_REVISION: u8 = 1;
/// Tables begin at multiples of this.
const ALIGN: usize = 16;
/// 32-bit code looks for them.
const LIMIT: u64 = 1 << 32;

/// Types of structures of a MADT.
mod madt {
    pub(super) const LOCAL_APIC: u8 = 0;
    pub(super) const IO_APIC: u8 = 1;
    pub(super) const OVERRIDE: u8 = 2;
    pub(super) const NMI_SOURCE: u8 = 3;
    pub(super) const LOCAL_NMI: u8 = 4;
    pub(super) const LOCAL_X2APIC: u8 = 9;
    pub(super) const LOCAL_X2APIC_NMI: u8 = 10;
}
const ENABLED: u32 = 1;
/// Addresses that a local APIC structure can name: 255 means all.
const APIC_IDS: u32 = 255;
/// The pin that carries NMIs on PCs.
const NMI_PIN: u8 = 1;
/// Where local APICs are.
const LOCAL_APIC_BASE: u32 = 0xfee0_0000;

/// Tables that dom0 does not get.
const HIDDEN: [[u8; 4]; 13] = [
    // Written anew.
    *b"APIC", *b"STAO", // IOMMUs, which are Oxen's.
    *b"DMAR", *b"IVRS", *b"VIOT", // A timer that Oxen may use.
    *b"HPET", // They name CPUs and memory by the host's numbers, which are not dom0's.
    *b"SRAT", *b"SLIT", *b"HMAT", *b"MSCT", *b"MPST", *b"PMTT", *b"PPTT",
];

/// Why there can be no tables. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// The host's MADT is damaged at this byte.
    Madt(usize),
    /// There are no vCPUs.
    NoVcpus,
    /// They would not be below 4 GiB, or not at a multiple of 16.
    Place(u64),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Madt(at) => write!(f, "the firmware's ACPI table APIC is damaged at {at:#x}"),
            Self::NoVcpus => f.write_str("dom0 has no vCPUs"),
            Self::Place(at) => write!(f, "dom0's ACPI tables cannot be at {at:#x}"),
        }
    }
}

impl core::error::Error for AcpiError {}

/// A table of the firmware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTable {
    /// Its four letters.
    pub signature: [u8; 4],
    /// Physical address.
    pub address: u64,
    /// Size in bytes.
    pub size: u32,
}

/// Why dom0 does not get a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It describes what is Oxen's, or is written anew.
    Hidden([u8; 4]),
    /// It is in memory that is not mapped for dom0.
    Unreachable([u8; 4], u64),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden(name) => {
                write!(f, "dom0 does not get ACPI table {}", name.escape_ascii())
            }
            Self::Unreachable(name, at) => write!(
                f,
                "ACPI table {} at {at:#x} is not in the firmware's memory: dom0 does not get it",
                name.escape_ascii()
            ),
        }
    }
}

/// What the tables are made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the host's XSDT lists.
    pub tables: &'a [HostTable],
    /// The host's MADT, with its header.
    pub madt: &'a [u8],
    /// dom0's vCPUs; the APIC of vCPU `n` has the identifier `2 * n`.
    pub vcpus: u32,
    /// Hide the UART that the table SPCR names: Oxen's console uses it.
    pub hide_uart: bool,
}

/// The tables, for one piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The bytes; the root pointer comes first, so its address is that of them all.
    pub bytes: Vec<u8>,
    /// What dom0 does not get.
    pub absent: Vec<Absent>,
}

impl Request<'_> {
    /// Bytes that the tables need at most.
    pub fn size(&self) -> u64 {
        // A structure for a vCPU has 16 bytes at most, and the rest is in the sizes of what it is made from.
        let tables = self.tables.len().saturating_add(2).saturating_mul(8);
        let vcpus = (self.vcpus as usize).saturating_mul(16);
        let fixed = RSDP_SIZE + 4 * (HEADER + ALIGN) + MADT_STRUCTURES + 64;
        let all = tables.saturating_add(vcpus).saturating_add(fixed);
        all.saturating_add(self.madt.len()) as u64
    }
}

impl Tables {
    /// Makes the tables for physical address `at`. `memory` decides which of the firmware's dom0 can reach.
    ///
    /// # Errors
    /// [`AcpiError`].
    pub fn new(request: &Request<'_>, memory: &Dom0Memory, at: u64) -> Result<Self, AcpiError> {
        let end = at.checked_add(request.size());
        if at == 0 || !at.is_multiple_of(ALIGN as u64) || end.is_none_or(|end| end > LIMIT) {
            return Err(AcpiError::Place(at));
        }
        let oem = request.madt.get(OEM_AT..OEM_AT + OEM_SIZE);
        let oem: [u8; OEM_SIZE] = oem
            .and_then(|b| b.try_into().ok())
            .ok_or(AcpiError::Madt(0))?;
        let mut absent = Vec::new();
        let mut listed: Vec<u64> = Vec::new();
        for table in request.tables {
            let place = PhysRange::new(HostPhysAddr(table.address), table.size.into());
            if HIDDEN.contains(&table.signature) {
                absent.push(Absent::Hidden(table.signature));
            } else if !place.is_some_and(|place| memory.is_firmware(&place)) {
                absent.push(Absent::Unreachable(table.signature, table.address));
            } else {
                listed.push(table.address);
            }
        }
        let mut own = Vec::new();
        own.push(interrupts(request, &oem)?);
        if request.hide_uart {
            own.push(table(b"STAO", STAO_REVISION, &oem, &[1]));
        }
        // Root pointer, list, the others: all sizes are known before the addresses are written.
        let list_at = RSDP_SIZE.next_multiple_of(ALIGN);
        let list_size = HEADER + 8 * (listed.len() + own.len());
        let mut offset = (list_at + list_size).next_multiple_of(ALIGN);
        for one in &own {
            listed.push(at + offset as u64);
            offset = (offset + one.len()).next_multiple_of(ALIGN);
        }
        let list: Vec<u8> = listed.iter().flat_map(|a| a.to_le_bytes()).collect();
        let mut bytes = root(&oem, at + list_at as u64);
        for one in [table(b"XSDT", XSDT_REVISION, &oem, &list)]
            .iter()
            .chain(&own)
        {
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            bytes.extend_from_slice(one);
        }
        Ok(Self { bytes, absent })
    }
}

/// A table with its header and checksum.
fn table(signature: &[u8; 4], revision: u8, oem: &[u8; OEM_SIZE], body: &[u8]) -> Vec<u8> {
    let size = (HEADER + body.len()) as u32;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(signature);
    debug_assert_eq!(bytes.len(), LENGTH_AT);
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&[revision, 0]);
    bytes.extend_from_slice(oem);
    bytes.extend_from_slice(CREATOR);
    bytes.extend_from_slice(body);
    set_checksum(&mut bytes, CHECKSUM_AT);
    bytes
}

/// Makes the byte at `at`, which was 0, bring the sum to 0.
fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(at) {
        *byte = sum.wrapping_neg();
    }
}

/// The root pointer (5.2.5.3). The part that version 1 has is summed up alone, and then everything.
fn root(oem: &[u8; OEM_SIZE], list: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RSDP_SIZE);
    bytes.extend_from_slice(b"RSD PTR \0");
    bytes.extend(oem.iter().take(6));
    bytes.push(RSDP_REVISION);
    // There is no list with 32-bit addresses.
    bytes.extend_from_slice(&[0; 4]);
    set_checksum(&mut bytes, 8);
    bytes.extend_from_slice(&(RSDP_SIZE as u32).to_le_bytes());
    bytes.extend_from_slice(&list.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    set_checksum(&mut bytes, 32);
    bytes
}

/// The MADT (5.2.12).
fn interrupts(request: &Request<'_>, oem: &[u8; OEM_SIZE]) -> Result<Vec<u8>, AcpiError> {
    if request.vcpus == 0 {
        return Err(AcpiError::NoVcpus);
    }
    let mut body = Vec::new();
    body.extend_from_slice(&LOCAL_APIC_BASE.to_le_bytes());
    // Flags: no 8259s besides.
    body.extend_from_slice(&[0; 4]);
    let mut any_wide = false;
    for vcpu in 0..request.vcpus {
        let Some(apic) = vcpu.checked_mul(2) else {
            break;
        };
        if apic < APIC_IDS {
            body.extend_from_slice(&[madt::LOCAL_APIC, 8, vcpu as u8, apic as u8]);
            body.extend_from_slice(&ENABLED.to_le_bytes());
        } else {
            any_wide = true;
            body.extend_from_slice(&[madt::LOCAL_X2APIC, 16, 0, 0]);
            for word in [apic, ENABLED, vcpu] {
                body.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    for structure in structures(request.madt)? {
        let kind = structure.first().copied();
        if let Some(madt::IO_APIC | madt::OVERRIDE | madt::NMI_SOURCE) = kind {
            body.extend_from_slice(structure);
        }
    }
    // All CPUs, polarity and trigger as the bus has it.
    body.extend_from_slice(&[madt::LOCAL_NMI, 6, 0xff, 0, 0, NMI_PIN]);
    if any_wide {
        body.extend_from_slice(&[madt::LOCAL_X2APIC_NMI, 12, 0, 0]);
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        body.extend_from_slice(&[NMI_PIN, 0, 0, 0]);
    }
    Ok(table(b"APIC", MADT_REVISION, oem, &body))
}

/// The structures of a MADT, of which each has at least its type's size.
fn structures(table: &[u8]) -> Result<Vec<&[u8]>, AcpiError> {
    let size = le(table, LENGTH_AT).map(u32::from_le_bytes);
    let size = size.ok_or(AcpiError::Madt(LENGTH_AT))? as usize;
    if table.get(..4) != Some(b"APIC") {
        return Err(AcpiError::Madt(0));
    }
    let table = table.get(..size).ok_or(AcpiError::Madt(LENGTH_AT))?;
    let mut found = Vec::new();
    let mut at = MADT_STRUCTURES;
    while at < table.len() {
        let bad = AcpiError::Madt(at);
        let [kind, length] = le(table, at).ok_or(bad)?;
        let least = match kind {
            madt::IO_APIC => 12,
            madt::OVERRIDE => 10,
            madt::NMI_SOURCE => 8,
            _ => 2,
        };
        let length = usize::from(length);
        if length < least {
            return Err(bad);
        }
        found.push(table.get(at..at + length).ok_or(bad)?);
        at += length;
    }
    Ok(found)
}
