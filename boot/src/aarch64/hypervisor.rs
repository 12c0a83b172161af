//! Puts the hypervisor together on the machine that start-up found, and runs it.
#![expect(
    unsafe_code,
    reason = "hands memory to the frame allocator and the heap"
)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use arch_arm::guest::read_host_ids;
use arch_arm::host::ranges::{BootMemory, PhysRange, for_each_outside};
use arch_arm::host::{mmu, percpu};
use arch_arm::machine::{Arm, Description, GicLayout, PrivateInterrupts};
use boot::cmdline::{self, Params};
use boot::dom0::settings;
use boot::dt::GicVersion;
use log::LevelFilter;
use spin::Once;
use xen_core::mem::{AllocFlags, FrameInfo, Frames};
use xen_core::{
    CpuId, DomainId, GuestPhysAddr, HostPhysAddr, Hypervisor, Mfn, PAGE_SHIFT, PAGE_SIZE,
};

use super::platform::Platform;
use super::start::Early;
use super::{console, heap, interrupts};

/// The hypervisor, for all CPUs.
static HYPERVISOR: Once<Hypervisor<Arm>> = Once::new();

/// Part of memory that becomes the hypervisor's heap, and the least of it, as log2 of frames.
const HEAP_SHARE: u64 = 64;
const HEAP_MIN_ORDER: u8 = 11;
const HEAP_MAX_ORDER: u8 = 15;

/// Prints what is wrong with the command line and applies what concerns messages.
pub(crate) fn parameters(line: &str) -> Params {
    let parsed = cmdline::parse(line);
    for complaint in &parsed.complaints {
        log::warn!("{complaint}");
    }
    if let Some(note) = parsed.params.without_effect() {
        log::warn!("{note}");
    }
    for (name, unused) in [
        ("com1", parsed.params.com1.is_none()),
        ("com2", parsed.params.com2.is_none()),
        ("nosmp", !parsed.params.nosmp),
        ("x2apic", parsed.params.x2apic.is_none()),
    ] {
        if !unused {
            log::warn!("parameter {name} has no effect on this machine");
        }
    }
    let params = parsed.params;
    params.apply_to(&console::CONSOLE);
    log::set_max_level(LevelFilter::Debug);
    params
}

/// Hands all memory that nothing uses to a frame allocator.
pub(crate) fn frames(memory: &mut BootMemory) -> &'static Frames {
    let mut frames = Frames::new();
    for bank in memory.ram.clone() {
        let count = bank.size / PAGE_SIZE;
        let info = frame_table(memory, count);
        let va = mmu::phys_to_virt(bank.base).and_then(NonNull::new);
        let Some(va) = va else {
            panic!("memory at {:#x} is not mapped", bank.base.0)
        };
        // SAFETY: the direct map shows the bank at `va` for ever, but for what must not be mapped, which like all
        // that is in use is never released below.
        let added = unsafe { frames.add_bank(Mfn::containing(bank.base), va, info) };
        added.unwrap_or_else(|e| panic!("memory at {:#x} cannot be used: {e:?}", bank.base.0));
    }
    for bank in &memory.ram {
        let released = for_each_outside(*bank, &memory.used, |free| {
            frames.release(Mfn::containing(free.base), free.size >> PAGE_SHIFT);
            Ok(())
        });
        debug_assert_eq!(released, Ok(()));
    }
    Box::leak(Box::new(frames))
}

/// The table for `count` frames, in memory of its own.
fn frame_table(memory: &mut BootMemory, count: u64) -> &'static [FrameInfo] {
    let size = count * size_of::<FrameInfo>() as u64;
    let place = memory
        .find_free(size, PAGE_SIZE)
        .unwrap_or_else(|| panic!("no memory for the frame table"));
    memory
        .add_used(PhysRange { base: place, size })
        .unwrap_or_else(|e| panic!("too many memory ranges in use: {e:?}"));
    let Some(table) = mmu::phys_to_virt(place) else {
        panic!("the frame table is not mapped")
    };
    let table = table.cast::<FrameInfo>();
    for n in 0..count as usize {
        // SAFETY: the memory is mapped, of this size, and was just taken from what nobody uses.
        unsafe { table.add(n).write(FrameInfo::new()) };
    }
    // SAFETY: initialised above; it stays for ever.
    unsafe { core::slice::from_raw_parts(table, count as usize) }
}

