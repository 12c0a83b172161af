//! Physical memory: who owns each frame, how it is allocated, and the only ways to reach its bytes.
//!
//! All memory handed to [`Frames`] is *untyped*: no Rust reference to its content ever exists, so guests may
//! change it at any time. It is read and written through [`Page`] by copies and atomic operations only.
//! A [`FrameRef`] is a counted reference to one frame; the frame goes back to the allocator, scrubbed, when the
//! last one is dropped.

#[cfg(feature = "soft")]
mod arena;
mod buddy;
mod claim;
mod frames;
mod page;
pub mod ranges;
#[cfg(test)]
mod tests;

#[cfg(feature = "soft")]
pub use arena::{SOFT_BASE, SoftFrames};
pub use claim::Claim;
pub use frames::{AllocFlags, FrameBlock, FrameInfo, FrameRef, Frames, MAX_ORDER};
pub use page::Page;
