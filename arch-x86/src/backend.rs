//! The one trait that SVM and VMX implement. Neither is implemented yet.
//!
//! It is small on purpose: what can be computed from what it returns is not part of it. All methods are called with
//! interrupts masked, on the CPU that they concern.

use core::ops::RangeInclusive;

use xen_core::mem::Frames;
use xen_core::p2m::PteFormat;
use xen_core::{Gfn, Mfn, Result};

use crate::event::Event;
use crate::exit::Exit;
use crate::hypercall::Gprs;

/// A virtualisation extension.
///
/// # Life of a vCPU
/// [`new_vcpu`](Self::new_vcpu), then any number of times: [`load`](Self::load) on a CPU, there
/// ([`enter`](Self::enter), [`decode`](Self::decode), changes)*, [`unload`](Self::unload) on the same CPU. Changes are
/// the methods that take `&mut Self::Vcpu`. They are legal only while the vCPU is loaded on the calling CPU: VMX can
/// reach a control structure in no other way, and SVM is held to the same so that code above works on both.
pub trait HvmBackend: Sized + Send + Sync + 'static {
    /// Entries of its second-level page tables.
    type Pte: PteFormat;
    /// Identifies a p2m to the translation caches (ASID, VPID with EPT pointer); given back when dropped.
    type Tag: Send + Sync;
    /// A vCPU's control structure (VMCB, VMCS) and what belongs to it. Dropped only when loaded nowhere; its frames go
    /// back then.
    type Vcpu: Send;
    /// What the hardware reported of an exit, not looked at yet.
    type RawExit: Copy;

    /// Reads the capability registers of the boot CPU.
    ///
    /// Errors: [`xen_core::Error::NoDev`] if the firmware locked the extension away, or something is missing that
    /// Oxen needs (second-level tables, their invalidation, an interrupt window).
    fn probe() -> Result<Self>;

    /// log2 of the most frames that one second-level entry may map ([`crate::second_level::max_leaf_order`]).
    fn max_leaf_order(&self) -> u8;

    /// Turns the extension on for this CPU, with a page of its own for the hardware's use; once per CPU, before
    /// anything below.
    ///
    /// Errors: [`xen_core::Error::NoDev`] if this CPU can less than the boot CPU; [`xen_core::Error::NoMem`].
    fn enable_cpu(&self, frames: &'static Frames) -> Result<()>;

    /// Turns the extension off again, for a CPU that is to be reset. No vCPU is loaded on it.
    fn disable_cpu(&self);

    /// Makes a control structure: everything exits that can, nothing is pending, the registers are those of a CPU after
    /// INIT.
    ///
    /// Errors: [`xen_core::Error::NoMem`].
    fn new_vcpu(&self, frames: &'static Frames) -> Result<Self::Vcpu>;

    /// Makes the vCPU this CPU's current one.
    fn load(&self, vcpu: &mut Self::Vcpu);

    /// Writes everything of the vCPU that this CPU caches back to memory, so that another may load it.
    fn unload(&self, vcpu: &mut Self::Vcpu);

    /// Runs the guest until something stops it. `gprs` are loaded and saved; RSP, RIP and RFLAGS are part of
    /// [`GuestState`].
    ///
    /// An interrupt that is pending, or becomes so, ends the call without being acknowledged. On return interrupts are
    /// masked, and so is everything of the host as it was.
    fn enter(&self, vcpu: &mut Self::Vcpu, gprs: &mut Gprs) -> Self::RawExit;

    /// What an exit means. Pure: reads the control structure, changes nothing, and decodes any content to something,
    /// which is what fuzzers hold it to.
    fn decode(&self, vcpu: &Self::Vcpu, raw: Self::RawExit) -> Exit;

    /// Has the next entry deliver an event, in place of one that was to be delivered before. The caller has made sure
    /// that the guest can take it ([`GuestState::can_take_interrupt`] for interrupts).
    fn inject(&self, vcpu: &mut Self::Vcpu, event: Event);

    /// Has the guest exit with [`crate::exit::Reason::InterruptWindow`] as soon as it can take an interrupt, or not.
    fn set_interrupt_window(&self, vcpu: &mut Self::Vcpu, wanted: bool);

    /// Makes an identifier for a p2m.
    ///
    /// Errors: [`xen_core::Error::Busy`] when none is left.
    fn new_tag(&self, root: Mfn) -> Result<Self::Tag>;

    /// Has the vCPU's guest-physical addresses translated by the p2m with this root and identifier.
    fn set_second_level(&self, vcpu: &mut Self::Vcpu, root: Mfn, tag: &Self::Tag);

    /// Forgets translations of `count` frames from `gfn` on for a p2m, **on this CPU**. More may be forgotten. What other
    /// CPUs have cached is the caller's to deal with: it interrupts those that run the domain, and marks the others,
    /// which call this before they enter it.
    fn flush(&self, tag: &Self::Tag, gfn: Gfn, count: u64);

    /// Reads the registers that are in the control structure.
    fn state(&self, vcpu: &Self::Vcpu) -> GuestState;

    /// Writes them.
    ///
    /// Errors, with everything as before: [`xen_core::Error::Inval`] for a state that the hardware would refuse to enter.
    fn set_state(&self, vcpu: &mut Self::Vcpu, state: &GuestState) -> Result<()>;

    /// Says whether reads and writes of an MSR exit. At first all do.
    ///
    /// Errors: [`xen_core::Error::Inval`] for an MSR outside the ranges of the hardware's bitmap: it always exits.
    fn set_msr_exits(&self, vcpu: &mut Self::Vcpu, msr: u32, read: bool, write: bool)
    -> Result<()>;

    /// Says whether accesses to ports exit. At first all do. An access that touches one port that exits does.
    fn set_port_exits(&self, vcpu: &mut Self::Vcpu, ports: RangeInclusive<u16>, exits: bool);
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Type, S, DPL and P in bits 7:0; AVL, L, D/B and G in bits 11:8 as SVM has it. VMX
    /// has the latter four in bits 15:12, and a bit for unusable segments, which follows from P.
    pub attributes: u16,
    /// The limit in bytes, scaled.
    pub limit: u32,
    /// The base address.
    pub base: u64,
}

/// A descriptor table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Size in bytes minus 1.
    pub limit: u16,
    /// Where it is.
    pub base: u64,
}

/// Registers of a guest that both extensions keep in the control structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct GuestState {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ldtr: Segment,
    pub tr: Segment,
    pub gdtr: DescriptorTable,
    pub idtr: DescriptorTable,
    pub dr7: u64,
    pub pat: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    /// The last instruction was STI or a load of SS: interrupts wait for one more.
    pub interrupt_shadow: bool,
}

/// Interrupt flag of RFLAGS.
const INTERRUPT_FLAG: u64 = 1 << 9;

impl GuestState {
    /// Whether the guest would take an interrupt before its next instruction.
    pub const fn can_take_interrupt(&self) -> bool {
        self.rflags & INTERRUPT_FLAG != 0 && !self.interrupt_shadow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_wait_for_flag_and_shadow() {
        let mut state = GuestState {
            rflags: 2,
            ..GuestState::default()
        };
        assert!(!state.can_take_interrupt());
        state.rflags |= INTERRUPT_FLAG;
        assert!(state.can_take_interrupt());
        state.interrupt_shadow = true;
        assert!(!state.can_take_interrupt());
    }
}
