//! The boot CPU's way through the machine.
#![expect(unsafe_code, reason = "reads what the loader left")]

#[cfg(feature = "svm")]
use arch_x86::backend::HvmBackend as _;
use arch_x86::host::acpi::Trigger;
use arch_x86::host::interrupts::Vector;
use arch_x86::host::ioapic::Route;
use arch_x86::host::layout::{DIRECT_MAP_BASE, EARLY_LIMIT, ImagePlace};
use arch_x86::host::{
    cpu, exceptions, interrupts, ioapic, lapic, mmu, percpu, pic, power, segments, smp, timer,
};
use arch_x86::select::{self, Backend, CpuidLeaves};
#[cfg(feature = "svm")]
use arch_x86::svm::Svm;
use arrayvec::ArrayVec;
use boot::cmdline::{self, Params};
use boot::multiboot::{BootInfo, PhysicalMemory};
use log::LevelFilter;
use xen_core::mem::Frames;
use xen_core::mem::ranges::BootMemory;
use xen_core::{CpuId, Error, HostPhysAddr, Result};

use super::firmware::{self, Firmware};
use super::memory::Memory;
use super::{console, dom0, entry, halt, hypervisor, memory};

/// What is known before there is memory.
pub(crate) struct Early {
    /// What the loader said.
    pub(crate) info: BootInfo,
    /// The command line's parameters.
    pub(crate) params: Params,
}

/// Physical memory through the early tables, which map the first 4 GiB.
struct EarlyMemory;

impl PhysicalMemory for EarlyMemory {
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        if len == 0 {
            return Some(&[]);
        }
        // Not page 0: no loader leaves anything there, and a null pointer would lead to it.
        let end = address.checked_add(len)?;
        if address < 0x400 || end > EARLY_LIMIT {
            return None;
        }
        let pointer = core::ptr::with_exposed_provenance((DIRECT_MAP_BASE + address) as usize);
        // SAFETY: the early tables map it, and whatever is there can be read; the loader's structures are not written to
        // while the slice lives, since only what is copied out of it stays.
        Some(unsafe { core::slice::from_raw_parts(pointer, len as usize) })
    }
}

/// Sets up exceptions, reads what the loader says, and finds the console.
pub(crate) fn early_init(magic: u32, info: u32, image: u64) -> Early {
    let boot_cpu = CpuId(0);
    if let Ok(entry) = percpu::per_cpu(boot_cpu) {
        entry.prepare(boot_cpu, 0, entry::boot_stacks().tops());
        let _ = percpu::install(boot_cpu);
        segments::init_cpu(entry);
    }
    exceptions::init_cpu();
    mmu::set_image(ImagePlace {
        base: HostPhysAddr(image),
        size: entry::image_size(),
    });
    console::init();
    let info = BootInfo::read(&EarlyMemory, magic, info)
        .unwrap_or_else(|e| halt::refuse(format_args!("{e}")));
    let parsed = cmdline::parse(&info.command_line);
    let params = parsed.params;
    params.apply_to(&console::CONSOLE);
    log::set_max_level(LevelFilter::Debug);
    console::attach_serial(&params);
    log::info!("Oxen {} (x86_64)", env!("CARGO_PKG_VERSION"));
    let loader = match info.loader.as_str() {
        "" => "a loader without a name",
        name => name,
    };
    log::info!("Loaded by {loader} ({})", info.protocol);
    log::info!("Command line: {}", info.command_line);
    for complaint in &parsed.complaints {
        log::warn!("{complaint}");
    }
    for note in &info.notes {
        log::warn!("{note}");
    }
    if let Some(note) = params.without_effect() {
        log::warn!("{note}");
    }
    if params.dtuart.is_some() {
        log::warn!("parameter dtuart has no effect on this machine");
    }
    if !params.noreboot {
        halt::reset_after_report();
    }
    if cpu::init().is_err() {
        halt::refuse(format_args!(
            "the CPU has no no-execute pages or no local APIC, or the firmware turned them off"
        ));
    }
    Early { info, params }
}

/// Starts interrupt controllers, clock and timer.
pub(crate) fn devices(firmware: &Firmware, params: &Params) {
    pic::disable();
    let madt = &firmware.madt;
    let base = (madt.local_apic != 0).then_some(HostPhysAddr(madt.local_apic));
    let mode = lapic::init(base, params.x2apic)
        .unwrap_or_else(|e| halt::refuse(format_args!("the local APIC cannot be used: {e:?}")));
    // The identifier can be read only once the mode is chosen, and the CPU's NMI pin is known by it.
    let own = madt.cpus.iter().find(|c| c.apic_id == lapic::id());
    let pin = own.and_then(|c| smp::nmi_pin(madt, c.uid));
    lapic::init_cpu(pin)
        .unwrap_or_else(|e| halt::refuse(format_args!("the local APIC does not react: {e:?}")));
    if let Ok(entry) = percpu::per_cpu(CpuId(0)) {
        entry.prepare(CpuId(0), lapic::id(), entry.stack_tops());
        entry.set_online(true);
    }
    log::info!(
        "Local APIC: {}",
        match mode {
            lapic::Mode::XApic => "xAPIC",
            lapic::Mode::X2Apic => "x2APIC",
        }
    );
    if let Err(e) = ioapic::init(madt) {
        halt::refuse(format_args!("there is no I/O APIC that can be used: {e:?}"));
    }
    firmware::start_clock(firmware);
    if timer::init().is_err() {
        halt::refuse(format_args!("the local APIC's timer does not work"));
    }
    if let Some((fadt, sleep)) = &firmware.power {
        power::init(*fadt, *sleep);
    }
    if !power::can_power_off() {
        log::warn!("The firmware does not say how to power the machine off");
    }
}

