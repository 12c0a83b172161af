//! Oxen on the bare machine, at EL2: address space, per-CPU data, exception vectors, timer, firmware calls and the
//! drivers for interrupt controller and serial port.
//!
//! What computes is compiled and tested everywhere; what touches system registers exists on arm64 alone.

pub mod backtrace;
pub mod clock;
pub mod descriptor;
pub mod gic;
pub mod layout;
pub mod mmio;
pub mod paging;
pub mod percpu;
pub mod psci;
pub mod ranges;
pub mod symbols;
pub mod uart;

#[cfg(target_arch = "aarch64")]
pub mod cache;
#[cfg(target_arch = "aarch64")]
pub mod cpu;
#[cfg(target_arch = "aarch64")]
pub mod fault;
#[cfg(target_arch = "aarch64")]
pub mod mmu;
#[cfg(target_arch = "aarch64")]
pub mod timer;
#[cfg(target_arch = "aarch64")]
pub mod tlb;
