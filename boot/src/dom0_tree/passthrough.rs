//! Registers and interrupts of the devices that dom0 gets.

use super::select::Selection;
use crate::dt::{DtError, GicInterrupt, Node, NodeId, Tree};
use crate::range::PhysRange;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use xen_core::PAGE_SIZE;

/// What the domain builder maps into dom0 one to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passthrough {
    /// Device memory: whole pages, sorted, merged, clear of RAM and of the real GIC.
    pub mmio: Vec<PhysRange>,
    /// Regions of `/reserved-memory`, which are ordinary memory; whole pages, sorted, merged.
    pub reserved: Vec<PhysRange>,
    /// Shared interrupts, by number.
    pub spis: Vec<GicInterrupt>,
    /// Frames whose shared interrupts only the hardware tells; their registers are in `mmio` too.
    pub message_frames: Vec<MessageFrame>,
    /// Private interrupts that devices or the timer use, by number. The event-channel interrupt must not be one of them.
    pub ppis: Vec<GicInterrupt>,
    /// What could not be passed through.
    pub problems: Vec<Problem>,
}

/// A GICv2m frame: a device's write to it makes one of its shared interrupts pend (binding `arm,gic.yaml`; register
/// layout in Arm's Server Base System Architecture, appendix on GICv2m).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageFrame {
    /// Its registers, at least a page.
    pub registers: PhysRange,
    /// First interrupt, where the tree overrides `MSI_TYPER`.
    pub base: Option<u32>,
    /// Number of interrupts, where the tree overrides `MSI_TYPER`.
    pub count: Option<u32>,
}

impl MessageFrame {
    /// Offset of `MSI_TYPER`, 32 bits.
    pub const TYPER: usize = 8;

    /// The frame's interrupts, given the content of `MSI_TYPER`; empty if they are not all shared interrupts.
    pub fn interrupts(&self, typer: u32) -> Range<u32> {
        let base = self.base.unwrap_or(typer >> 16 & 0x3ff);
        let count = self.count.unwrap_or(typer & 0x3ff);
        match base.checked_add(count) {
            Some(end) if base >= 32 && end <= 1020 => base..end,
            _ => 0..0,
        }
    }
}

/// Something that dom0 does not get although its tree lists it. `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The node is malformed.
    Node(DtError),
    /// Part of the node's registers lies in RAM or over the GIC.
    Withheld {
        /// Path of the node.
        node: String,
        /// The registers.
        range: PhysRange,
    },
    /// Two devices want an interrupt triggered differently; the first one's way is taken.
    Trigger {
        /// Path of the second node.
        node: String,
        /// The interrupt.
        intid: u32,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(error) => error.fmt(f),
            Self::Withheld { node, range } => write!(
                f,
                "{node} has registers at {range}, which are partly RAM or the GIC's and not given to dom0"
            ),
            Self::Trigger { node, intid } => write!(
                f,
                "{node} wants interrupt {intid} triggered in another way than a device before it"
            ),
        }
    }
}

/// Lists what the devices that `selection` keeps need. Disabled devices need nothing. `gic` is the root GIC's node.
pub fn passthrough(host: &Tree<'_>, selection: &Selection, gic: NodeId) -> Passthrough {
    let mut lists = Lists {
        withheld: withheld(host, selection, gic),
        ..Lists::default()
    };
    for node in host.nodes() {
        if !selection.keeps(node.id()) || !node.is_enabled() {
            continue;
        }
        lists.take(node);
    }
    let mut result = Passthrough {
        mmio: merge(lists.mmio),
        reserved: merge(lists.reserved),
        message_frames: lists.message_frames,
        problems: lists.problems,
        ..Passthrough::default()
    };
    for interrupt in lists.interrupts.into_values() {
        if interrupt.is_private() {
            result.ppis.push(interrupt);
        } else {
            result.spis.push(interrupt);
        }
    }
    result
}

/// Pages that no device's registers may name: RAM, the root GIC's registers and those of its parts that stay hidden.
fn withheld(host: &Tree<'_>, selection: &Selection, gic: NodeId) -> Vec<PhysRange> {
    let mut ranges = Vec::new();
    for node in host.nodes() {
        let parts_of_gic =
            host.node(gic).is_some_and(|gic| node.is_within(gic)) && !selection.keeps(node.id());
        if node.is_memory() || parts_of_gic {
            // A malformed one is reported where it is used.
            ranges.extend(node.mmio().unwrap_or_default());
        }
    }
    merge(ranges.iter().filter_map(PhysRange::to_pages).collect())
}

#[derive(Default)]
struct Lists {
    withheld: Vec<PhysRange>,
    mmio: Vec<PhysRange>,
    reserved: Vec<PhysRange>,
    interrupts: BTreeMap<u32, GicInterrupt>,
    message_frames: Vec<MessageFrame>,
    problems: Vec<Problem>,
}

