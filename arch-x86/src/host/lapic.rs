//! The local APIC, by memory (xAPIC) or by MSRs (x2APIC): Intel SDM volume 3, chapter "Advanced Programmable Interrupt
//! Controller"; AMD APM volume 2, chapter 16.
#![expect(unsafe_code, reason = "registers of the local APIC")]

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use xen_core::{CpuId, Error, HostPhysAddr, Result};

use super::interrupts::{self, Vector};
use super::mmio::Mmio;
use super::percpu::{self, Count};
use super::{cpu, mmu, msr};

/// Registers by their offset in xAPIC mode; x2APIC numbers them by a sixteenth of it.
mod reg {
    pub(super) const ID: u32 = 0x20;
    pub(super) const VERSION: u32 = 0x30;
    pub(super) const TPR: u32 = 0x80;
    pub(super) const EOI: u32 = 0xb0;
    pub(super) const LDR: u32 = 0xd0;
    pub(super) const DFR: u32 = 0xe0;
    pub(super) const SVR: u32 = 0xf0;
    pub(super) const ISR: u32 = 0x100;
    pub(super) const ESR: u32 = 0x280;
    pub(super) const LVT_CMCI: u32 = 0x2f0;
    pub(super) const ICR: u32 = 0x300;
    pub(super) const ICR_HIGH: u32 = 0x310;
    pub(super) const LVT_TIMER: u32 = 0x320;
    pub(super) const LVT_THERMAL: u32 = 0x330;
    pub(super) const LVT_PERF: u32 = 0x340;
    pub(super) const LVT_LINT0: u32 = 0x350;
    pub(super) const LVT_LINT1: u32 = 0x360;
    pub(super) const LVT_ERROR: u32 = 0x370;
    pub(super) const TIMER_INITIAL: u32 = 0x380;
    pub(super) const TIMER_CURRENT: u32 = 0x390;
    pub(super) const TIMER_DIVIDE: u32 = 0x3e0;
}

/// APIC_BASE: the APIC is on.
const BASE_ENABLE: u64 = 1 << 11;
/// APIC_BASE: x2APIC mode.
const BASE_X2APIC: u64 = 1 << 10;
/// Spurious vector register: the APIC is on.
const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
/// LVT timer: the deadline is a value of the time-stamp counter.
const LVT_TSC_DEADLINE: u32 = 2 << 17;
/// LVT delivery mode NMI.
const LVT_NMI: u32 = 4 << 8;
const LVT_ACTIVE_LOW: u32 = 1 << 13;
/// Divide configuration: the timer counts at the bus frequency.
const DIVIDE_BY_1: u32 = 0b1011;
/// Interrupt command: the last one has not gone out yet.
const ICR_BUSY: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_NMI: u32 = 4 << 8;
const ICR_INIT: u32 = 5 << 8;
const ICR_STARTUP: u32 = 6 << 8;
/// Highest identifier that an xAPIC can address; 0xff is a broadcast.
const MAX_XAPIC_ID: u32 = 0xfe;
/// How often a busy command register is looked at before giving up: at 1 µs a look far more than any bus takes.
const ICR_POLLS: u32 = 100_000;

static X2APIC: AtomicBool = AtomicBool::new(false);
static REGISTERS: Once<Mmio> = Once::new();

/// How the registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By memory; identifiers have 8 bits.
    XApic,
    /// By model-specific registers; identifiers have 32 bits.
    X2Apic,
}

/// How the registers of all local APICs are reached.
pub fn mode() -> Mode {
    if X2APIC.load(Ordering::Relaxed) {
        Mode::X2Apic
    } else {
        Mode::XApic
    }
}

