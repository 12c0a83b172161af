//! Builds dom0, a PVH guest, of the boot modules.
//!
//! First everything is decided, which needs no hypervisor ([`prepare`]): the kernel is unpacked, [`Plan`] says what goes
//! where, and memory is divided between dom0 and the hypervisor. Then dom0 is made ([`build`]).

mod kernel;
mod memory;

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_x86::backend::HvmBackend;
use arch_x86::host::percpu;
use arch_x86::machine::X86;
use arch_x86::machine::start::Start;
use boot::cmdline::{BootScrub, Params};
use boot::dom0::{Failure, add_vcpus, cannot, config};
use boot::multiboot::BootInfo;
use boot::pvh::acpi;
use boot::pvh::memory_map::{Dom0Memory, to_e820};
use boot::pvh::plan::{Plan, Request};
use boot::range::PhysRange;
use xen_abi::memory::E820Entry;
use xen_core::mem::Frames;
use xen_core::{Domain, GuestPhysAddr, Hypervisor, PAGE_SHIFT};

use super::firmware::Firmware;
use super::memory::{Memory, free, module_bytes};
use super::{console, hardware};
use kernel::Unpacked;

/// A dom0 whose memory is set apart.
pub(crate) struct Prepared {
    kernel: Unpacked,
    plan: Plan,
    vcpus: u32,
}

impl Prepared {
    /// The machine's memory map.
    pub(crate) fn machine_memory_map(&self) -> Vec<E820Entry> {
        to_e820(&self.plan.memory.machine)
    }
}

/// Unpacks the kernel, decides what dom0 is, and divides memory: what is not dom0's becomes the allocator's. The boot
/// modules are not there any more afterwards.
///
/// # Errors
/// One sentence that says what is wrong.
pub(crate) fn prepare(
    info: &BootInfo,
    params: &Params,
    firmware: &Firmware,
    memory: &mut Memory,
    frames: &Frames,
) -> Result<Prepared, Failure> {
    let module = info
        .modules
        .first()
        .ok_or("there is no boot module, and so no kernel for dom0")?;
    let bytes = module_bytes(module).ok_or("the kernel module is not in memory")?;
    let kernel = kernel::unpack(bytes, &mut memory.map)?;
    let ramdisk = match info.modules.get(1) {
        Some(module) => module_bytes(module).ok_or("the ramdisk module is not in memory")?,
        None => &[],
    };
    if info.modules.len() > 2 {
        log::warn!("Boot modules behind the second one, the initial ramdisk, are not used");
    }
    // A kernel that is not packed is its module, which has to stay until it is loaded.
    let mut free = free(info, &memory.map);
    if kernel.file.is_none()
        && let Some(own) = PhysRange::new(xen_core::HostPhysAddr(module.base), module.size)
    {
        let mut room = boot::pvh::place::Room::new(&free);
        room.remove(&own);
        free = room.free().to_vec();
    }
    let online = percpu::online_cpus().count() as u32;
    let vcpus = params.dom0_max_vcpus.resolve(online);
    let plan = Plan::new(&Request {
        host: &info.memory,
        free: &free,
        hidden: &hardware::hidden(firmware),
        dom0_mem: params.dom0_mem,
        kernel: &kernel.vmlinux,
        command_line: &module.command_line,
        ramdisk: ramdisk.len() as u64,
        ramdisk_max: kernel.ramdisk_max,
        acpi: acpi::Request {
            tables: &firmware.tables,
            madt: &firmware.madt_bytes,
            vcpus,
            hide_uart: console::ports().next().is_some(),
        },
    })
    .map_err(|e| e.to_string())?;
    report(&plan.memory);
    for absent in &plan.absent {
        log::debug!("{absent}");
    }
    let scrub = params.bootscrub == BootScrub::Boot;
    cannot(
        memory::divide(frames, &plan, ramdisk, &free, scrub),
        "memory cannot be divided",
    )?;
    Ok(Prepared {
        kernel,
        plan,
        vcpus,
    })
}

fn report(memory: &Dom0Memory) {
    for range in &memory.ram {
        log::info!(
            "dom0 memory: {:#x} to {:#x} ({} KiB)",
            range.start().0,
            range.end().0 - 1,
            range.size() >> 10
        );
    }
}

/// Makes dom0 and lets its first vCPU go.
///
/// # Errors
/// One sentence that says what is wrong.
pub(crate) fn build<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    prepared: Prepared,
    params: &Params,
) -> Result<Arc<Domain<X86<B>>>, Failure> {
    let Prepared {
        kernel,
        plan,
        vcpus,
    } = prepared;
    let domain = cannot(
        Domain::new(hv, config(&hv.settings, params, vcpus, 0)),
        "dom0 cannot be made",
    )?;
    cannot(
        memory::map(&domain, &plan.memory),
        "dom0's memory cannot be mapped",
    )?;
    *domain.memory_map.write() = to_e820(&plan.memory.map);
    let loaded = kernel
        .vmlinux
        .load(&plan.kernel, &mut memory::Guest(&*domain));
    loaded.map_err(|e| e.to_string())?;
    let (start_info, info) = &plan.start_info;
    let (tables, bytes) = &plan.tables;
    for (at, bytes) in [
        (GuestPhysAddr((*start_info).into()), info),
        (*tables, bytes),
    ] {
        let written = domain.write_physical(at, bytes);
        cannot(written, "dom0's memory cannot be written")?;
    }
    memory::release(hv.frames, kernel.file.as_slice());
    cannot(hv.domains.insert(domain.clone()), "dom0 is there already")?;
    let first = add_vcpus(hv, &domain, vcpus, params)?;
    let entry = plan.kernel.entry;
    first.arch.start_with(Start::pvh(entry, *start_info));
    hv.publish_wallclock(&domain);
    log::info!(
        "dom0: {vcpus} vCPUs, {} MiB, kernel at {}, entry {entry:#x}, start information at {start_info:#x}",
        domain.pages() >> (20 - PAGE_SHIFT),
        plan.kernel.range
    );
    log::info!("*** Serial input to DOM0 (type 'CTRL-a' three times to switch input to Xen)");
    first.up(hv);
    Ok(domain)
}
