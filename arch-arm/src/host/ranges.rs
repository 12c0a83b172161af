//! Sets of physical address ranges: what is RAM, what is taken, what is left.

pub use xen_core::mem::ranges::{BootMemory, MAX_BANKS, MAX_USED, PhysRange, for_each_outside};
