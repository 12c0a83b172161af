//! Who controls a device's interrupts, and which they are.
//!
//! A device names its interrupts by specifiers whose meaning its interrupt parent defines. The parent is a controller,
//! or a nexus whose `interrupt-map` leads on to one (Devicetree Specification v0.4, section 2.4).

use super::error::DtError;
use super::node::Node;
use super::tree::NodeId;
use alloc::vec::Vec;
use arrayvec::ArrayVec;

/// The cells that name an interrupt to its controller.
pub type Specifier = ArrayVec<u32, 8>;

/// A unit address of up to three cells, as `interrupt-map` compares it.
type UnitAddress = ArrayVec<u32, 4>;

/// An interrupt as a node names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The controller or nexus that the specifier is addressed to.
    pub controller: NodeId,
    /// The cells, as many as the controller's `#interrupt-cells`.
    pub cells: Specifier,
}

/// Controllers whose maps never have unit addresses of the parent, whatever its `#address-cells`.
const MAPS_WITHOUT_UNITS: &[&str] = &[
    "fsl,ls1021a-extirq",
    "fsl,ls1043a-extirq",
    "fsl,ls1088a-extirq",
];

/// A line of an `interrupt-map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptMapEntry {
    /// Unit address that is matched.
    unit: UnitAddress,
    /// Specifier that is matched.
    specifier: Specifier,
    /// Unit address to go on with.
    parent_unit: UnitAddress,
    /// The interrupt at the next controller or nexus.
    pub parent: Interrupt,
}

/// Takes `count` cells off `words`; `None` if there are fewer or they do not fit.
fn take<const N: usize>(
    words: &mut impl Iterator<Item = u32>,
    count: u32,
) -> Option<ArrayVec<u32, N>> {
    let mut cells = ArrayVec::new();
    for _ in 0..count {
        cells.try_push(words.next()?).ok()?;
    }
    Some(cells)
}

fn masked(cells: &[u32], mask: &[u32]) -> impl Iterator<Item = u32> {
    cells
        .iter()
        .enumerate()
        .map(|(i, cell)| cell & mask.get(i).unwrap_or(&u32::MAX))
}

impl<'t, 'a> Node<'t, 'a> {
    /// Whether the node is an interrupt controller or nexus, that is, gives specifiers a meaning.
    fn has_interrupt_cells(&self) -> bool {
        self.has("#interrupt-cells")
    }

    /// Cells of a specifier addressed to this node, at most 8.
    fn interrupt_cells(&self) -> Result<u32, DtError> {
        match self.u32("#interrupt-cells")? {
            Some(cells @ 1..=8) => Ok(cells),
            Some(_) => Err(self.bad_property("#interrupt-cells", "is not between 1 and 8")),
            None => Err(self.bad_node("is an interrupt parent but has no #interrupt-cells")),
        }
    }

    /// The controller or nexus of the node's `interrupts`: what the nearest `interrupt-parent` above or in the node
    /// names, or a controller that the node is below. A root controller can be its own parent.
    ///
    /// # Errors
    /// An `interrupt-parent` is malformed or leads nowhere, or the chain of parents is a loop.
    pub fn interrupt_parent(&self) -> Result<Option<Node<'t, 'a>>, DtError> {
        let tree = self.tree();
        let mut at = *self;
        for _ in 0..tree.nodes.len() {
            let next = match at.u32("interrupt-parent")? {
                Some(0) | None => at.parent(),
                Some(phandle) => match tree.phandle(phandle) {
                    Some(node) => Some(node),
                    None => return Err(at.dangling("interrupt-parent", phandle)),
                },
            };
            match next {
                Some(node) if node.has_interrupt_cells() => return Ok(Some(node)),
                Some(node) => at = node,
                None => return Ok(None),
            }
        }
        Err(self.bad_node("has interrupt parents that form a loop"))
    }

