//! One node of a checked tree and its typed properties.

use super::error::{DtError, Fault};
use super::scan::be32;
use super::tree::{NodeData, NodeId, Tree};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A property as it is in the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Name, printable ASCII.
    pub name: &'a str,
    /// Value, uninterpreted.
    pub value: &'a [u8],
    /// Offset of the value in the blob.
    pub offset: usize,
}

impl<'a> Property<'a> {
    /// The value as big-endian words; `None` if its length is no multiple of 4.
    pub fn words(&self) -> Option<impl Iterator<Item = u32> + Clone + use<'a>> {
        let value = self.value;
        value.len().is_multiple_of(4).then(|| {
            value
                .chunks_exact(4)
                .map(|chunk| be32(chunk, 0).unwrap_or_default())
        })
    }

    /// The value as one word.
    pub fn as_u32(&self) -> Option<u32> {
        (self.value.len() == 4)
            .then(|| be32(self.value, 0))
            .flatten()
    }

    /// The value as one number of one or two words.
    pub fn as_u64(&self) -> Option<u64> {
        matches!(self.value.len(), 4 | 8).then(|| {
            self.value
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        })
    }

    /// The value as one text, which a NUL ends.
    pub fn as_str(&self) -> Option<&'a str> {
        let text = self.value.strip_suffix(&[0])?;
        core::str::from_utf8(text)
            .ok()
            .filter(|text| !text.contains('\0'))
    }

    /// The value as a list of texts, each ended by a NUL.
    ///
    /// Where the last NUL is missing or a text is not UTF-8, the list ends before it.
    pub fn strings(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let list = match self.value.iter().rposition(|byte| *byte == 0) {
            Some(last) => self.value.get(..=last).unwrap_or_default(),
            None => &[],
        };
        list.split_inclusive(|byte| *byte == 0)
            .map_while(|text| core::str::from_utf8(text.strip_suffix(&[0])?).ok())
    }
}

/// A node of a checked tree.
#[derive(Clone, Copy)]
pub struct Node<'t, 'a> {
    tree: &'t Tree<'a>,
    id: NodeId,
}

impl PartialEq for Node<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && core::ptr::eq(self.tree.blob().as_ptr(), other.tree.blob().as_ptr())
    }
}

impl Eq for Node<'_, '_> {}

impl fmt::Debug for Node<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.path())
    }
}

impl<'t, 'a> Node<'t, 'a> {
    /// `id` must be less than the number of the tree's nodes: the table is never shortened, so that every node stays valid.
    pub(super) fn new(tree: &'t Tree<'a>, id: NodeId) -> Self {
        Self { tree, id }
    }

    fn data(&self) -> Option<&'t NodeData<'a>> {
        self.tree.nodes.get(self.id.0)
    }

    /// Index of the first node in document order that is not below this one.
    pub(crate) fn subtree_end(&self) -> usize {
        self.data().map_or(0, |data| data.subtree_end)
    }

    /// The tree the node is in.
    pub fn tree(&self) -> &'t Tree<'a> {
        self.tree
    }

