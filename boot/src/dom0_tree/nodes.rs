//! The nodes that describe the domain itself.

use super::writer::{Cells, Writer};
use super::{Bank, Dom0Gic, Dom0TreeConfig, Dom0TreeError, HypervisorNode};
use crate::dt::{Node, Tree};
use crate::range::PhysRange;
use alloc::format;
use xen_core::HostPhysAddr;

/// A phandle that no node of `tree` has.
pub(super) fn free_phandle(tree: &Tree<'_>) -> u32 {
    let highest = tree.nodes().filter_map(|node| node.phandle()).max();
    match highest.unwrap_or(0).checked_add(1) {
        // The number of all ones is reserved.
        Some(next) if next != u32::MAX => next,
        _ => (1..u32::MAX)
            .find(|phandle| tree.phandle(*phandle).is_none())
            .unwrap_or(1),
    }
}

/// Address and size cells of the root's bus.
fn root_cells(tree: &Tree<'_>) -> Result<(u32, u32), Dom0TreeError> {
    Ok((tree.root().address_cells()?, tree.root().size_cells()?))
}

fn push_banks(
    cells: &mut Cells,
    banks: &[Bank],
    (address_cells, size_cells): (u32, u32),
    what: &'static str,
) -> Result<(), Dom0TreeError> {
    for bank in banks.iter().filter(|bank| bank.size > 0) {
        cells
            .number(bank.start.0, address_cells)
            .and_then(|()| cells.number(bank.size, size_cells))
            .ok_or(Dom0TreeError::DoesNotFit(what))?;
    }
    Ok(())
}

/// The properties of `/chosen` that the configuration determines.
pub(super) fn chosen_properties(writer: &mut Writer, config: &Dom0TreeConfig<'_>) {
    writer.prop_strings("bootargs", &[config.cmdline]);
    if let Some(initrd) = config.initrd {
        writer.prop("linux,initrd-start", &initrd.start.0.to_be_bytes());
        writer.prop("linux,initrd-end", &initrd.end().0.to_be_bytes());
    }
}

/// `/memory`.
pub(super) fn memory(
    writer: &mut Writer,
    host: &Tree<'_>,
    banks: &[Bank],
) -> Result<(), Dom0TreeError> {
    let mut cells = Cells::default();
    push_banks(&mut cells, banks, root_cells(host)?, "dom0's memory")?;
    let first = banks.iter().find(|bank| bank.size > 0);
    let start = first.map_or(0, |bank| bank.start.0);
    writer.begin(&format!("memory@{start:x}"));
    writer.prop_strings("device_type", &["memory"]);
    writer.prop("reg", &cells.0);
    writer.end();
    Ok(())
}

/// `/cpus`: vCPU number n has the model and the phandle of the host's CPU number n, so that what refers to CPUs still
/// finds one; vCPUs beyond have the boot CPU's model. Topology, idle states and operating points are the host's alone.
pub(super) fn cpus(
    writer: &mut Writer,
    host: &Tree<'_>,
    vcpus: &[u64],
) -> Result<(), Dom0TreeError> {
    let node_of = |index: usize| {
        let parent = host.find("/cpus")?;
        parent.children().filter(|node| node.is_cpu()).nth(index)
    };
    let wide = vcpus.iter().any(|mpidr| *mpidr > u64::from(u32::MAX));
    let address_cells = if wide { 2 } else { 1 };
    writer.begin("cpus");
    writer.prop_u32("#address-cells", address_cells);
    writer.prop_u32("#size-cells", 0);
    for (index, mpidr) in vcpus.iter().enumerate() {
        let same = node_of(index);
        let model = same
            .or_else(|| node_of(0))
            .and_then(|node| node.prop("compatible"));
        let mut reg = Cells::default();
        reg.number(*mpidr, address_cells)
            .ok_or(Dom0TreeError::DoesNotFit("a vCPU"))?;
        writer.begin(&format!("cpu@{mpidr:x}"));
        writer.prop_strings("device_type", &["cpu"]);
        match model {
            Some(model) => writer.prop("compatible", model.value),
            None => writer.prop_strings("compatible", &["arm,armv8"]),
        }
        writer.prop("reg", &reg.0);
        writer.prop_strings("enable-method", &["psci"]);
        if let Some(phandle) = same.and_then(|node| node.phandle()) {
            writer.prop_u32("phandle", phandle);
        }
        writer.end();
    }
    writer.end();
    Ok(())
}

