//! Builds dom0 of the boot modules: memory, kernel, device tree, devices, vCPUs.

mod memory;
mod regions;

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_arm::decode::mpidr_of;
use arch_arm::host::{cache, mmu};
use arch_arm::machine::{Arm, GicLayout};
use boot::cmdline::Params;
use boot::dom0::{Failure, add_vcpus, cannot, config};
use boot::dom0_tree::{
    self, Bank, Dom0Gic, Dom0TreeConfig, HypervisorNode, Passthrough, Selection,
};
use boot::dt::{GicVersion, Tree};
use boot::image::{self, LoadPlan};
use boot::modules::BootModules;
use xen_core::p2m::P2mType;
use xen_core::{Domain, Error, Gfn, GuestPhysAddr, Hypervisor, Mfn, PAGE_SHIFT, PAGE_SIZE, VcpuId};

use super::hypervisor::module_bytes;
use super::interrupts;
use super::platform::Platform;
use super::start::Early;

/// The kernel's data must not share a 2 MiB block with the device tree (Linux booting.rst).
const BLOCK: u64 = 2 << 20;

/// Builds dom0 and lets its first vCPU go.
///
/// # Errors
/// One sentence that says what is wrong.
pub(crate) fn build(
    hv: &Hypervisor<Arm>,
    early: &Early,
    modules: &BootModules<'_>,
    params: &Params,
) -> Result<Arc<Domain<Arm>>, Failure> {
    let tree = &early.tree;
    let kernel_module = modules
        .kernel
        .as_ref()
        .ok_or("there is no kernel module for dom0")?;
    let kernel_bytes =
        module_bytes(&kernel_module.range).ok_or("the kernel module is not in memory")?;
    let kernel = image::probe(kernel_bytes).map_err(|e| e.to_string())?;
    let header = kernel.header().map_err(|e| e.to_string())?;
    let unpacked = kernel.unpacked_size().map_err(|e| e.to_string())?;

    let vcpus = params.dom0_max_vcpus.resolve(hv.cpu_count());
    let interrupts = hv.arch.lines().saturating_sub(32);
    let domain = cannot(
        Domain::new(hv, config(&hv.settings, params, vcpus, interrupts)),
        "dom0 cannot be made",
    )?;
    let size = memory::size(hv, params)?;
    let banks = memory::populate(hv, &domain, size, params)?;
    for bank in &banks {
        log::info!(
            "dom0 memory: {:#x} to {:#x} ({} MiB)",
            bank.start.0,
            bank.end().0 - 1,
            bank.size >> 20
        );
    }

    // From low to high: kernel, initial ramdisk, device tree.
    let plan = image::plan(&header, unpacked, &banks, &[]).map_err(|e| e.to_string())?;
    let home = banks
        .iter()
        .find(|b| b.start.0 <= plan.load.0 && plan.end().0 <= b.end().0)
        .copied()
        .ok_or("the kernel is in no bank")?;
    let ramdisk = modules
        .ramdisk
        .as_ref()
        .and_then(|m| module_bytes(&m.range));
    let ramdisk_at = plan.end().0.next_multiple_of(BLOCK);
    let ramdisk_bank = ramdisk.map(|bytes| Bank {
        start: GuestPhysAddr(ramdisk_at),
        size: bytes.len() as u64,
    });
    let tree_at = ramdisk_bank
        .map_or(plan.end().0, |b| b.end().0)
        .next_multiple_of(BLOCK);

    let gic = cannot(tree.gic(), "the interrupt controller")?;
    let claimed: Vec<_> = early.console_node().into_iter().collect();
    let selection = Selection::new(tree, gic.node, &claimed);
    let devices = dom0_tree::passthrough(tree, &selection, gic.node);
    for problem in &devices.problems {
        log::warn!("{problem}");
    }
    let regions = regions::find(hv, &devices, params);
    let blob = dom0_tree_blob(
        hv,
        tree,
        &selection,
        &domain,
        &Parts {
            gic: gic.node,
            banks: &banks,
            regions: &regions,
            ramdisk: ramdisk_bank,
            vcpus,
            devices: &devices,
            cmdline: modules.dom0_cmdline.unwrap_or(""),
        },
    )?;
    if tree_at + blob.len() as u64 > home.end().0 {
        return Err(alloc::format!(
            "dom0's memory has no room for kernel, ramdisk and device tree: {} MiB are needed in one piece",
            (tree_at + blob.len() as u64 - home.start.0).div_ceil(1 << 20)
        ));
    }
    pass_devices_through(hv, early, &domain, &devices)?;
    load_kernel(&domain, &kernel, &plan)?;
    if let (Some(bytes), Some(bank)) = (ramdisk, ramdisk_bank) {
        write(&domain, bank.start, bytes)?;
    }
    write(&domain, GuestPhysAddr(tree_at), &blob)?;

    cannot(hv.domains.insert(domain.clone()), "dom0 is there already")?;
    start(hv, &domain, &plan, GuestPhysAddr(tree_at), vcpus, params)?;
    Ok(domain)
}

