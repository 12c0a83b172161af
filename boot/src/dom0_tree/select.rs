//! Which nodes of the host's tree dom0 gets to see.

use crate::dt::{Node, NodeId, Tree};
use crate::modules::is_hypervisors;
use alloc::vec;
use alloc::vec::Vec;

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// dom0 gets it.
    Keep,
    /// dom0 does not get it, nor anything below it, and it is a device that the hypervisor keeps for itself.
    Hidden,
    /// dom0 does not get it, nor anything below it: it describes what dom0 gets in another form, or not at all.
    Drop,
    /// The root GIC: dom0 gets a node in its place that describes its virtual one.
    Gic,
}

/// The fate of each node of a tree.
#[derive(Clone, Debug)]
pub struct Selection {
    fates: Vec<Fate>,
}

/// IOMMUs: they decide whose memory devices reach, so dom0 must not program them.
const IOMMUS: &[&str] = &[
    "arm,smmu-v1",
    "arm,smmu-v2",
    "arm,smmu-v3",
    "arm,mmu-400",
    "arm,mmu-401",
    "arm,mmu-500",
    "cavium,smmu-v2",
    "marvell,ap806-smmu-500",
    "nvidia,smmu-500",
    "qcom,adreno-smmu",
    "qcom,smmu-500",
    "qcom,smmu-v2",
];

impl Selection {
    /// Decides the fate of each node of `tree`. `gic` is the root GIC's node; `claimed` are the devices that the
    /// hypervisor keeps for itself, such as its console's UART.
    pub fn new(tree: &Tree<'_>, gic: NodeId, claimed: &[NodeId]) -> Self {
        let mut selection = Self {
            fates: vec![Fate::Keep; tree.nodes().count()],
        };
        for node in tree.nodes() {
            // Parents come first in document order.
            let inherited = match node.parent().map(|parent| selection.fate(parent.id())) {
                None | Some(Fate::Keep) => None,
                // Frames that turn messages into shared interrupts work beside a virtual GIC as well. Interrupt
                // translation and partitions are parts of the real one.
                Some(Fate::Gic) if node.is_message_frame() => None,
                Some(Fate::Gic) => Some(Fate::Hidden),
                Some(fate) => Some(fate),
            };
            let fate = inherited.unwrap_or_else(|| {
                if node.id() == gic {
                    Fate::Gic
                } else if claimed.contains(&node.id()) || node.is_compatible(IOMMUS) {
                    Fate::Hidden
                } else if is_replaced(node) {
                    Fate::Drop
                } else {
                    Fate::Keep
                }
            });
            if let Some(slot) = selection.fates.get_mut(node.id().index()) {
                *slot = fate;
            }
        }
        selection
    }

    /// What becomes of the node.
    pub fn fate(&self, node: NodeId) -> Fate {
        self.fates
            .get(node.index())
            .copied()
            .unwrap_or(Fate::Hidden)
    }

    /// Whether dom0's tree has the node as it is.
    pub fn keeps(&self, node: NodeId) -> bool {
        self.fate(node) == Fate::Keep
    }
}

/// Whether dom0 gets the node in another form or cannot have what it describes.
fn is_replaced(node: Node<'_, '_>) -> bool {
    let Some(parent) = node.parent() else {
        return false;
    };
    let at_root = parent.parent().is_none();
    let in_chosen = node
        .ancestors()
        .any(|node| node.base_name() == "chosen" && node.ancestors().count() == 1);
    node.is_memory()
        || node.is_psci()
        || (at_root && node.base_name() == "cpus")
        || node.is_compatible(&["xen,xen"])
        || (in_chosen && is_hypervisors(node))
        || is_cpu_pmu(node)
}

/// Whether the node is a CPU's performance monitor, which the trap of its registers keeps from dom0. Monitors with
/// registers in memory are ordinary devices.
fn is_cpu_pmu(node: Node<'_, '_>) -> bool {
    !node.has("reg")
        && node
            .strings("compatible")
            .any(|name| name == "arm,armv8-pmuv3" || name.ends_with("-pmu"))
}
