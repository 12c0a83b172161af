//! The local APIC, by its registers in memory or, as x2APIC, by model-specific registers.
//!
//! (AMD64 APM volume 2, chapter 16; Intel SDM volume 3, chapter 11.) Registers are named by their offset in memory.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::interrupts::SPURIOUS;
use super::{MAX_VCPUS, cpu, peek, platform, poke, smp};

/// IA32_APIC_BASE.
pub const BASE: u32 = 0x1b;
/// Bits of [`BASE`].
pub mod base {
    /// This CPU boots.
    pub const BOOTS: u64 = 1 << 8;
    /// Registers are model-specific ones.
    pub const X2APIC: u64 = 1 << 10;
    /// It is on.
    pub const ENABLED: u64 = 1 << 11;
}
/// The model-specific register of offset 0 as x2APIC.
pub const FIRST_MSR: u32 = 0x800;
/// IA32_TSC_DEADLINE.
pub const DEADLINE: u32 = 0x6e0;

/// Offsets of registers.
pub mod registers {
    /// Identifier.
    pub const ID: u32 = 0x20;
    /// Version.
    pub const VERSION: u32 = 0x30;
    /// Task priority.
    pub const TASK_PRIORITY: u32 = 0x80;
    /// Processor priority.
    pub const PROCESSOR_PRIORITY: u32 = 0xa0;
    /// End of interrupt.
    pub const END: u32 = 0xb0;
    /// Logical destination.
    pub const LOGICAL_DESTINATION: u32 = 0xd0;
    /// Destination format; not as x2APIC.
    pub const DESTINATION_FORMAT: u32 = 0xe0;
    /// Spurious interrupts, and the software's switch.
    pub const SPURIOUS: u32 = 0xf0;
    /// In service: eight registers, 0x10 apart.
    pub const IN_SERVICE: u32 = 0x100;
    /// Level-triggered.
    pub const TRIGGER: u32 = 0x180;
    /// Requested.
    pub const REQUESTED: u32 = 0x200;
    /// Errors.
    pub const ERRORS: u32 = 0x280;
    /// Interrupt command.
    pub const COMMAND: u32 = 0x300;
    /// Its destination, in memory.
    pub const COMMAND_DESTINATION: u32 = 0x310;
    /// Local vector of the timer.
    pub const TIMER: u32 = 0x320;
    /// Local vector of pin 0.
    pub const LINT0: u32 = 0x350;
    /// Local vector of pin 1.
    pub const LINT1: u32 = 0x360;
    /// Local vector of errors.
    pub const ERROR: u32 = 0x370;
    /// The timer's initial count.
    pub const INITIAL: u32 = 0x380;
    /// The timer's current count.
    pub const CURRENT: u32 = 0x390;
    /// The timer's divisor.
    pub const DIVIDE: u32 = 0x3e0;
    /// Interrupt to oneself; as x2APIC only.
    pub const SELF: u32 = 0x3f0;
}

/// Bits of a local vector.
pub mod lvt {
    /// Masked.
    pub const MASKED: u32 = 1 << 16;
    /// Of the timer: again and again.
    pub const PERIODIC: u32 = 1 << 17;
    /// Of the timer: at a value of the time-stamp counter.
    pub const DEADLINE: u32 = 2 << 17;
}

/// Whom an interrupt goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sender.
    Me,
    /// All but the sender.
    Others,
    /// The vCPU of this index.
    One(usize),
}

/// What [`BASE`] is, as far as this module knows: reading it each time would be an exit to the hypervisor.
static BASES: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

/// Writes [`BASE`] of the calling vCPU, and reads what it is then.
pub fn set_base(value: u64) -> u64 {
    cpu::write_msr(BASE, value);
    read_base()
}

/// Reads [`BASE`] of the calling vCPU.
pub fn read_base() -> u64 {
    let value = cpu::read_msr(BASE);
    BASES[smp::index() % MAX_VCPUS].store(value, Ordering::Relaxed);
    value
}

fn known_base() -> u64 {
    BASES[smp::index() % MAX_VCPUS].load(Ordering::Relaxed)
}

