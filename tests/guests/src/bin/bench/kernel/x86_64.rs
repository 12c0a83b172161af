//! What is measured on x86-64 alone, and how vCPUs interrupt each other there.

use guest_rt::Boot;
use guest_rt::machine::{self as m, cpu, events, interrupts, lapic};

use super::{report, round};

/// The row of interrupts between vCPUs.
pub(crate) const IPI: &str = "ipi-to-waiting-sibling";

/// The vector of interrupts between vCPUs.
const VECTOR: u8 = 0x50;
/// The ACPI timer of QEMU's `q35` board; it counts from power-on, while guests' counters may begin anywhere.
const PM_TIMER: u16 = 0x608;
const PM_TIMER_HZ: u64 = 3_579_545;
/// CONFIG_ADDRESS of PCI, which the hypervisor keeps for itself.
const PCI_ADDRESS: u16 = 0xcf8;
/// The first I/O APIC, its register selector.
const IO_APIC: u64 = 0xfec0_0000;

/// The clock as this kernel begins, and its frequency; `None` if the hypervisor keeps the clock for itself, as Xen does.
pub(crate) fn boot(_: &Boot) -> Option<(u64, u64)> {
    const BITS: u32 = 0xff_ffff;
    let ticks = cpu::in32(PM_TIMER);
    (ticks != u32::MAX).then(|| ((ticks & BITS).into(), PM_TIMER_HZ))
}

pub(crate) fn exits() {
    report("cpuid-exit", 2000, || cpu::cpuid(0, 0).eax > 0);
    report("msr-exit", 2000, || cpu::read_msr(lapic::BASE) != 0);
    report("port-exit", 2000, || {
        cpu::in32(PCI_ADDRESS);
        true
    });
    // The emulated device that is used most, if it is one; else another.
    let device = if lapic::is_x2apic() {
        IO_APIC
    } else {
        lapic::address() + u64::from(lapic::registers::VERSION)
    };
    report("nested-page-fault", 2000, || m::peek(device) != u32::MAX);
}

/// Interrupts and events; whether events are announced.
pub(crate) fn prepare() -> bool {
    interrupts::register(VECTOR, |_| round());
    events::init(|_| round());
    events::register_info(1);
    true
}

pub(crate) fn prepare_sibling() {
    events::init_vcpu();
}

/// The second vCPU waits for an interrupt and takes it.
pub(crate) fn wait_and_take() {
    m::wait();
}

pub(crate) fn interrupt_sibling() {
    lapic::send(VECTOR, lapic::Target::One(1));
}
