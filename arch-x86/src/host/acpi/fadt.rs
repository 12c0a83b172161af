//! Fixed ACPI Description Table (ACPI 6.5, 5.2.9).

use super::{AcpiError, Fields};

/// What kind of address a register has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Memory.
    Memory,
    /// I/O ports.
    Port,
    /// PCI configuration space of a device on bus 0.
    Pci,
    /// Another one, by its number.
    Other(u8),
}

/// A register (Generic Address Structure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenericAddress {
    /// Where it is.
    pub space: Space,
    /// Its width in bits.
    pub width: u8,
    /// Its address.
    pub address: u64,
}

impl GenericAddress {
    /// The register of 12 bytes at `at`; `None` if there is none, or its address is 0.
    fn read(table: &[u8], at: usize) -> Option<Self> {
        let address = table.u64(at + 4).filter(|a| *a != 0)?;
        let space = match table.u8(at)? {
            0 => Space::Memory,
            1 => Space::Port,
            2 => Space::Pci,
            n => Space::Other(n),
        };
        Some(Self {
            space,
            width: table.u8(at + 1)?,
            address,
        })
    }

    fn port(address: u32, bytes: u8) -> Option<Self> {
        (address != 0 && bytes != 0).then_some(Self {
            space: Space::Port,
            width: bytes.saturating_mul(8),
            address: address.into(),
        })
    }
}

/// The fixed hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// Physical address of the DSDT.
    pub dsdt: u64,
    /// Physical address of the FACS; 0 if there is none.
    pub facs: u64,
    /// Interrupt of ACPI events.
    pub sci: u16,
    /// Port that takes commands for system management mode; 0 if there is none.
    pub smi_command: u16,
    /// What to write there to turn ACPI on; 0 if that is not needed.
    pub acpi_enable: u8,
    /// Power-management event block 1a: status, then enable.
    pub pm1a_event: Option<GenericAddress>,
    /// Control register 1a.
    pub pm1a_control: Option<GenericAddress>,
    /// Control register 1b.
    pub pm1b_control: Option<GenericAddress>,
    /// The timer.
    pub pm_timer: Option<GenericAddress>,
    /// The timer has 32 bits, not 24.
    pub pm_timer_32: bool,
    /// The register that resets the machine, and what to write there.
    pub reset: Option<(GenericAddress, u8)>,
    /// There is no VGA to be looked for.
    pub no_vga: bool,
    /// There is no real-time clock at the usual ports.
    pub no_rtc: bool,
    /// Index of the real-time clock's register for the century; 0: there is none.
    pub century: u8,
    /// There are no PM1 blocks, but sleep registers.
    pub hardware_reduced: bool,
    /// The sleep control register of reduced hardware.
    pub sleep_control: Option<GenericAddress>,
}

/// Flag: the timer has 32 bits.
const TIMER_32: u32 = 1 << 8;
/// Flag: the reset register works.
const RESET_SUPPORTED: u32 = 1 << 10;
const HARDWARE_REDUCED: u32 = 1 << 20;
/// Boot architecture flag: no real-time clock.
const NO_RTC: u16 = 1 << 5;
/// Boot architecture flag: no VGA.
const NO_VGA: u16 = 1 << 2;
/// Bytes that version 1 of the table has; nothing of it may be missing.
const LEAST: usize = 116;

impl Fadt {
    /// Decodes the table. Fields of later versions than the table has are left out.
    ///
    /// # Errors
    /// [`AcpiError::Length`] if it is shorter than its first version.
    pub fn parse(table: &[u8]) -> Result<Self, AcpiError> {
        let short = AcpiError::Length(*b"FACP", table.len() as u32);
        if table.len() < LEAST {
            return Err(short);
        }
        let u32_at = |at| table.u32(at).unwrap_or(0);
        let u8_at = |at| table.u8(at).unwrap_or(0);
        // Later versions have wider fields; some firmware leaves them zero.
        let wide = |at, narrow| table.u64(at).filter(|a| *a != 0).unwrap_or(narrow);
        let block = |wide, at, length_at| {
            GenericAddress::read(table, wide)
                .or_else(|| GenericAddress::port(u32_at(at), u8_at(length_at)))
        };
        let flags = u32_at(112);
        let reset = GenericAddress::read(table, 116).zip(table.u8(128));
        Ok(Self {
            dsdt: wide(140, u32_at(40).into()),
            facs: wide(132, u32_at(36).into()),
            sci: table.u16(46).ok_or(short)?,
            smi_command: u32_at(48) as u16,
            acpi_enable: u8_at(52),
            pm1a_event: block(148, 56, 88),
            pm1a_control: block(172, 64, 89),
            pm1b_control: block(184, 68, 89),
            pm_timer: block(208, 76, 91),
            pm_timer_32: flags & TIMER_32 != 0,
            reset: reset.filter(|_| flags & RESET_SUPPORTED != 0),
            no_rtc: table.u16(109).unwrap_or(0) & NO_RTC != 0,
            century: u8_at(108),
            no_vga: table.u16(109).unwrap_or(0) & NO_VGA != 0,
            hardware_reduced: flags & HARDWARE_REDUCED != 0,
            sleep_control: GenericAddress::read(table, 244),
        })
    }
}
