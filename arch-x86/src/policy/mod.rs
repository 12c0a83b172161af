//! What a guest sees of the CPU: CPUID leaves, model-specific registers, and which values control registers take.
//!
//! Everything here is pure. The leaves of the host come in as a value ([`leaves::Leaves`]), and what the hypervisor virtualises as
//! [`cpuid::Machine`]; nothing is advertised that is not among both.
//!
//! | module | idea |
//! | --- | --- |
//! | [`feature`] | features by name, numbered as in Xen's public header, and what needs what |
//! | [`leaves`] | raw leaves, of a host or of a guest |
//! | [`cpuid`] | a guest's policy, and the answer to one CPUID instruction |
//! | [`topology`], [`xstate`], [`xen_leaves`] | leaves that are computed |
//! | [`serial`], [`system`] | policies as toolstacks list them, and those of the host |
//! | [`state`] | whether a CPU can be in a state |
//! | [`cr`] | which values CR0, CR3, CR4, EFER, XCR0 and debug registers take |
//! | [`msr`], [`mtrr`] | what each MSR reads and accepts |

pub mod cpuid;
pub mod cr;
pub mod feature;
pub mod leaves;
pub mod msr;
pub mod mtrr;
mod offer;
pub mod serial;
pub mod state;
pub mod system;
pub mod topology;
mod wanted;
pub mod xen_leaves;
pub mod xstate;

pub use cpuid::{CpuidPolicy, GuestKind, Machine, VcpuView};
pub use cr::{Change, Control};
pub use feature::{Feature, FeatureSet};
pub use leaves::Leaves;
pub use msr::{Held, MsrContext, MsrRead, MsrWrite, Msrs};
