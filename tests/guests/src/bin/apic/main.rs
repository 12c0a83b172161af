//! The local APIC in both of its modes, the I/O APIC, and how events are announced through them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
