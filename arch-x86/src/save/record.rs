//! Layouts of the records (public header `arch-x86/hvm/save.h`).

use core::mem::offset_of;

use static_assertions::const_assert_eq;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

#[expect(missing_docs, reason = "named after the header's types")]
impl Kind {
    pub const END: Self = Self(0);
    pub const HEADER: Self = Self(1);
    pub const CPU: Self = Self(2);
    pub const PIC: Self = Self(3);
    pub const IOAPIC: Self = Self(4);
    pub const LAPIC: Self = Self(5);
    pub const LAPIC_REGS: Self = Self(6);
    pub const PCI_IRQ: Self = Self(7);
    pub const ISA_IRQ: Self = Self(8);
    pub const PCI_LINK: Self = Self(9);
    pub const PIT: Self = Self(10);
    pub const RTC: Self = Self(11);
    pub const HPET: Self = Self(12);
    pub const PMTIMER: Self = Self(13);
    pub const MTRR: Self = Self(14);
    pub const VIRIDIAN_DOMAIN: Self = Self(15);
    pub const CPU_XSAVE: Self = Self(16);
    pub const VIRIDIAN_VCPU: Self = Self(17);
    pub const VMCE_VCPU: Self = Self(18);
    pub const TSC_ADJUST: Self = Self(19);
    pub const CPU_MSR: Self = Self(20);
    /// The highest that has a name.
    pub const LAST: Self = Self::CPU_MSR;
}

macro_rules! record {
    ($(#[$meta:meta])* $name:ident, $size:literal { $($(#[$doc:meta])* $field:ident: $ty:ty, @ $at:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[expect(missing_docs, reason = "named after the header's fields, which are named after the registers")]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)* }

        const_assert_eq!(size_of::<$name>(), $size);
        $(const_assert_eq!(offset_of!($name, $field), $at);)*

        impl Default for $name {
            fn default() -> Self {
                Self::new_zeroed()
            }
        }
    };
}

record! {
    /// What comes before each record.
    Descriptor, 8 {
        kind: u16, @0;
        instance: u16, @2;
        length: u32, @4;
    }
}

/// First word of [`Header`].
pub const MAGIC: u32 = 0x5438_1286;
/// Version of the format.
pub const VERSION: u32 = 1;

record! {
    /// The first record.
    Header, 24 {
        magic: u32, @0;
        version: u32, @4;
        /// Of the hypervisor that saved.
        changeset: u64, @8;
        /// CPUID's signature on the machine that saved.
        cpuid: u32, @16;
        /// The guest's time-stamp counter, in kHz.
        gtsc_khz: u32, @20;
    }
}

record! {
    /// A vCPU's registers.
    Cpu, 1032 {
        fpu_regs: [u8; 512], @0;
        rax: u64, @512;
        rbx: u64, @520;
        rcx: u64, @528;
        rdx: u64, @536;
        rbp: u64, @544;
        rsi: u64, @552;
        rdi: u64, @560;
        rsp: u64, @568;
        /// R8 to R15.
        high: [u64; 8], @576;
        rip: u64, @640;
        rflags: u64, @648;
        cr0: u64, @656;
        cr2: u64, @664;
        cr3: u64, @672;
        cr4: u64, @680;
        /// DR0 to DR3.
        breakpoints: [u64; 4], @688;
        dr6: u64, @720;
        dr7: u64, @728;
        /// CS, DS, ES, FS, GS, SS, TR, LDTR.
        selectors: [u32; 8], @736;
        /// As the selectors, then IDTR, GDTR.
        limits: [u32; 10], @768;
        bases: [u64; 10], @808;
        attributes: [u32; 8], @888;
        sysenter_cs: u64, @920;
        sysenter_esp: u64, @928;
        sysenter_eip: u64, @936;
        /// The kernel's GS base.
        shadow_gs: u64, @944;
        msr_flags: u64, @952;
        msr_lstar: u64, @960;
        msr_star: u64, @968;
        msr_cstar: u64, @976;
        msr_syscall_mask: u64, @984;
        msr_efer: u64, @992;
        msr_tsc_aux: u64, @1000;
        tsc: u64, @1008;
        /// The word as the hardware has it.
        pending_event: u32, @1016;
        error_code: u32, @1020;
        flags: u32, @1024;
        pad: u32, @1028;
    }
}

/// [`Cpu::flags`]: `fpu_regs` count.
pub const FPU_INITIALISED: u32 = 1;
/// Size of [`Cpu`] from before Xen had TSC_AUX and flags, and where it lacks the former.
pub const OLD_CPU_SIZE: usize = 1016;
/// Where [`OLD_CPU_SIZE`] goes on with what follows TSC_AUX.
pub const OLD_CPU_SPLIT: usize = offset_of!(Cpu, msr_tsc_aux);

record! {
    /// A local APIC, beside its registers.
    Lapic, 32 {
        apic_base_msr: u64, @0;
        /// Bit 0: by software; bit 1: in APIC_BASE.
        disabled: u32, @8;
        /// 1 to 128.
        timer_divisor: u32, @12;
        tdt_msr: u64, @16;
        /// Errors that the error status register does not show yet; since 4.18.
        pending_esr: u32, @24;
        reserved: u32, @28;
    }
}

/// Bytes of the record of a local APIC's registers.
pub const LAPIC_REGS_SIZE: usize = 1024;

record! {
    /// Memory type ranges.
    Mtrr, 240 {
        msr_pat_cr: u64, @0;
        /// Base and mask of each variable range.
        msr_mtrr_var: [u64; 16], @8;
        msr_mtrr_fixed: [u64; 11], @136;
        msr_mtrr_cap: u64, @224;
        msr_mtrr_def_type: u64, @232;
    }
}

record! {
    /// What comes before the area of XSAVE, of which at least legacy region and header follow.
    Xsave, 24 {
        /// Ignored.
        xfeature_mask: u64, @0;
        xcr0: u64, @8;
        /// All components ever enabled.
        xcr0_accum: u64, @16;
    }
}

record! {
    /// The machine check architecture.
    Vmce, 32 {
        caps: u64, @0;
        mci_ctl2: [u64; 2], @8;
        mcg_ext_ctl: u64, @24;
    }
}

record! {
    /// TSC_ADJUST.
    TscAdjust, 8 {
        tsc_adjust: u64, @0;
    }
}

record! {
    /// What comes before [`Msr`]s.
    MsrHead, 8 {
        count: u32, @0;
        pad: u32, @4;
    }
}

record! {
    /// A model-specific register.
    Msr, 16 {
        index: u32, @0;
        reserved: u32, @4;
        value: u64, @8;
    }
}
