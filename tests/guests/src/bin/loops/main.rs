//! vCPUs that never give anything back: whatever they do for ever, the others go on, and so does the hypervisor.
//!
//! Words on the command line choose an end other than a verdict: `loops-crash`, `loops-watchdog`, `loops-nested`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel;

guest_rt::kernel!(kernel::start);
