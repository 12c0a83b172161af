//! Event channels as they arrive: by interrupt, in the two-level interface and in the FIFO one.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
