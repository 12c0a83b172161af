//! What things cost, in ticks of the counter: one tick is a fixed number of instructions under QEMU's `-icount`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
