//! What the hypervisor itself must know of the machine: memory, CPUs, PSCI, the timer and the console.

use super::error::DtError;
use super::gic::GicInterrupt;
use super::node::Node;
use super::tree::{NodeId, Tree};
use crate::range::PhysRange;
use alloc::vec::Vec;

/// A statically placed child of `/reserved-memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRegion {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub range: PhysRange,
    /// Whether nobody may map it as ordinary memory (`no-map`).
    pub no_map: bool,
}

/// How a CPU is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableMethod<'a> {
    /// By a PSCI call.
    Psci,
    /// By writing an entry address to this location (`cpu-release-addr`).
    SpinTable(u64),
    /// By something else, or the node does not say.
    Other(Option<&'a str>),
}

/// A CPU of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu<'a> {
    /// The node.
    pub node: NodeId,
    /// The affinity fields of its MPIDR, at their places in that register.
    pub mpidr: u64,
    /// How it is started.
    pub enable: EnableMethod<'a>,
    /// Whether the node is available.
    pub available: bool,
}

/// The instruction that calls PSCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PsciConduit {
    /// `smc`.
    Smc,
    /// `hvc`.
    Hvc,
}

/// Where PSCI's function numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PsciFunctions {
    /// PSCI 0.2 or later: the standard's numbers.
    Standard,
    /// PSCI 0.1: the tree's numbers.
    Listed {
        /// `cpu_on`.
        cpu_on: Option<u32>,
        /// `cpu_off`.
        cpu_off: Option<u32>,
        /// `cpu_suspend`.
        cpu_suspend: Option<u32>,
        /// `migrate`.
        migrate: Option<u32>,
    },
}

/// The firmware's PSCI interface (binding `arm/psci.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// The node.
    pub node: NodeId,
    /// How to call it.
    pub conduit: PsciConduit,
    /// Its function numbers.
    pub functions: PsciFunctions,
}

/// The Arm generic timer's interrupts (binding `timer/arm,arch_timer.yaml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The node.
    pub node: NodeId,
    /// Secure physical timer.
    pub secure: Option<GicInterrupt>,
    /// Non-secure physical timer (EL1).
    pub physical: Option<GicInterrupt>,
    /// Virtual timer.
    pub virtual_: Option<GicInterrupt>,
    /// Hypervisor's physical timer (EL2).
    pub hypervisor: Option<GicInterrupt>,
    /// Hypervisor's virtual timer (EL2, with VHE).
    pub hypervisor_virtual: Option<GicInterrupt>,
    /// Counter frequency in Hz, where firmware left the register wrong.
    pub frequency: Option<u32>,
}

/// A console's node and the options after the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsolePath<'t, 'a, 's> {
    /// The device.
    pub node: Node<'t, 'a>,
    /// What stands after the colon, empty if nothing does.
    pub options: &'s str,
}

impl<'a> Tree<'a> {
    /// The RAM that the enabled memory nodes list, in document order; neither sorted nor merged.
    ///
    /// # Errors
    /// A malformed node, banks that overlap, or no memory at all.
    pub fn memory(&self) -> Result<Vec<PhysRange>, DtError> {
        let mut banks: Vec<PhysRange> = Vec::new();
        for node in self.nodes() {
            if !node.is_memory() || !node.is_enabled() {
                continue;
            }
            for bank in node.mmio()? {
                if banks.iter().any(|other| other.overlaps(&bank)) {
                    return Err(node.bad_property("reg", "overlaps another memory bank"));
                }
                banks.push(bank);
            }
        }
        if banks.is_empty() {
            return Err(self.root().bad_node("lists no memory"));
        }
        Ok(banks)
    }

    /// The statically placed children of `/reserved-memory`. Regions that the operating system places itself are not
    /// listed.
    pub fn reserved_memory(&self) -> Result<Vec<ReservedRegion>, DtError> {
        let mut regions = Vec::new();
        let Some(parent) = self.find("/reserved-memory") else {
            return Ok(regions);
        };
        for node in parent.children().filter(Node::is_available) {
            let no_map = node.has("no-map");
            let node_id = node.id();
            regions.extend(node.mmio()?.into_iter().map(|range| ReservedRegion {
                node: node_id,
                range,
                no_map,
            }));
        }
        Ok(regions)
    }

