//! The Arm generic interrupt controller's node and its interrupt specifiers.
//!
//! Bindings: `interrupt-controller/arm,gic.yaml` and `arm,gic-v3.yaml`.

use super::error::DtError;
use super::interrupt::Interrupt;
use super::node::Node;
use super::tree::{NodeId, Tree};
use crate::range::PhysRange;
use alloc::vec::Vec;

/// What makes an interrupt pend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The tree leaves the choice to the controller's reset state.
    Unspecified,
    /// A rising edge.
    EdgeRising,
    /// A falling edge.
    EdgeFalling,
    /// Both edges.
    EdgeBoth,
    /// A high level.
    LevelHigh,
    /// A low level.
    LevelLow,
}

impl Trigger {
    /// Meaning of the low four bits of a specifier's third cell; `None` for a combination that means nothing.
    fn from_flags(flags: u32) -> Option<Self> {
        Some(match flags & 0xf {
            0 => Self::Unspecified,
            1 => Self::EdgeRising,
            2 => Self::EdgeFalling,
            3 => Self::EdgeBoth,
            4 => Self::LevelHigh,
            8 => Self::LevelLow,
            _ => return None,
        })
    }

    /// The low four bits of a specifier's third cell that mean this trigger.
    pub fn to_flags(self) -> u32 {
        match self {
            Self::Unspecified => 0,
            Self::EdgeRising => 1,
            Self::EdgeFalling => 2,
            Self::EdgeBoth => 3,
            Self::LevelHigh => 4,
            Self::LevelLow => 8,
        }
    }

    /// Whether an edge pends the interrupt; not so for a level or where the tree does not say.
    pub fn is_edge(self) -> bool {
        matches!(self, Self::EdgeRising | Self::EdgeFalling | Self::EdgeBoth)
    }
}

/// An interrupt of the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GicInterrupt {
    /// The GIC's number: 16 to 31 and 1056 to 1119 for private, 32 to 1019 and 4096 to 5119 for shared interrupts.
    pub intid: u32,
    /// What makes it pend.
    pub trigger: Trigger,
}

impl GicInterrupt {
    /// Decodes a specifier; `None` if it names no interrupt of a GIC.
    pub fn decode(cells: &[u32]) -> Option<Self> {
        let [kind, number, flags, ..] = *cells else {
            return None;
        };
        let (base, count) = match kind {
            0 => (32, 988),
            1 => (16, 16),
            2 => (4096, 1024),
            3 => (1056, 64),
            _ => return None,
        };
        (number < count).then_some(())?;
        Some(Self {
            intid: base + number,
            trigger: Trigger::from_flags(flags)?,
        })
    }

    /// Whether each CPU has its own instance.
    pub fn is_private(&self) -> bool {
        matches!(self.intid, 16..32 | 1056..1120)
    }
}

/// What distinguishes the GIC's architectures in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2.
    V2 {
        /// The distributor.
        distributor: PhysRange,
        /// The CPU interface (GICC).
        cpu_interface: PhysRange,
        /// The virtual interface control registers (GICH), if the node lists them.
        hypervisor: Option<PhysRange>,
        /// The virtual CPU interface (GICV), if the node lists it.
        virtual_cpu: Option<PhysRange>,
    },
    /// GICv3 or GICv4.
    V3 {
        /// The distributor.
        distributor: PhysRange,
        /// The redistributor regions.
        redistributors: Vec<PhysRange>,
        /// Bytes between redistributors, if not the architecture's.
        stride: Option<u64>,
        /// GICC, GICH and GICV of a GIC that can also do GICv2, as far as listed.
        legacy: [Option<PhysRange>; 3],
    },
}

/// The root interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// Its node.
    pub node: NodeId,
    /// Architecture and registers.
    pub version: GicVersion,
    /// The maintenance interrupt.
    pub maintenance: Option<GicInterrupt>,
    /// Registers of the interrupt translation services below it.
    pub its: Vec<PhysRange>,
}

/// `compatible` strings of GICv2 implementations.
pub(crate) const V2_COMPATIBLE: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,eb11mp-gic",
    "qcom,msm-qgic2",
];
/// `compatible` strings of GICv3 implementations.
pub(crate) const V3_COMPATIBLE: &[&str] = &["arm,gic-v3", "qcom,msm8996-gic-v3"];

/// `compatible` string of frames of the GICv2m extension.
const MESSAGE_FRAME: &str = "arm,gic-v2m-frame";

/// More redistributor regions than any machine has.
const MAX_REGIONS: u32 = 64;