/// Chooses the mode and makes the registers reachable, on the boot CPU, before [`init_cpu`]. `base`: where the
/// firmware says that the registers are. `x2apic`: what the user wants, if anything. The firmware's choice of x2APIC is
/// kept, since there is no way back that is safe for all CPUs.
///
/// # Errors
/// [`Error::NoDev`] without a local APIC; what [`mmu::map_device`] says.
pub fn init(base: Option<HostPhysAddr>, x2apic: Option<bool>) -> Result<Mode> {
    let features = cpu::features();
    if !features.apic {
        return Err(Error::NoDev);
    }
    let now = msr::read(msr::APIC_BASE);
    let enabled = now & BASE_X2APIC != 0;
    if features.x2apic && (enabled || x2apic.unwrap_or(true)) {
        X2APIC.store(true, Ordering::Relaxed);
        enable();
        return Ok(Mode::X2Apic);
    }
    let programmed = HostPhysAddr(now & cpu::physical_address_mask() & !0xfff);
    if let Some(base) = base.filter(|b| *b != programmed) {
        log::warn!(
            "The firmware's tables have the local APIC at {base}, the CPU has it at {programmed}"
        );
    }
    // SAFETY: the CPU says that its local APIC is there; nobody else drives it.
    let registers = unsafe { mmu::map_device(programmed, 0x1000) }?;
    REGISTERS.call_once(|| registers);
    enable();
    Ok(Mode::XApic)
}

/// Turns the local APIC of this CPU on, in the mode that was chosen. Its registers can be reached then.
fn enable() {
    let base = msr::read(msr::APIC_BASE) | BASE_ENABLE;
    // SAFETY: turns on what the CPU says it has; enabled first, x2APIC second is the order the manuals ask for.
    unsafe {
        msr::write(msr::APIC_BASE, base);
        if mode() == Mode::X2Apic {
            msr::write(msr::APIC_BASE, base | BASE_X2APIC);
        }
    }
}

/// Reads a register.
#[inline]
fn read(register: u32) -> u32 {
    match mode() {
        Mode::X2Apic => msr::read(msr::X2APIC_BASE + (register >> 4)) as u32,
        Mode::XApic => REGISTERS
            .get()
            .map_or(0, |mmio| mmio.read32(register as usize)),
    }
}

/// Writes a register.
#[inline]
fn write(register: u32, value: u32) {
    match mode() {
        // SAFETY: only this driver writes to the local APIC, and what it writes affects interrupts alone.
        Mode::X2Apic => unsafe {
            msr::write(msr::X2APIC_BASE + (register >> 4), value.into());
        },
        Mode::XApic => {
            if let Some(mmio) = REGISTERS.get() {
                mmio.write32(register as usize, value);
            }
        }
    }
}

/// Whether [`init`] was called with success.
fn is_ready() -> bool {
    X2APIC.load(Ordering::Relaxed) || REGISTERS.is_completed()
}

/// A local interrupt pin that the firmware says carries NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NmiPin {
    /// 0 or 1.
    pub lint: u8,
    /// The pin is active low.
    pub active_low: bool,
}

/// Turns the local APIC of this CPU on: everything masked but what Oxen uses, all priorities open. `nmi`: the pin that
/// carries NMIs on this CPU.
///
/// # Errors
/// [`Error::NoDev`] if it does not react or has another identifier than could be addressed.
pub fn init_cpu(nmi: Option<NmiPin>) -> Result<()> {
    let x2apic = mode() == Mode::X2Apic;
    enable();
    let version = read(reg::VERSION);
    if version == 0 || version == u32::MAX {
        return Err(Error::NoDev);
    }
    let last_lvt = version >> 16 & 0xff;
    // On first: masking an entry of a disabled APIC does nothing on some.
    write(reg::SVR, SVR_ENABLE | u32::from(interrupts::SPURIOUS.0));
    write(reg::TPR, 0);
    if !x2apic {
        // Flat model, no logical destination: only physical destinations are used.
        write(reg::DFR, u32::MAX);
        write(reg::LDR, 0);
    }
    write(reg::LVT_TIMER, LVT_MASKED);
    write(reg::LVT_LINT0, LVT_MASKED);
    write(reg::LVT_LINT1, LVT_MASKED);
    if last_lvt >= 4 {
        write(reg::LVT_PERF, LVT_MASKED);
    }
    if last_lvt >= 5 {
        write(reg::LVT_THERMAL, LVT_MASKED);
    }
    if last_lvt >= 6 {
        write(reg::LVT_CMCI, LVT_MASKED);
    }
    if let Some(pin) = nmi {
        let polarity = if pin.active_low { LVT_ACTIVE_LOW } else { 0 };
        let lvt = if pin.lint == 0 {
            reg::LVT_LINT0
        } else {
            reg::LVT_LINT1
        };
        write(lvt, LVT_NMI | polarity);
    }
    write(reg::LVT_ERROR, interrupts::ERROR.0.into());
    // What the firmware left in service would hold back everything below it. There are at most 8 * 32 of them.
    for _ in 0..256 {
        if (0..8).all(|n| read(reg::ISR + n * 0x10) == 0) {
            break;
        }
        eoi();
    }
    write(reg::ESR, 0);
    write(reg::ESR, 0);
    if x2apic || id() <= MAX_XAPIC_ID {
        Ok(())
    } else {
        Err(Error::NoDev)
    }
}

