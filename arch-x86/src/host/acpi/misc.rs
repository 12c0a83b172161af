//! Small tables: HPET, MCFG, SRAT.

use alloc::vec::Vec;

use super::{AcpiError, Fields, HEADER};

/// The high-precision event timer (IA-PC HPET specification, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hpet {
    /// Physical address of its registers.
    pub address: u64,
}

/// Decodes the HPET table.
///
/// # Errors
/// [`AcpiError::Entry`] if it is too short, or the registers are not in memory.
pub fn hpet(table: &[u8]) -> Result<Hpet, AcpiError> {
    let damaged = AcpiError::Entry(*b"HPET", HEADER + 4);
    let space = table.u8(HEADER + 4).ok_or(damaged)?;
    let address = table.u64(HEADER + 8).ok_or(damaged)?;
    if space == 0 && address != 0 {
        Ok(Hpet { address })
    } else {
        Err(damaged)
    }
}

/// PCI configuration space in memory, 1 MiB a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McfgSegment {
    /// Physical address that bus 0 has, whether it is among these buses or not.
    pub base: u64,
    /// Segment group.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus, not below the first.
    pub last_bus: u8,
}

/// Decodes the MCFG table.
///
/// # Errors
/// [`AcpiError::Entry`] for an entry whose buses make no sense, or a part of one at the end.
pub fn mcfg(table: &[u8]) -> Result<Vec<McfgSegment>, AcpiError> {
    const FIRST: usize = HEADER + 8;
    const ENTRY: usize = 16;
    let entries = table.get(FIRST..).unwrap_or_default();
    let mut all = Vec::new();
    for (n, e) in entries.chunks(ENTRY).enumerate() {
        let damaged = AcpiError::Entry(*b"MCFG", FIRST + n * ENTRY);
        let segment = McfgSegment {
            base: e.u64(0).ok_or(damaged)?,
            segment: e.u16(8).ok_or(damaged)?,
            first_bus: e.u8(10).ok_or(damaged)?,
            last_bus: e.u8(11).ok_or(damaged)?,
        };
        let end = segment.base.checked_add(256 << 20);
        if segment.first_bus > segment.last_bus || segment.base == 0 || end.is_none() {
            return Err(damaged);
        }
        all.push(segment);
    }
    Ok(all)
}

/// Which node a CPU is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuAffinity {
    /// Identifier of its local APIC.
    pub apic_id: u32,
    /// The node (proximity domain).
    pub node: u32,
}

/// Which node memory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAffinity {
    /// Physical address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// The node (proximity domain).
    pub node: u32,
}

/// What is near what (ACPI 6.5, 5.2.16). Entries that are not enabled are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srat {
    /// CPUs.
    pub cpus: Vec<CpuAffinity>,
    /// Memory.
    pub memory: Vec<MemoryAffinity>,
}

/// Decodes the SRAT table. Kinds of structures that are not known are skipped.
///
/// # Errors
/// [`AcpiError::Entry`] for a structure that ends beyond the table or is too short for its kind.
pub fn srat(table: &[u8]) -> Result<Srat, AcpiError> {
    let mut srat = Srat::default();
    let mut at = HEADER + 12;
    while at < table.len() {
        let damaged = AcpiError::Entry(*b"SRAT", at);
        let length = table.u8(at + 1).filter(|n| *n >= 2).ok_or(damaged)?;
        let end = at + usize::from(length);
        let entry = table.get(at..end).ok_or(damaged)?;
        srat_entry(&mut srat, entry).ok_or(damaged)?;
        at = end;
    }
    Ok(srat)
}

fn srat_entry(srat: &mut Srat, e: &[u8]) -> Option<()> {
    match e.u8(0)? {
        0 if e.u32(4)? & 1 != 0 => srat.cpus.push(CpuAffinity {
            apic_id: e.u8(3)?.into(),
            node: u32::from_le_bytes([e.u8(2)?, e.u8(9)?, e.u8(10)?, e.u8(11)?]),
        }),
        1 if e.u32(28)? & 1 != 0 => {
            let (base, size) = (e.u64(8)?, e.u64(16)?);
            if size != 0 && base.checked_add(size).is_some() {
                srat.memory.push(MemoryAffinity {
                    base,
                    size,
                    node: e.u32(2)?,
                });
            }
        }
        2 if e.u32(12)? & 1 != 0 => srat.cpus.push(CpuAffinity {
            apic_id: e.u32(8)?,
            node: e.u32(4)?,
        }),
        _ => {}
    }
    Some(())
}
