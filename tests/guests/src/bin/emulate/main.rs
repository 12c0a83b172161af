//! Instructions that the hypervisor executes for its guest: on devices' memory, on ports, and the faults among them.
//!
//! The measure is the CPU: an instruction runs on memory, then on a device's register that holds the same, and has to do
//! the same to registers, flags and what it wrote.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
