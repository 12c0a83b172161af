//! The validating reader of the blob: header, block layout and the structure block's token grammar.
//!
//! Format: Devicetree Specification v0.4, chapter 5 (flattened format).

use super::error::{DtError, Fault};
use core::ops::Range;

const MAGIC: u32 = 0xd00d_feed;
/// Size in bytes of a header of version 17.
pub(super) const HEADER_SIZE: usize = 40;
/// Nodes may be nested this deep, the root included; Linux and libfdt users have the same bound.
pub const MAX_DEPTH: usize = 64;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Reads a big-endian word at `offset`, if it is there.
pub(super) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

fn be64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from(be32(bytes, offset)?) << 32 | u64::from(be32(bytes, offset.checked_add(4)?)?))
}

/// The total size in bytes that the header at the start of `bytes` states, at least 40.
///
/// `bytes` need hold no more than the header: this is how one learns how much memory to look at.
pub fn blob_size(bytes: &[u8]) -> Result<usize, DtError> {
    let len = bytes.len();
    if len < HEADER_SIZE {
        return Err(DtError::new(0, Fault::NoHeader { len }));
    }
    let found = be32(bytes, 0).unwrap_or_default();
    if found != MAGIC {
        return Err(DtError::new(0, Fault::Magic { found }));
    }
    let total = be32(bytes, 4).unwrap_or_default() as usize;
    if total < HEADER_SIZE {
        return Err(DtError::new(4, Fault::TotalSize { total, len }));
    }
    Ok(total)
}

/// Where the blocks of a blob lie; all of them inside it, aligned, and clear of each other.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) structure: Range<usize>,
    pub(super) strings: Range<usize>,
    pub(super) boot_cpu: u32,
}

impl Layout {
    /// Checks the header and the memory reservation block of `blob`, which is exactly as long as its header says.
    pub(super) fn new(blob: &[u8]) -> Result<Self, DtError> {
        let word = |offset| be32(blob, offset).unwrap_or_default();
        let (version, last_compatible) = (word(20), word(24));
        if version < 17 || last_compatible > 17 {
            return Err(DtError::new(
                20,
                Fault::Version {
                    version,
                    last_compatible,
                },
            ));
        }
        let structure = block(blob, "structure", 8, word(36), 4)?;
        let strings = block(blob, "strings", 12, word(32), 1)?;
        let reserve = reservations(blob)?;
        let clash = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let fault = |offset, block, why| Err(DtError::new(offset, Fault::Block { block, why }));
        if !structure.len().is_multiple_of(4) {
            return fault(36, "structure", "has a size that is no multiple of 4 bytes");
        }
        if clash(&structure, &strings) {
            return fault(12, "strings", "overlaps the structure block");
        }
        if clash(&reserve, &structure) || clash(&reserve, &strings) {
            return fault(16, "memory reservation", "overlaps another block");
        }
        Ok(Self {
            structure,
            strings,
            boot_cpu: word(28),
        })
    }
}

fn block(
    blob: &[u8],
    name: &'static str,
    field: usize,
    size: u32,
    align: usize,
) -> Result<Range<usize>, DtError> {
    let fault = |why| DtError::new(field, Fault::Block { block: name, why });
    let start = be32(blob, field).unwrap_or_default() as usize;
    let end = start
        .checked_add(size as usize)
        .ok_or_else(|| fault("lies outside the blob"))?;
    if !start.is_multiple_of(align) {
        return Err(fault("is misaligned"));
    }
    if start < HEADER_SIZE {
        return Err(fault("overlaps the header"));
    }
    if end > blob.len() {
        return Err(fault("lies outside the blob"));
    }
    Ok(start..end)
}

/// Finds the terminating entry of the memory reservation block, and with it the block's size.
fn reservations(blob: &[u8]) -> Result<Range<usize>, DtError> {
    let name = "memory reservation";
    let block = block(blob, name, 16, 0, 8)?;
    let mut at = block.start;
    loop {
        let entry = (be64(blob, at), be64(blob, at.saturating_add(8)));
        at = at.saturating_add(16);
        match entry {
            (Some(0), Some(0)) => return Ok(block.start..at),
            (Some(_), Some(_)) => {}
            _ => {
                let why = "has no terminating entry";
                return Err(DtError::new(block.start, Fault::Block { block: name, why }));
            }
        }
    }
}

/// One token of the structure block, with the blob offset of what it is about.
#[derive(Debug)]
pub(super) enum Token<'a> {
    /// A node begins.
    Begin { name: &'a str, offset: usize },
    /// A property of the node that began last and has not ended.
    Prop {
        name: &'a str,
        value: &'a [u8],
        offset: usize,
    },
    /// The innermost node ends.
    End,
}

