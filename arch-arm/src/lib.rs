#![cfg_attr(not(test), no_std)]
//! Oxen on arm64, at EL2.
//!
//! [`decode`], [`vgic`] and [`stage2`] are pure: they run under the host's tests. [`guest`] and [`host`] touch the
//! hardware, and `machine` puts all of it together as the core's `Arch`.

extern crate alloc;

pub mod decode;
pub mod guest;
pub mod host;
#[cfg(target_arch = "aarch64")]
pub mod machine;
pub mod manage;
pub mod stage2;
pub mod vgic;
