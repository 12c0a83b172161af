//! The hypervisor's objects, independent of architecture: domains, vCPUs, memory, the p2m, event channels,
//! grant tables, the scheduler, timers and the loop each physical CPU runs.
//!
//! Everything is generic over [`Arch`], the one seam to the machine, so all of it runs under `cargo test` on the
//! software machine in `soft` (feature `soft`). Guest memory is never a Rust reference; see [`mem`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod arch;
pub mod clock;
pub mod console;
mod cpumask;
pub mod crash;
mod domain;
mod error;
pub mod evtchn;
pub mod grant;
mod guest;
pub mod hardware;
mod heap;
mod hypervisor;
mod keys;
pub mod manage;
pub mod mem;
pub mod p2m;
pub mod policy;
mod run;
pub mod sched;
#[cfg(feature = "soft")]
pub mod soft;
pub mod timer;
mod types;
pub mod vcpu;

pub use arch::{Arch, Exit, Registers, SharedLayout};
pub use cpumask::CpuMask;
pub use domain::{
    Control, Domain, DomainConfig, Domains, Dying, HVM_PARAMS, MEMORY_MAP_ENTRIES, RangeSet,
};
pub use error::{Error, Result};
pub use hypervisor::{Hypervisor, Pcpu, Settings, TimerEvent, softirq};
pub use run::{Dispatch, run, step};
pub use types::*;
pub use vcpu::Vcpu;
