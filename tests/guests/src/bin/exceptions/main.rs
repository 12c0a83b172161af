//! Exceptions as a guest's own mistakes cause them, and how far instructions that the hypervisor carries out reach.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
