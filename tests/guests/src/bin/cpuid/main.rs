//! What a guest is told of its CPU, and its model-specific registers: sane, in agreement, and the same on each look.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