/// What dom0's device tree is made of.
struct Parts<'a> {
    gic: boot::dt::NodeId,
    banks: &'a [Bank],
    regions: &'a [Bank],
    ramdisk: Option<Bank>,
    vcpus: u32,
    devices: &'a Passthrough,
    cmdline: &'a str,
}

fn dom0_tree_blob(
    hv: &Hypervisor<Arm>,
    tree: &Tree<'_>,
    selection: &Selection,
    domain: &Domain<Arm>,
    parts: &Parts<'_>,
) -> Result<Vec<u8>, Failure> {
    let private = hv.arch.private_interrupts();
    let taken = [
        private.hyp_timer,
        private.virt_timer,
        private.phys_timer,
        private.maintenance,
    ];
    let event_ppi = parts
        .devices
        .free_ppi(&taken)
        .ok_or("no private interrupt is free for event channels")?;
    domain.arch.set_event_ppi(event_ppi);
    let bank = |start: GuestPhysAddr, size: u64| Bank { start, size };
    let redistributors: Vec<Bank>;
    let gic = match &domain.arch.gic {
        GicLayout::V2 { dist, cpu } => Dom0Gic::V2 {
            distributor: bank(*dist, PAGE_SIZE),
            cpu_interface: bank(*cpu, 2 * PAGE_SIZE),
        },
        GicLayout::V3 { dist, redist } => {
            redistributors = redist
                .iter()
                .map(|(base, size)| bank(*base, *size))
                .collect();
            Dom0Gic::V3 {
                distributor: bank(*dist, 0x1_0000),
                redistributors: &redistributors,
                stride: None,
            }
        }
    };
    let mpidrs: Vec<u64> = (0..parts.vcpus)
        .map(|n| mpidr_of(VcpuId(n)) & 0xff_00ff_ffff)
        .collect();
    let config = Dom0TreeConfig {
        memory: parts.banks,
        cmdline: parts.cmdline,
        initrd: parts.ramdisk,
        vcpus: &mpidrs,
        gic,
        hypervisor: HypervisorNode {
            version: hv.settings.version,
            regions: parts.regions,
            event_interrupt: event_ppi,
        },
    };
    dom0_tree::build(tree, selection, parts.gic, &config).map_err(|e| e.to_string())
}

