//! The MSI capability (PCI Local Bus specification 3.0, 6.8.1).

use super::Action;
use crate::platform::message::Message;

/// Bits of message control, in the upper half of the capability's first word.
mod control {
    pub(super) const ENABLED: u32 = 1 << 16;
    /// Multiple message capable: a power of two.
    pub(super) const CAPABLE_SHIFT: u32 = 17;
    pub(super) const VECTORS_SHIFT: u32 = 20;
    pub(super) const VECTORS: u32 = 7 << VECTORS_SHIFT;
    pub(super) const WIDE: u32 = 1 << 23;
    pub(super) const MASKS: u32 = 1 << 24;
}

/// A function's MSI, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where the capability is.
    offset: u16,
    /// Its first word.
    header: u32,
    address: u64,
    data: u16,
    masked: u32,
}

/// A word of the capability that is not the machine's to answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Header,
    Address,
    AddressHigh,
    Data,
    Mask,
}

impl Msi {
    /// The capability at `offset` with this first word, in its state after reset.
    pub(super) const fn new(offset: u16, header: u32) -> Self {
        Self {
            offset,
            header: header & !(control::ENABLED | control::VECTORS),
            address: 0,
            data: 0,
            masked: 0,
        }
    }

    /// Bytes of a capability with this first word.
    pub(super) const fn size(header: u32) -> u16 {
        match (header & control::WIDE != 0, header & control::MASKS != 0) {
            (false, false) => 12,
            (true, false) => 16,
            (false, true) => 20,
            (true, true) => 24,
        }
    }

    /// Whether the guest has switched it on.
    pub const fn is_enabled(&self) -> bool {
        self.header & control::ENABLED != 0
    }

    /// The number of vectors that the guest chose, at most as many as there are.
    pub const fn vectors(&self) -> u8 {
        let chosen = (self.header & control::VECTORS) >> control::VECTORS_SHIFT;
        let most = self.header >> control::CAPABLE_SHIFT & 7;
        let order = if chosen < most { chosen } else { most };
        1 << if order < 5 { order } else { 5 }
    }

    /// Where a vector goes: its number is in the low bits of the data. `None` for one that there is not, and if the
    /// address is not that of local APICs.
    pub const fn message(&self, vector: u8) -> Option<Message> {
        let count = self.vectors();
        if vector >= count {
            return None;
        }
        let data = self.data & !(count as u16 - 1) | vector as u16;
        Message::from_msi(self.address, data as u32)
    }

    /// Whether a vector is masked.
    pub const fn is_masked(&self, vector: u8) -> bool {
        vector < 32 && self.masked >> vector & 1 != 0
    }

    /// Where the capability is.
    pub const fn offset(&self) -> u16 {
        self.offset
    }

    /// Whether its address has 64 bits: then the data and the masks are one word further.
    pub const fn wide(&self) -> bool {
        self.header & control::WIDE != 0
    }

    /// Where the word of the data is.
    pub const fn data_offset(&self) -> u16 {
        self.offset + if self.wide() { 12 } else { 8 }
    }

    /// Where the mask bits are, if there are any, and what the guest wrote to them.
    pub const fn masks(&self) -> Option<(u16, u32)> {
        if self.header & control::MASKS != 0 {
            Some((self.data_offset() + 4, self.masked))
        } else {
            None
        }
    }

    const fn word(&self, offset: u16) -> Option<Word> {
        let Some(n) = offset.checked_sub(self.offset) else {
            return None;
        };
        Some(match (n / 4, self.wide()) {
            (0, _) => Word::Header,
            (1, _) => Word::Address,
            (2, true) => Word::AddressHigh,
            (2, false) | (3, true) => Word::Data,
            (3, false) | (4, true) if self.header & control::MASKS != 0 => Word::Mask,
            _ => return None,
        })
    }

    /// What the guest reads in the word at `offset`; `None` if that is not of the capability or, as the pending bits, the
    /// machine's. Bits behind the data are the machine's as well, and reserved.
    pub(super) const fn read(&self, offset: u16) -> Option<u32> {
        Some(match self.word(offset) {
            Some(Word::Header) => self.header,
            Some(Word::Address) => self.address as u32,
            Some(Word::AddressHigh) => (self.address >> 32) as u32,
            Some(Word::Data) => self.data as u32,
            Some(Word::Mask) => self.masked,
            None => return None,
        })
    }

    /// The guest writes the word at `offset`, for which [`Self::read`] has a value.
    pub(super) fn write(&mut self, offset: u16, value: u32) -> Option<Action> {
        let before = *self;
        match self.word(offset)? {
            Word::Header => {
                let writable = control::ENABLED | control::VECTORS;
                self.header = self.header & !writable | value & writable;
            }
            Word::Address => self.address = self.address & !0xffff_ffff | u64::from(value & !3),
            Word::AddressHigh => {
                self.address = self.address & 0xffff_ffff | u64::from(value) << 32;
            }
            Word::Data => self.data = value as u16,
            Word::Mask => self.masked = value,
        }
        match (before.is_enabled(), self.is_enabled()) {
            (false, false) => None,
            (true, false) => Some(Action::MsiDisable),
            (false, true) => Some(self.enable()),
            (true, true) if before.vectors() != self.vectors() => Some(self.enable()),
            (true, true) if before.masked != self.masked => Some(Action::MsiMask {
                masked: self.masked,
            }),
            (true, true) if before != *self => Some(Action::MsiUpdate {
                message: self.message(0),
            }),
            (true, true) => None,
        }
    }

    const fn enable(&self) -> Action {
        Action::MsiEnable {
            vectors: self.vectors(),
            message: self.message(0),
        }
    }
}
