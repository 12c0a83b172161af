//! Ways to a register: the two ports, and memory.

use xen_core::GuestPhysAddr;

/// A function: segment, bus, device and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbdf {
    /// The segment group.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// Device in bits 7:3, function in bits 2:0.
    pub devfn: u8,
}

/// An access to configuration space. It is within one function's space and one aligned word of 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose.
    pub function: Sbdf,
    /// The first byte, below 4096.
    pub offset: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
}

impl Access {
    /// `None` for what is not such an access.
    pub const fn new(function: Sbdf, offset: u16, size: u8) -> Option<Self> {
        let fits = matches!(size, 1 | 2 | 4) && offset % 4 + size as u16 <= 4 && offset < 4096;
        if fits {
            Some(Self {
                function,
                offset,
                size,
            })
        } else {
            None
        }
    }

    /// The bits of the access within its word of 4 bytes.
    pub(super) const fn mask(&self) -> u32 {
        let ones = u32::MAX >> (32 - 8 * self.size as u32);
        ones << (8 * (self.offset % 4) as u32)
    }

    /// Puts a value written into its word, the rest of which is as before.
    pub(super) const fn merge(&self, word: u32, value: u32) -> u32 {
        word & !self.mask() | value << (8 * (self.offset % 4) as u32) & self.mask()
    }

    /// Takes the value read out of its word.
    pub(super) const fn extract(&self, word: u32) -> u32 {
        (word & self.mask()) >> (8 * (self.offset % 4) as u32)
    }
}

/// The address register of PCI configuration, port 0xcf8 (PCI specification, "Configuration Mechanism #1").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigAddress(u32);

impl ConfigAddress {
    const ENABLED: u32 = 1 << 31;

    /// OUT of 4 bytes.
    pub const fn write(&mut self, value: u32) {
        // Bits 1:0 are 0; bits 30:28 are reserved.
        self.0 = value & 0x8fff_fffc;
    }

    /// IN of 4 bytes.
    pub const fn read(self) -> u32 {
        self.0
    }

    /// What an access to the data is for, at byte `0..4`. Bits 27:24 are bits 11:8 of the register where the CPU lets them be (`extended`), as AMD's do;
    /// otherwise they are reserved and of no account. `None` if the address register is not enabled: then the ports are ordinary ones.
    pub const fn access(self, byte: u8, size: u8, extended: bool) -> Option<Access> {
        if self.0 & Self::ENABLED == 0 {
            return None;
        }
        let high = if extended { self.0 >> 16 & 0xf00 } else { 0 };
        let function = Sbdf {
            segment: 0,
            bus: (self.0 >> 16) as u8,
            devfn: (self.0 >> 8) as u8,
        };
        if byte > 3 {
            return None;
        }
        Access::new(function, (high | self.0 & 0xfc) as u16 + byte as u16, size)
    }
}

/// A region of memory that is configuration space (ACPI table MCFG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mcfg {
    /// Where bus 0 of the segment is, or would be.
    pub base: GuestPhysAddr,
    /// The segment group.
    pub segment: u16,
    /// The first bus.
    pub first_bus: u8,
    /// The last bus.
    pub last_bus: u8,
}

impl Mcfg {
    /// What an access of `size` bytes at an address is for. `None` if the address is not in the region, and for an access
    /// that is not within a word.
    pub const fn access(&self, at: GuestPhysAddr, size: u8) -> Option<Access> {
        let Some(offset) = at.0.checked_sub(self.base.0) else {
            return None;
        };
        if offset >> 20 < self.first_bus as u64 || offset >> 20 > self.last_bus as u64 {
            return None;
        }
        let function = Sbdf {
            segment: self.segment,
            bus: (offset >> 20) as u8,
            devfn: (offset >> 12) as u8,
        };
        Access::new(function, (offset & 0xfff) as u16, size)
    }
}
