//! What toolstacks may ask of domains on this architecture: pure checks and conversions.

mod config;
mod context;

pub use config::{HostAbilities, check};
pub use context::{apply, read};
