//! Stage-1 descriptors of the EL2 translation regime, 4 KiB granule (Arm ARM DDI 0487, D8.3).

use xen_core::HostPhysAddr;

/// MAIR_EL2: index 0 Device-nGnRE, 1 Normal write-back read/write-allocate, 2 Normal non-cacheable.
pub const MAIR: u64 = 0x04 | 0xff << 8 | 0x44 << 16;

const VALID: u64 = 1 << 0;
/// In levels 0 to 2 a table, in level 3 a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// AP\[1\] is RES1 in a regime with one privilege level.
const AP1_RES1: u64 = 1 << 6;
const AP2_READ_ONLY: u64 = 1 << 7;
const SH_INNER: u64 = 3 << 8;
const SH_OUTER: u64 = 2 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

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
    /// RAM: write-back cacheable, inner shareable.
    Normal,
    /// RAM, not cached.
    NonCacheable,
    /// Device registers: Device-nGnRE.
    Device,
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
    pub const TEXT: Self = Self {
        access: Access::ReadExecute,
        memory: Memory::Normal,
    };
    /// Hypervisor constants.
    pub const RODATA: Self = Self {
        access: Access::ReadOnly,
        memory: Memory::Normal,
    };
    /// Data and RAM.
    pub const DATA: Self = Self {
        access: Access::ReadWrite,
        memory: Memory::Normal,
    };
    /// Device registers.
    pub const DEVICE: Self = Self {
        access: Access::ReadWrite,
        memory: Memory::Device,
    };

    /// Lower and upper attribute bits of a block or page descriptor, valid bit included.
    pub const fn bits(self) -> u64 {
        let access = match self.access {
            Access::ReadExecute => AP2_READ_ONLY,
            Access::ReadOnly => AP2_READ_ONLY | EXECUTE_NEVER,
            Access::ReadWrite => EXECUTE_NEVER,
        };
        let memory = match self.memory {
            Memory::Device => SH_OUTER,
            Memory::Normal => 1 << 2 | SH_INNER,
            Memory::NonCacheable => 2 << 2 | SH_OUTER,
        };
        access | memory | AP1_RES1 | ACCESS_FLAG | VALID
    }

    /// Attributes read back from a leaf descriptor; `None` for combinations Oxen never writes.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let access = match (bits & AP2_READ_ONLY != 0, bits & EXECUTE_NEVER != 0) {
            (true, false) => Access::ReadExecute,
            (true, true) => Access::ReadOnly,
            (false, true) => Access::ReadWrite,
            (false, false) => return None,
        };
        let memory = match bits >> 2 & 7 {
            0 => Memory::Device,
            1 => Memory::Normal,
            2 => Memory::NonCacheable,
            _ => return None,
        };
        Some(Self { access, memory })
    }
}

/// A decoded descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// Nothing is mapped.
    Invalid,
    /// The next table.
    Table(HostPhysAddr),
    /// A block or page: its output address and the raw descriptor, for [`Attributes::from_bits`].
    Leaf(HostPhysAddr, u64),
}

impl Descriptor {
    /// Encodes a pointer to the next table.
    pub const fn table(pa: HostPhysAddr) -> u64 {
        pa.0 & ADDRESS | TABLE_OR_PAGE | VALID
    }

    /// Encodes a leaf at `level` (1 and 2: block; 3: page).
    pub const fn leaf(level: u32, pa: HostPhysAddr, attributes: Attributes) -> u64 {
        let kind = if level == 3 { TABLE_OR_PAGE } else { 0 };
        pa.0 & ADDRESS | attributes.bits() | kind
    }

    /// Decodes a descriptor found at `level` (0 to 3). Encodings reserved at that level count as invalid.
    pub const fn decode(level: u32, raw: u64) -> Self {
        let pa = HostPhysAddr(raw & ADDRESS);
        match (raw & VALID != 0, raw & TABLE_OR_PAGE != 0, level) {
            (true, true, 0..=2) => Self::Table(pa),
            (true, true, 3) | (true, false, 1 | 2) => Self::Leaf(pa, raw),
            _ => Self::Invalid,
        }
    }
}

/// TCR_EL2 for a 48-bit space, 4 KiB granule, cacheable inner-shareable walks; `pa_range` is
/// ID_AA64MMFR0_EL1.PARange (values above 48 bits are cut to 48, which is what this granule's descriptors hold).
pub const fn tcr_el2(pa_range: u64) -> u64 {
    let ps = if pa_range > 5 { 5 } else { pa_range };
    let res1 = 1 << 31 | 1 << 23;
    let t0sz = 16;
    let walks = 1 << 8 | 1 << 10 | 3 << 12;
    res1 | ps << 16 | walks | t0sz
}

/// SCTLR_EL2: the bits that are RES1 without VHE, then I (12), SA (3), C (2), M (0).
pub const SCTLR_EL2_MMU: u64 = 0x30c5_0830 | 1 << 12 | 1 << 3 | 1 << 2 | 1;
/// SCTLR_EL2.WXN: what is writable is never executed.
pub const SCTLR_EL2_WXN: u64 = 1 << 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_the_bits_of_the_manual() {
        let pa = HostPhysAddr(0x1234_5678_9000);
        // AF, inner shareable, AttrIndx 1, AP[2:1] = 11, page.
        assert_eq!(Descriptor::leaf(3, pa, Attributes::TEXT), 0x1234_5678_97c7);
        assert_eq!(
            Descriptor::leaf(3, pa, Attributes::RODATA),
            0x0040_1234_5678_97c7
        );
        assert_eq!(
            Descriptor::leaf(2, HostPhysAddr(0x4020_0000), Attributes::DATA),
            0x0040_0000_4020_0745
        );
        assert_eq!(
            Descriptor::leaf(3, pa, Attributes::DEVICE),
            0x0040_1234_5678_9643
        );
        assert_eq!(Descriptor::table(pa), 0x1234_5678_9003);
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        for access in [Access::ReadExecute, Access::ReadOnly, Access::ReadWrite] {
            for memory in [Memory::Normal, Memory::NonCacheable, Memory::Device] {
                let a = Attributes { access, memory };
                let bits = a.bits();
                assert!(bits & AP2_READ_ONLY != 0 || bits & EXECUTE_NEVER != 0);
                assert_eq!(Attributes::from_bits(bits), Some(a));
            }
        }
        assert_eq!(Attributes::from_bits(VALID), None);
    }

    #[test]
    fn decoding_depends_on_the_level() {
        let pa = HostPhysAddr(0x8000_0000);
        for level in 1..=3 {
            let raw = Descriptor::leaf(level, pa, Attributes::DATA);
            assert_eq!(Descriptor::decode(level, raw), Descriptor::Leaf(pa, raw));
        }
        for level in 0..=2 {
            assert_eq!(
                Descriptor::decode(level, Descriptor::table(pa)),
                Descriptor::Table(pa)
            );
        }
        // No blocks at level 0, no block encoding at level 3.
        assert_eq!(
            Descriptor::decode(0, Descriptor::leaf(1, pa, Attributes::DATA)),
            Descriptor::Invalid
        );
        assert_eq!(
            Descriptor::decode(3, Descriptor::leaf(2, pa, Attributes::DATA)),
            Descriptor::Invalid
        );
        assert_eq!(Descriptor::decode(3, 0), Descriptor::Invalid);
    }

    #[test]
    fn tcr_follows_the_cpu_and_stops_at_48_bits() {
        assert_eq!(tcr_el2(4), 0x8084_3510);
        assert_eq!(tcr_el2(6), tcr_el2(5));
    }
}
