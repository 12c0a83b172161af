//! IOAPICs of the hardware domain (Intel 82093AA, and the EOI register of later ones).
//!
//! There is one for each of the machine's, at the same place and for the same GSIs. What the domain writes into a redirection
//! entry decides how interrupts reach its vCPUs; trigger mode and polarity also go to the machine's own IOAPIC, once
//! the entry is unmasked: see [`HostAction`].
//!
//! # Level-triggered interrupts of the machine
//! The machine's interrupt comes, stays unacknowledged (or masked) at the machine's IOAPIC, and asserts the pin here: [`IoApic::host_interrupt`].
//! When the guest ends it, or takes the entry back, the pin is released and [`HostAction::End`] tells to let the machine's interrupt
//! come again, which it does if the device still asserts it. So each interrupt is delivered once, and none is lost while the
//! guest has the entry masked.

use alloc::vec::Vec;

use xen_core::{Error, Result};

use super::message::{Message, Trigger};

mod entry;
#[cfg(test)]
mod tests;

pub use entry::Entry;

/// Most pins of an IOAPIC: the version register has 8 bits for the last one, and the index register reaches this far.
pub const MAX_PINS: usize = 120;
/// The version: the one with an EOI register.
const VERSION: u32 = 0x20;

/// Offsets in the page of registers.
mod window {
    /// Index register.
    pub(super) const SELECT: u16 = 0x00;
    /// The register that the index register names.
    pub(super) const DATA: u16 = 0x10;
    /// EOI register.
    pub(super) const EOI: u16 = 0x40;
}

/// Numbers of registers behind the window.
mod index {
    pub(super) const ID: u8 = 0;
    pub(super) const VERSION: u8 = 1;
    pub(super) const ARBITRATION: u8 = 2;
    pub(super) const REDIRECTION: u8 = 0x10;
}

/// What the machine's IOAPIC has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAction {
    /// The guest wants this GSI: route it to the hypervisor with this trigger mode and polarity, and unmask it. It may have
    /// been routed before, with others.
    Route {
        /// The global system interrupt.
        gsi: u32,
        /// Trigger mode.
        trigger: Trigger,
        /// Asserted at the lower voltage.
        active_low: bool,
    },
    /// A level-triggered interrupt that came is done with: it may come again.
    End {
        /// The global system interrupt.
        gsi: u32,
    },
}

/// What is around an IOAPIC.
pub trait Surroundings {
    /// Sends a message to the local APICs. True if one has accepted it.
    fn send(&mut self, message: &Message) -> bool;
    /// Has the machine's IOAPIC do something.
    fn host(&mut self, action: HostAction);
}

/// A pin.
#[derive(Clone, Copy, Debug, Default)]
struct Pin {
    entry: Entry,
    /// A virtual device asserts it.
    line: bool,
    /// A level-triggered interrupt of the machine has come, and is not done with.
    host: bool,
    /// The trigger mode and polarity that the machine's pin was routed with.
    routed: Option<(Trigger, bool)>,
}

/// An IOAPIC.
#[derive(Debug)]
pub struct IoApic {
    id: u8,
    gsi_base: u32,
    select: u8,
    pins: Vec<Pin>,
}

impl IoApic {
    /// One after reset, with `pins` pins from GSI `gsi_base` on.
    ///
    /// # Errors
    /// [`Error::Inval`] for a number of pins that there cannot be, or GSIs beyond their range; [`Error::NoMem`].
    pub fn new(id: u8, gsi_base: u32, pins: usize) -> Result<Self> {
        let last = u32::try_from(pins)
            .ok()
            .and_then(|n| gsi_base.checked_add(n));
        if pins == 0 || pins > MAX_PINS || last.is_none() {
            return Err(Error::Inval);
        }
        let mut list = Vec::new();
        list.try_reserve_exact(pins).map_err(|_| Error::NoMem)?;
        list.resize(pins, Pin::default());
        Ok(Self {
            id: id & 0xf,
            gsi_base,
            select: 0,
            pins: list,
        })
    }

    /// The pin of a GSI.
    pub fn pin(&self, gsi: u32) -> Option<usize> {
        let pin = gsi.checked_sub(self.gsi_base)? as usize;
        (pin < self.pins.len()).then_some(pin)
    }

    /// The redirection entry of a pin.
    pub fn entry(&self, pin: usize) -> Option<Entry> {
        self.pins.get(pin).map(|pin| pin.entry)
    }

    /// Reads bytes of the page of registers; those of no register are 0, as are accesses that are not within one.
    pub fn read_memory(&self, offset: u16, to: &mut [u8]) {
        to.fill(0);
        let word = match offset & 0xff0 {
            window::SELECT => self.select.into(),
            window::DATA => self.read(self.select),
            _ => return,
        };
        let bytes = word.to_le_bytes();
        let start = usize::from(offset & 0xf);
        if let Some(from) = start
            .checked_add(to.len())
            .and_then(|end| bytes.get(start..end))
        {
            to.copy_from_slice(from);
        }
    }

