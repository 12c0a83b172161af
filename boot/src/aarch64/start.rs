//! The boot CPU's way from the early tables to the final address space.
#![expect(unsafe_code, reason = "early mappings and the switch of tables")]

use super::platform::{self, ConsolePort, Platform, range};
use super::{console, efi, entry};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_arm::host::layout::{DTB_WINDOW_SIZE, ImagePlace, PAGE, PHYS_LIMIT};
use arch_arm::host::mmu;
use arch_arm::host::percpu;
use arch_arm::host::ranges::{BootMemory, PhysRange};
use arch_arm::host::uart::Uart;
use arch_arm::host::{cpu, gic::GicVersion, timer};
use boot::cmdline;
use boot::dt::{Tree, blob_size};
use boot::modules::{BootModules, ModuleError};
use xen_core::{CpuId, HostPhysAddr};

/// What is known before there is memory.
pub(crate) struct Early {
    /// The device tree's blob; stays where it is.
    pub(crate) blob: PhysRange,
    /// The device tree.
    pub(crate) tree: Tree<'static>,
    /// What it says.
    pub(crate) platform: Platform,
    pub(crate) console: Option<ConsolePort>,
}

impl Early {
    /// The node of the console's port, which no domain gets.
    pub(crate) fn console_node(&self) -> Option<boot::dt::NodeId> {
        platform::console_node(&self.tree, &self.console?)
    }
}

/// Reads the device tree and finds the console. `dtb` and `image` are physical addresses; at `el` 1 this says what is
/// wrong and stops.
pub(crate) fn early_init(dtb: u64, image: u64, el: u64) -> Early {
    mmu::set_image(ImagePlace {
        base: HostPhysAddr(image),
        size: entry::image_size(),
    });
    console::init();
    // At EL1 there is no TPIDR_EL2 to use; nothing there needs it, and nothing faults on the way to the message.
    if el == 2 {
        let boot = CpuId(0);
        let (stack, emergency) = entry::boot_stack_tops();
        if let Ok(entry) = percpu::per_cpu(boot) {
            entry.prepare(boot, cpu::mpidr(), stack, emergency);
        }
        let _ = percpu::install(boot);
    }
    let Some(bytes) = map_blob(dtb, el) else {
        silent_stop()
    };
    let blob = PhysRange::new(dtb, bytes.len() as u64);
    let tree = match Tree::new(bytes) {
        Ok(tree) => tree,
        Err(error) => {
            if let Some(port) = platform::port_by_name(bytes) {
                attach_console(&port, el);
            }
            log::error!("Oxen cannot start: {error}");
            silent_stop()
        }
    };
    let console = platform::console(&tree, &cmdline::parse(command_line(&tree)).params);
    if let Some(port) = console {
        attach_console(&port, el);
    }
    if el != 2 {
        log::error!("Oxen must be entered at EL2 (this CPU is at EL{el})");
        silent_stop();
    }
    log::info!("Oxen {} (aarch64)", env!("CARGO_PKG_VERSION"));
    cpu::init();
    cpu::unmask_serror();
    let platform = platform::read(&tree).unwrap_or_else(|e| panic!("{e}"));
    Early {
        blob,
        tree,
        platform,
        console,
    }
}

/// The boot modules and command lines; UEFI's load options come before what the tree says.
pub(crate) fn modules<'a>(tree: &Tree<'a>) -> Result<BootModules<'a>, ModuleError> {
    let mut modules = BootModules::find(tree)?;
    modules.xen_cmdline = efi::command_line().or(modules.xen_cmdline);
    Ok(modules)
}

/// The hypervisor's command line, as far as the tree can be read.
fn command_line<'a>(tree: &Tree<'a>) -> &'a str {
    modules(tree)
        .ok()
        .and_then(|modules| modules.xen_cmdline)
        .unwrap_or("")
}

/// Stops where no console is known, or everything was said.
fn silent_stop() -> ! {
    loop {
        aarch64_cpu::asm::wfi();
    }
}

/// Maps the device tree and checks its header.
fn map_blob(dtb: u64, el: u64) -> Option<&'static [u8]> {
    if dtb == 0 {
        return None;
    }
    let view = |size: u64| {
        // SAFETY: the boot protocol says that there is a device tree, which nobody writes to, and this is the boot
        // CPU on the early tables.
        let va = unsafe { entry::map_early_dtb(dtb, size, el) }?;
        let pointer = core::ptr::with_exposed_provenance::<u8>(va as usize);
        // SAFETY: just mapped; the final tables keep the mapping, read-only, at the same address.
        Some(unsafe { core::slice::from_raw_parts(pointer, size as usize) })
    };
    // The header says how large it is; it may cross into a second page.
    let size = blob_size(view(40)?).ok()? as u64;
    if size > DTB_WINDOW_SIZE - dtb % PAGE {
        return None;
    }
    view(size)
}

