//! The virtual machine control block: AMD APM volume 2, appendix B.
//!
//! Field for field as the hardware has it; the offsets are asserted. Areas that are reserved, or belong to features that
//! Oxen does not use (AVIC, encrypted guests, branch recording), are zero for ever.

use core::mem::offset_of;

use bitflags::bitflags;
use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::intercepts::{Exceptions, Misc1, Misc2, Misc3};

/// What the hardware may keep cached of a VMCB between two entries on one CPU (AMD APM volume 2, 15.15.3).
///
/// A set bit says that nothing of its group was changed since.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Clean(u32);

bitflags! {
    impl Clean: u32 {
        /// Intercepts, TSC offset, pause filter.
        const INTERCEPTS = 1;
        /// Addresses of the permission maps.
        const MAPS = 1 << 1;
        /// The ASID.
        const ASID = 1 << 2;
        /// The virtual interrupt and task priority.
        const VIRTUAL_INTERRUPT = 1 << 3;
        /// Nested paging: its switch, root and PAT.
        const NESTED_PAGING = 1 << 4;
        /// CR0, CR3, CR4, EFER.
        const CONTROL_REGISTERS = 1 << 5;
        /// DR6, DR7.
        const DEBUG_REGISTERS = 1 << 6;
        /// GDTR, IDTR.
        const DESCRIPTOR_TABLES = 1 << 7;
        /// CS, DS, SS, ES and the privilege level.
        const SEGMENTS = 1 << 8;
        /// CR2.
        const CR2 = 1 << 9;
        /// Branch records and DEBUGCTL.
        const LAST_BRANCH = 1 << 10;
    }
}

/// The word of virtual interrupts (offset 0x60).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct VirtualInterrupt(u64);

bitflags! {
    impl VirtualInterrupt: u64 {
        /// V_TPR: what the guest has in CR8.
        const TASK_PRIORITY = 0xf;
        /// V_IRQ: a virtual interrupt is pending.
        const PENDING = 1 << 8;
        /// V_INTR_PRIO: its priority.
        const PRIORITY = 0xf << 16;
        /// V_IGN_TPR: it is taken whatever the task priority.
        const IGNORE_TASK_PRIORITY = 1 << 20;
        /// V_INTR_MASKING: the guest's interrupt flag and CR8 are its own, and hold no physical interrupt back.
        const MASKING = 1 << 24;
    }
}

/// What VMRUN does to translations in the CPU (TLB_CONTROL).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct TlbControl(pub u8);

impl TlbControl {
    /// Nothing.
    pub const KEEP: Self = Self(0);
    /// Drops those of all ASIDs.
    pub const FLUSH_ALL: Self = Self(1);
    /// Drops those of this guest's ASID, on CPUs that can.
    pub const FLUSH_ASID: Self = Self(3);
}

/// The control area (offsets 0 to 0x3ff).
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the manual's fields")]
pub struct Control {
    /// Reads of CR0 to CR15.
    pub cr_reads: u16,
    /// Writes of CR0 to CR15.
    pub cr_writes: u16,
    /// Reads of DR0 to DR15.
    pub dr_reads: u16,
    /// Writes of DR0 to DR15.
    pub dr_writes: u16,
    pub exceptions: Exceptions,
    pub misc1: Misc1,
    pub misc2: Misc2,
    pub misc3: Misc3,
    reserved_18: [u8; 0x24],
    pub pause_threshold: u16,
    pub pause_count: u16,
    /// Physical address of the I/O permission map.
    pub iopm: u64,
    /// Physical address of the MSR permission map.
    pub msrpm: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: TlbControl,
    reserved_5d: [u8; 3],
    pub virtual_interrupt: VirtualInterrupt,
    /// Bit 0: interrupts wait for one more instruction.
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info1: u64,
    pub exit_info2: u64,
    /// The event whose delivery the exit cut short.
    pub exit_interrupt_info: u64,
    /// Bit 0: nested paging is on.
    pub nested_control: u64,
    avic_bar: u64,
    ghcb: u64,
    /// The event that VMRUN delivers.
    pub event_injection: u64,
    pub nested_cr3: u64,
    lbr_control: u64,
    pub clean: Clean,
    reserved_c4: u32,
    /// Where the instruction after the one that exited begins.
    pub next_rip: u64,
    /// How many of `instruction_bytes` are there.
    pub fetched: u8,
    pub instruction_bytes: [u8; 15],
    avic_backing: u64,
    reserved_e8: u64,
    avic_logical: u64,
    avic_physical: u64,
    reserved_100: [u8; 0x300],
}

