#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
//! Oxen on x86-64: the seam between the hypervisor's core and AMD SVM or Intel VMX.
//!
//! **Nothing here enters a guest yet.** There is no code that touches the hardware and no implementation of
//! `xen_core::Arch`; the binary for x86-64 halts at its entry point. What is here is what can be decided and tested
//! without hardware:
//!
//! | module | idea |
//! | --- | --- |
//! | [`backend`] | the one small trait that SVM and VMX implement, with its contracts |
//! | [`exit`] | what both report, in common terms |
//! | [`event`] | what is injected, and its encoding, which the two share |
//! | [`select`] | which of the two a CPU has, from its CPUID leaves |
//! | [`second_level`] | entries of EPT and of nested page tables, for the core's p2m |
//! | [`hypercall`] | hypercall registers of 64-bit and 32-bit callers |
//! | [`layout`] | where shared structures lie in their pages |
//!
//! # How the parts will be put together
//! `X86<B: HvmBackend>` is to implement `Arch`. The binary selects a [`select::Backend`] once, at boot, and runs
//! `xen_core::run::<X86<Svm>>` or `xen_core::run::<X86<Vmx>>`: dispatch stays static, and a binary with one backend
//! holds nothing of the other. All that is above [`backend::HvmBackend`] (the p2m, the local APIC, what happens at
//! a decoded exit, the domain builder) is written once.

pub mod backend;
pub mod event;
pub mod exit;
pub mod hypercall;
pub mod layout;
pub mod second_level;
pub mod select;
