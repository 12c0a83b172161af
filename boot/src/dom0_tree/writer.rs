//! A writer of flattened trees that takes the names real machines have.
//!
//! The `vm-fdt` crate holds names to the specification's 31 characters and its alphabet. One board in three that Linux
//! supports breaks one of these rules (`snps,quirk-frame-length-adjustment`, nodes that begin with a digit), and a tree
//! that is copied for dom0 must keep such names. What is written here comes from a checked tree or from ourselves.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

const MAGIC: u32 = 0xd00d_feed;
const HEADER_SIZE: usize = 40;
/// One entry of zeroes ends the empty list of reservations.
const RESERVATIONS_SIZE: usize = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// Writes a tree in document order.
#[derive(Debug, Default)]
pub(super) struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    names: BTreeMap<String, u32>,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        let len = self.structure.len().next_multiple_of(4);
        self.structure.resize(len, 0);
    }

    /// Begins a node; `name` has no NUL.
    pub(super) fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.padded(&[0]);
    }

    /// Ends the node begun last.
    pub(super) fn end(&mut self) {
        self.word(END_NODE);
    }

    /// Writes a property of the node begun last, before its first child.
    pub(super) fn prop(&mut self, name: &str, value: &[u8]) {
        let offset = match self.names.get(name) {
            Some(offset) => *offset,
            None => {
                let offset = self.strings.len() as u32;
                self.strings.extend_from_slice(name.as_bytes());
                self.strings.push(0);
                self.names.insert(name.to_owned(), offset);
                offset
            }
        };
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(offset);
        self.padded(value);
    }

    /// Writes a one-word property.
    pub(super) fn prop_u32(&mut self, name: &str, value: u32) {
        self.prop(name, &value.to_be_bytes());
    }

    /// Writes a list of texts.
    pub(super) fn prop_strings(&mut self, name: &str, texts: &[&str]) {
        let mut value = Vec::new();
        for text in texts {
            value.extend_from_slice(text.as_bytes());
            value.push(0);
        }
        self.prop(name, &value);
    }

    /// The finished blob; `None` if it is too large for the format.
    pub(super) fn finish(mut self, boot_cpu: u32) -> Option<Vec<u8>> {
        self.word(END);
        let structure = HEADER_SIZE + RESERVATIONS_SIZE;
        let strings = structure.checked_add(self.structure.len())?;
        let total = strings.checked_add(self.strings.len())?;
        let total_word = u32::try_from(total).ok()?;
        let mut blob = Vec::with_capacity(total);
        // All parts are smaller than the total, which fits.
        for word in [
            MAGIC,
            total_word,
            structure as u32,
            strings as u32,
            HEADER_SIZE as u32,
            17,
            16,
            boot_cpu,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ] {
            blob.extend_from_slice(&word.to_be_bytes());
        }
        blob.resize(structure, 0);
        blob.append(&mut self.structure);
        blob.append(&mut self.strings);
        Some(blob)
    }
}

/// A property's value that is put together of cells.
#[derive(Debug, Default)]
pub(super) struct Cells(pub(super) Vec<u8>);

impl Cells {
    /// Appends one word.
    pub(super) fn word(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_be_bytes());
    }

    /// Appends `value` in `cells` words; `None` if it does not fit.
    pub(super) fn number(&mut self, value: u64, cells: u32) -> Option<()> {
        match cells {
            0 if value == 0 => {}
            1 => self.word(u32::try_from(value).ok()?),
            2.. => {
                for _ in 2..cells {
                    self.word(0);
                }
                self.word((value >> 32) as u32);
                self.word(value as u32);
            }
            _ => return None,
        }
        Some(())
    }
}
