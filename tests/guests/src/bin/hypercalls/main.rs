//! Each hypercall from inside: what it answers when all is well, and when it is not.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
