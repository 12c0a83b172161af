//! A domain's HVM context: everything of its vCPUs, as records (public headers `hvm/save.h` and `arch-x86/hvm/save.h`).
//!
//! All of it is pure. A domain is saved by [`Writer`], and restored by [`Context::parse`], which looks at everything before
//! anything of it counts.
//!
//! | module | idea |
//! | --- | --- |
//! | [`record`] | the records' layouts |
//! | [`stream`] | descriptors, one record after the other |
//! | [`cpu`] | a vCPU's registers |
//! | [`lapic`] | its local APIC |
//! | [`memory_types`] | its memory type ranges |
//! | [`fpu`] | its extended state |
//! | [`context`] | the whole, checked |
//! | [`guest_context`] | a vCPU's registers as `setvcpucontext` has them |

pub mod context;
pub mod cpu;
pub mod fpu;
pub mod guest_context;
pub mod lapic;
pub mod memory_types;
pub mod record;
pub mod stream;

pub use context::{Context, VcpuRecords};
pub use cpu::CpuState;
pub use record::Kind;
pub use stream::{Reader, Writer};
