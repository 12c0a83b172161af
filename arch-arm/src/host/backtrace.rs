//! The walk along the frame records.

pub use xen_core::crash::backtrace::{MAX_FRAMES, frames};