/// `/psci`: the hypervisor's PSCI, called by `hvc`.
pub(super) fn psci(writer: &mut Writer, host: &Tree<'_>) {
    writer.begin("psci");
    writer.prop_strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    writer.prop_strings("method", &["hvc"]);
    let hosts = host.nodes().find(|node| node.is_psci());
    if let Some(phandle) = hosts.and_then(|node| node.phandle()) {
        writer.prop_u32("phandle", phandle);
    }
    writer.end();
}

/// Properties of the host's GIC node that others' references into it depend on.
const GIC_KEPT: [&str; 6] = [
    "#interrupt-cells",
    "#address-cells",
    "#size-cells",
    "ranges",
    "interrupt-parent",
    "linux,phandle",
];

/// The properties of the node in place of the host's `node`. The number of cells of its specifiers and of its bus stays, since interrupt
/// maps elsewhere depend on it.
pub(super) fn gic(
    writer: &mut Writer,
    node: Node<'_, '_>,
    phandle: u32,
    gic: &Dom0Gic<'_>,
) -> Result<(), Dom0TreeError> {
    let parent = node
        .parent()
        .ok_or(Dom0TreeError::Config("the GIC's node is the root"))?;
    let bus_cells = (parent.address_cells()?, parent.size_cells()?);
    let mut reg = Cells::default();
    let mut push = |bank: &Bank| {
        let fits = Dom0TreeError::DoesNotFit("dom0's GIC");
        let Some(range) = PhysRange::new(HostPhysAddr(bank.start.0), bank.size) else {
            return Err(fits);
        };
        let Some(address) = node.untranslate(range)? else {
            return Err(fits);
        };
        let on_bus = Bank {
            start: xen_core::GuestPhysAddr(address.low),
            size: bank.size,
        };
        if address.high != 0 {
            return Err(fits);
        }
        push_banks(&mut reg, &[on_bus], bus_cells, "dom0's GIC")
    };
    match gic {
        Dom0Gic::V2 {
            distributor,
            cpu_interface,
        } => {
            push(distributor)?;
            push(cpu_interface)?;
            match node.prop("compatible") {
                Some(compatible) if node.is_compatible(crate::dt::GIC_V2_COMPATIBLE) => {
                    writer.prop("compatible", compatible.value);
                }
                _ => writer.prop_strings("compatible", &["arm,gic-400"]),
            }
        }
        Dom0Gic::V3 {
            distributor,
            redistributors,
            stride,
        } => {
            push(distributor)?;
            redistributors.iter().try_for_each(push)?;
            writer.prop_strings("compatible", &["arm,gic-v3"]);
            writer.prop_u32("#redistributor-regions", redistributors.len() as u32);
            if let Some(stride) = stride {
                writer.prop("redistributor-stride", &stride.to_be_bytes());
            }
        }
    }
    writer.prop("reg", &reg.0);
    writer.prop("interrupt-controller", &[]);
    for name in GIC_KEPT {
        if let Some(property) = node.prop(name) {
            writer.prop(name, property.value);
        }
    }
    if !node.has("#interrupt-cells") {
        writer.prop_u32("#interrupt-cells", 3);
    }
    writer.prop_u32("phandle", phandle);
    Ok(())
}

/// `/hypervisor`.
pub(super) fn hypervisor(
    writer: &mut Writer,
    host: &Tree<'_>,
    gic: Node<'_, '_>,
    gic_phandle: u32,
    config: &HypervisorNode<'_>,
) -> Result<(), Dom0TreeError> {
    let mut reg = Cells::default();
    push_banks(
        &mut reg,
        config.regions,
        root_cells(host)?,
        "a region of the hypervisor node",
    )?;
    // A private interrupt, low level, on all CPUs that GICv2's mask can name.
    let mut interrupt = Cells::default();
    for word in [1, config.event_interrupt.wrapping_sub(16), 0xf08] {
        interrupt.word(word);
    }
    for _ in 3..gic.u32("#interrupt-cells")?.unwrap_or(3).min(8) {
        interrupt.word(0);
    }
    let (major, minor) = config.version;
    writer.begin("hypervisor");
    writer.prop_strings(
        "compatible",
        &[&format!("xen,xen-{major}.{minor}"), "xen,xen"],
    );
    writer.prop("reg", &reg.0);
    writer.prop("interrupts", &interrupt.0);
    writer.prop_u32("interrupt-parent", gic_phandle);
    writer.end();
    Ok(())
}
