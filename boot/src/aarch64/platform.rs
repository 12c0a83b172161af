//! What the device tree says about the machine, reduced to what Oxen drives itself.

use arch_arm::host::percpu::MAX_CPUS;
use arch_arm::host::psci::{Conduit, Psci};
use arch_arm::host::ranges::PhysRange;
use arch_arm::host::uart::UartKind;
use arrayvec::ArrayVec;
use boot::cmdline::{Console, Params};
use boot::dt::{self, DtError, EnableMethod, Node, PsciConduit, PsciFunctions, Tree};

/// The console's port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConsolePort {
    pub(crate) kind: UartKind,
    pub(crate) registers: PhysRange,
    pub(crate) reg_shift: u32,
    pub(crate) io_width: u32,
    /// Its interrupt and whether that is edge-triggered.
    pub(crate) interrupt: Option<(u32, bool)>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) gic: dt::Gic,
    /// Maintenance interrupt of the virtual interface.
    pub(crate) maintenance: Option<u32>,
    /// Interrupt of the EL2 physical timer.
    pub(crate) hyp_timer: u32,
    /// Interrupt of the virtual timer, which guests use.
    pub(crate) virtual_timer: Option<u32>,
    /// Interrupt of the EL1 physical timer, as guests see it.
    pub(crate) physical_timer: Option<u32>,
    /// Counter frequency where it overrides the register.
    pub(crate) frequency: Option<u64>,
    pub(crate) psci: Option<Psci>,
    /// Affinities of the boot CPU and of those that PSCI starts, in the tree's order.
    pub(crate) cpus: ArrayVec<u64, MAX_CPUS>,
}

/// The range in the arch crate's terms.
pub(super) fn range(r: &boot::range::PhysRange) -> PhysRange {
    PhysRange::new(r.start().0, r.size())
}

/// Why the machine cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The device tree is wrong.
    Tree(DtError),
    /// Something Oxen needs is not there.
    Missing(&'static str),
}

impl From<DtError> for Unusable {
    fn from(e: DtError) -> Self {
        Self::Tree(e)
    }
}

impl core::fmt::Display for Unusable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tree(e) => write!(f, "{e}"),
            Self::Missing(what) => write!(f, "the device tree has no {what}"),
        }
    }
}

/// The node of the console's port.
pub(crate) fn console_node(tree: &Tree<'_>, port: &ConsolePort) -> Option<dt::NodeId> {
    tree.nodes()
        .find(|n| self::port(*n).is_some_and(|p| p.registers.base == port.registers.base))
        .map(|n| n.id())
}

/// The port that `node` is, if there is a driver for it.
fn port(node: Node<'_, '_>) -> Option<ConsolePort> {
    let (compatible, kind) = node
        .strings("compatible")
        .find_map(|c| Some((c, UartKind::from_compatible(c)?)))?;
    let mut registers = range(node.mmio().ok()?.first()?);
    let (shift, width) = kind.default_layout(compatible);
    // Old trees for big-endian buses place byte registers inside their words by this.
    let skip = u64::from(node.u32("reg-offset").ok()?.unwrap_or(0));
    registers = PhysRange::new(
        registers.base.0.checked_add(skip)?,
        registers.size.checked_sub(skip)?,
    );
    let interrupt = node
        .interrupts()
        .ok()
        .and_then(|list| node.gic_interrupt(list.first()?).ok()?);
    Some(ConsolePort {
        kind,
        registers,
        reg_shift: node.u32("reg-shift").ok()?.unwrap_or(shift).min(3),
        io_width: node.u32("reg-io-width").ok()?.unwrap_or(width),
        interrupt: interrupt.map(|i| (i.intid, i.trigger.is_edge())),
    })
}

/// A port in a tree that is too damaged to be read, so that this can be said at all: a node's name gives its kind and
/// its address, and stands in the tree as it is.
pub(crate) fn port_by_name(blob: &[u8]) -> Option<ConsolePort> {
    const NAME: &[u8] = b"pl011@";
    let at = blob.windows(NAME.len()).position(|w| w == NAME)? + NAME.len();
    let digits = blob
        .get(at..)?
        .iter()
        .take_while(|b| b.is_ascii_hexdigit())
        .count();
    let text = core::str::from_utf8(blob.get(at..at + digits)?).ok()?;
    let base = u64::from_str_radix(text, 16).ok()?;
    let (reg_shift, io_width) = UartKind::Pl011.default_layout("arm,pl011");
    Some(ConsolePort {
        kind: UartKind::Pl011,
        registers: PhysRange::new(base, 0x1000),
        reg_shift,
        io_width,
        interrupt: None,
    })
}

/// The console: what the parameter `dtuart` or `stdout-path` names, else the first serial port there is a driver for.
pub(crate) fn console(tree: &Tree<'_>, params: &Params) -> Option<ConsolePort> {
    if params.console.first() == Some(&Console::None) {
        return None;
    }
    let named = params.dtuart.as_deref().and_then(|text| tree.console(text));
    if let Some(port) = named.and_then(|c| port(c.node)) {
        return Some(port);
    }
    if let Some(port) = tree.stdout().and_then(|c| port(c.node)) {
        return Some(port);
    }
    let alias = tree.find("serial0").and_then(port);
    alias.or_else(|| tree.nodes().filter(Node::is_enabled).find_map(port))
}

/// Reads the machine's description.
pub(crate) fn read(tree: &Tree<'_>) -> Result<Platform, Unusable> {
    let gic = tree.gic()?;
    let timer = tree.timer()?.ok_or(Unusable::Missing("generic timer"))?;
    let hyp = timer
        .hypervisor
        .ok_or(Unusable::Missing("hypervisor timer interrupt"))?;
    Ok(Platform {
        maintenance: gic.maintenance.map(|i| i.intid),
        gic,
        hyp_timer: hyp.intid,
        virtual_timer: timer.virtual_.map(|i| i.intid),
        physical_timer: timer.physical.map(|i| i.intid),
        frequency: timer.frequency.map(u64::from),
        psci: psci(tree.psci()?),
        cpus: cpus(tree)?,
    })
}

fn psci(node: Option<dt::Psci>) -> Option<Psci> {
    let node = node?;
    if node.functions != PsciFunctions::Standard {
        log::warn!("PSCI 0.1 firmware: other CPUs and power off are not available");
        return None;
    }
    let conduit = match node.conduit {
        PsciConduit::Smc => Conduit::Smc,
        PsciConduit::Hvc => Conduit::Hvc,
    };
    Some(Psci::new(conduit))
}

fn cpus(tree: &Tree<'_>) -> Result<ArrayVec<u64, MAX_CPUS>, DtError> {
    let mut list = ArrayVec::new();
    for cpu in tree.cpus()? {
        let name = cpu.mpidr;
        if !cpu.available {
            continue;
        }
        // The CPU that runs this needs no starting.
        if cpu.enable != EnableMethod::Psci && name != arch_arm::host::cpu::mpidr() {
            log::warn!("CPU with affinity {name:#x} cannot be started by PSCI and is left out");
        } else if list.try_push(cpu.mpidr).is_err() {
            log::warn!("CPU with affinity {name:#x} is one more than Oxen can use and is left out");
        }
    }
    Ok(list)
}
