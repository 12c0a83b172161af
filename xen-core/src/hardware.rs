//! What the hypervisor tells the domain that owns the hardware about the machine, and what that domain tells back.

/// A function of a PCI device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciFunction {
    /// Segment.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device in bits 7-3, function in bits 2-0.
    pub devfn: u8,
}

/// How a function came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciKind {
    /// A function of its own.
    Plain,
    /// A function of a device with more than eight (ARI).
    Extended,
    /// A virtual function of this physical one.
    Virtual {
        /// Bus of the physical function, in the same segment.
        bus: u8,
        /// Device and function of the physical function.
        devfn: u8,
    },
}

/// What happened to a function of a PCI device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciEvent {
    /// The domain found it.
    Added(PciKind),
    /// It is gone.
    Removed,
    /// It was reset: what it was told before is lost.
    Reset,
}

/// A region of PCI configuration space in memory, as the domain's firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigRegion {
    /// Physical address of bus 0's part, whether or not that is there.
    pub address: u64,
    /// Segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
    /// The firmware keeps others out of it.
    pub reserved: bool,
}

/// Names of a physical CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcpuIds {
    /// Of its interrupt controller (x86: APIC).
    pub apic: u32,
    /// In the firmware's tables.
    pub acpi: u32,
}

/// What a physical CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcpuModel {
    /// Vendor.
    pub vendor: [u8; 12],
    /// Family.
    pub family: u32,
    /// Model.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

/// A screen of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextScreen {
    /// Rows of characters.
    pub rows: u16,
    /// Columns of characters.
    pub columns: u16,
    /// Height of a character in pixels.
    pub font_height: u16,
}