    /// The node's interrupts as it names them, from `interrupts-extended` or else `interrupts`.
    pub fn interrupts(&self) -> Result<Vec<Interrupt>, DtError> {
        let listed = self.interrupts_by_index()?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Like [`Node::interrupts`], but an entry of `interrupts-extended` that is left out (phandle 0) is `None`, so that
    /// indices are those of `interrupt-names`.
    pub fn interrupts_by_index(&self) -> Result<Vec<Option<Interrupt>>, DtError> {
        let mut list = Vec::new();
        let cut = |name| self.bad_property(name, "ends inside an entry");
        if let Some(words) = self.words("interrupts-extended")? {
            let name = "interrupts-extended";
            let mut words = words.into_iter();
            while let Some(phandle) = words.next() {
                if phandle == 0 {
                    list.push(None);
                    continue;
                }
                let controller = self
                    .tree()
                    .phandle(phandle)
                    .ok_or_else(|| self.dangling(name, phandle))?;
                let cells = take(&mut words, controller.interrupt_cells()?);
                list.push(Some(Interrupt {
                    controller: controller.id(),
                    cells: cells.ok_or_else(|| cut(name))?,
                }));
            }
        } else if let Some(words) = self.words("interrupts")? {
            let controller = self
                .interrupt_parent()?
                .ok_or_else(|| self.bad_node("has interrupts but no interrupt parent"))?;
            let count = controller.interrupt_cells()?;
            let mut words = words.into_iter().peekable();
            while words.peek().is_some() {
                list.push(Some(Interrupt {
                    controller: controller.id(),
                    cells: take(&mut words, count).ok_or_else(|| cut("interrupts"))?,
                }));
            }
        }
        Ok(list)
    }

    /// The lines of this nexus's `interrupt-map`, none if it has no such property.
    pub fn interrupt_map(&self) -> Result<Vec<InterruptMapEntry>, DtError> {
        let Some(words) = self.words("interrupt-map")? else {
            return Ok(Vec::new());
        };
        if self.is_compatible(MAPS_WITHOUT_UNITS) {
            return self.read_map(words, false);
        }
        match self.read_map(words.clone(), true) {
            Ok(map) => Ok(map),
            // Not a rare mistake: the lines lack the unit address that the controller's #address-cells demands.
            Err(error) => self.read_map(words, false).map_err(|_| error),
        }
    }

    /// Reads the map's lines, with unit addresses of their parents or without.
    fn read_map(&self, words: Vec<u32>, units: bool) -> Result<Vec<InterruptMapEntry>, DtError> {
        let name = "interrupt-map";
        let cut = || self.bad_property(name, "ends inside an entry");
        let (unit_cells, cells) = (self.nexus_address_cells()?, self.interrupt_cells()?);
        let mut words = words.into_iter().peekable();
        let mut map = Vec::new();
        while words.peek().is_some() {
            let unit = take(&mut words, unit_cells).ok_or_else(cut)?;
            let specifier = take(&mut words, cells).ok_or_else(cut)?;
            let phandle = words.next().ok_or_else(cut)?;
            let parent = self
                .tree()
                .phandle(phandle)
                .ok_or_else(|| self.dangling(name, phandle))?;
            // A controller without the property has no unit address in the map.
            let parent_unit_cells = match parent.u32("#address-cells")? {
                Some(cells) if units => cells,
                _ => 0,
            };
            let parent_unit = take(&mut words, parent_unit_cells).ok_or_else(cut)?;
            let parent_cells = take(&mut words, parent.interrupt_cells()?).ok_or_else(cut)?;
            map.push(InterruptMapEntry {
                unit,
                specifier,
                parent_unit,
                parent: Interrupt {
                    controller: parent.id(),
                    cells: parent_cells,
                },
            });
        }
        Ok(map)
    }

    /// Cells of the unit addresses in this nexus's map: its own `#address-cells` or the nearest one above.
    fn nexus_address_cells(&self) -> Result<u32, DtError> {
        for node in core::iter::once(*self).chain(self.ancestors()) {
            if let Some(cells) = node.u32("#address-cells")? {
                return Ok(cells);
            }
        }
        Ok(2)
    }

    /// Follows `interrupt` of this node through interrupt maps to the controller that raises it.
    ///
    /// `None` if a map has no line for it.
    ///
    /// # Errors
    /// A malformed map, or maps that form a loop.
    pub fn route(&self, interrupt: &Interrupt) -> Result<Option<Interrupt>, DtError> {
        self.route_from(interrupt.clone(), None)
    }

    /// The interrupts at the controllers that the lines of this nexus's map lead to.
    pub fn mapped_interrupts(&self) -> Result<Vec<Interrupt>, DtError> {
        let mut interrupts = Vec::new();
        for line in self.interrupt_map()? {
            interrupts.extend(self.route_from(line.parent, Some(line.parent_unit))?);
        }
        Ok(interrupts)
    }

    fn route_from(
        &self,
        mut interrupt: Interrupt,
        mut unit: Option<UnitAddress>,
    ) -> Result<Option<Interrupt>, DtError> {
        let tree = self.tree();
        for _ in 0..tree.nodes.len() {
            let Some(nexus) = tree.node(interrupt.controller) else {
                return Ok(None);
            };
            if nexus.has("interrupt-controller") || !nexus.has("interrupt-map") {
                return Ok(Some(interrupt));
            }
            let mask = nexus.words("interrupt-map-mask")?.unwrap_or_default();
            let here = match unit {
                Some(unit) => unit,
                None => self.unit_address(nexus.nexus_address_cells()?)?,
            };
            let (unit_mask, cell_mask) = mask.split_at(here.len().min(mask.len()));
            let map = nexus.interrupt_map()?;
            let Some(line) = map.iter().find(|line| {
                masked(&line.unit, unit_mask).eq(masked(&here, unit_mask))
                    && masked(&line.specifier, cell_mask).eq(masked(&interrupt.cells, cell_mask))
            }) else {
                return Ok(None);
            };
            unit = Some(line.parent_unit.clone());
            interrupt = line.parent.clone();
        }
        Err(self.bad_node("has an interrupt that maps lead round in a loop"))
    }

    /// The first `cells` words of the node's `reg`, zeroes where it has fewer.
    fn unit_address(&self, cells: u32) -> Result<UnitAddress, DtError> {
        let reg = self.words("reg")?.unwrap_or_default();
        take(&mut reg.into_iter().chain(core::iter::repeat(0)), cells).ok_or_else(|| {
            self.bad_node("is behind an interrupt map whose #address-cells is more than 4")
        })
    }
}
