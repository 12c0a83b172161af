//! The I/O APICs: which physical interrupt (GSI) goes to which CPU with which vector (Intel 82093AA data sheet).
#![expect(unsafe_code, reason = "maps the registers")]

use alloc::vec::Vec;

use spin::{Mutex, Once};
use xen_core::{CpuId, Error, HostPhysAddr, Result};

use super::acpi::{self, Polarity, Trigger};
use super::interrupts::{self, Vector};
use super::mmio::Mmio;
use super::{mmu, percpu};

const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
/// Registers behind the window.
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const ACTIVE_LOW: u64 = 1 << 13;
const VECTOR: u64 = 0xff;
/// Delivery mode.
const MODE: u64 = 7 << 8;
/// Delivery mode NMI.
const NMI: u64 = 4 << 8;
/// Destinations have 8 bits: without interrupt remapping no CPU beyond gets interrupts of devices.
const MAX_DESTINATION: u32 = 0xfe;

/// How a physical interrupt is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// With this vector, from [`interrupts::allocate`].
    pub vector: Vector,
    /// To this CPU, which is online.
    pub cpu: CpuId,
    /// How the line is.
    pub polarity: Polarity,
    /// How the line is.
    pub trigger: Trigger,
}

#[derive(Debug)]
struct Chip {
    registers: Mutex<Mmio>,
    address: u32,
    first_gsi: u32,
    inputs: u32,
}

static CHIPS: Once<Vec<Chip>> = Once::new();

impl Chip {
    fn read(registers: &Mmio, register: u32) -> u32 {
        registers.write32(SELECT, register);
        registers.read32(WINDOW)
    }

    fn write(registers: &Mmio, register: u32, value: u32) {
        registers.write32(SELECT, register);
        registers.write32(WINDOW, value);
    }

    fn entry(registers: &Mmio, input: u32) -> u64 {
        let register = REDIRECTION + 2 * input;
        let low = Self::read(registers, register);
        u64::from(Self::read(registers, register + 1)) << 32 | u64::from(low)
    }

    /// Writes an entry so that it is never half old and half new while not masked.
    fn set_entry(registers: &Mmio, input: u32, entry: u64) {
        let register = REDIRECTION + 2 * input;
        Self::write(registers, register, MASKED as u32);
        Self::write(registers, register + 1, (entry >> 32) as u32);
        Self::write(registers, register, entry as u32);
    }
}

/// Finds the I/O APICs of the firmware's table and masks all their inputs. One that does not react is left out with a
/// note. To be called once.
///
/// # Errors
/// [`Error::NoDev`] if there is none that can be used.
pub fn init(madt: &acpi::Madt) -> Result<()> {
    let mut chips = Vec::new();
    for found in &madt.io_apics {
        // SAFETY: the firmware says that the registers are there; nobody else drives them.
        let registers = unsafe { mmu::map_device(HostPhysAddr(found.address.into()), 0x20) }?;
        let version = Chip::read(&registers, VERSION);
        if version == 0 || version == u32::MAX {
            log::warn!(
                "The I/O APIC at {:#x} does not react and is left out",
                found.address
            );
            continue;
        }
        let inputs = (version >> 16 & 0xff) + 1;
        for input in 0..inputs {
            // Also lets go of a level-triggered one whose end the firmware never signalled.
            Chip::set_entry(&registers, input, MASKED);
        }
        chips.push(Chip {
            registers: Mutex::new(registers),
            address: found.address,
            first_gsi: found.first_gsi,
            inputs,
        });
    }
    if chips.is_empty() {
        return Err(Error::NoDev);
    }
    let chips = CHIPS.call_once(|| chips);
    for chip in chips {
        log::info!(
            "I/O APIC at {:#x}: interrupts {} to {}",
            chip.address,
            chip.first_gsi,
            chip.first_gsi + chip.inputs - 1
        );
    }
    for (gsi, polarity) in &madt.nmi_sources {
        let low = if *polarity == Polarity::Low {
            ACTIVE_LOW
        } else {
            0
        };
        let to = u64::from(percpu::this().apic_id()) << 56;
        if with(*gsi, |r, input| Chip::set_entry(r, input, to | NMI | low)).is_err() {
            log::warn!("The firmware's NMI source {gsi} is not an input of an I/O APIC");
        }
    }
    Ok(())
}

fn with<T>(gsi: u32, f: impl FnOnce(&Mmio, u32) -> T) -> Result<T> {
    let chips = CHIPS.get().ok_or(Error::NoDev)?;
    let chip = chips
        .iter()
        .find(|c| gsi.checked_sub(c.first_gsi).is_some_and(|n| n < c.inputs))
        .ok_or(Error::Inval)?;
    Ok(f(&chip.registers.lock(), gsi - chip.first_gsi))
}

/// One past the highest physical interrupt that an I/O APIC has.
pub fn end_gsi() -> u32 {
    let ends = CHIPS.get().into_iter().flatten();
    ends.map(|c| c.first_gsi + c.inputs).max().unwrap_or(0)
}

/// Whether a physical interrupt is an input of an I/O APIC.
pub fn exists(gsi: u32) -> bool {
    with(gsi, |_, _| ()).is_ok()
}

/// Delivers a physical interrupt as `route` says. It is masked afterwards: [`unmask`] lets it come.
///
/// # Errors
/// [`Error::Inval`] for an interrupt that no I/O APIC has, or a CPU that is not online or cannot be addressed;
/// [`Error::NoDev`] before [`init`].
pub fn set_route(gsi: u32, route: &Route) -> Result<()> {
    let id = percpu::apic_id(route.cpu)
        .filter(|id| *id <= MAX_DESTINATION)
        .ok_or(Error::Inval)?;
    let level = route.trigger == Trigger::Level;
    let mut entry = u64::from(id) << 56 | MASKED | u64::from(route.vector.0);
    if level {
        entry |= LEVEL;
    }
    if route.polarity == Polarity::Low {
        entry |= ACTIVE_LOW;
    }
    with(gsi, |r, input| Chip::set_entry(r, input, entry))?;
    interrupts::set_level(route.vector, level.then_some(gsi));
    Ok(())
}

/// Keeps a physical interrupt away. One that the I/O APIC does not have is ignored.
pub fn mask(gsi: u32) {
    set_mask(gsi, true);
}

/// Lets a physical interrupt come. A level-triggered one that is active comes at once; it was masked when it came the
/// last time.
pub fn unmask(gsi: u32) {
    set_mask(gsi, false);
}

fn set_mask(gsi: u32, masked: bool) {
    let _ = with(gsi, |r, input| {
        let register = REDIRECTION + 2 * input;
        let old = Chip::read(r, register);
        let new = if masked {
            old | MASKED as u32
        } else {
            old & !(MASKED as u32)
        };
        Chip::write(r, register, new);
    });
}

/// Whether a physical interrupt has a route, masked or not, or is the firmware's source of NMIs.
pub fn is_routed(gsi: u32) -> bool {
    raw_entry(gsi).is_ok_and(|entry| entry & (VECTOR | MODE) != 0)
}

/// What a physical interrupt's entry is now, for the debug key.
///
/// # Errors
/// [`Error::Inval`] for one that no I/O APIC has; [`Error::NoDev`] before [`init`].
pub fn raw_entry(gsi: u32) -> Result<u64> {
    with(gsi, Chip::entry)
}

/// Physical address of the page of registers of each I/O APIC: no domain gets them.
pub fn register_pages() -> impl Iterator<Item = HostPhysAddr> {
    let chips = CHIPS.get().into_iter().flatten();
    chips.map(|c| HostPhysAddr(u64::from(c.address) & !0xfff))
}
