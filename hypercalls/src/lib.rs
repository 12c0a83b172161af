//! Xen's hypercalls.
//!
//! A call travels one way: [`dispatch()`] takes number and arguments from the registers, finds the row in the one
//! table, and runs its handler; the handler copies what the arguments point to exactly once into owned types,
//! checks everything, asks [`xen_core::policy`], and calls an object of `xen-core`. Only `dispatch` applies the
//! result. Handlers never see a register or a raw guest pointer again after decoding.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod call;
mod console;
mod dispatch;
#[cfg(feature = "mgmt_hypercalls")]
mod domctl;
mod event_channel;
mod grant_table;
mod hvm;
mod memory;
#[cfg(feature = "multicall")]
mod multicall;
mod physdev;
mod platform;
mod sched;
#[cfg(feature = "mgmt_hypercalls")]
mod sysctl;
mod vcpu;
mod version;
#[cfg(feature = "vm_assist")]
mod vm_assist;

#[cfg(test)]
mod tests;

pub use call::{Call, Outcome};
pub use dispatch::dispatch;