/// A segment register with its hidden part.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VmcbSegment {
    /// The selector.
    pub selector: u16,
    /// Type, S, DPL, P in bits 7:0; AVL, L, D/B, G in bits 11:8.
    pub attributes: u16,
    /// The limit in bytes.
    pub limit: u32,
    /// The base address.
    pub base: u64,
}

/// The state-save area (offsets 0x400 to 0xfff).
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct Save {
    pub es: VmcbSegment,
    pub cs: VmcbSegment,
    pub ss: VmcbSegment,
    pub ds: VmcbSegment,
    pub fs: VmcbSegment,
    pub gs: VmcbSegment,
    /// Base and limit only.
    pub gdtr: VmcbSegment,
    pub ldtr: VmcbSegment,
    /// Base and limit only.
    pub idtr: VmcbSegment,
    pub tr: VmcbSegment,
    reserved_a0: [u8; 0x2b],
    /// The current privilege level.
    pub cpl: u8,
    reserved_cc: u32,
    pub efer: u64,
    reserved_d8: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u8; 0x58],
    pub rsp: u64,
    s_cet: u64,
    ssp: u64,
    interrupt_ssp_table: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x20],
    pub pat: u64,
    debug_control: u64,
    last_branch: [u64; 4],
    reserved_298: [u8; 0x968],
}

/// A whole control block.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What exits, and why the last exit came.
    pub control: Control,
    /// The guest's registers.
    pub save: Save,
}

macro_rules! at {
    ($($area:ident $field:ident $offset:literal),* $(,)?) => {
        $( const_assert_eq!(offset_of!($area, $field), $offset); )*
    };
}

at! {
    Control cr_reads 0, Control dr_reads 4, Control exceptions 8, Control misc1 0xc, Control misc2 0x10, Control misc3 0x14,
    Control pause_threshold 0x3c, Control pause_count 0x3e, Control iopm 0x40, Control msrpm 0x48, Control tsc_offset 0x50,
    Control asid 0x58, Control tlb_control 0x5c, Control virtual_interrupt 0x60, Control interrupt_shadow 0x68,
    Control exit_code 0x70, Control exit_info1 0x78, Control exit_info2 0x80, Control exit_interrupt_info 0x88,
    Control nested_control 0x90, Control avic_bar 0x98, Control ghcb 0xa0, Control event_injection 0xa8,
    Control nested_cr3 0xb0, Control lbr_control 0xb8, Control clean 0xc0, Control next_rip 0xc8, Control fetched 0xd0,
    Control avic_backing 0xe0, Control avic_logical 0xf0, Control avic_physical 0xf8,
    Save es 0, Save gdtr 0x60, Save ldtr 0x70, Save idtr 0x80, Save tr 0x90, Save cpl 0xcb, Save efer 0xd0, Save cr4 0x148,
    Save cr0 0x158, Save dr7 0x160, Save dr6 0x168, Save rflags 0x170, Save rip 0x178, Save rsp 0x1d8, Save s_cet 0x1e0,
    Save rax 0x1f8, Save star 0x200, Save kernel_gs_base 0x220, Save sysenter_cs 0x228, Save cr2 0x240, Save pat 0x268,
    Save debug_control 0x270, Save last_branch 0x278,
    Vmcb control 0, Vmcb save 0x400,
}
const_assert_eq!(size_of::<Control>(), 0x400);
const_assert_eq!(size_of::<Vmcb>(), 0x1000);

impl Vmcb {
    /// The instruction that made the last exit, as far as the CPU fetched it: not at all on many.
    pub fn fetched_bytes(&self) -> &[u8] {
        let bytes = &self.control.instruction_bytes;
        bytes
            .get(..usize::from(self.control.fetched & 0xf))
            .unwrap_or(bytes)
    }
}
