//! A function of the machine: the registers of its configuration space that are intercepted. All others are the machine's.

use xen_core::Result;

use super::Action;
use super::address::{Access, Sbdf};
use super::msi::Msi;
use super::msix::Msix;

/// Registers of configuration space, by the offset of their word.
mod register {
    /// Command, and status in the upper half.
    pub(super) const COMMAND: u16 = 0x04;
    /// Header type in bits 23:16.
    pub(super) const HEADER: u16 = 0x0c;
    pub(super) const FIRST_BAR: u16 = 0x10;
    pub(super) const ROM_BAR: u16 = 0x30;
    pub(super) const BRIDGE_ROM_BAR: u16 = 0x38;
    pub(super) const CAPABILITIES: u16 = 0x34;
}

/// Command: memory is decoded.
const COMMAND_MEMORY: u32 = 1 << 1;
/// Status: there is a list of capabilities.
const STATUS_LIST: u32 = 1 << (16 + 4);
const CAPABILITY_MSI: u8 = 0x05;
const CAPABILITY_MSIX: u8 = 0x11;
/// More capabilities than this do not fit.
const MOST_CAPABILITIES: usize = 48;

/// What becomes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Intercept {
    /// It goes to the machine, and then there is something to be done as well.
    PassThrough(Option<Action>),
    /// A read reads this; a write is kept here, and this is to be done at the machine.
    Here {
        /// What a read reads, in the access's size.
        value: u32,
        /// What a write comes to.
        action: Option<Action>,
    },
}

/// A function.
#[derive(Debug)]
pub struct Function {
    sbdf: Sbdf,
    /// The word after the last base address register.
    bars_end: u16,
    rom_bar: u16,
    command: u32,
    /// Its MSI capability.
    pub msi: Option<Msi>,
    /// Its MSI-X capability.
    pub msix: Option<Msix>,
}

impl Function {
    /// Looks a function over. `read` reads the machine's configuration space, by words. A capability that makes no sense stays the
    /// machine's own.
    ///
    /// # Errors
    /// [`xen_core::Error::NoMem`].
    pub fn scan(sbdf: Sbdf, mut read: impl FnMut(u16) -> u32) -> Result<Self> {
        let command = read(register::COMMAND);
        let kind = read(register::HEADER) >> 16 & 0x7f;
        let (bars, rom_bar) = match kind {
            0 => (6, register::ROM_BAR),
            1 => (2, register::BRIDGE_ROM_BAR),
            _ => (0, 0),
        };
        let mut function = Self {
            sbdf,
            bars_end: register::FIRST_BAR + 4 * bars,
            rom_bar,
            command: command & 0xffff,
            msi: None,
            msix: None,
        };
        if command & STATUS_LIST == 0 || kind > 1 {
            return Ok(function);
        }
        let mut at = read(register::CAPABILITIES) as u16 & 0xfc;
        for _ in 0..MOST_CAPABILITIES {
            // The list ends at 0; below the header there are no capabilities.
            if at < 0x40 {
                break;
            }
            let header = read(at);
            match header as u8 {
                // Of either there is one; it ends within the space.
                CAPABILITY_MSI if function.msi.is_none() && at + Msi::size(header) <= 0x100 => {
                    function.msi = Some(Msi::new(at, header));
                }
                CAPABILITY_MSIX if function.msix.is_none() && at <= 0x100 - 12 => {
                    match Msix::new(at, [header, read(at + 4), read(at + 8)]) {
                        Ok(msix) => function.msix = Some(msix),
                        Err(xen_core::Error::Inval) => {}
                        Err(error) => return Err(error),
                    }
                }
                0xff => break,
                _ => {}
            }
            at = (header >> 8) as u16 & 0xfc;
        }
        Ok(function)
    }

    /// Which function it is.
    pub const fn sbdf(&self) -> Sbdf {
        self.sbdf
    }

    /// Number of its base address registers.
    pub const fn bars(&self) -> u8 {
        ((self.bars_end - register::FIRST_BAR) / 4) as u8
    }

    /// Whether it decodes memory.
    pub const fn decodes_memory(&self) -> bool {
        self.command & COMMAND_MEMORY != 0
    }

    fn here(&self, offset: u16) -> Option<u32> {
        let msi = self.msi.as_ref().and_then(|msi| msi.read(offset));
        msi.or_else(|| self.msix.as_ref().and_then(|msix| msix.read(offset)))
    }

    /// The guest reads.
    pub fn read(&self, access: &Access) -> Intercept {
        match self.here(access.offset & !3) {
            None => Intercept::PassThrough(None),
            Some(word) => Intercept::Here {
                value: access.extract(word),
                action: None,
            },
        }
    }

    /// The guest writes.
    pub fn write(&mut self, access: &Access, value: u32) -> Intercept {
        let offset = access.offset & !3;
        let Some(word) = self.here(offset) else {
            return Intercept::PassThrough(self.note(access, value));
        };
        let value = access.merge(word, value);
        let msi = self.msi.as_mut().and_then(|msi| msi.write(offset, value));
        let action = msi.or_else(|| {
            let msix = self.msix.as_mut()?;
            msix.read(offset)?;
            msix.write(value)
        });
        Intercept::Here {
            value: access.extract(self.here(offset).unwrap_or(value)),
            action,
        }
    }

    /// Takes note of a write to a register of the machine.
    fn note(&mut self, access: &Access, value: u32) -> Option<Action> {
        let offset = access.offset & !3;
        if offset == register::COMMAND {
            let before = self.decodes_memory();
            self.command = access.merge(self.command, value) & 0xffff;
            let memory = self.decodes_memory();
            return (memory != before).then_some(Action::Decoding { memory });
        }
        let bar = (register::FIRST_BAR..self.bars_end).contains(&offset)
            || self.rom_bar != 0 && offset == self.rom_bar;
        // While memory is not decoded its addresses do not matter: they are looked at when it is again.
        (bar && self.decodes_memory()).then_some(Action::Decoding { memory: true })
    }
}
