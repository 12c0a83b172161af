//! The CPU and board that Oxen itself runs on: address space, per-CPU data, descriptor tables and exceptions, local and
//! I/O APICs, clock and timer, start of the other CPUs, firmware tables, console devices, power.
//!
//! What computes is compiled and tested everywhere; what touches the hardware exists on x86-64 alone.
//!
//! # Interrupts
//! They are masked from the first instruction to the last. [`interrupts`] opens a window of a few instructions where
//! the core wants to know what waits; a vector's handler then only records the vector in its CPU's set and
//! acknowledges it. Nothing else ever happens in interrupt context, so code outside needs no interrupt-safe lock.

pub mod acpi;
pub mod calibrate;
pub mod font;
pub mod layout;
pub mod mmio;
pub mod paging;
pub mod pending;
pub mod pte;
pub mod rtc;

#[cfg(target_arch = "x86_64")]
pub mod clock;
#[cfg(target_arch = "x86_64")]
pub mod cpu;
#[cfg(target_arch = "x86_64")]
pub mod exceptions;
#[cfg(target_arch = "x86_64")]
pub mod framebuffer;
#[cfg(target_arch = "x86_64")]
pub mod interrupts;
#[cfg(target_arch = "x86_64")]
pub mod ioapic;
#[cfg(target_arch = "x86_64")]
pub mod lapic;
#[cfg(target_arch = "x86_64")]
pub mod mmu;
#[cfg(target_arch = "x86_64")]
pub mod msr;
#[cfg(target_arch = "x86_64")]
pub mod percpu;
#[cfg(target_arch = "x86_64")]
pub mod pic;
#[cfg(target_arch = "x86_64")]
pub mod pit;
#[cfg(target_arch = "x86_64")]
pub mod power;
#[cfg(target_arch = "x86_64")]
pub mod segments;
#[cfg(target_arch = "x86_64")]
pub mod smp;
#[cfg(target_arch = "x86_64")]
pub mod timer;
#[cfg(target_arch = "x86_64")]
pub mod uart;
#[cfg(target_arch = "x86_64")]
pub mod vga;
