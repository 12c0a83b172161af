//! Oxen on x86-64: from the boot loader to running dom0 on every CPU.
//!
//! In order: `entry` (assembly: long mode, stack), [`start::early_init`] (exceptions, boot information, serial console),
//! [`memory::init`] (final address space), [`firmware::init`] (ACPI tables), [`start::devices`] (APICs, clock, timer), the
//! other CPUs, [`memory::frames`] and [`memory::grow_heap`], the choice of the virtualization extension, [`dom0::prepare`] (which
//! memory is whose), [`hypervisor::run_on`], which makes the hypervisor and has [`dom0::build`] make dom0, and the run loop.
#![cfg_attr(
    not(feature = "svm"),
    expect(
        dead_code,
        unused_variables,
        reason = "without a backend nothing runs guests: start-up says so"
    )
)]

mod console;
mod dom0;
mod entry;
mod firmware;
mod halt;
mod hardware;
mod heap;
mod hypervisor;
mod memory;
mod start;

/// Where the entry code arrives: long mode, the early tables, interrupts masked, on the boot CPU's stack. `magic` and
/// `info`: what the loader left in EAX and EBX; `image`: physical address of the image.
#[expect(unsafe_code, reason = "called by name from the entry code")]
#[unsafe(no_mangle)]
extern "C" fn oxen_start(magic: u32, info: u32, image: u32) -> ! {
    let early = start::early_init(magic, info, image.into());
    let mut memory = memory::init(&early.info);
    let firmware = firmware::init(&early.info);
    console::attach_rest(
        &early.params,
        early.info.framebuffer.as_ref(),
        firmware.has_vga(),
    );
    start::devices(&firmware, &early.params);
    console::set_clock(firmware.wallclock());
    start::other_cpus(&firmware, &early.params, &mut memory);
    start::report(&early, &memory.map);
    let frames = memory::frames(&mut memory.map);
    memory::grow_heap(&mut memory.map);
    early.params.size_ring_of(&console::CONSOLE);
    start::run(&early, &firmware, &mut memory, frames)
}
