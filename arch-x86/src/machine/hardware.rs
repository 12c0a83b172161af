//! What of the machine the hardware domain drives through Oxen rather than directly.

use alloc::vec::Vec;

use xen_core::GuestPhysAddr;

use crate::platform::pci::Mcfg;
use crate::platform::ports::Ports;

/// An I/O APIC of the machine. The hardware domain sees one of its own in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicPlace {
    /// Its identifier.
    pub id: u8,
    /// The GSI of its first pin.
    pub gsi_base: u32,
    /// Number of pins.
    pub pins: usize,
    /// Where its registers are, for the machine and for the domain.
    pub address: GuestPhysAddr,
}

/// The power management timer (FADT), by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimerPort {
    /// Its first port.
    pub port: u16,
    /// It counts 32 bits, not 24.
    pub wide: bool,
}

/// What of the machine the hardware domain drives through Oxen.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// The I/O APICs.
    pub io_apics: Vec<IoApicPlace>,
    /// PCI configuration space in memory (MCFG). It is kept out of the domain's p2m.
    pub mcfg: Vec<Mcfg>,
    /// The domain's ports.
    pub ports: Ports,
    /// The power management timer.
    pub pm_timer: Option<PmTimerPort>,
}