fn pass_devices_through(
    hv: &Hypervisor<Arm>,
    early: &Early,
    domain: &Arc<Domain<Arm>>,
    devices: &Passthrough,
) -> Result<(), Failure> {
    for range in devices.mmio.iter().chain(&devices.reserved) {
        let (gfn, mfn) = (
            Gfn(range.start().0 >> PAGE_SHIFT),
            Mfn::containing(range.start()),
        );
        match domain
            .p2m
            .map(gfn, mfn, range.size() >> PAGE_SHIFT, P2mType::Mmio)
        {
            Ok(_) => {}
            // A device beyond what the CPU's guests can address is one that dom0 does without.
            Err(Error::Inval) => log::warn!("device memory at {range} is out of dom0's reach"),
            Err(e) => {
                return Err(alloc::format!(
                    "device memory at {range} cannot be mapped: {e:?}"
                ));
            }
        }
    }
    // The CPU interface that a GICv2's guest sees is the hardware's virtual one.
    if let (GicLayout::V2 { cpu, .. }, Some(gicv)) =
        (&domain.arch.gic, virtual_interface(&early.platform))
    {
        let mapped = domain
            .p2m
            .map(Gfn::containing(*cpu), gicv, 2, P2mType::Mmio);
        cannot(
            mapped,
            "the interrupt controller's CPU interface cannot be mapped",
        )?;
    }
    for interrupt in &devices.spis {
        if let Err(e) = hv
            .arch
            .route(interrupt.intid, domain, interrupt.trigger.is_edge())
        {
            log::warn!("interrupt {} is not given to dom0: {e:?}", interrupt.intid);
        }
    }
    for frame in &devices.message_frames {
        let interrupts = cannot(
            interrupts::of_message_frame(frame),
            "a GICv2m frame cannot be mapped",
        )?;
        for intid in interrupts {
            // Messages are edges.
            if let Err(e) = hv.arch.route(intid, domain, true) {
                log::warn!("interrupt {intid} is not given to dom0: {e:?}");
            }
        }
    }
    Ok(())
}

fn virtual_interface(platform: &Platform) -> Option<Mfn> {
    match &platform.gic.version {
        GicVersion::V2 { virtual_cpu, .. } => virtual_cpu
            .as_ref()
            .map(|range| Mfn::containing(range.start())),
        GicVersion::V3 { .. } => None,
    }
}

fn load_kernel(
    domain: &Domain<Arm>,
    kernel: &image::Kernel<'_>,
    plan: &LoadPlan,
) -> Result<(), Failure> {
    let mut sink = |offset: u64, bytes: &[u8]| {
        let at = GuestPhysAddr(plan.load.0.checked_add(offset).ok_or(Error::Range)?);
        domain.write_physical(at, bytes)
    };
    let size = kernel
        .unpack(plan.size, &mut sink)
        .map_err(|e| e.to_string())?;
    clean(plan.load, size);
    Ok(())
}

/// Writes to dom0's memory, for a kernel that starts with its caches off.
fn write(domain: &Domain<Arm>, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), Failure> {
    cannot(
        domain.write_physical(at, bytes),
        "dom0's memory cannot be written",
    )?;
    clean(at, bytes.len() as u64);
    Ok(())
}

fn clean(at: GuestPhysAddr, size: u64) {
    // dom0's guest-physical addresses are physical ones.
    if let Some(va) = mmu::phys_to_virt(xen_core::HostPhysAddr(at.0)) {
        cache::clean_range(va as u64, size);
    }
    cache::invalidate_instructions();
}

fn start(
    hv: &Hypervisor<Arm>,
    domain: &Arc<Domain<Arm>>,
    plan: &LoadPlan,
    tree_at: GuestPhysAddr,
    vcpus: u32,
    params: &Params,
) -> Result<(), Failure> {
    let first = add_vcpus(hv, domain, vcpus, params)?;
    first.context().start_at(plan.entry(), tree_at.0);
    hv.publish_wallclock(domain);
    log::info!(
        "dom0: {vcpus} vCPUs, {} MiB, kernel at {:#x}, device tree at {:#x}",
        domain.pages() >> (20 - PAGE_SHIFT),
        plan.entry().0,
        tree_at.0
    );
    log::info!("*** Serial input to DOM0 (type 'CTRL-a' three times to switch input to Xen)");
    first.up(hv);
    Ok(())
}
