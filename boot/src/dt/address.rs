//! `reg` and `ranges`: where a device is on its bus, and where a CPU sees it.

use super::error::DtError;
use super::node::Node;
use crate::range::PhysRange;
use alloc::vec::Vec;
use xen_core::HostPhysAddr;

/// An address on some bus of the tree: up to three cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusAddress {
    /// The first of three cells, 0 where there are fewer. On PCI it holds the space and the function's number.
    pub high: u32,
    /// The other cells.
    pub low: u64,
}

/// Bits of a PCI address's high cell that tell the address space (IEEE 1275 PCI binding: `ss`).
const PCI_SPACE: u32 = 0x0300_0000;
const PCI_CONFIG: u32 = 0;

/// An entry of a `reg` property, as it stands on the parent's bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg {
    /// Address on the parent's bus.
    pub address: BusAddress,
    /// Size in bytes, 0 where the bus has no sizes (CPUs, I2C).
    pub size: u64,
}

/// An entry of a `ranges` property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Address on the bus that the node with `ranges` provides.
    pub child: BusAddress,
    /// Address on the bus that the node itself is on.
    pub parent: BusAddress,
    /// Size in bytes.
    pub size: u64,
}

/// Takes `cells` words off `words` as an address.
fn take_address(words: &mut impl Iterator<Item = u32>, cells: u32) -> Option<BusAddress> {
    let high = if cells == 3 { words.next()? } else { 0 };
    let low = take_number(words, cells.min(2))?;
    Some(BusAddress { high, low })
}

/// Takes `cells` words, at most two, off `words` as a number.
fn take_number(words: &mut impl Iterator<Item = u32>, cells: u32) -> Option<u64> {
    (0..cells).try_fold(0, |number: u64, _| {
        Some(number << 32 | u64::from(words.next()?))
    })
}

impl<'t, 'a> Node<'t, 'a> {
    /// Cells of an address on the bus that this node provides: 0 to 3, by default 2.
    pub fn address_cells(&self) -> Result<u32, DtError> {
        match self.u32("#address-cells")?.unwrap_or(2) {
            cells @ 0..=3 => Ok(cells),
            _ => Err(self.bad_property("#address-cells", "is more than 3")),
        }
    }

    /// Cells of a size on the bus that this node provides: 0 to 2, by default 1.
    pub fn size_cells(&self) -> Result<u32, DtError> {
        match self.u32("#size-cells")?.unwrap_or(1) {
            cells @ 0..=2 => Ok(cells),
            _ => Err(self.bad_property("#size-cells", "is more than 2")),
        }
    }

    /// Whether the node provides a PCI bus, whose addresses have a space in their high cell.
    pub fn is_pci_bus(&self) -> bool {
        let text = |name| self.prop(name).and_then(|p| p.as_str());
        matches!(text("device_type"), Some("pci" | "pciex"))
            || (matches!(self.base_name(), "pcie" | "pci") && self.has("bus-range"))
    }

    /// The entries of `reg` as they stand, none if there is no `reg`.
    ///
    /// # Errors
    /// The property's length is no whole number of entries.
    pub fn reg(&self) -> Result<Vec<Reg>, DtError> {
        let (Some(parent), Some(property)) = (self.parent(), self.prop("reg")) else {
            return Ok(Vec::new());
        };
        let (address_cells, size_cells) = (parent.address_cells()?, parent.size_cells()?);
        let entries = self.entries(&property, address_cells + size_cells)?;
        let mut words = property.words().into_iter().flatten();
        let mut regs = Vec::with_capacity(entries);
        for _ in 0..entries {
            let entry = take_address(&mut words, address_cells)
                .zip(take_number(&mut words, size_cells))
                .ok_or_else(|| self.bad_property("reg", "ends inside an entry"))?;
            regs.push(Reg {
                address: entry.0,
                size: entry.1,
            });
        }
        Ok(regs)
    }

    /// The number of entries of `cells` words each in `property`.
    fn entries(&self, property: &super::Property<'a>, cells: u32) -> Result<usize, DtError> {
        let size = cells as usize * 4;
        let len = property.value.len();
        match len.checked_div(size) {
            Some(entries) if len.is_multiple_of(size) => Ok(entries),
            None if len == 0 => Ok(0),
            _ => Err(self.bad_property(property.name, "is no whole number of entries")),
        }
    }

    /// The node's registers as a CPU sees them: each entry of `reg` that has a size and is visible to CPUs.
    ///
    /// # Errors
    /// Malformed `reg` or `ranges`.
    pub fn mmio(&self) -> Result<Vec<PhysRange>, DtError> {
        let mut ranges = Vec::new();
        for reg in self.reg()? {
            ranges.extend(self.translate(reg.address, reg.size)?);
        }
        Ok(ranges)
    }

    /// Like [`Node::mmio`], but an entry that CPUs do not see is `None`, so that indices are those of `reg`.
    pub fn mmio_by_index(&self) -> Result<Vec<Option<PhysRange>>, DtError> {
        let regs = self.reg()?;
        regs.iter()
            .map(|reg| self.translate(reg.address, reg.size))
            .collect()
    }

