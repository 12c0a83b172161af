//! What the device tree says about this machine.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard as _;
use dtoolkit::{Node as _, Property as _, ToCellInt as _};
use spin::Once;

use super::MAX_VCPUS;

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By HVC #0.
    Hvc,
    /// By SMC #0.
    Smc,
}

/// Where an interrupt controller has its registers.
#[derive(Clone, Copy, Debug)]
pub struct GicNode {
    /// Architecture version: 2 or 3.
    pub version: u32,
    /// The distributor: address and size in bytes.
    pub distributor: (u64, u64),
    /// The CPU interface (version 2) or the first region of redistributors (version 3).
    pub second: (u64, u64),
}

/// An interrupt as a device tree describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its INTID.
    pub intid: u32,
    /// Edge-triggered, rather than level-sensitive.
    pub edge: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The interrupt controller.
    pub gic: GicNode,
    /// The interrupt that announces event channels; `None` if there is no hypervisor node.
    pub events: Option<Interrupt>,
    /// The non-secure physical timer's interrupt.
    pub physical_timer: Option<Interrupt>,
    /// The virtual timer's interrupt.
    pub virtual_timer: Option<Interrupt>,
    /// How PSCI is called.
    pub psci: Option<Conduit>,
    cpus: [u64; MAX_VCPUS],
    count: usize,
}

static PLATFORM: Once<Platform> = Once::new();

/// The machine, read when the kernel was entered.
///
/// # Panics
/// If no interrupt controller was found.
pub fn platform() -> &'static Platform {
    PLATFORM.get().expect("a device tree with a GIC")
}

/// Reads the device tree at `tree`.
pub(super) fn init(tree: u64) {
    if let Ok(fdt) = Fdt::new(super::tree(tree))
        && let Some(platform) = Platform::read(fdt)
    {
        PLATFORM.call_once(|| platform);
    }
}

/// The first child of the root that is compatible with one of these.
fn find<'a>(fdt: Fdt<'a>, names: &[&str]) -> Option<FdtNode<'a>> {
    fdt.root()
        .children()
        .find(|node| names.iter().any(|name| node.is_compatible(name)))
}

/// The `n`th entry of `reg` below the root.
fn reg(fdt: Fdt<'_>, node: FdtNode<'_>, n: usize) -> Option<(u64, u64)> {
    let cells = [
        fdt.root().address_cells().ok()? as usize,
        fdt.root().size_cells().ok()? as usize,
    ];
    let property = node.property("reg")?;
    let [address, size] = property.as_prop_encoded_array(cells).ok()?.nth(n)?;
    Some((address.to_int().ok()?, size.to_int().ok()?))
}

/// The `n`th interrupt of a node, in three cells as all GICs here describe them.
fn interrupt(node: FdtNode<'_>, n: usize) -> Option<Interrupt> {
    const PPI: u32 = 1;
    /// Low bits of the flags: rising or falling edge.
    const EDGES: u32 = 3;
    let property = node.property("interrupts")?;
    let [kind, number, flags] = property.as_prop_encoded_array([1, 1, 1]).ok()?.nth(n)?;
    let first = if kind.to_int::<u32>().ok()? == PPI {
        16
    } else {
        32
    };
    Some(Interrupt {
        intid: first + number.to_int::<u32>().ok()?,
        edge: flags.to_int::<u32>().ok()? & EDGES != 0,
    })
}

impl Platform {
    fn read(fdt: Fdt<'_>) -> Option<Self> {
        let v2 = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"];
        let (version, gic) = match find(fdt, &["arm,gic-v3"]) {
            Some(node) => (3, node),
            None => (2, find(fdt, &v2)?),
        };
        let timer = find(fdt, &["arm,armv8-timer", "arm,armv7-timer"]);
        let timer = |n| timer.and_then(|node| interrupt(node, n));
        let psci = find(fdt, &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
        let mut cpus = [0; MAX_VCPUS];
        let mut count = 0;
        let nodes = fdt.find_node("/cpus")?;
        for cpu in nodes.children().filter(|n| n.name().starts_with("cpu@")) {
            let cells = nodes.address_cells().ok()? as usize;
            let property = cpu.property("reg")?;
            let [id] = property.as_prop_encoded_array([cells]).ok()?.next()?;
            if let Some(place) = cpus.get_mut(count) {
                *place = id.to_int().ok()?;
                count += 1;
            }
        }
        Some(Self {
            gic: GicNode {
                version,
                distributor: reg(fdt, gic, 0)?,
                second: reg(fdt, gic, 1)?,
            },
            events: find(fdt, &["xen,xen"]).and_then(|node| interrupt(node, 0)),
            physical_timer: timer(1),
            virtual_timer: timer(2),
            psci: psci.and_then(|node| match node.property("method")?.value_as().ok()? {
                "hvc" => Some(Conduit::Hvc),
                "smc" => Some(Conduit::Smc),
                _ => None,
            }),
            cpus,
            count,
        })
    }

    /// Affinity fields of each vCPU's MPIDR_EL1, the one that boots first; at most [`MAX_VCPUS`].
    pub fn cpus(&self) -> &[u64] {
        self.cpus.get(..self.count).unwrap_or_default()
    }

    /// How many vCPUs there are that this runtime can start, itself counted.
    pub fn vcpus(&self) -> usize {
        self.count
    }
}
