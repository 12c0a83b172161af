//! The conversion between ticks of the system counter and nanoseconds.

pub use xen_core::clock::Scale;
