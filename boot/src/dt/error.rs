//! What can be wrong with a device tree.

use alloc::string::String;
use core::fmt;

/// What is wrong with a device tree, and where.
///
/// `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtError {
    /// Byte offset in the blob at which the fault lies.
    pub offset: usize,
    /// The fault.
    pub fault: Fault,
}

/// A fault of a device tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Fewer bytes than a header.
    NoHeader {
        /// Bytes there are.
        len: usize,
    },
    /// The first word is not the magic number.
    Magic {
        /// The word found.
        found: u32,
    },
    /// A version of the format that this code does not read.
    Version {
        /// The header's version.
        version: u32,
        /// The header's last compatible version.
        last_compatible: u32,
    },
    /// The header's total size is more than there is, or less than a header.
    TotalSize {
        /// The header's total size in bytes.
        total: usize,
        /// Bytes there are.
        len: usize,
    },
    /// A block of the blob lies outside it, over another block, or is misaligned.
    Block {
        /// Name of the block.
        block: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The structure block breaks its grammar.
    Structure(&'static str),
    /// A token of the structure block has an unknown number.
    Token(u32),
    /// Nodes are nested deeper than [`super::MAX_DEPTH`].
    TooDeep,
    /// The name of a node or property is not one.
    Name(&'static str),
    /// Two nodes have the same phandle.
    DuplicatePhandle(u32),
    /// A property's value does not have the form it should.
    Property {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A phandle leads to no node.
    DanglingPhandle {
        /// Path of the node that refers to it.
        node: String,
        /// The phandle.
        phandle: u32,
    },
    /// A node lacks something it must have.
    Node {
        /// Path of the node.
        node: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl DtError {
    pub(super) fn new(offset: usize, fault: Fault) -> Self {
        Self { offset, fault }
    }
}

impl fmt::Display for DtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device tree, offset {:#x}: ", self.offset)?;
        match &self.fault {
            Fault::NoHeader { len } => {
                write!(f, "{len} bytes are less than the 40 bytes of a header")
            }
            Fault::Magic { found } => {
                write!(f, "the magic number is {found:#010x}, not 0xd00dfeed")
            }
            Fault::Version {
                version,
                last_compatible,
            } => write!(
                f,
                "format version {version} (compatible to {last_compatible}) is not version 17"
            ),
            Fault::TotalSize { total, len } => write!(
                f,
                "a total size of {total} bytes does not fit the {len} bytes there are"
            ),
            Fault::Block { block, why } => write!(f, "the {block} block {why}"),
            Fault::Structure(why) => f.write_str(why),
            Fault::Token(token) => write!(f, "{token:#x} is no token of the structure block"),
            Fault::TooDeep => write!(f, "nodes are nested more than {} deep", super::MAX_DEPTH),
            Fault::Name(why) => f.write_str(why),
            Fault::DuplicatePhandle(phandle) => {
                write!(f, "phandle {phandle:#x} was given to another node before")
            }
            Fault::Property {
                node,
                property,
                why,
            } => write!(f, "property {property} of {node} {why}"),
            Fault::DanglingPhandle { node, phandle } => {
                write!(
                    f,
                    "{node} refers to phandle {phandle:#x}, which no node has"
                )
            }
            Fault::Node { node, why } => write!(f, "{node} {why}"),
        }
    }
}

impl core::error::Error for DtError {}