impl Lists {
    fn take(&mut self, node: Node<'_, '_>) {
        match node.mmio() {
            Ok(ranges) if is_reserved_memory(node) => {
                let pages = ranges.iter().filter_map(PhysRange::to_pages);
                self.reserved.extend(pages);
            }
            Ok(ranges) => {
                if node.is_message_frame() {
                    self.take_message_frame(node, &ranges);
                }
                self.take_mmio(node, &ranges);
            }
            Err(error) => self.problems.push(Problem::Node(error)),
        }
        if is_pci_host(node) {
            match node.pci_windows() {
                Ok(ranges) => self.take_mmio(node, &ranges),
                Err(error) => self.problems.push(Problem::Node(error)),
            }
        }
        match interrupts(node) {
            Ok(interrupts) => self.take_interrupts(node, &interrupts),
            Err(error) => self.problems.push(Problem::Node(error)),
        }
    }

    fn take_message_frame(&mut self, node: Node<'_, '_>, ranges: &[PhysRange]) {
        let number = |name| node.u32(name);
        match (
            number("arm,msi-base-spi"),
            number("arm,msi-num-spis"),
            ranges.first(),
        ) {
            (Ok(base), Ok(count), Some(registers)) if registers.size() >= PAGE_SIZE => {
                self.message_frames.push(MessageFrame {
                    registers: *registers,
                    base,
                    count,
                })
            }
            (Err(error), ..) | (_, Err(error), _) => self.problems.push(Problem::Node(error)),
            _ => self.problems.push(Problem::Node(
                node.bad_property("reg", "is not the page of registers of a GICv2m frame"),
            )),
        }
    }

    fn take_mmio(&mut self, node: Node<'_, '_>, ranges: &[PhysRange]) {
        for range in ranges {
            let Some(pages) = range.to_pages() else {
                continue;
            };
            let rest = subtract(pages, &self.withheld);
            if rest != [pages] {
                self.problems.push(Problem::Withheld {
                    node: node.path(),
                    range: *range,
                });
            }
            self.mmio.extend(rest);
        }
    }

    fn take_interrupts(&mut self, node: Node<'_, '_>, interrupts: &[GicInterrupt]) {
        for interrupt in interrupts {
            let first = *self.interrupts.entry(interrupt.intid).or_insert(*interrupt);
            if first.trigger != interrupt.trigger {
                self.problems.push(Problem::Trigger {
                    node: node.path(),
                    intid: interrupt.intid,
                });
            }
        }
    }
}

/// The GIC's interrupts that the node uses itself or, as a nexus, passes on.
fn interrupts(node: Node<'_, '_>) -> Result<Vec<GicInterrupt>, DtError> {
    let mut list = node.mapped_gic_interrupts()?;
    for interrupt in node.interrupts()? {
        list.extend(node.gic_interrupt(&interrupt)?);
    }
    Ok(list)
}

fn is_reserved_memory(node: Node<'_, '_>) -> bool {
    node.parent()
        .is_some_and(|parent| parent.name() == "reserved-memory")
        && node.ancestors().count() == 2
}

/// Whether the node is the bridge between the CPUs' bus and a PCI bus, not one further down.
fn is_pci_host(node: Node<'_, '_>) -> bool {
    node.is_pci_bus() && !node.ancestors().any(|above| above.is_pci_bus())
}

/// Sorts `ranges` and joins those that touch.
fn merge(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PhysRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = last.end().max(range.end());
                if let Some(joined) = PhysRange::from_bounds(last.start(), end) {
                    *last = joined;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `range` is in none of `taken`, which is sorted and merged.
fn subtract(range: PhysRange, taken: &[PhysRange]) -> Vec<PhysRange> {
    let mut rest = Vec::new();
    let mut from = range.start();
    for hole in taken.iter().filter(|hole| hole.overlaps(&range)) {
        rest.extend(PhysRange::from_bounds(from, hole.start()));
        from = hole.end();
    }
    rest.extend(PhysRange::from_bounds(from, range.end()));
    rest
}

impl Passthrough {
    /// The highest shared interrupt's number, if there is one: how large dom0's distributor must be.
    pub fn highest_spi(&self) -> Option<u32> {
        self.spis.last().map(|interrupt| interrupt.intid)
    }

    /// The highest private interrupt of 16 to 31 that neither a device nor `reserved` uses: for event channels.
    pub fn free_ppi(&self, reserved: &[u32]) -> Option<u32> {
        (16..32).rev().find(|intid| {
            !reserved.contains(intid) && self.ppis.iter().all(|used| used.intid != *intid)
        })
    }
}