/// Gives the heap its share of memory.
pub(crate) fn grow_heap(frames: &'static Frames) {
    let share = frames.free_frames() / HEAP_SHARE;
    let mut order = (share.max(1).ilog2() as u8).clamp(HEAP_MIN_ORDER, HEAP_MAX_ORDER);
    let block = loop {
        match frames.alloc(DomainId::XEN, order, AllocFlags::NO_SCRUB) {
            Ok(block) => break block,
            Err(_) if order > 0 => order -= 1,
            Err(_) => panic!("there is no memory for the hypervisor's heap"),
        }
    };
    let memory = block.into_memory();
    // SAFETY: the frames are the heap's for ever.
    if !unsafe { heap::add(memory.cast().as_ptr(), memory.len()) } {
        panic!("the heap does not take its memory");
    }
}

fn gic_layout(version: &GicVersion) -> GicLayout {
    let at = |range: &boot::range::PhysRange| GuestPhysAddr(range.start().0);
    match version {
        GicVersion::V2 {
            distributor,
            cpu_interface,
            ..
        } => GicLayout::V2 {
            dist: at(distributor),
            cpu: at(cpu_interface),
        },
        GicVersion::V3 {
            distributor,
            redistributors,
            ..
        } => GicLayout::V3 {
            dist: at(distributor),
            redist: redistributors.iter().map(|r| (at(r), r.size())).collect(),
        },
    }
}

fn gic_registers(version: &GicVersion) -> Vec<PhysRange> {
    let ranges: Vec<_> = match version {
        GicVersion::V2 {
            distributor,
            cpu_interface,
            hypervisor,
            virtual_cpu,
        } => [
            Some(distributor),
            Some(cpu_interface),
            hypervisor.as_ref(),
            virtual_cpu.as_ref(),
        ]
        .into_iter()
        .flatten()
        .collect(),
        GicVersion::V3 {
            distributor,
            redistributors,
            ..
        } => core::iter::once(distributor)
            .chain(redistributors)
            .collect(),
    };
    ranges
        .into_iter()
        .map(|r| PhysRange::new(r.start().0, r.size()))
        .collect()
}

/// The machine, for the core.
fn describe(early: &Early) -> Description {
    let platform: &Platform = &early.platform;
    let gic = interrupts::gic().unwrap_or_else(|| panic!("the interrupt controller is not there"));
    let private = PrivateInterrupts {
        hyp_timer: platform.hyp_timer,
        virt_timer: platform
            .virtual_timer
            .unwrap_or_else(|| panic!("the device tree has no virtual timer interrupt")),
        // Guests never see the hardware's: the number is the one they expect.
        phys_timer: platform.physical_timer.unwrap_or(30),
        maintenance: platform
            .maintenance
            .unwrap_or_else(|| panic!("the device tree has no maintenance interrupt of the GIC")),
    };
    let mut claimed = gic_registers(&platform.gic.version);
    claimed.extend(early.console.iter().map(|c| c.registers));
    Description {
        gic,
        gic_layout: gic_layout(&platform.gic.version),
        private,
        psci: platform
            .psci
            .unwrap_or_else(|| panic!("there is no PSCI firmware")),
        cpus: percpu::online_cpus().map(|c| c.0 + 1).max().unwrap_or(1),
        ids: read_host_ids(),
        claimed,
        console_line: early
            .console
            .and_then(|c| c.interrupt)
            .map(|(line, _)| (line, console::read_input as _)),
    }
}

/// Makes the hypervisor.
pub(crate) fn assemble(
    early: &Early,
    frames: &'static Frames,
    params: &Params,
    line: &str,
) -> &'static Hypervisor<Arm> {
    // There is no clock to ask: dom0 sets the time.
    let settings = settings(params, line, 0);
    let hv = Hypervisor::new(
        Arm::new(describe(early)),
        frames,
        &console::CONSOLE,
        settings,
    );
    let hv = hv.unwrap_or_else(|e| panic!("the hypervisor cannot start: {e:?}"));
    HYPERVISOR.call_once(|| hv)
}

/// What the other CPUs run.
pub(crate) fn secondary(_: CpuId) -> ! {
    run(HYPERVISOR.wait())
}

/// Runs domains on this CPU for ever.
pub(crate) fn run(hv: &'static Hypervisor<Arm>) -> ! {
    if let Err(error) = hv.arch.init_cpu() {
        panic!("this CPU cannot run guests: {error:?}");
    }
    xen_core::run(hv, hypercalls::dispatch::<Arm>)
}

/// The bytes of a boot module, which stay where they are until it is discarded.
pub(crate) fn module_bytes(range: &boot::range::PhysRange) -> Option<&'static [u8]> {
    let HostPhysAddr(start) = range.start();
    let va = mmu::phys_to_virt(HostPhysAddr(start))?;
    // SAFETY: start-up checked that the module lies in RAM, which the direct map shows, and counted it as in use, so
    // that nobody writes to it.
    Some(unsafe { core::slice::from_raw_parts(va, range.size() as usize) })
}
