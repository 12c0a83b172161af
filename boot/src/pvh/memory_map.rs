//! dom0's view of the physical address space.
//!
//! dom0's pages are where the host has them, so its map is the host's with most of the RAM taken out: RAM that is not
//! dom0's is *unusable* rather than absent, lest dom0 place a device's registers there. What the firmware keeps for
//! itself stays as it is and is mapped for dom0, ACPI's tables among it; so are the holes, where devices are.

use super::place::{Room, inner_pages, subtract};
use crate::multiboot::{MemoryKind, Region};
use crate::range::PhysRange;
use alloc::vec::Vec;
use core::fmt;
use xen_abi::memory::E820Entry;
use xen_core::{HostPhysAddr, PAGE_SIZE};

/// Entries that Linux takes from a PVH start information: 128, of which it fills in one itself.
pub const MAX_ENTRIES: usize = 127;

/// Where interrupt messages go: never memory, and the local APIC's registers are in it (Intel SDM volume 3A, 11.4.1 and
/// 11.11.1).
const MESSAGES: (u64, u64) = (0xfee0_0000, 0x10_0000);
/// VGA memory and option ROMs.
const LEGACY: (u64, u64) = (0xa_0000, 0x6_0000);
/// End of the addresses in which 32-bit devices are.
const HOLES_END: u64 = 1 << 32;
const HOLES_START: u64 = 0x10_0000;

/// Why dom0 cannot have its memory. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is less free RAM than dom0 is to have.
    NotEnough {
        /// What dom0 is to have, in bytes.
        wanted: u64,
        /// What is free, in bytes.
        free: u64,
    },
    /// Below 4 GiB there is no room for the tables.
    NoTables(u64),
    /// The firmware's map has too many pieces for dom0.
    Fragmented(usize),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnough { wanted, free } => write!(
                f,
                "dom0 is to have {} MiB of memory, of which {} MiB are there",
                wanted >> 20,
                free >> 20
            ),
            Self::NoTables(size) => {
                write!(f, "dom0 has no {size:#x} bytes below 4 GiB for ACPI tables")
            }
            Self::Fragmented(n) => write!(
                f,
                "dom0's memory map has {n} pieces, of which it takes {MAX_ENTRIES}"
            ),
        }
    }
}

impl core::error::Error for MapError {}

/// What dom0's memory is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The firmware's map, as the boot loader gives it.
    pub host: &'a [Region],
    /// RAM that nobody uses.
    pub free: &'a [PhysRange],
    /// Bytes of RAM for dom0; a part of a page does not count.
    pub size: u64,
    /// Bytes of these for ACPI tables, below 4 GiB; 0: none.
    pub tables: u64,
    /// Registers that dom0 is not to reach directly: I/O APICs, IOMMUs, the console's UART, intercepted PCI configuration
    /// space.
    pub hidden: &'a [PhysRange],
}

/// dom0's memory. All lists are in ascending order and without overlaps; ranges are whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dom0Memory {
    /// What dom0 is told; at most [`MAX_ENTRIES`].
    pub map: Vec<Region>,
    /// The host's map: without overlaps, and what is not RAM has won.
    pub machine: Vec<Region>,
    /// dom0's RAM, without the tables.
    pub ram: Vec<PhysRange>,
    /// RAM of dom0's for ACPI tables.
    pub tables: Option<PhysRange>,
    /// Memory of the firmware's, to be mapped 1:1 at once.
    pub identity: Vec<PhysRange>,
    /// Where nothing is known to be below 4 GiB: devices' registers, to be mapped 1:1 and not cached.
    pub holes: Vec<PhysRange>,
    host_ram: Vec<PhysRange>,
    hidden: Vec<PhysRange>,
}

