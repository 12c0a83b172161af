//! A guest that means ill: whatever it does, it gets errors or exceptions, and the hypervisor goes on.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
