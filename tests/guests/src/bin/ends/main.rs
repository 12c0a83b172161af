//! Ways to go wrong, one of which a word on the command line chooses. Whatever it is, nobody but this guest ends by it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod kernel;

guest_rt::kernel!(only "x86_64", kernel::start);