    /// The node's identifier in its tree.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The name with unit address; empty for the root.
    pub fn name(&self) -> &'a str {
        match self.data().map(|data| data.name) {
            Some(name) if name != "/" => name,
            _ => "",
        }
    }

    /// The name up to the `@`.
    pub fn base_name(&self) -> &'a str {
        self.name().split('@').next().unwrap_or_default()
    }

    /// Offset in the blob of the token that begins the node.
    pub fn offset(&self) -> usize {
        self.data().map_or(0, |data| data.offset)
    }

    /// The absolute path, `/` for the root.
    pub fn path(&self) -> String {
        let mut names = Vec::new();
        let mut at = Some(*self);
        while let Some(node) = at {
            names.push(node.name());
            at = node.parent();
        }
        if names.len() == 1 {
            return "/".to_string();
        }
        names.reverse();
        names.join("/")
    }

    /// The node this one is a child of; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        Some(Self::new(self.tree, self.data()?.parent?))
    }

    /// The chain of parents, nearest first, to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<'t, 'a> {
        core::iter::successors(self.parent(), Self::parent)
    }

    /// The direct children in document order.
    pub fn children(&self) -> impl Iterator<Item = Self> + use<'t, 'a> {
        let tree = self.tree;
        let end = self.subtree_end();
        let mut next = self.id.0 + 1;
        core::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let child = Self::new(tree, NodeId(next));
            // A subtree ends after its beginning, so that this always moves on.
            next = child.data()?.subtree_end;
            Some(child)
        })
    }

    /// All nodes below this one in document order, without it.
    pub fn descendants(&self) -> impl Iterator<Item = Self> + use<'t, 'a> {
        let tree = self.tree;
        let end = self.subtree_end();
        (self.id.0 + 1..end).map(move |index| Self::new(tree, NodeId(index)))
    }

    /// Whether `other` is this node or above it.
    pub fn is_within(&self, other: Self) -> bool {
        *self == other || self.ancestors().any(|node| node == other)
    }

    /// The properties in document order.
    pub fn properties(&self) -> &'t [Property<'a>] {
        self.data()
            .and_then(|data| self.tree.props.get(data.props.clone()))
            .unwrap_or_default()
    }

    /// The property called `name`; the first, should there be several.
    pub fn prop(&self, name: &str) -> Option<Property<'a>> {
        self.properties().iter().find(|p| p.name == name).copied()
    }

    /// Whether there is a property called `name`, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.prop(name).is_some()
    }

    /// The value of a one-word property, `None` if there is no such property.
    pub fn u32(&self, name: &str) -> Result<Option<u32>, DtError> {
        self.typed(name, "is not one word long", |p| p.as_u32())
    }

    /// The value of a property of one or two words, `None` if there is no such property.
    pub fn u64(&self, name: &str) -> Result<Option<u64>, DtError> {
        self.typed(name, "is not one or two words long", |p| p.as_u64())
    }

    /// The value of a text property, `None` if there is no such property.
    pub fn str(&self, name: &str) -> Result<Option<&'a str>, DtError> {
        self.typed(name, "is not one NUL-terminated text", |p| p.as_str())
    }

    /// The value of a text property up to its first NUL, `None` if there is no such property. What follows is not
    /// looked at: GRUB makes command lines longer than they are, and leaves there what its memory held.
    pub fn cut_str(&self, name: &str) -> Result<Option<&'a str>, DtError> {
        self.typed(name, "is no NUL-terminated text", |p| {
            let end = p.value.iter().position(|byte| *byte == 0)?;
            core::str::from_utf8(p.value.get(..end)?).ok()
        })
    }

    /// The texts of a string-list property, none if there is no such property.
    pub fn strings(&self, name: &str) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let property = self.prop(name).unwrap_or(Property {
            name: "",
            value: &[],
            offset: 0,
        });
        property.strings()
    }

    /// The words of a property, `None` if there is no such property.
    pub fn words(&self, name: &str) -> Result<Option<Vec<u32>>, DtError> {
        self.typed(name, "has a length that is no multiple of 4 bytes", |p| {
            Some(p.words()?.collect())
        })
    }

    fn typed<T>(
        &self,
        name: &str,
        why: &'static str,
        read: impl FnOnce(Property<'a>) -> Option<T>,
    ) -> Result<Option<T>, DtError> {
        match self.prop(name) {
            None => Ok(None),
            Some(property) => read(property)
                .map(Some)
                .ok_or_else(|| self.bad_property(name, why)),
        }
    }

    /// The node's phandle.
    pub fn phandle(&self) -> Option<u32> {
        self.prop("phandle")
            .or_else(|| self.prop("linux,phandle"))?
            .as_u32()
    }

    /// Whether one of the strings `any` is in the node's `compatible` list.
    pub fn is_compatible(&self, any: &[&str]) -> bool {
        self.strings("compatible").any(|c| any.contains(&c))
    }

    /// Whether the node's own `status` lets it be used: absent, `okay` or `ok`.
    pub fn is_available(&self) -> bool {
        match self.prop("status") {
            None => true,
            Some(status) => matches!(status.as_str(), Some("okay" | "ok")),
        }
    }

    /// Whether this node and all above it are available: a device behind a disabled bus cannot be used.
    pub fn is_enabled(&self) -> bool {
        self.is_available() && self.ancestors().all(|node| node.is_available())
    }

    /// An error that names this node's property `name` and says what is wrong with it.
    pub(crate) fn bad_property(&self, name: &str, why: &'static str) -> DtError {
        let offset = self.prop(name).map_or(self.offset(), |p| p.offset);
        let fault = Fault::Property {
            node: self.path(),
            property: name.to_string(),
            why,
        };
        DtError::new(offset, fault)
    }

    /// An error about the node as a whole.
    pub(crate) fn bad_node(&self, why: &'static str) -> DtError {
        let node = self.path();
        DtError::new(self.offset(), Fault::Node { node, why })
    }

    /// An error about a phandle in the node's property `name` that leads nowhere.
    pub(crate) fn dangling(&self, name: &str, phandle: u32) -> DtError {
        let offset = self.prop(name).map_or(self.offset(), |p| p.offset);
        let node = self.path();
        DtError::new(offset, Fault::DanglingPhandle { node, phandle })
    }
}
