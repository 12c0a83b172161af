//! Everything that a domain can do with its own grant table: granting to itself, mapping, copying, both versions.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