    /// The CPUs below `/cpus`, unavailable ones included.
    pub fn cpus(&self) -> Result<Vec<Cpu<'a>>, DtError> {
        let mut cpus: Vec<Cpu<'a>> = Vec::new();
        let parent = self
            .find("/cpus")
            .ok_or_else(|| self.root().bad_node("has no /cpus"))?;
        for node in parent.children().filter(Node::is_cpu) {
            let reg = node.reg()?;
            let [reg] = reg.as_slice() else {
                return Err(node.bad_property("reg", "is not one CPU number"));
            };
            let mpidr = reg.address.low;
            if cpus.iter().any(|cpu| cpu.mpidr == mpidr) {
                return Err(node.bad_property("reg", "is another CPU's number"));
            }
            let enable = match node.strings("enable-method").next() {
                Some("psci") => EnableMethod::Psci,
                Some("spin-table") => match node.u64("cpu-release-addr")? {
                    Some(address) => EnableMethod::SpinTable(address),
                    None => {
                        return Err(node.bad_node("is a spin-table CPU without cpu-release-addr"));
                    }
                },
                other => EnableMethod::Other(other),
            };
            cpus.push(Cpu {
                node: node.id(),
                mpidr,
                enable,
                available: node.is_available(),
            });
        }
        Ok(cpus)
    }

    /// The firmware's PSCI interface, if the tree has an enabled one.
    pub fn psci(&self) -> Result<Option<Psci>, DtError> {
        let standard = ["arm,psci-1.0", "arm,psci-0.2"];
        let Some(node) = self
            .nodes()
            .find(|node| node.is_psci() && node.is_enabled())
        else {
            return Ok(None);
        };
        let conduit = match node.str("method")? {
            Some("smc") => PsciConduit::Smc,
            Some("hvc") => PsciConduit::Hvc,
            Some(_) => return Err(node.bad_property("method", "is neither smc nor hvc")),
            None => return Err(node.bad_node("has no method")),
        };
        let functions = if node.is_compatible(&standard) {
            PsciFunctions::Standard
        } else {
            PsciFunctions::Listed {
                cpu_on: node.u32("cpu_on")?,
                cpu_off: node.u32("cpu_off")?,
                cpu_suspend: node.u32("cpu_suspend")?,
                migrate: node.u32("migrate")?,
            }
        };
        Ok(Some(Psci {
            node: node.id(),
            conduit,
            functions,
        }))
    }

    /// The generic timer's interrupts, if the tree has an enabled one.
    pub fn timer(&self) -> Result<Option<Timer>, DtError> {
        let Some(node) = self
            .compatible(&["arm,armv8-timer", "arm,armv7-timer"])
            .find(Node::is_enabled)
        else {
            return Ok(None);
        };
        let interrupts = node.interrupts_by_index()?;
        let named = node.has("interrupt-names");
        let get = |name: &str, index: usize| {
            let index = if named {
                node.strings("interrupt-names").position(|n| n == name)
            } else {
                Some(index)
            };
            match index.and_then(|index| interrupts.get(index)?.as_ref()) {
                Some(interrupt) => node.gic_interrupt(interrupt),
                None => Ok(None),
            }
        };
        Ok(Some(Timer {
            node: node.id(),
            secure: get("sec-phys", 0)?,
            physical: get("phys", 1)?,
            virtual_: get("virt", 2)?,
            hypervisor: get("hyp-phys", 3)?,
            hypervisor_virtual: get("hyp-virt", 4)?,
            frequency: node.u32("clock-frequency")?,
        }))
    }

    /// The device and options that `text` names: an absolute path or an alias, then perhaps a colon and options. This is
    /// the form of `stdout-path` and of the command line's `dtuart`.
    pub fn console<'s>(&self, text: &'s str) -> Option<ConsolePath<'_, 'a, 's>> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        let node = self.find(path)?;
        Some(ConsolePath { node, options })
    }

    /// The firmware's console: what `/chosen` names as `stdout-path`.
    pub fn stdout(&self) -> Option<ConsolePath<'_, 'a, 'a>> {
        let chosen = self.find("/chosen")?;
        let text = ["stdout-path", "linux,stdout-path"]
            .iter()
            .find_map(|name| chosen.str(name).ok()?)?;
        self.console(text)
    }
}

impl<'t, 'a> Node<'t, 'a> {
    fn has_device_type(&self, kind: &str) -> bool {
        self.prop("device_type").and_then(|p| p.as_str()) == Some(kind)
    }

    /// Whether the node lists RAM.
    pub(crate) fn is_memory(&self) -> bool {
        self.has_device_type("memory")
            || (self.base_name() == "memory"
                && self
                    .parent()
                    .is_some_and(|parent| parent.parent().is_none()))
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.has_device_type("cpu") || self.base_name() == "cpu"
    }

    pub(crate) fn is_psci(&self) -> bool {
        self.is_compatible(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"])
    }
}