/// Identifier of this CPU's local APIC.
pub fn id() -> u32 {
    let id = read(reg::ID);
    match mode() {
        Mode::X2Apic => id,
        Mode::XApic => id >> 24,
    }
}

/// Acknowledges the interrupt in service.
#[inline]
pub fn eoi() {
    write(reg::EOI, 0);
}

/// Sends an interrupt to another CPU, or to this one. One to a CPU that is not online is lost.
pub fn send_ipi(cpu: CpuId, vector: Vector) {
    if let Some(id) = percpu::apic_id(cpu) {
        command(id, ICR_ASSERT | u32::from(vector.0));
    }
}

/// Sends a non-maskable interrupt to another CPU.
pub fn send_nmi(cpu: CpuId) {
    if is_ready()
        && let Some(id) = percpu::apic_id(cpu)
    {
        command(id, ICR_ASSERT | ICR_NMI);
    }
}

/// Puts the CPU with this APIC identifier into the state where it waits for a start-up command.
pub(super) fn send_init(apic_id: u32) {
    command(apic_id, ICR_ASSERT | ICR_INIT);
}

/// Starts the CPU with this APIC identifier in real mode at the page with number `page`, which is below 256.
pub(super) fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, ICR_ASSERT | ICR_STARTUP | u32::from(page));
}

fn command(apic_id: u32, low: u32) {
    match mode() {
        Mode::X2Apic => {
            // SAFETY: the fences keep stores before the interrupt that announces them: the write of this register is
            // not serialising.
            unsafe {
                core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                msr::write(
                    msr::X2APIC_BASE + (reg::ICR >> 4),
                    u64::from(apic_id) << 32 | u64::from(low),
                );
            }
        }
        Mode::XApic => {
            let idle = || {
                (0..ICR_POLLS).any(|_| {
                    core::hint::spin_loop();
                    read(reg::ICR) & ICR_BUSY == 0
                })
            };
            if !idle() {
                log::error!(
                    "CPU {}: the local APIC sends no interrupts",
                    percpu::cpu_id()
                );
            }
            write(reg::ICR_HIGH, apic_id << 24);
            write(reg::ICR, low);
        }
    }
}

/// Reads and clears the error status and says what it is.
pub(super) fn report_error() {
    write(reg::ESR, 0);
    let status = read(reg::ESR);
    if status != 0 {
        log::warn!(
            "CPU {}: the local APIC reports error {status:#x} ({} so far)",
            percpu::cpu_id(),
            percpu::this().counted(Count::ApicError)
        );
    }
}

/// Lets the timer interrupt at values of the time-stamp counter ([`msr::TSC_DEADLINE`]).
pub(super) fn timer_by_deadline() {
    write(
        reg::LVT_TIMER,
        LVT_TSC_DEADLINE | u32::from(interrupts::TIMER.0),
    );
    // SAFETY: orders the write to memory before the one to the register (SDM, "TSC-Deadline Mode").
    unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
}

/// Lets the timer interrupt once when its count reaches zero, or masks it.
pub(super) fn timer_by_count(masked: bool) {
    let mask = if masked { LVT_MASKED } else { 0 };
    write(reg::TIMER_DIVIDE, DIVIDE_BY_1);
    write(reg::LVT_TIMER, mask | u32::from(interrupts::TIMER.0));
}

/// Starts the timer's count; 0 stops it.
pub(super) fn set_timer_count(count: u32) {
    write(reg::TIMER_INITIAL, count);
}

/// The timer's count.
pub(super) fn timer_count() -> u32 {
    read(reg::TIMER_CURRENT)
}
