//! Emulation of what the hardware left to us: instructions on devices' memory, port I/O, and walks of a guest's page tables.
//!
//! Everything here is pure: registers are reached through [`Cpu`], memory, devices and ports through [`Bus`], and the exceptions that an
//! instruction raises come back as values. Nothing is half done when one does.
//!
//! | module | idea |
//! | --- | --- |
//! | [`exception`] | exceptions as values |
//! | [`cpu`] | the two traits, and [`View`], which is [`Cpu`] over a backend's registers |
//! | [`decode`] | fetch and decode; which instruction caused an exit, and its length |
//! | [`mod@execute`] | one instruction, or a bounded part of a repeated one |
//! | [`mod@walk`] | a guest's page tables |
//!
//! Instructions are decoded by `iced-x86`. Its tables are built on the heap (about 340 KiB) when the first
//! instruction is decoded: [`prepare`] does that at boot, where running out of memory is still an error of the machine's
//! and not of a guest's.

mod alu;
pub mod cpu;
pub mod decode;
pub mod exception;
pub mod execute;
mod memory;
mod operand;
#[cfg(test)]
mod testing;
pub mod walk;

pub use cpu::{Access, Bus, Cpu, Opcode, Place, SegmentName, Stop, Vectors, View};
pub use decode::{Found, Intercepted, identify, prepare};
pub use exception::{Exception, PageFaultCode};
pub use execute::{Outcome, execute};
pub use walk::{Denied, Paging, PhysicalMemory, Translation, walk};
