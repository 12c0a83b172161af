//! What the Oxen binaries do before the first domain runs.
//!
//! This library is the part of `boot` that knows no CPU: reading the firmware's device tree, the command line, the boot
//! modules and the kernel image, and writing dom0's device tree. It works on byte slices, has no `unsafe`, and is
//! tested on the host. Entry code and everything that touches hardware is in the binary.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod cmdline;
pub mod dom0;
pub mod dom0_tree;
pub mod dt;
pub mod efi;
pub mod image;
pub mod modules;
pub mod multiboot;
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub mod pvh;
pub mod range;