/// Whether the calling vCPU's is an x2APIC now, by the last [`set_base`] or [`read_base`].
pub fn is_x2apic() -> bool {
    known_base() & base::X2APIC != 0
}

/// Whether CPUID offers an x2APIC.
pub fn has_x2apic() -> bool {
    cpu::cpuid(1, 0).ecx >> 21 & 1 != 0
}

/// Reads a register.
pub fn read(register: u32) -> u32 {
    let base = known_base();
    if base & base::X2APIC != 0 {
        cpu::read_msr(FIRST_MSR + register / 16) as u32
    } else {
        peek(base_address(base) + u64::from(register))
    }
}

/// Writes a register.
pub fn write(register: u32, value: u32) {
    let base = known_base();
    if base & base::X2APIC != 0 {
        cpu::write_msr(FIRST_MSR + register / 16, value.into());
    } else {
        poke(base_address(base) + u64::from(register), value);
    }
}

/// Where the calling vCPU's registers are in memory, in the mode that has them there.
pub fn address() -> u64 {
    base_address(known_base())
}

const fn base_address(base: u64) -> u64 {
    base & 0x000f_ffff_ffff_f000
}

/// Switches the calling vCPU's on, as x2APIC if CPUID offers that, with all local vectors masked.
pub fn init_vcpu() {
    let base = read_base();
    if has_x2apic() {
        set_base(base | base::ENABLED | base::X2APIC);
    }
    switch_on();
}

/// Sets the switch of software, with no priority and all local vectors masked, in whatever mode it is.
pub fn switch_on() {
    const ON: u32 = 1 << 8;
    for register in [
        registers::TIMER,
        registers::LINT0,
        registers::LINT1,
        registers::ERROR,
    ] {
        write(register, lvt::MASKED);
    }
    write(registers::TASK_PRIORITY, 0);
    write(registers::SPURIOUS, ON | u32::from(SPURIOUS));
}

/// The identifier of the calling vCPU's.
pub fn id() -> u32 {
    let id = read(registers::ID);
    if is_x2apic() { id } else { id >> 24 }
}

/// Ends the interrupt in service with the highest priority.
pub fn end_interrupt() {
    write(registers::END, 0);
}

/// Sends an interrupt command: its low word, to the APIC of this identifier.
pub fn command(destination: u32, low: u32) {
    // What was written to memory before is seen by whom it interrupts.
    fence(Ordering::SeqCst);
    if is_x2apic() {
        let value = u64::from(destination) << 32 | u64::from(low);
        cpu::write_msr(FIRST_MSR + registers::COMMAND / 16, value);
    } else {
        write(registers::COMMAND_DESTINATION, destination << 24);
        write(registers::COMMAND, low);
    }
}

fn apic(index: usize) -> u32 {
    platform().cpus().get(index).copied().unwrap_or(0xff)
}

/// Sends an interrupt, edge-triggered.
pub fn send(vector: u8, to: Target) {
    const ASSERT: u32 = 1 << 14;
    const SELF: u32 = 1 << 18;
    const OTHERS: u32 = 3 << 18;
    let (destination, how) = match to {
        Target::Me => (0, SELF),
        Target::Others => (0, OTHERS),
        Target::One(index) => (apic(index), 0),
    };
    command(destination, ASSERT | how | u32::from(vector));
}

/// Sends vCPU `index` to its reset state.
pub fn send_init(index: usize) {
    const INIT: u32 = 5 << 8 | 1 << 14;
    command(apic(index), INIT);
}

/// Starts vCPU `index`, which waits for it after INIT, in real mode at the start of a page below 1 MiB.
pub fn send_startup(index: usize, page: u8) {
    const STARTUP: u32 = 6 << 8 | 1 << 14;
    command(apic(index), STARTUP | u32::from(page));
}

/// Whether a vector is requested: sent and not taken.
pub fn is_requested(vector: u8) -> bool {
    bit(registers::REQUESTED, vector)
}

/// Whether a vector is in service: taken and not ended.
pub fn is_in_service(vector: u8) -> bool {
    bit(registers::IN_SERVICE, vector)
}

fn bit(registers: u32, vector: u8) -> bool {
    read(registers + u32::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}