    /// The entries of this node's `ranges`. `None` if there is no `ranges`: nothing below is visible from above. An empty
    /// list (an empty property) means that both sides have the same addresses.
    pub fn mappings(&self) -> Result<Option<Vec<Mapping>>, DtError> {
        let (Some(parent), Some(property)) = (self.parent(), self.prop("ranges")) else {
            return Ok(None);
        };
        if property.value.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (child_cells, size_cells) = (self.address_cells()?, self.size_cells()?);
        let parent_cells = parent.address_cells()?;
        let entries = self.entries(&property, child_cells + parent_cells + size_cells)?;
        let mut words = property.words().into_iter().flatten();
        let mut mappings = Vec::with_capacity(entries);
        for _ in 0..entries {
            let child = take_address(&mut words, child_cells);
            let parent = take_address(&mut words, parent_cells);
            let size = take_number(&mut words, size_cells);
            let (Some(child), Some(parent), Some(size)) = (child, parent, size) else {
                return Err(self.bad_property("ranges", "ends inside an entry"));
            };
            mappings.push(Mapping {
                child,
                parent,
                size,
            });
        }
        Ok(Some(mappings))
    }

    /// The windows of this PCI host bridge in the CPUs' address space: memory and I/O.
    pub fn pci_windows(&self) -> Result<Vec<PhysRange>, DtError> {
        let mut windows = Vec::new();
        for mapping in self.mappings()?.unwrap_or_default() {
            if mapping.child.high & PCI_SPACE != PCI_CONFIG {
                windows.extend(self.translate(mapping.parent, mapping.size)?);
            }
        }
        Ok(windows)
    }

    /// Where CPUs see the `size` bytes at `address` on the bus that this node is on.
    ///
    /// `None` if `size` is 0 or some bus on the way lets nothing through there. If one lets only the beginning through,
    /// that is the result.
    ///
    /// # Errors
    /// A malformed `ranges`, or a result that wraps.
    pub fn translate(
        &self,
        mut address: BusAddress,
        mut size: u64,
    ) -> Result<Option<PhysRange>, DtError> {
        if size == 0 {
            return Ok(None);
        }
        for bus in self.ancestors() {
            if bus.parent().is_none() {
                break;
            }
            let Some(mappings) = bus.mappings()? else {
                return Ok(None);
            };
            if mappings.is_empty() {
                continue;
            }
            let pci = bus.is_pci_bus();
            let Some(mapping) = mappings
                .iter()
                .find(|m| m.offset_of(address, pci).is_some())
            else {
                return Ok(None);
            };
            let offset = mapping.offset_of(address, pci).unwrap_or_default();
            // Some trees list more than their bus passes on: CPUs see the rest of the mapping.
            size = size.min(mapping.size - offset);
            address =
                BusAddress {
                    high: mapping.parent.high,
                    low: mapping.parent.low.checked_add(offset).ok_or_else(|| {
                        bus.bad_property("ranges", "wraps around the address space")
                    })?,
                };
        }
        if address.high != 0 {
            return Ok(None);
        }
        match PhysRange::new(HostPhysAddr(address.low), size) {
            Some(range) => Ok(Some(range)),
            None => Err(self.bad_property("reg", "wraps around the address space")),
        }
    }

    /// Where the bus that this node is on has what CPUs see at `range`: the inverse of [`Node::translate`].
    ///
    /// `None` if the bus does not reach it.
    pub fn untranslate(&self, range: PhysRange) -> Result<Option<BusAddress>, DtError> {
        let mut buses: Vec<Self> = self.ancestors().collect();
        // The root's bus is the CPUs' own.
        buses.pop();
        let mut address = BusAddress {
            high: 0,
            low: range.start().0,
        };
        for bus in buses.iter().rev() {
            let Some(mappings) = bus.mappings()? else {
                return Ok(None);
            };
            if mappings.is_empty() {
                continue;
            }
            let found = mappings.iter().find_map(|mapping| {
                let offset = address.low.checked_sub(mapping.parent.low)?;
                let room = mapping.size.checked_sub(offset)?;
                (mapping.parent.high == address.high && range.size() <= room).then_some(())?;
                Some(BusAddress {
                    high: mapping.child.high,
                    low: mapping.child.low.checked_add(offset)?,
                })
            });
            match found {
                Some(found) => address = found,
                None => return Ok(None),
            }
        }
        Ok(Some(address))
    }
}

impl Mapping {
    /// How far into the mapping `address` lies, if it does.
    fn offset_of(&self, address: BusAddress, pci: bool) -> Option<u64> {
        let same_space = if pci {
            // 32-bit and 64-bit memory are one space with two encodings.
            let space = |high: u32| match high & PCI_SPACE {
                0x0300_0000 => 0x0200_0000,
                space => space,
            };
            space(self.child.high) == space(address.high) && space(address.high) != PCI_CONFIG
        } else {
            self.child.high == address.high
        };
        let offset = address.low.checked_sub(self.child.low)?;
        (same_space && offset < self.size).then_some(offset)
    }
}
