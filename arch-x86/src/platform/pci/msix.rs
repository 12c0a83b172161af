//! The MSI-X capability and its table (PCI Local Bus specification 3.0, 6.8.2).

use alloc::vec::Vec;
use core::ops::Range;

use xen_core::{Error, Result};

use super::Action;
use crate::platform::message::Message;

/// Message control, in the upper half of the capability's first word: all entries are masked.
const FUNCTION_MASK: u32 = 1 << 30;
/// Message control: on.
const ENABLED: u32 = 1 << 31;
/// Vector control of an entry: masked.
const ENTRY_MASKED: u32 = 1;
/// Bytes of an entry.
pub const ENTRY_SIZE: u32 = 16;

/// Where something is in a function's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which base address register, 0 to 5.
    pub bar: u8,
    /// From there.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

impl Place {
    const fn new(register: u32, size: u32) -> Option<Self> {
        let bar = (register & 7) as u8;
        if bar > 5 {
            return None;
        }
        Some(Self {
            bar,
            offset: register & !7,
            size,
        })
    }

    /// The addresses, with the base address register's value. `None` if they do not fit into the address space.
    pub fn at(&self, bar: u64) -> Option<Range<u64>> {
        let start = bar.checked_add(self.offset.into())?;
        Some(start..start.checked_add(self.size.into())?)
    }
}

/// An entry of the table, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
}

/// A function's MSI-X, as the guest sees it.
#[derive(Clone, Debug)]
pub struct Msix {
    offset: u16,
    header: u32,
    table: Place,
    pending: Place,
    entries: Vec<Entry>,
}

impl Msix {
    /// The capability at `offset` with its three words, in its state after reset.
    ///
    /// # Errors
    /// [`Error::Inval`] if it says that its table or its pending bits are nowhere, [`Error::NoMem`].
    pub(super) fn new(offset: u16, words: [u32; 3]) -> Result<Self> {
        let [header, table, pending] = words;
        let count = (header >> 16 & 0x7ff) + 1;
        let table = Place::new(table, count * ENTRY_SIZE).ok_or(Error::Inval)?;
        let pending = Place::new(pending, count.div_ceil(64) * 8).ok_or(Error::Inval)?;
        let mut entries = Vec::new();
        entries
            .try_reserve_exact(count as usize)
            .map_err(|_| Error::NoMem)?;
        entries.resize(
            count as usize,
            Entry {
                address: 0,
                data: 0,
                control: ENTRY_MASKED,
            },
        );
        Ok(Self {
            offset,
            header: header & !(ENABLED | FUNCTION_MASK),
            table,
            pending,
            entries,
        })
    }

    /// Where the capability is.
    pub const fn offset(&self) -> u16 {
        self.offset
    }

    /// Whether the guest masks all entries at once.
    pub const fn is_masked(&self) -> bool {
        self.header & FUNCTION_MASK != 0
    }

    /// Where the table is. The guest may not reach it.
    pub const fn table(&self) -> Place {
        self.table
    }

    /// Where the pending bits are. They may share a page with the table.
    pub const fn pending(&self) -> Place {
        self.pending
    }

    /// Whether the guest has switched it on.
    pub const fn is_enabled(&self) -> bool {
        self.header & ENABLED != 0
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none. There always are some.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where an entry goes; `None` if it, all of them or the capability is switched off, if there is no such entry, and if
    /// the address is not that of local APICs.
    pub fn message(&self, index: usize) -> Option<Message> {
        let entry = self.entries.get(index)?;
        let off =
            self.header & (ENABLED | FUNCTION_MASK) != ENABLED || entry.control & ENTRY_MASKED != 0;
        if off {
            return None;
        }
        Message::from_msi(entry.address, entry.data)
    }

    /// What the guest reads in the word at `offset` of configuration space; `None` if it is the machine's.
    pub(super) const fn read(&self, offset: u16) -> Option<u32> {
        if offset == self.offset {
            Some(self.header)
        } else {
            None
        }
    }

    /// The guest writes the first word. The entries' actions are for the caller to make, by [`Self::message`].
    pub(super) const fn write(&mut self, value: u32) -> Option<Action> {
        let writable = ENABLED | FUNCTION_MASK;
        let before = self.header;
        self.header = self.header & !writable | value & writable;
        if before == self.header {
            return None;
        }
        Some(Action::MsixControl {
            enabled: self.is_enabled(),
            masked: self.header & FUNCTION_MASK != 0,
        })
    }

    /// Reads 4 or 8 bytes of the table, aligned to their size; anything else reads as ones.
    pub fn read_table(&self, offset: u32, to: &mut [u8]) {
        to.fill(0xff);
        if !matches!(to.len(), 4 | 8) || !(offset as usize).is_multiple_of(to.len()) {
            return;
        }
        for (n, chunk) in to.chunks_exact_mut(4).enumerate() {
            let offset = offset + 4 * n as u32;
            if let Some(entry) = self.entries.get((offset / ENTRY_SIZE) as usize) {
                let word = match offset % ENTRY_SIZE / 4 {
                    0 => entry.address as u32,
                    1 => (entry.address >> 32) as u32,
                    2 => entry.data,
                    _ => entry.control,
                };
                chunk.copy_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Writes 4 or 8 bytes of the table, aligned to their size; anything else is lost. An entry's action, if the
    /// machine has to do something about it.
    pub fn write_table(&mut self, offset: u32, from: &[u8]) -> Option<Action> {
        if !matches!(from.len(), 4 | 8) || !(offset as usize).is_multiple_of(from.len()) {
            return None;
        }
        let index = (offset / ENTRY_SIZE) as usize;
        let before = self.message(index);
        let entry = self.entries.get_mut(index)?;
        let (words, _) = from.as_chunks::<4>();
        for (n, word) in words.iter().enumerate() {
            let word = u32::from_le_bytes(*word);
            match offset % ENTRY_SIZE / 4 + n as u32 {
                0 => entry.address = entry.address & !0xffff_ffff | u64::from(word & !3),
                1 => entry.address = entry.address & 0xffff_ffff | u64::from(word) << 32,
                2 => entry.data = word,
                _ => entry.control = word & ENTRY_MASKED,
            }
        }
        let message = self.message(index);
        (message != before).then_some(Action::MsixEntry {
            index: index as u16,
            message,
        })
    }
}