impl Dom0Memory {
    /// Decides what dom0 gets: the lowest free RAM, since that is what all devices reach, and what surrounds it.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn new(request: &Request<'_>) -> Result<Self, MapError> {
        let machine = normalise(request.host);
        let host_ram: Vec<PhysRange> = machine
            .iter()
            .filter(|region| region.kind == MemoryKind::Ram)
            .filter_map(|region| inner_pages(&range_of(region)?))
            .collect();
        // Address 0 means "none" in start information, and what real-mode firmware left there is for dom0 to read.
        let page0 = range(0, PAGE_SIZE);
        let usable = subtract(&host_ram, page0.as_slice());
        let mut ram = give(&intersect(&usable, request.free), request.size)?;
        let tables = match request.tables {
            0 => None,
            size => {
                let mut room = Room::new(&ram);
                let taken = room.take_high(size, u32::MAX.into());
                let taken = taken.ok_or(MapError::NoTables(size))?;
                ram = room.free().to_vec();
                Some(taken)
            }
        };
        let map = loop {
            let map = describe(&machine, &ram, tables);
            if map.len() <= MAX_ENTRIES {
                break map;
            }
            // The smallest piece of RAM is worth least.
            let smallest = (0..ram.len()).min_by_key(|n| ram.get(*n).map(PhysRange::size));
            match smallest {
                Some(n) if ram.len() > 1 => drop(ram.remove(n)),
                _ => return Err(MapError::Fragmented(map.len())),
            }
        };
        let mut hidden: Vec<PhysRange> = request
            .hidden
            .iter()
            .filter_map(PhysRange::to_pages)
            .collect();
        hidden.extend(range(MESSAGES.0, MESSAGES.1));
        let mut identity: Vec<PhysRange> = map
            .iter()
            .filter(|r| !matches!(r.kind, MemoryKind::Ram | MemoryKind::Unusable))
            .filter_map(|r| range_of(r)?.to_pages())
            .collect();
        identity.extend(range(LEGACY.0, LEGACY.1));
        let mut not_identity = hidden.clone();
        not_identity.extend(&usable);
        let identity = subtract(&merge(identity), &not_identity);
        let mut known: Vec<PhysRange> = machine
            .iter()
            .filter_map(|r| range_of(r)?.to_pages())
            .collect();
        known.extend(&hidden);
        let holes = range(HOLES_START, HOLES_END - HOLES_START);
        let holes = subtract(holes.as_slice(), &known);
        Ok(Self {
            map,
            machine,
            ram,
            tables,
            identity,
            holes,
            host_ram,
            hidden,
        })
    }

    /// Bytes of dom0's RAM, with the tables.
    pub fn size(&self) -> u64 {
        let tables = self.tables.iter();
        self.ram.iter().chain(tables).map(PhysRange::size).sum()
    }

    /// Whether dom0 may have the pages of `range` mapped 1:1 as a device's registers, such as a PCI device's: nothing of
    /// it is RAM or hidden.
    pub fn may_map(&self, range: &PhysRange) -> bool {
        range.to_pages().is_some_and(|pages| {
            let mut forbidden = self.host_ram.iter().chain(&self.hidden);
            !forbidden.any(|other| other.overlaps(&pages))
        })
    }

    /// Whether all of `range` is memory of the firmware's, as ACPI tables have to be for dom0 to see them.
    pub fn is_firmware(&self, range: &PhysRange) -> bool {
        range.to_pages().is_some_and(|pages| {
            let rest = subtract(&[pages], &self.identity);
            rest.is_empty()
        })
    }
}

/// A map in the form of `XENMEM_memory_map` and `XENMEM_machine_memory_map`.
pub fn to_e820(map: &[Region]) -> Vec<E820Entry> {
    map.iter()
        .map(|region| E820Entry {
            addr: region.base.into(),
            size: region.size.into(),
            kind: region.kind.to_e820().into(),
        })
        .collect()
}