/// Starts the other CPUs.
pub(crate) fn other_cpus(firmware: &Firmware, params: &Params, memory: &mut Memory) {
    let most = if params.nosmp {
        Some(1)
    } else {
        params.maxcpus
    };
    let enabled = firmware.madt.cpus.iter().filter(|c| c.enabled).count();
    let wanted = most
        .map_or(enabled, |n| enabled.min(n as usize))
        .min(percpu::MAX_CPUS);
    if wanted <= 1 {
        return;
    }
    let Some(page) = memory.trampoline else {
        log::warn!("There is no RAM below 1 MiB to start other CPUs in: only the boot CPU is used");
        return;
    };
    if let Err(e) = mmu::reserve_stacks(&mut memory.map, wanted - 1) {
        log::warn!("There is no memory for other CPUs ({e:?}): only the boot CPU is used");
        return;
    }
    smp::start_all(&firmware.madt, most, page, hypervisor::secondary);
}

/// Says what machine this is.
pub(crate) fn report(early: &Early, map: &BootMemory) {
    let features = cpu::features();
    log::info!(
        "CPU: {}, {} online, {} physical address bits{}",
        cpu::brand(),
        percpu::online_cpus().count(),
        features.physical_bits,
        if features.hypervisor {
            ", under a hypervisor"
        } else {
            ""
        }
    );
    let has = |name, has: bool| if has { name } else { "" };
    log::info!(
        "CPU features in use: NX{}{}{}{}{}{}",
        has(" SMEP", features.smep),
        has(" SMAP", features.smap),
        has(" UMIP", features.umip),
        has(" XSAVE", features.xsave),
        has(" MCA", features.mca),
        has(" 1G-pages", features.huge_pages)
    );
    log::info!(
        "Memory: {} MiB in {} banks",
        map.total() >> 20,
        map.ram.len()
    );
    for bank in &map.ram {
        log::info!("  {:#x} to {:#x}", bank.base.0, bank.end() - 1);
    }
    let image = mmu::image();
    log::info!(
        "Image: {} KiB at {:#x}, linked at {:#x}",
        image.size >> 10,
        image.base.0,
        entry::sections().text.start
    );
    for (n, module) in early.info.modules.iter().enumerate() {
        log::info!(
            "Module {n}: {} KiB at {:#x} {:?}",
            module.size >> 10,
            module.base,
            module.command_line
        );
    }
}

/// Chooses the virtualization extension, builds dom0 and runs domains.
pub(crate) fn run(
    early: &Early,
    firmware: &Firmware,
    memory: &mut Memory,
    frames: &'static Frames,
) -> ! {
    let leaves = CpuidLeaves::read(|leaf| cpu::cpuid(leaf, 0));
    let backend = match select::select(&leaves, Backend::is_built) {
        Ok(backend) => backend,
        Err(why) => halt::refuse(format_args!("{why}")),
    };
    log::info!("Virtualization: {backend}");
    if let Err(why) = memory::check_modules(&early.info, &memory.map) {
        halt::refuse(format_args!("{why}"));
    }
    let prepared = dom0::prepare(&early.info, &early.params, firmware, memory, frames);
    let prepared =
        prepared.unwrap_or_else(|why| halt::refuse(format_args!("dom0 cannot be built: {why}")));
    log::info!("{} MiB are free", frames.free_frames() >> 8);
    let console = listen();
    match backend {
        #[cfg(feature = "svm")]
        Backend::Svm => match Svm::probe() {
            Ok(svm) => hypervisor::run_on(svm, early, firmware, frames, prepared, console),
            Err(e) => halt::refuse(format_args!("SVM cannot be used: {e:?}")),
        },
        other => halt::refuse(format_args!("Oxen does not run guests by {other} yet")),
    }
}

/// Routes the serial ports' interrupts to this CPU; returns the vector that they share.
fn listen() -> Option<Vector> {
    let irqs: ArrayVec<u32, 2> = console::ports().filter_map(|(_, irq)| irq).collect();
    let vector = interrupts::allocate().ok()?;
    let mut routed = 0;
    for irq in irqs {
        match route_serial(irq, vector, routed > 0) {
            Ok(()) => routed += 1,
            Err(error) => {
                log::warn!("The serial port's interrupt {irq} cannot be used ({error:?})");
            }
        }
    }
    if routed == 0 {
        interrupts::free(vector);
        return None;
    }
    Some(vector)
}

fn route_serial(irq: u32, vector: Vector, shared: bool) -> Result<()> {
    let isa = firmware::isa(irq);
    // A level-triggered interrupt has to be unmasked again by its vector, which can name one alone.
    if shared && isa.trigger == Trigger::Level {
        return Err(Error::Busy);
    }
    let route = Route {
        vector,
        cpu: percpu::cpu_id(),
        polarity: isa.polarity,
        trigger: isa.trigger,
    };
    ioapic::set_route(isa.gsi, &route)?;
    ioapic::unmask(isa.gsi);
    Ok(())
}
