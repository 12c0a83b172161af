//! AMD's virtualisation extension, SVM with nested paging (AMD APM volume 2, chapter 15).
//!
//! | module | idea |
//! | --- | --- |
//! | [`vmcb`] | the control block, field for field |
//! | [`intercepts`] | what exits |
//! | [`features`] | what a CPU can |
//! | [`exit`] | what an exit means: pure |
//! | [`state`] | registers in the control block, and which values the hardware enters |
//! | [`asid`] | which translations are whose |
//! | [`maps`] | permission maps of ports and MSRs |
//! | `vcpu`, `enter`, `cpu` | the hardware: control blocks in memory, the world switch, SVM on and off |
//!
//! # What is where while a guest runs
//! VMRUN switches the segments' selectors, descriptor tables, control registers, RIP, RSP, RFLAGS and RAX; VMLOAD and VMSAVE
//! around it the rest of FS, GS, TR and LDTR and the MSRs of system calls; `enter.S` the other general-purpose registers.
//! After each exit all of that is the host's again. Debug registers 0 to 3, the FPU and XCR0 are the machine's business.

pub mod asid;
pub mod exit;
pub mod features;
pub mod intercepts;
pub mod maps;
pub mod state;
pub mod vmcb;

#[cfg(target_arch = "x86_64")]
mod backend;
#[cfg(target_arch = "x86_64")]
mod cpu;
#[cfg(target_arch = "x86_64")]
mod enter;
#[cfg(target_arch = "x86_64")]
mod vcpu;

#[cfg(target_arch = "x86_64")]
pub use backend::{Svm, SvmExit};
#[cfg(target_arch = "x86_64")]
pub use vcpu::SvmVcpu;
