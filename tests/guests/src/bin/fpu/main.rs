//! What belongs to one vCPU stays with it: vector and x87 registers, debug registers, model-specific ones, and time, with
//! more vCPUs than CPUs and everything that makes them change places.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
