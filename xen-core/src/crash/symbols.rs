//! The symbol table that the build tool writes into the finished image, for backtraces with names.
//!
//! Layout, little-endian: magic `u32`, number of entries `u32`, then per entry the symbol's offset from the start of
//! the image `u32` (ascending) and its name's offset in the string area `u32`; the string area follows the entries,
//! names end in NUL. A table of zeros is an image that nobody filled in.

/// First word of a table that is filled in.
pub const MAGIC: u32 = 0x4d59_534f;
/// Size in bytes of the section reserved for the table.
pub const SECTION_SIZE: usize = 256 << 10;

const HEADER: usize = 8;
const ENTRY: usize = 8;

/// A checked view of the table.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    entries: &'a [u8],
    strings: &'a [u8],
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Name as in the executable, possibly mangled.
    pub name: &'a str,
    /// Bytes from the symbol's start.
    pub offset: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

impl<'a> Symbols<'a> {
    /// The table in `section`, `None` if it is empty or malformed.
    pub fn new(section: &'a [u8]) -> Option<Self> {
        if word(section, 0)? != MAGIC {
            return None;
        }
        let count = word(section, 4)? as usize;
        let end = count.checked_mul(ENTRY)?.checked_add(HEADER)?;
        Some(Self {
            entries: section.get(HEADER..end)?,
            strings: section.get(end..)?,
        })
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last symbol at or before `offset` bytes from the start of the image.
    pub fn lookup(&self, offset: u32) -> Option<Symbol<'a>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let mid = low + (high - low) / 2;
            if word(self.entries, mid * ENTRY)? <= offset {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        let entry = low.checked_sub(1)? * ENTRY;
        let start = word(self.entries, entry)?;
        let name = self
            .strings
            .get(word(self.entries, entry + 4)? as usize..)?;
        let name = &name[..name.iter().position(|&b| b == 0)?];
        Some(Symbol {
            name: core::str::from_utf8(name).ok()?,
            offset: offset.checked_sub(start)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut strings = Vec::new();
        out.extend(MAGIC.to_le_bytes());
        out.extend((symbols.len() as u32).to_le_bytes());
        for (offset, name) in symbols {
            out.extend(offset.to_le_bytes());
            out.extend((strings.len() as u32).to_le_bytes());
            strings.extend(name.bytes());
            strings.push(0);
        }
        out.extend(strings);
        out.resize(SECTION_SIZE, 0);
        out
    }

    #[test]
    fn the_enclosing_symbol_is_found() {
        let bytes = table(&[(0x40, "start"), (0x100, "middle"), (0x200, "end")]);
        let s = Symbols::new(&bytes).unwrap();
        assert_eq!(s.lookup(0x3f), None);
        assert_eq!(
            s.lookup(0x40),
            Some(Symbol {
                name: "start",
                offset: 0
            })
        );
        assert_eq!(
            s.lookup(0x1ff),
            Some(Symbol {
                name: "middle",
                offset: 0xff
            })
        );
        assert_eq!(
            s.lookup(u32::MAX),
            Some(Symbol {
                name: "end",
                offset: u32::MAX - 0x200
            })
        );
    }

    #[test]
    fn an_empty_section_has_no_table() {
        assert!(Symbols::new(&[0; 64]).is_none());
        assert!(Symbols::new(&[]).is_none());
        assert!(Symbols::new(&table(&[])).is_some_and(|s| s.is_empty() && s.lookup(5).is_none()));
    }

    proptest! {
        #[test]
        fn damaged_tables_give_no_answer_rather_than_a_crash(mut bytes in proptest::collection::vec(any::<u8>(), 8..200), at: u32) {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            let count = u32::from(bytes[4]) % 16;
            bytes[4..8].copy_from_slice(&count.to_le_bytes());
            if let Some(s) = Symbols::new(&bytes) {
                let len = s.lookup(at).map_or(0, |x| x.name.len());
                prop_assert!(len < bytes.len());
            }
        }
    }
}
