//! The table of a tree's nodes, and the ways to find one.

use super::error::{DtError, Fault};
use super::node::{Node, Property};
use super::scan::{Layout, Scanner, Token, blob_size};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use xen_core::HostPhysAddr;

use crate::range::PhysRange;

/// Index of a node in its tree, in document order; the root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) usize);

impl NodeId {
    /// The root node.
    pub const ROOT: Self = Self(0);

    /// The position in document order.
    pub fn index(self) -> usize {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct NodeData<'a> {
    pub(super) name: &'a str,
    pub(super) offset: usize,
    pub(super) parent: Option<NodeId>,
    /// Index of the first node in document order that is not below this one.
    pub(super) subtree_end: usize,
    /// Indices into `Tree::props`.
    pub(super) props: Range<usize>,
}

/// A device tree whose whole blob has been checked.
#[derive(Debug)]
pub struct Tree<'a> {
    blob: &'a [u8],
    boot_cpu: u32,
    pub(super) nodes: Vec<NodeData<'a>>,
    pub(super) props: Vec<Property<'a>>,
    phandles: BTreeMap<u32, NodeId>,
    reservations: Vec<PhysRange>,
}

impl<'a> Tree<'a> {
    /// Checks `blob` as a whole and builds the table of its nodes.
    ///
    /// `blob` may be longer than the tree's total size. It need not be aligned.
    ///
    /// # Errors
    /// Whatever breaks the format of version 17: sizes, offsets, tokens, nesting, names, or two nodes with one phandle.
    pub fn new(blob: &'a [u8]) -> Result<Self, DtError> {
        let total = blob_size(blob)?;
        let len = blob.len();
        let blob = blob
            .get(..total)
            .ok_or(DtError::new(4, Fault::TotalSize { total, len }))?;
        let layout = Layout::new(blob)?;
        let mut tree = Self {
            blob,
            boot_cpu: layout.boot_cpu,
            nodes: Vec::new(),
            props: Vec::new(),
            phandles: BTreeMap::new(),
            reservations: Vec::new(),
        };
        tree.read_nodes(&layout)?;
        tree.read_phandles()?;
        tree.read_reservations()?;
        Ok(tree)
    }

    fn read_nodes(&mut self, layout: &Layout) -> Result<(), DtError> {
        let mut scanner = Scanner::new(self.blob, layout);
        let mut open: Vec<NodeId> = Vec::new();
        while let Some(token) = scanner.next()? {
            match token {
                Token::Begin { name, offset } => {
                    let id = NodeId(self.nodes.len());
                    let props = self.props.len();
                    self.nodes.push(NodeData {
                        name,
                        offset,
                        parent: open.last().copied(),
                        subtree_end: id.0 + 1,
                        props: props..props,
                    });
                    open.push(id);
                }
                Token::Prop {
                    name,
                    value,
                    offset,
                } => {
                    self.props.push(Property {
                        name,
                        value,
                        offset,
                    });
                    let end = self.props.len();
                    if let Some(node) = self.nodes.last_mut() {
                        node.props.end = end;
                    }
                }
                Token::End => {
                    let end = self.nodes.len();
                    if let Some(node) = open.pop().and_then(|id| self.nodes.get_mut(id.0)) {
                        node.subtree_end = end;
                    }
                }
            }
        }
        Ok(())
    }

    fn read_phandles(&mut self) -> Result<(), DtError> {
        let mut phandles = BTreeMap::new();
        for node in self.nodes() {
            // A node that has both carries the same value twice.
            let Some((property, phandle)) = ["phandle", "linux,phandle"]
                .iter()
                .find_map(|name| Some((node.prop(name)?, node.u32(name))))
            else {
                continue;
            };
            if let Some(phandle) = phandle?
                && phandles.insert(phandle, node.id()).is_some()
            {
                return Err(DtError::new(
                    property.offset,
                    Fault::DuplicatePhandle(phandle),
                ));
            }
        }
        self.phandles = phandles;
        Ok(())
    }

    fn read_reservations(&mut self) -> Result<(), DtError> {
        // The header is checked, so that this cannot fail, and the reservations' accessors cannot panic.
        let fdt = fdt::Fdt::new(self.blob)
            .map_err(|_| DtError::new(0, Fault::Structure("the fdt crate refuses the blob")))?;
        for entry in fdt.memory_reservations() {
            let (start, size) = (entry.address() as u64, entry.size() as u64);
            if size == 0 {
                continue;
            }
            let range = PhysRange::new(HostPhysAddr(start), size).ok_or(DtError::new(
                16,
                Fault::Block {
                    block: "memory reservation",
                    why: "has an entry that wraps around the address space",
                },
            ))?;
            self.reservations.push(range);
        }
        Ok(())
    }

    /// The checked bytes, exactly as many as the header's total size.
    pub fn blob(&self) -> &'a [u8] {
        self.blob
    }

    /// The header's number of the CPU that boots.
    pub fn boot_cpu(&self) -> u32 {
        self.boot_cpu
    }

    /// The ranges of the memory reservation block, in its order.
    pub fn reservations(&self) -> &[PhysRange] {
        &self.reservations
    }

    /// The root node.
    pub fn root(&self) -> Node<'_, 'a> {
        Node::new(self, NodeId::ROOT)
    }

    /// The node with an identifier that this tree gave out; `None` for another tree's that is too large.
    pub fn node(&self, id: NodeId) -> Option<Node<'_, 'a>> {
        (id.0 < self.nodes.len()).then(|| Node::new(self, id))
    }

    /// All nodes in document order, each before its children.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = Node<'_, 'a>> + '_ {
        (0..self.nodes.len()).map(|index| Node::new(self, NodeId(index)))
    }

    /// The node with `phandle`.
    pub fn phandle(&self, phandle: u32) -> Option<Node<'_, 'a>> {
        Some(Node::new(self, *self.phandles.get(&phandle)?))
    }

    /// The node at `path`, which is absolute (`/soc/uart@1000`) or begins with an alias (`serial0`).
    ///
    /// A component without a unit address also finds a node with one, if it is the only child of that name.
    pub fn find(&self, path: &str) -> Option<Node<'_, 'a>> {
        if path.starts_with('/') {
            return self.find_absolute(path);
        }
        let (alias, rest) = match path.split_once('/') {
            Some((alias, rest)) => (alias, Some(rest)),
            None => (path, None),
        };
        let target = self.find_absolute("/aliases")?.str(alias).ok()??;
        // An alias of an alias would allow loops, so the value must be absolute.
        let node = target
            .starts_with('/')
            .then(|| self.find_absolute(target))??;
        match rest {
            Some(rest) => descend(node, rest),
            None => Some(node),
        }
    }

    fn find_absolute(&self, path: &str) -> Option<Node<'_, 'a>> {
        descend(self.root(), path)
    }

    /// The nodes that have one of the strings `any` in their `compatible` list, in document order.
    pub fn compatible<'s>(&'s self, any: &'s [&str]) -> impl Iterator<Item = Node<'s, 'a>> {
        self.nodes().filter(move |node| node.is_compatible(any))
    }
}

/// Follows the slash-separated components of `path` down from `node`.
fn descend<'t, 'a>(node: Node<'t, 'a>, path: &str) -> Option<Node<'t, 'a>> {
    path.split('/')
        .filter(|component| !component.is_empty())
        .try_fold(node, |node, component| {
            if let Some(exact) = node.children().find(|c| c.name() == component) {
                return Some(exact);
            }
            let mut alike = node.children().filter(|c| c.base_name() == component);
            let first = alike.next()?;
            alike.next().is_none().then_some(first)
        })
}