fn attach_console(port: &ConsolePort, el: u64) {
    // SAFETY: the device tree says that the port's registers are there; nobody else drives it.
    let mmio = unsafe {
        entry::map_early_uart(port.registers.base.0, el);
        mmu::early_uart(port.registers.base, port.registers.size)
    };
    console::attach(Uart::new(port.kind, mmio, port.reg_shift, port.io_width));
}

/// Lists the machine's memory, makes the final address space and moves to it. From here on all RAM is in the direct
/// map, and what was written that must not be is found.
pub(crate) fn memory(early: &Early, modules: &BootModules<'_>) -> Box<BootMemory> {
    let mut memory = Box::<BootMemory>::default();
    list_memory(early, modules, &mut memory).unwrap_or_else(|e| panic!("{e}"));
    let uart = early.console.map(|c| c.registers.base);
    let cpus = early.platform.cpus.len().max(1);
    let roots = mmu::build(&entry::sections(), &mut memory, early.blob, uart, cpus)
        .unwrap_or_else(|e| panic!("the hypervisor's address space cannot be built: {e:?}"));
    // SAFETY: `build` mapped the image with these sections, and everything else that is in use.
    unsafe { entry::switch_tables(roots) };
    mmu::finish(&memory).unwrap_or_else(|e| panic!("RAM cannot be mapped: {e:?}"));
    memory
}

/// Fills in RAM and what is in use of it.
fn list_memory(
    early: &Early,
    modules: &BootModules<'_>,
    memory: &mut BootMemory,
) -> Result<(), platform::Unusable> {
    let tree = &early.tree;
    // UEFI knows what is RAM; the tree's memory nodes may be stale then, or not there.
    let mut banks: Vec<_> = match efi::ram() {
        Some(ram) => ram.collect(),
        None => tree.memory()?,
    };
    // Large ones first: the table may be full before the crumbs between UEFI's own memory are in.
    banks.sort_unstable_by_key(|bank| core::cmp::Reverse(bank.size()));
    for bank in banks {
        if memory.add_ram(range(&bank), PHYS_LIMIT).is_err() {
            log::warn!("too many memory banks: {bank:?} is not used");
        }
    }
    efi::complain();
    let full = |_| panic!("the device tree reserves more memory ranges than Oxen can note");
    let image = mmu::image();
    memory
        .add_used(PhysRange {
            base: image.base,
            size: image.size,
        })
        .unwrap_or_else(full);
    memory.add_used(early.blob).unwrap_or_else(full);
    for reservation in tree.reservations() {
        memory.add_used(range(reservation)).unwrap_or_else(full);
    }
    for region in tree.reserved_memory()? {
        let add = if region.no_map {
            BootMemory::add_no_map
        } else {
            BootMemory::add_used
        };
        add(memory, range(&region.range)).unwrap_or_else(full);
    }
    for module in modules.modules() {
        memory.add_used(range(&module.range)).unwrap_or_else(full);
    }
    Ok(())
}

/// Checks that the boot modules lie in RAM and clear of each other and of what is in use.
pub(crate) fn check_modules(
    early: &Early,
    modules: &BootModules<'_>,
    memory: &BootMemory,
) -> Result<(), alloc::string::String> {
    let ranges = |r: &PhysRange| boot::range::PhysRange::new(r.base, r.size);
    let image = mmu::image();
    let taken: Vec<_> = [
        (
            "the hypervisor",
            ranges(&PhysRange {
                base: image.base,
                size: image.size,
            }),
        ),
        ("the device tree", ranges(&early.blob)),
    ]
    .into_iter()
    .filter_map(|(name, range)| Some((name, range?)))
    .collect();
    let ram: Vec<_> = memory.ram.iter().filter_map(ranges).collect();
    modules
        .check(&ram, &taken)
        .map_err(|e| alloc::format!("{e}"))
}

/// Says what machine this is.
pub(crate) fn report(platform: &Platform, memory: &BootMemory) {
    let (name, part) = cpu::describe(cpu::midr());
    log::info!(
        "CPU: {name} (part {part:#x}), {} online of {}, EL2, {} physical address bits",
        percpu::online_cpus().count(),
        platform.cpus.len(),
        cpu::physical_address_bits()
    );
    log::info!(
        "Memory: {} MiB in {} banks",
        memory.total() >> 20,
        memory.ram.len()
    );
    for bank in &memory.ram {
        log::info!("  {:#x} to {:#x}", bank.base.0, bank.end() - 1);
    }
    if let Some(gic) = super::interrupts::gic() {
        let version = match gic.version() {
            GicVersion::V2 => 2,
            GicVersion::V3 => 3,
        };
        log::info!(
            "GICv{version}: interrupts up to {}, {} list registers, maintenance interrupt {:?}",
            gic.max_spi() - 1,
            gic.lr_count(),
            platform.maintenance
        );
    }
    log::info!(
        "Timer: {} Hz, interrupt {}",
        timer::frequency(),
        platform.hyp_timer
    );
    let image = mmu::image();
    log::info!(
        "Image: {} KiB at {:#x}, linked at {:#x}",
        image.size >> 10,
        image.base.0,
        entry::sections().text.start
    );
}
