//! Entries of the host's page tables (AMD APM volume 2, 5.3; Intel SDM volume 3, "4-Level Paging").

use xen_core::HostPhysAddr;

/// What the PAT register holds: write-back, write-through, uncached (which MTRRs may weaken), uncached, then
/// write-combining and write-protected. It is the layout that Xen uses.
pub const PAT_VALUE: u64 = 0x0000_0501_0007_0406;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In levels 1 and 2 a large page; in level 3 the third bit of the memory type.
const LARGE_OR_PAT: u64 = 1 << 7;
/// The third bit of the memory type of a large page.
const PAT_LARGE: u64 = 1 << 12;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a mapping. Writable and executable at once cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Instructions: read and execute.
    ReadExecute,
    /// Constants: read.
    ReadOnly,
    /// Data: read and write.
    ReadWrite,
}

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// RAM: write-back.
    Normal,
    /// Device registers: uncached.
    Device,
    /// A frame buffer: write-combining.
    WriteCombining,
}

/// Attributes of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions.
    pub access: Access,
    /// Memory type.
    pub memory: Memory,
}

impl Attributes {
    /// Hypervisor instructions.
    pub const TEXT: Self = Self::new(Access::ReadExecute, Memory::Normal);
    /// Hypervisor constants, and the firmware's tables.
    pub const RODATA: Self = Self::new(Access::ReadOnly, Memory::Normal);
    /// Data and RAM.
    pub const DATA: Self = Self::new(Access::ReadWrite, Memory::Normal);
    /// Device registers.
    pub const DEVICE: Self = Self::new(Access::ReadWrite, Memory::Device);
    /// A frame buffer.
    pub const FRAMEBUFFER: Self = Self::new(Access::ReadWrite, Memory::WriteCombining);

    const fn new(access: Access, memory: Memory) -> Self {
        Self { access, memory }
    }
}

/// A decoded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    Invalid,
    /// The next table.
    Table(HostPhysAddr),
    /// A page and its attributes; `None` for combinations that Oxen never writes.
    Leaf(HostPhysAddr, Option<Attributes>),
}

/// Encodes a pointer to the next table. Rights are the leaves' matter.
pub const fn table(pa: HostPhysAddr) -> u64 {
    pa.0 & ADDRESS | ACCESSED | WRITABLE | PRESENT
}

/// Encodes a page of `level` (1: 1 GiB, 2: 2 MiB, 3: 4 KiB).
pub const fn leaf(level: u32, pa: HostPhysAddr, attributes: Attributes) -> u64 {
    let access = match attributes.access {
        Access::ReadExecute => 0,
        Access::ReadOnly => NO_EXECUTE,
        // No accessed and dirty bits are ever looked at: set, so that the CPU need not.
        Access::ReadWrite => NO_EXECUTE | WRITABLE | DIRTY,
    };
    let large = level < 3;
    let memory = match (attributes.memory, large) {
        (Memory::Normal, _) => 0,
        (Memory::Device, _) => CACHE_DISABLE | WRITE_THROUGH,
        (Memory::WriteCombining, true) => PAT_LARGE,
        (Memory::WriteCombining, false) => LARGE_OR_PAT,
    };
    let size = if large { LARGE_OR_PAT } else { 0 };
    pa.0 & ADDRESS | access | memory | size | ACCESSED | PRESENT
}

/// Decodes an entry of a table of `level` (0 to 3).
pub const fn decode(level: u32, entry: u64) -> Entry {
    if entry & PRESENT == 0 {
        return Entry::Invalid;
    }
    let large = entry & LARGE_OR_PAT != 0;
    if level < 3 && !(large && level > 0) {
        return Entry::Table(HostPhysAddr(entry & ADDRESS));
    }
    let (pat, address) = if level < 3 {
        (entry & PAT_LARGE != 0, entry & ADDRESS & !PAT_LARGE)
    } else {
        (large, entry & ADDRESS)
    };
    let memory = match (pat, entry & (CACHE_DISABLE | WRITE_THROUGH)) {
        (false, 0) => Some(Memory::Normal),
        (true, 0) => Some(Memory::WriteCombining),
        (false, 0x18) => Some(Memory::Device),
        _ => None,
    };
    let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
        (false, false) => Some(Access::ReadExecute),
        (false, true) => Some(Access::ReadOnly),
        (true, true) => Some(Access::ReadWrite),
        (true, false) => None,
    };
    let attributes = match (access, memory) {
        (Some(access), Some(memory)) => Some(Attributes { access, memory }),
        _ => None,
    };
    Entry::Leaf(HostPhysAddr(address), attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_read_back_as_written() {
        let all = [
            Attributes::TEXT,
            Attributes::RODATA,
            Attributes::DATA,
            Attributes::DEVICE,
            Attributes::FRAMEBUFFER,
        ];
        for attributes in all {
            for (level, pa) in [(1, 0x40_4000_0000), (2, 0x60_0000), (3, 0x7000)] {
                let pa = HostPhysAddr(pa);
                assert_eq!(
                    decode(level, leaf(level, pa, attributes)),
                    Entry::Leaf(pa, Some(attributes))
                );
            }
        }
    }

    #[test]
    fn bits_are_those_of_the_manuals() {
        let pa = HostPhysAddr(0x20_0000);
        assert_eq!(leaf(2, pa, Attributes::TEXT), 0x20_00a1);
        assert_eq!(leaf(3, pa, Attributes::DATA), 0x8000_0000_0020_0063);
        assert_eq!(leaf(3, pa, Attributes::DEVICE), 0x8000_0000_0020_007b);
        assert_eq!(table(pa), 0x20_0023);
        assert_eq!(decode(0, table(pa)), Entry::Table(pa));
        assert_eq!(decode(3, 0), Entry::Invalid);
        assert_eq!(decode(3, 3), Entry::Leaf(HostPhysAddr(0), None), "W and X");
    }

    #[test]
    fn the_memory_types_are_where_entries_look_for_them() {
        let kind = |index: u32| PAT_VALUE >> (8 * index) & 7;
        assert_eq!((kind(0), kind(3), kind(4)), (6, 0, 1), "WB, UC, WC");
    }
}
