//! A guest's registers, and the switch between its world and the hypervisor's.
//!
//! Entering a guest is a function call that returns when the guest exits. `enter` switches only what every exit
//! needs: the general-purpose registers, the PC and the state. Everything else a vCPU has (EL1's system registers,
//! floating point, the virtual timer) stays in the CPU while Oxen handles an exit and is moved by
//! `load_state` and `save_state` when the pCPU changes to another vCPU.
//!
//! ```text
//! load_state(ctx, vttbr); loop { match ctx.raw_exit(enter(ctx)).decode() { ... } } save_state(ctx);
//! ```
//!
//! A register that is not in [`Context`] and that a guest could change would leak between vCPUs. So a guest may use
//! exactly what is switched here; the rest traps ([`control`]) and is hidden ([`crate::decode::GuestIdRegs`]). The
//! three places change together.
#![cfg_attr(
    not(target_arch = "aarch64"),
    allow(dead_code, reason = "elsewhere only the tests use it")
)]

mod context;
pub mod control;
mod par;
mod residence;

#[cfg(target_arch = "aarch64")]
mod enter;
#[cfg(target_arch = "aarch64")]
mod idread;
#[cfg(target_arch = "aarch64")]
mod setup;
#[cfg(target_arch = "aarch64")]
mod state;
#[cfg(target_arch = "aarch64")]
mod sysregs;
#[cfg(target_arch = "aarch64")]
mod translate;

pub use context::{Context, FpState};
pub use par::TranslateFault;

#[cfg(target_arch = "aarch64")]
pub use enter::enter;
#[cfg(target_arch = "aarch64")]
pub use idread::read_host_ids;
#[cfg(target_arch = "aarch64")]
pub use setup::init_cpu;
#[cfg(target_arch = "aarch64")]
pub use state::{exception_state, load_state, save_state, set_exception, with_vttbr};
#[cfg(target_arch = "aarch64")]
pub use translate::translate;
