//! The one trait that SVM and VMX implement.
//!
//! It is small on purpose: what can be computed from what it returns is not part of it. All methods are called with
//! interrupts masked, on the CPU that they concern.

use core::ops::RangeInclusive;

use xen_core::mem::Frames;
use xen_core::p2m::PteFormat;
use xen_core::{CpuId, Mfn, Result};

use crate::event::Event;
use crate::exit::Exit;
use crate::hypercall::Gprs;

/// A virtualisation extension.
///
/// # Life of a vCPU
/// [`new_vcpu`](Self::new_vcpu), then any number of times: [`load`](Self::load) on a CPU, there
/// ([`enter`](Self::enter), [`decode`](Self::decode), changes)*, [`unload`](Self::unload) on the same CPU. Changes are
/// the methods that take `&mut Self::Vcpu`. They are legal only while the vCPU is loaded on the calling CPU, or was never
/// loaded: VMX can reach a control structure in no other way, and SVM is held to the same so that code above works on both.
pub trait HvmBackend: Sized + Send + Sync + 'static {
    /// Entries of its second-level page tables.
    type Pte: PteFormat;
    /// A vCPU's control structure (VMCB, VMCS) and what belongs to it. Dropped only when loaded nowhere; its frames go
    /// back then.
    type Vcpu: Send;
    /// What the hardware reported of an exit, not looked at yet.
    type RawExit: Copy;

    /// Its name, for messages.
    const NAME: &'static str;
    /// The instruction that makes a hypercall.
    const HYPERCALL: [u8; 3];

    /// Reads the capability registers of the boot CPU.
    ///
    /// Errors: [`xen_core::Error::NoDev`] if the firmware locked the extension away, or something is missing that
    /// Oxen needs (second-level tables, their invalidation, an interrupt window).
    fn probe() -> Result<Self>;

    /// log2 of the most frames that one second-level entry may map ([`crate::second_level::max_leaf_order`]).
    fn max_leaf_order(&self) -> u8;

    /// Turns the extension on for the calling CPU, `cpu`, with pages of its own for the hardware's use; once per CPU, before
    /// anything below. The CPU's descriptor tables and segment bases are final by then.
    ///
    /// Errors: [`xen_core::Error::NoDev`] if this CPU can less than the boot CPU; [`xen_core::Error::NoMem`];
    /// [`xen_core::Error::Range`] if its number is too high.
    fn enable_cpu(&self, cpu: CpuId, frames: &'static Frames) -> Result<()>;

    /// Turns the extension off again, for a CPU that is to be reset. No vCPU is loaded on it.
    fn disable_cpu(&self, cpu: CpuId);

    /// Makes a control structure: everything exits that can, nothing is pending, the registers are those of a CPU after
    /// INIT.
    ///
    /// Errors: [`xen_core::Error::NoMem`].
    fn new_vcpu(&self, frames: &'static Frames) -> Result<Self::Vcpu>;

    /// Makes the vCPU the current one of the calling CPU, `cpu`. What this CPU may have cached of its address
    /// translations from before it ran elsewhere is forgotten.
    fn load(&self, cpu: CpuId, vcpu: &mut Self::Vcpu);

    /// Writes everything of the vCPU that this CPU caches back to memory, so that another may load it.
    fn unload(&self, vcpu: &mut Self::Vcpu);

    /// Runs the guest until something stops it. `gprs` are loaded and saved but for RSP, which like RIP and RFLAGS is a
    /// [`Register`].
    ///
    /// An interrupt that is pending, or becomes so, ends the call without being acknowledged. On return interrupts are
    /// masked, and so is everything of the host as it was.
    fn enter(&self, vcpu: &mut Self::Vcpu, gprs: &mut Gprs) -> Self::RawExit;

    /// What an exit means. Pure: reads the control structure, changes nothing, and decodes any content to something,
    /// which is what fuzzers hold it to.
    fn decode(&self, vcpu: &Self::Vcpu, raw: Self::RawExit) -> Exit;

    /// What the hardware fetched of the instruction that made the last exit: up to 15 bytes, often none.
    fn instruction_bytes<'a>(&self, vcpu: &'a Self::Vcpu) -> &'a [u8];

    /// Has the next entry deliver an event, in place of one that was to be delivered before. The caller has made sure
    /// that the guest can take it ([`can_take_interrupt`](Self::can_take_interrupt), [`nmi_blocked`](Self::nmi_blocked)). Non-maskable
    /// interrupts are blocked from then on until the guest's handler ends.
    fn inject(&self, vcpu: &mut Self::Vcpu, event: Event);

    /// Has the guest exit with [`crate::exit::Reason::InterruptWindow`] as soon as it can take an interrupt, or not.
    fn set_interrupt_window(&self, vcpu: &mut Self::Vcpu, wanted: bool);

    /// Whether the guest handles a non-maskable interrupt, so that another has to wait for
    /// [`crate::exit::Reason::NmiWindow`].
    fn nmi_blocked(&self, vcpu: &Self::Vcpu) -> bool;

    /// [`crate::exit::Reason::NmiWindow`] has come: non-maskable interrupts are taken again.
    fn unblock_nmi(&self, vcpu: &mut Self::Vcpu);

    /// Whether the guest would take an interrupt before its next instruction.
    fn can_take_interrupt(&self, vcpu: &Self::Vcpu) -> bool {
        self.register(vcpu, Register::Rflags) & INTERRUPT_FLAG != 0 && !self.interrupt_shadow(vcpu)
    }

    /// Whether the last instruction was STI or a load of SS: interrupts wait for one more.
    fn interrupt_shadow(&self, vcpu: &Self::Vcpu) -> bool;

    /// Ends what the last instruction held back, as completing an instruction does, or has it go on.
    fn set_interrupt_shadow(&self, vcpu: &mut Self::Vcpu, shadow: bool);

    /// Has the vCPU's guest-physical addresses translated by the tables at `root`.
    fn set_second_level(&self, vcpu: &mut Self::Vcpu, root: Mfn);

    /// Has this CPU forget, before it enters the vCPU the next time, all translations it may use for it, of the
    /// second level too. The vCPU is loaded.
    fn flush(&self, vcpu: &mut Self::Vcpu);

    /// A register.
    fn register(&self, vcpu: &Self::Vcpu, which: Register) -> u64;

    /// Writes a register. The caller has checked the value: entering a guest with one that no CPU can have is refused by
    /// the hardware ([`crate::exit::Reason::EntryRefused`]), and does nothing worse.
    fn set_register(&self, vcpu: &mut Self::Vcpu, which: Register, value: u64);

    /// A segment register.
    fn segment(&self, vcpu: &Self::Vcpu, which: SegmentRegister) -> Segment;

    /// The current privilege level, 0 to 3.
    fn privilege_level(&self, vcpu: &Self::Vcpu) -> u8;

    /// The task priority, CR8: 0 to 15.
    fn task_priority(&self, vcpu: &Self::Vcpu) -> u8;

    /// Sets the task priority, 0 to 15.
    fn set_task_priority(&self, vcpu: &mut Self::Vcpu, priority: u8);

    /// Has the guest's time-stamp counter be the host's plus `offset`, modulo 2^64.
    fn set_tsc_offset(&self, vcpu: &mut Self::Vcpu, offset: u64);

    /// The form of the ratio that [`Self::set_tsc_ratio`] takes: bits behind the point, and bits in all. `None` if the
    /// hardware has none: guests' counters are as fast as the host's.
    fn tsc_ratio(&self) -> Option<(u8, u8)>;

    /// Has the guest's time-stamp counter be the host's times `ratio`, before the offset is added; from the next
    /// [`load`](Self::load) on, and so legal while the vCPU is loaded nowhere. Without effect where [`Self::tsc_ratio`] is `None`.
    fn set_tsc_ratio(&self, vcpu: &mut Self::Vcpu, ratio: u64);

    /// Says whether the guest's instructions that read the time-stamp counter exit. At first none does.
    fn set_tsc_exits(&self, vcpu: &mut Self::Vcpu, exits: bool);

    /// Whether the last exit left the host's registers in the control structure where the guest's should be. No CPU does that;
    /// an emulator was seen to. The vCPU is loaded.
    fn lost_guest_state(&self, _vcpu: &Self::Vcpu) -> bool {
        false
    }

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

/// A register that a backend keeps for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub enum Register {
    Rip,
    Rsp,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// As the guest sees it.
    Efer,
    Dr6,
    Dr7,
    Pat,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    FsBase,
    GsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
}

/// A segment register, or one that is like them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub enum SegmentRegister {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
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
    pub cr2: u64,
    pub dr6: u64,
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
