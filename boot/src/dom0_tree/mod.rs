//! The device tree that dom0 boots with: the host's, less what the hypervisor keeps, with dom0's own memory, vCPUs,
//! interrupt controller and hypervisor node.
//!
//! [`Selection`] decides for each node whether dom0 gets it; [`build`] writes the tree; [`passthrough()`] lists the
//! registers and interrupts of the devices that dom0 gets, which the domain builder maps. All three follow the same
//! selection, so that dom0 is told of no device it cannot reach, and reaches none it is not told of.
//!
//! | module | idea |
//! | --- | --- |
//! | `select` | which nodes |
//! | `filter` | which of their properties |
//! | `nodes` | the nodes that describe the domain |
//! | `passthrough` | memory and interrupts of the devices |
//! | `writer` | the flattened format |
//!
//! Phandles keep their values. Bindings: `arm/xen.txt`, `arm/psci.yaml`, `arm/cpus.yaml`, the two GICs, `chosen`.

mod filter;
mod nodes;
mod passthrough;
mod select;
mod writer;

#[cfg(test)]
mod tests;

pub use crate::range::Bank;
pub use passthrough::{MessageFrame, Passthrough, Problem, passthrough};
pub use select::{Fate, Selection};

use crate::dt::{DtError, NodeId, Tree};
use alloc::vec::Vec;
use core::fmt;
use writer::Writer;

/// What dom0's tree says beyond the host's.
#[derive(Clone, Debug)]
pub struct Dom0TreeConfig<'c> {
    /// dom0's memory, at least one bank.
    pub memory: &'c [Bank],
    /// dom0's command line.
    pub cmdline: &'c str,
    /// Where dom0's initial ramdisk is.
    pub initrd: Option<Bank>,
    /// The affinity fields of each vCPU's MPIDR, boot vCPU first; at least one.
    pub vcpus: &'c [u64],
    /// dom0's interrupt controller.
    pub gic: Dom0Gic<'c>,
    /// What the hypervisor node says.
    pub hypervisor: HypervisorNode<'c>,
}

/// Registers of dom0's interrupt controller, as dom0 sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dom0Gic<'c> {
    /// GICv2.
    V2 {
        /// The distributor.
        distributor: Bank,
        /// The CPU interface.
        cpu_interface: Bank,
    },
    /// GICv3.
    V3 {
        /// The distributor.
        distributor: Bank,
        /// The redistributor regions, at least one.
        redistributors: &'c [Bank],
        /// Bytes between redistributors, if not the architecture's.
        stride: Option<u64>,
    },
}

/// What dom0's `/hypervisor` says (binding `arm/xen.txt`).
#[derive(Clone, Copy, Debug)]
pub struct HypervisorNode<'c> {
    /// Version of the interface, major and minor: Linux finds it as `xen,xen-MAJOR.MINOR`.
    pub version: (u16, u16),
    /// First where dom0 may place its grant table, then unused address space for foreign mappings.
    pub regions: &'c [Bank],
    /// The GIC's number, 16 to 31, of the private interrupt for event channels.
    pub event_interrupt: u32,
}

/// Why dom0's tree cannot be written. `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dom0TreeError {
    /// The host's tree is malformed.
    Tree(DtError),
    /// The configuration is one that no tree can express.
    Config(&'static str),
    /// An address or size does not fit the tree's cells; the text names what it is of.
    DoesNotFit(&'static str),
    /// The tree is larger than the format allows.
    TooLarge,
}

impl From<DtError> for Dom0TreeError {
    fn from(error: DtError) -> Self {
        Self::Tree(error)
    }
}

impl fmt::Display for Dom0TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Config(why) => write!(f, "dom0's device tree cannot be written: {why}"),
            Self::DoesNotFit(what) => write!(
                f,
                "dom0's device tree cannot be written: the address of {what} does not fit the host tree's cells"
            ),
            Self::TooLarge => f.write_str("dom0's device tree is too large"),
        }
    }
}

impl core::error::Error for Dom0TreeError {}

/// Writes dom0's tree: what `selection` keeps of `host`, and what `config` says. `gic` is the root GIC's node.
///
/// # Errors
/// The host's tree has a malformed cell count, or `config` does not fit it.
pub fn build(
    host: &Tree<'_>,
    selection: &Selection,
    gic: NodeId,
    config: &Dom0TreeConfig<'_>,
) -> Result<Vec<u8>, Dom0TreeError> {
    config.check()?;
    let gic = host.node(gic).ok_or(Dom0TreeError::Config(
        "the GIC's node is not in the host's tree",
    ))?;
    let gic_phandle = gic.phandle().unwrap_or_else(|| nodes::free_phandle(host));
    let mut writer = Writer::default();
    // Where each open node's subtree ends.
    let mut open: Vec<usize> = Vec::new();
    let mut chosen_seen = false;
    let mut skip_to = 0;
    for node in host.nodes() {
        let index = node.id().index();
        if index < skip_to {
            continue;
        }
        while open.last().is_some_and(|end| *end <= index) {
            open.pop();
            writer.end();
        }
        match selection.fate(node.id()) {
            Fate::Keep => {
                writer.begin(node.name());
                open.push(node.subtree_end());
                for property in filter::properties(node, selection) {
                    writer.prop(property.name, property.value);
                }
                if filter::is_chosen(node) {
                    nodes::chosen_properties(&mut writer, config);
                    chosen_seen = true;
                }
            }
            Fate::Gic => {
                writer.begin(node.name());
                open.push(node.subtree_end());
                nodes::gic(&mut writer, node, gic_phandle, &config.gic)?;
            }
            Fate::Hidden | Fate::Drop => skip_to = node.subtree_end(),
        }
    }
    // All but the root end here.
    while open.len() > 1 {
        open.pop();
        writer.end();
    }
    if !chosen_seen {
        writer.begin("chosen");
        nodes::chosen_properties(&mut writer, config);
        writer.end();
    }
    nodes::memory(&mut writer, host, config.memory)?;
    nodes::cpus(&mut writer, host, config.vcpus)?;
    nodes::psci(&mut writer, host);
    nodes::hypervisor(&mut writer, host, gic, gic_phandle, &config.hypervisor)?;
    writer.end();
    writer.finish(0).ok_or(Dom0TreeError::TooLarge)
}

impl Dom0TreeConfig<'_> {
    fn check(&self) -> Result<(), Dom0TreeError> {
        let wrong = |why| Err(Dom0TreeError::Config(why));
        if self.memory.iter().all(|bank| bank.size == 0) {
            return wrong("dom0 has no memory");
        }
        if self.vcpus.is_empty() {
            return wrong("dom0 has no vCPU");
        }
        if self.cmdline.contains('\0') {
            return wrong("dom0's command line contains a NUL");
        }
        if self.hypervisor.regions.is_empty() {
            return wrong("there is no region for grant tables");
        }
        if !(16..32).contains(&self.hypervisor.event_interrupt) {
            return wrong("the event-channel interrupt is not private");
        }
        match self.gic {
            Dom0Gic::V3 {
                redistributors: [], ..
            } => wrong("dom0's GICv3 has no redistributor"),
            _ => Ok(()),
        }
    }
}
