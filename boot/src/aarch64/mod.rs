//! Oxen on arm64: from the loader to running dom0 on every CPU.
//!
//! In order: `entry` (assembly: MMU on, stack), [`start::early_init`] (device tree, console), [`start::memory`] (final
//! address space), [`interrupts::init`] (clock, GIC), [`smp::init`] (the other CPUs), [`hypervisor`] (frame allocator,
//! heap, the hypervisor itself), [`dom0`], and the run loop.

mod console;
mod dom0;
mod efi;
mod entry;
mod halt;
mod heap;
mod hypervisor;
mod interrupts;
mod platform;
mod smp;
mod start;

/// Where the entry code arrives: MMU on with the early tables, interrupts masked, on the boot CPU's stack.
/// `dtb` and `image`: physical addresses of the device tree and of the image; `el`: the exception level, 1 or 2.
#[expect(unsafe_code, reason = "called by name from the entry code")]
#[unsafe(no_mangle)]
extern "C" fn oxen_start(dtb: u64, image: u64, el: u64) -> ! {
    let early = start::early_init(dtb, image, el);
    let modules = start::modules(&early.tree).unwrap_or_else(|e| halt::refuse(format_args!("{e}")));
    let line = modules.xen_cmdline.unwrap_or("");
    let params = hypervisor::parameters(line);
    for note in &modules.notes {
        log::warn!("{note}");
    }
    if let Some(psci) = early.platform.psci.filter(|_| !params.noreboot) {
        halt::reset_by(psci);
    }
    let mut memory = start::memory(&early, &modules);
    interrupts::init(&early.platform);
    console::set_clock();
    start::check_modules(&early, &modules, &memory)
        .unwrap_or_else(|e| halt::refuse(format_args!("{e}")));
    smp::init(&early.platform, params.maxcpus, hypervisor::secondary);
    start::report(&early.platform, &memory);
    let frames = hypervisor::frames(&mut memory);
    hypervisor::grow_heap(frames);
    params.size_ring_of(&console::CONSOLE);
    let hv = hypervisor::assemble(&early, frames, &params, line);
    if let Err(why) = dom0::build(hv, &early, &modules, &params) {
        halt::refuse(format_args!("dom0 cannot be built: {why}"));
    }
    console::enable_rx_interrupt();
    hypervisor::run(hv)
}
