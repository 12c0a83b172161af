#![cfg_attr(not(test), no_std)]
//! Oxen on x86-64: the machine, and AMD SVM or Intel VMX to run guests with.
//!
//! | module | idea |
//! | --- | --- |
//! | [`host`] | the CPU and board that Oxen itself runs on |
//! | [`backend`] | the one trait that SVM and VMX implement, with its contracts; VMX does not yet |
//! | [`exit`], [`event`] | what both report and are told, in common terms |
//! | `svm` | AMD's extension |
//! | `machine` | the core's `Arch` on top of a backend: vCPUs, exits, clock, flushes |
//! | [`emulate`] | page-table walks, and instructions that are carried out for a guest: pure |
//! | [`policy`] | what a guest sees of the CPU: pure |
//! | [`platform`] | interrupt controllers, timers, ports and PCI configuration around a guest's CPUs: pure |
//! | [`save`] | a domain's context as records: pure |
//! | [`select`] | which extension a CPU has, from its CPUID leaves |
//! | [`second_level`] | entries of EPT and of nested page tables, for the core's p2m |
//! | [`hypercall`], [`layout`] | registers and pages of the hypercall interface |
//!
//! # How the parts go together
//! `machine::X86<B: HvmBackend>` is the `Arch`. The binary selects a [`select::Backend`] once, at boot, and runs
//! `xen_core::run::<X86<Svm>>` or `xen_core::run::<X86<Vmx>>`: dispatch stays static, and a binary with one backend
//! holds nothing of the other. All that is above [`backend::HvmBackend`] is written once.
//!
//! # The way of an exit
//! `machine` enters through the backend, which switches worlds and decodes what the hardware reports into an
//! [`exit::Exit`]. Hypercalls and interrupts go back to the core; the rest is acted upon in `machine`, which asks
//! [`policy`] what an instruction may do and [`emulate`] what it is, and leaves exceptions for the next entry.

extern crate alloc;

pub mod backend;
pub mod emulate;
pub mod event;
pub mod exit;
pub mod host;
pub mod hypercall;
pub mod layout;
#[cfg(target_arch = "x86_64")]
pub mod machine;
pub mod platform;
pub mod policy;
pub mod save;
pub mod second_level;
pub mod select;
#[cfg(feature = "svm")]
pub mod svm;