/// Reads the structure block token by token and refuses whatever breaks the grammar.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    blob: &'a [u8],
    strings: &'a [u8],
    end: usize,
    at: usize,
    depth: usize,
    /// Whether properties may come here: only between a node's beginning and its first child.
    in_props: bool,
    root_seen: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(blob: &'a [u8], layout: &Layout) -> Self {
        Self {
            blob,
            strings: blob.get(layout.strings.clone()).unwrap_or_default(),
            end: layout.structure.end,
            at: layout.structure.start,
            depth: 0,
            in_props: false,
            root_seen: false,
        }
    }

    /// The next token that is no NOP, or `None` at the block's proper end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, DtError> {
        loop {
            let offset = self.at;
            let wrong = |why| Err(DtError::new(offset, Fault::Structure(why)));
            match self.word()? {
                NOP => {}
                BEGIN_NODE => return self.begin(offset).map(Some),
                PROP if !self.in_props => {
                    return wrong(match self.depth {
                        0 => "a property stands outside of any node",
                        _ => "a property follows a child node",
                    });
                }
                PROP => return self.prop(offset).map(Some),
                END_NODE => {
                    let Some(depth) = self.depth.checked_sub(1) else {
                        return wrong("a node ends that never began");
                    };
                    self.depth = depth;
                    self.in_props = false;
                    return Ok(Some(Token::End));
                }
                END if self.depth > 0 => return wrong("the structure ends inside a node"),
                END if !self.root_seen => return wrong("there is no root node"),
                END => return Ok(None),
                token => return Err(DtError::new(offset, Fault::Token(token))),
            }
        }
    }

    fn begin(&mut self, offset: usize) -> Result<Token<'a>, DtError> {
        let name_at = self.at;
        let bytes = self.structure_from(name_at);
        let bad = |why| DtError::new(name_at, Fault::Name(why));
        let name = c_str(bytes).ok_or_else(|| bad("a node's name has no end or is not ASCII"))?;
        let root = self.depth == 0;
        if root && self.root_seen {
            return Err(DtError::new(
                offset,
                Fault::Structure("there is a second root node"),
            ));
        }
        if root && !matches!(name, "" | "/") {
            return Err(bad("the root node has a name"));
        }
        if !root && (name.is_empty() || name.contains('/')) {
            return Err(bad("a node's name is empty or contains a slash"));
        }
        if self.depth == MAX_DEPTH {
            return Err(DtError::new(offset, Fault::TooDeep));
        }
        self.skip(name.len() + 1)?;
        self.depth += 1;
        self.root_seen = true;
        self.in_props = true;
        Ok(Token::Begin { name, offset })
    }

    fn prop(&mut self, offset: usize) -> Result<Token<'a>, DtError> {
        let len = self.word()? as usize;
        let name_offset = self.word()? as usize;
        let value_at = self.at;
        let value = self.structure_from(value_at).get(..len).ok_or_else(|| {
            let why = "a property's value reaches past the end of the structure block";
            DtError::new(offset, Fault::Structure(why))
        })?;
        let name = self
            .strings
            .get(name_offset..)
            .and_then(c_str)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                let why = "a property's name is not a text in the strings block";
                DtError::new(offset + 8, Fault::Name(why))
            })?;
        self.skip(len)?;
        Ok(Token::Prop {
            name,
            value,
            offset: value_at,
        })
    }

    fn structure_from(&self, at: usize) -> &'a [u8] {
        self.blob.get(at..self.end).unwrap_or_default()
    }

    fn word(&mut self) -> Result<u32, DtError> {
        let word = be32(self.structure_from(self.at), 0).ok_or_else(|| {
            let why = "the structure block ends without an end token";
            DtError::new(self.at, Fault::Structure(why))
        })?;
        self.at += 4;
        Ok(word)
    }

    /// Moves past `len` bytes and the padding to the next token.
    fn skip(&mut self, len: usize) -> Result<(), DtError> {
        self.at = len
            .checked_next_multiple_of(4)
            .and_then(|len| self.at.checked_add(len))
            .filter(|at| *at <= self.end)
            .ok_or_else(|| {
                let why = "the structure block ends without an end token";
                DtError::new(self.at, Fault::Structure(why))
            })?;
        Ok(())
    }
}

/// The printable ASCII text before the first NUL of `bytes`.
fn c_str(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0)?;
    let text = bytes.get(..end)?;
    text.iter()
        .all(u8::is_ascii_graphic)
        .then(|| core::str::from_utf8(text).ok())
        .flatten()
}