    /// Writes bytes to the page of registers. The window takes 4 at a time; the others are registers of one byte.
    pub fn write_memory(&mut self, offset: u16, from: &[u8], out: &mut impl Surroundings) {
        match (offset & 0xfff, from) {
            (window::SELECT, [index, ..]) => self.select = *index,
            (window::DATA, &[a, b, c, d]) => {
                self.write(self.select, u32::from_le_bytes([a, b, c, d]), out);
            }
            (window::EOI, [vector, ..]) => self.end_of_interrupt(*vector, out),
            _ => {}
        }
    }

    fn read(&self, index: u8) -> u32 {
        match index {
            index::ID | index::ARBITRATION => u32::from(self.id) << 24,
            index::VERSION => (self.pins.len() as u32 - 1) << 16 | VERSION,
            _ => match self.redirection(index) {
                Some((pin, high)) => (self.pins[pin].entry.0 >> if high { 32 } else { 0 }) as u32,
                None => 0,
            },
        }
    }

    /// The pin whose entry a register is half of, and whether that is the upper half.
    fn redirection(&self, index: u8) -> Option<(usize, bool)> {
        let n = usize::from(index.checked_sub(index::REDIRECTION)?);
        (n / 2 < self.pins.len()).then_some((n / 2, n % 2 != 0))
    }

    fn write(&mut self, index: u8, value: u32, out: &mut impl Surroundings) {
        if index == index::ID {
            self.id = (value >> 24) as u8 & 0xf;
        } else if let Some((pin, high)) = self.redirection(index) {
            let gsi = self.gsi_base + pin as u32;
            self.pins[pin].write(gsi, value, high, out);
        }
    }

    /// The machine's interrupt has come, at a pin that was routed.
    ///
    /// # Errors
    /// [`Error::Inval`] if there is no such pin.
    pub fn host_interrupt(&mut self, pin: usize, out: &mut impl Surroundings) -> Result<()> {
        let pin = self.pins.get_mut(pin).ok_or(Error::Inval)?;
        let (trigger, _) = pin.routed.ok_or(Error::Inval)?;
        match trigger {
            Trigger::Edge => pin.edge(out),
            Trigger::Level => {
                pin.host = true;
                pin.deliver_level(out);
            }
        }
        Ok(())
    }

    /// A virtual device raises or lowers its line. The entry's polarity is of no account: a line is asserted or it is not.
    ///
    /// # Errors
    /// [`Error::Inval`] if there is no such pin.
    pub fn set_line(
        &mut self,
        pin: usize,
        asserted: bool,
        out: &mut impl Surroundings,
    ) -> Result<()> {
        let pin = self.pins.get_mut(pin).ok_or(Error::Inval)?;
        let rises = asserted && !pin.line;
        pin.line = asserted;
        match pin.entry.trigger() {
            Trigger::Edge if rises => pin.edge(out),
            Trigger::Edge => {}
            Trigger::Level => pin.deliver_level(out),
        }
        Ok(())
    }

    /// A local APIC tells of the end of a level-triggered interrupt, or software does.
    pub fn end_of_interrupt(&mut self, vector: u8, out: &mut impl Surroundings) {
        for (n, pin) in self.pins.iter_mut().enumerate() {
            let entry = pin.entry;
            if entry.vector() == vector && entry.is_outstanding() {
                pin.end(self.gsi_base + n as u32, out);
                pin.deliver_level(out);
            }
        }
    }

    /// Tries again to deliver what no local APIC accepted, after one has been enabled.
    pub fn retry(&mut self, out: &mut impl Surroundings) {
        for pin in &mut self.pins {
            pin.deliver_level(out);
        }
    }
}

impl Pin {
    fn edge(&self, out: &mut impl Surroundings) {
        // What comes while the entry is masked is lost, as in the hardware.
        if !self.entry.is_masked() {
            out.send(&Message {
                trigger: Trigger::Edge,
                ..self.entry.message()
            });
        }
    }

    fn deliver_level(&mut self, out: &mut impl Surroundings) {
        let entry = self.entry;
        let wanted = (self.line || self.host)
            && entry.trigger() == Trigger::Level
            && !entry.is_masked()
            && !entry.is_outstanding();
        if wanted && out.send(&entry.message()) {
            self.entry.set_outstanding(true);
        }
    }

    /// The outstanding interrupt is done with.
    fn end(&mut self, gsi: u32, out: &mut impl Surroundings) {
        self.entry.set_outstanding(false);
        if core::mem::take(&mut self.host) {
            out.host(HostAction::End { gsi });
        }
    }

    fn write(&mut self, gsi: u32, value: u32, high: bool, out: &mut impl Surroundings) {
        self.entry.write(value, high);
        if self.entry.trigger() == Trigger::Edge && self.entry.is_outstanding() {
            // Software clears an interrupt that hangs by making it an edge for a moment.
            self.end(gsi, out);
        }
        let shape = (self.entry.trigger(), self.entry.is_active_low());
        if !self.entry.is_masked() && self.routed != Some(shape) {
            // What came by the old route is done with: it comes again by the new one.
            if self.host {
                self.end(gsi, out);
            }
            self.routed = Some(shape);
            out.host(HostAction::Route {
                gsi,
                trigger: shape.0,
                active_low: shape.1,
            });
        }
        self.deliver_level(out);
    }
}