/// Makes a map ascending and free of overlaps: where two entries are, what is less usable wins. Neighbours of one kind
/// become one.
pub fn normalise(host: &[Region]) -> Vec<Region> {
    let mut bounds: Vec<u64> = host.iter().flat_map(|r| [r.base, r.end()]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let pieces = bounds.windows(2).filter_map(|pair| {
        let &[base, end] = pair else { return None };
        let here = host.iter().filter(|r| r.base <= base && r.end() >= end);
        let kind = here.map(|r| r.kind).max_by_key(|kind| rank(*kind))?;
        Some(Region {
            base,
            size: end - base,
            kind,
        })
    });
    coalesce(pieces.collect())
}

/// The less usable, the higher.
fn rank(kind: MemoryKind) -> u32 {
    match kind {
        MemoryKind::Ram => 0,
        MemoryKind::AcpiReclaimable => 1,
        MemoryKind::AcpiNvs => 2,
        MemoryKind::Persistent => 3,
        MemoryKind::Other(_) => 4,
        MemoryKind::Reserved => 5,
        MemoryKind::Unusable => 6,
    }
}

fn range(base: u64, size: u64) -> Option<PhysRange> {
    PhysRange::new(HostPhysAddr(base), size)
}

fn range_of(region: &Region) -> Option<PhysRange> {
    range(region.base, region.size)
}

fn coalesce(mut map: Vec<Region>) -> Vec<Region> {
    map.sort_by_key(|region| region.base);
    map.dedup_by(|next, last| {
        let one = last.kind == next.kind && last.end() == next.base;
        if one {
            last.size += next.size;
        }
        one
    });
    map
}

fn merge(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PhysRange> = Vec::with_capacity(ranges.len());
    for next in ranges {
        match merged.last_mut() {
            Some(last) if next.start() <= last.end() => {
                let end = last.end().max(next.end());
                *last = PhysRange::from_bounds(last.start(), end).unwrap_or(*last);
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// The whole pages that are in both.
fn intersect(a: &[PhysRange], b: &[PhysRange]) -> Vec<PhysRange> {
    let b = merge(b.to_vec());
    let both = a.iter().flat_map(|a| {
        b.iter().filter_map(move |b| {
            let both = PhysRange::from_bounds(a.start().max(b.start()), a.end().min(b.end()));
            inner_pages(&both?)
        })
    });
    merge(both.collect())
}

/// The lowest `size` bytes of `free`.
fn give(free: &[PhysRange], size: u64) -> Result<Vec<PhysRange>, MapError> {
    let size = size & !(PAGE_SIZE - 1);
    let mut left = size;
    let mut given = Vec::new();
    for bank in free {
        given.extend(range(bank.start().0, bank.size().min(left)));
        left = left.saturating_sub(bank.size());
    }
    if left != 0 || size == 0 {
        return Err(MapError::NotEnough {
            wanted: size,
            free: size - left,
        });
    }
    Ok(given)
}

/// dom0's map.
fn describe(machine: &[Region], ram: &[PhysRange], tables: Option<PhysRange>) -> Vec<Region> {
    let mut map = Vec::new();
    let mut add = |part: &PhysRange, kind| {
        map.push(Region {
            base: part.start().0,
            size: part.size(),
            kind,
        });
    };
    let mut given = ram.to_vec();
    given.extend(tables);
    let page0 = range(0, PAGE_SIZE);
    for region in machine {
        let Some(whole) = range_of(region) else {
            continue;
        };
        if region.kind != MemoryKind::Ram {
            let kind = match region.kind {
                MemoryKind::Other(_) => MemoryKind::Reserved,
                kind => kind,
            };
            add(&whole, kind);
            continue;
        }
        let inner = inner_pages(&whole);
        // Parts of pages that belong to the firmware.
        for part in subtract(&[whole], inner.as_slice()) {
            add(&part, MemoryKind::Reserved);
        }
        for part in subtract(inner.as_slice(), &given) {
            for part in subtract(&[part], page0.as_slice()) {
                add(&part, MemoryKind::Unusable);
            }
            for part in intersect(&[part], page0.as_slice()) {
                add(&part, MemoryKind::Reserved);
            }
        }
    }
    for part in ram {
        add(part, MemoryKind::Ram);
    }
    if let Some(part) = &tables {
        add(part, MemoryKind::AcpiReclaimable);
    }
    coalesce(map)
}
