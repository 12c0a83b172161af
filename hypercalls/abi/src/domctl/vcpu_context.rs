//! A vCPU's registers as get and set through a handle (public/arch-arm.h, public/arch-x86/xen.h).

use super::Interface;

/// Bytes of x86-64's context (`struct vcpu_guest_context`) in every version. Only PV guests are given one; for the others
/// get and set are refused, and the HVM context stands in.
pub const X86_VCPU_CONTEXT_SIZE: usize = 5168;

/// Most bytes that [`ArmVcpuContext`] has in any version.
pub const ARM_VCPU_CONTEXT_MAX: usize = 352;

flags! {
    /// State of a vCPU beside its registers.
    pub struct ArmVcpuFlags: u32 {
        /// It is not down. (x86 has the same name for bit 5.)
        const ONLINE = 1 => "VGCF_online";
    }
}

widened! {
    /// A processor state register; callers up to 0x13 have its low 32 bits.
    pub struct Psr: u32, u64, since 0x14;
}

record! {
    /// The general registers of an [`ArmVcpuContext`]. An AArch32 guest's banked registers are in X0 to X30 as the
    /// architecture maps them.
    pub struct ArmCoreRegs = "struct vcpu_guest_core_regs" {
        /// X0 to X30.
        pub x: [u64; 31], c "x0";
        /// Program counter.
        pub pc64: u64;
        /// Processor state.
        pub cpsr: Psr;
        /// SPSR_EL1; SPSR_svc of an AArch32 guest.
        pub spsr_el1: Psr;
        /// SPSR_fiq, AArch32 only.
        pub spsr_fiq: u32;
        /// SPSR_irq, AArch32 only.
        pub spsr_irq: u32;
        /// SPSR_und, AArch32 only.
        pub spsr_und: u32;
        /// SPSR_abt, AArch32 only.
        pub spsr_abt: u32;
        /// SP_EL0.
        pub sp_el0: u64;
        /// SP_EL1.
        pub sp_el1: u64;
        /// ELR_EL1.
        pub elr_el1: u64;
    }
}

record! {
    /// Context of a vCPU on arm64, behind [`VcpuContext::ctxt`](super::VcpuContext::ctxt).
    ///
    /// 344 bytes up to 0x13, 352 after.
    pub struct ArmVcpuContext = "struct vcpu_guest_context" {
        /// State.
        pub flags: ArmVcpuFlags;
        /// General registers.
        pub user_regs: ArmCoreRegs;
        /// SCTLR_EL1.
        pub sctlr: u64;
        /// TCR_EL1.
        pub ttbcr: u64;
        /// TTBR0_EL1.
        pub ttbr0: u64;
        /// TTBR1_EL1.
        pub ttbr1: u64;
    }
}

scalars! { ArmVcpuFlags }

element! { ArmVcpuContext }

sizes! { ArmVcpuContext:
    V12 344 344,
    V13 344 344,
    V14 352 352,
    V15 352 352,
    V16 352 352,
    V17 352 352,
    V18 352 352,
}