impl<'a> Tree<'a> {
    /// The root GIC: the enabled GIC whose interrupts, if it has any, come to itself.
    ///
    /// # Errors
    /// There is none, or its node is malformed.
    pub fn gic(&self) -> Result<Gic, DtError> {
        let any: Vec<&str> = [V2_COMPATIBLE, V3_COMPATIBLE].concat();
        for node in self.compatible(&any) {
            let parent = node.interrupt_parent()?;
            if node.is_enabled() && parent.is_none_or(|parent| parent == node || !parent.is_gic()) {
                return node.read_gic();
            }
        }
        Err(self
            .root()
            .bad_node("has no enabled GIC (arm,gic-400 or alike, or arm,gic-v3)"))
    }
}

impl<'t, 'a> Node<'t, 'a> {
    pub(crate) fn is_gic(&self) -> bool {
        self.is_compatible(V2_COMPATIBLE) || self.is_compatible(V3_COMPATIBLE)
    }

    /// Whether the node is a GICv2m frame: devices write to it to make a shared interrupt pend.
    pub(crate) fn is_message_frame(&self) -> bool {
        self.is_compatible(&[MESSAGE_FRAME])
    }

    fn read_gic(&self) -> Result<Gic, DtError> {
        let regs = self.mmio_by_index()?;
        let region = |index: usize| regs.get(index).copied().flatten();
        let required = |index, why| region(index).ok_or_else(|| self.bad_property("reg", why));
        let distributor = required(0, "has no distributor that CPUs see")?;
        let version = if self.is_compatible(V3_COMPATIBLE) {
            let count = self.u32("#redistributor-regions")?.unwrap_or(1);
            if !(1..=MAX_REGIONS).contains(&count) {
                return Err(self.bad_property("#redistributor-regions", "is not between 1 and 64"));
            }
            let count = count as usize;
            GicVersion::V3 {
                distributor,
                redistributors: (1..=count)
                    .map(|i| required(i, "has too few redistributor regions"))
                    .collect::<Result<_, _>>()?,
                stride: self
                    .u64("redistributor-stride")?
                    .filter(|stride| *stride != 0),
                legacy: [region(count + 1), region(count + 2), region(count + 3)],
            }
        } else {
            GicVersion::V2 {
                distributor,
                cpu_interface: required(1, "has no CPU interface that CPUs see")?,
                hypervisor: region(2),
                virtual_cpu: region(3),
            }
        };
        let maintenance = match self.interrupts()?.first() {
            Some(interrupt) => self.gic_interrupt(interrupt)?,
            None => None,
        };
        let mut its = Vec::new();
        for child in self.children() {
            if child.is_available() && child.is_compatible(&["arm,gic-v3-its"]) {
                its.extend(child.mmio()?);
            }
        }
        Ok(Gic {
            node: self.id(),
            version,
            maintenance,
            its,
        })
    }

    /// Follows `interrupt` of this node to a GIC and decodes it there; `None` if another controller raises it.
    ///
    /// # Errors
    /// A malformed interrupt map, or a specifier that names no interrupt of the GIC.
    pub fn gic_interrupt(&self, interrupt: &Interrupt) -> Result<Option<GicInterrupt>, DtError> {
        match self.route(interrupt)? {
            Some(routed) => self.decode_routed(&routed),
            None => Ok(None),
        }
    }

    /// The GIC's interrupts among those that the lines of this nexus's `interrupt-map` lead to.
    pub fn mapped_gic_interrupts(&self) -> Result<Vec<GicInterrupt>, DtError> {
        let mut interrupts = Vec::new();
        for routed in self.mapped_interrupts()? {
            interrupts.extend(self.decode_routed(&routed)?);
        }
        Ok(interrupts)
    }

    fn decode_routed(&self, routed: &Interrupt) -> Result<Option<GicInterrupt>, DtError> {
        match self.tree().node(routed.controller) {
            Some(controller) if controller.is_gic() || controller.is_transparent()? => {
                GicInterrupt::decode(&routed.cells)
                    .map(Some)
                    .ok_or_else(|| {
                        self.bad_node("has an interrupt specifier that the GIC does not know")
                    })
            }
            _ => Ok(None),
        }
    }

    /// Whether the node is a controller that sits on the lines between devices and the GIC to wake the machine, and
    /// so has the GIC's specifiers and no interrupts of its own.
    fn is_transparent(&self) -> Result<bool, DtError> {
        if self.has("interrupts")
            || self.has("interrupts-extended")
            || !self.has("interrupt-parent")
        {
            return Ok(false);
        }
        let parent = self.interrupt_parent()?;
        let same_cells = |parent: Node<'t, 'a>| parent.prop("#interrupt-cells").map(|p| p.value);
        Ok(parent.is_some_and(|parent| {
            parent.is_gic() && same_cells(parent) == self.prop("#interrupt-cells").map(|p| p.value)
        }))
    }
}
