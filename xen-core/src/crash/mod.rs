//! What a fatal report of the hypervisor is made of, the same on every architecture.

pub mod backtrace;
pub mod symbols;
