//! What only x86 has: CPU policies, HVM contexts, extended state, time-stamp counters.

use super::Interface;
use crate::Handle;

constants! {
    in X86_CONSTANTS;

    /// [`CpuidLeaf::subleaf`] of a leaf without subleaves.
    pub const CPUID_NO_SUBLEAF: u32 = u32::MAX => "XEN_CPUID_NO_SUBLEAF";
}

wire! {
    /// A leaf of a CPU policy; the same in every version.
    pub struct CpuidLeaf = "struct xen_cpuid_leaf", 24 {
        /// EAX before.
        pub leaf: u32, @0;
        /// ECX before, or [`CPUID_NO_SUBLEAF`].
        pub subleaf: u32, @4;
        /// EAX after.
        pub a: u32, @8;
        /// EBX after.
        pub b: u32, @12;
        /// ECX after.
        pub c: u32, @16;
        /// EDX after.
        pub d: u32, @20;
    }
}

wire! {
    /// A model-specific register of a CPU policy; the same in every version.
    pub struct MsrEntry = "struct xen_msr_entry", 16 {
        /// Its number.
        pub idx: u32, @0;
        /// Must be zero.
        pub flags: u32, @4;
        /// Its value.
        pub val: u64, @8;
    }
}

wire! {
    /// A model-specific register of a vCPU; the same in every version.
    pub struct VcpuMsr = "struct xen_domctl_vcpu_msr", 16 {
        /// Its number.
        pub index: u32, @0;
        /// Must be zero.
        pub reserved: u32, @4;
        /// Its value.
        pub value: u64, @8;
    }
}

record! {
    /// Payload of [`DomctlCmd::GET_CPU_POLICY`](super::DomctlCmd::GET_CPU_POLICY) and
    /// [`DomctlCmd::SET_CPU_POLICY`](super::DomctlCmd::SET_CPU_POLICY).
    pub struct CpuPolicy = "struct xen_domctl_cpu_policy" {
        /// IN: leaves, or room for them; too little is `-ENOBUFS`. OUT of get: leaves written, or needed with a null array.
        pub nr_leaves: u32;
        /// IN: registers, or room for them; too little is `-ENOBUFS`. OUT of get: registers written, or needed with a null
        /// array.
        pub nr_msrs: u32;
        /// Array of [`CpuidLeaf`].
        pub leaves: Handle;
        /// Array of [`MsrEntry`].
        pub msrs: Handle;
        /// OUT of set, on `-EINVAL`: the leaf at fault, or all ones.
        pub err_leaf: u32;
        /// OUT of set, on `-EINVAL`: the subleaf at fault, or all ones.
        pub err_subleaf: u32;
        /// OUT of set, on `-EINVAL`: the register at fault, or all ones.
        pub err_msr: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::GETHVMCONTEXT`](super::DomctlCmd::GETHVMCONTEXT) and
    /// [`DomctlCmd::SETHVMCONTEXT`](super::DomctlCmd::SETHVMCONTEXT): a stream of records (public/hvm/save.h).
    pub struct HvmContext = "struct xen_domctl_hvmcontext" {
        /// IN: bytes of the buffer. OUT of get: bytes written, or needed with a null buffer.
        pub size: u32;
        /// The records.
        pub buffer: Handle;
    }
}

record! {
    /// Payload of [`DomctlCmd::GETHVMCONTEXT_PARTIAL`](super::DomctlCmd::GETHVMCONTEXT_PARTIAL): one record.
    pub struct HvmContextPartial = "struct xen_domctl_hvmcontext_partial" {
        /// IN: type of the record.
        pub kind: u32, c "type";
        /// IN: its instance, mostly a vCPU.
        pub instance: u32;
        /// IN: bytes of the buffer. OUT: bytes written, or needed with a null buffer.
        pub bufsz: u64;
        /// Where the record goes.
        pub buffer: Handle;
    }
}

open_enum! {
    /// How a guest's time-stamp counter behaves (public/arch-x86/cpuid.h).
    pub enum TscMode: u32 {
        /// Native where that works, else emulated.
        DEFAULT = 0 => "XEN_CPUID_TSC_MODE_DEFAULT",
        /// Emulated.
        ALWAYS_EMULATE = 1 => "XEN_CPUID_TSC_MODE_ALWAYS_EMULATE",
        /// Native.
        NEVER_EMULATE = 2 => "XEN_CPUID_TSC_MODE_NEVER_EMULATE",
        /// Gone.
        PVRDTSCP = 3 => "XEN_CPUID_TSC_MODE_PVRDTSCP",
    }
}

record! {
    /// Payload of [`DomctlCmd::GETTSCINFO`](super::DomctlCmd::GETTSCINFO) and
    /// [`DomctlCmd::SETTSCINFO`](super::DomctlCmd::SETTSCINFO).
    pub struct TscInfo = "struct xen_domctl_tsc_info" {
        /// IN to set, OUT of get: the mode.
        pub tsc_mode: TscMode;
        /// IN to set, OUT of get: the guest's frequency in kHz; 0 for the host's.
        pub gtsc_khz: u32;
        /// IN to set, OUT of get: how often the domain was moved.
        pub incarnation: u32, skip 4;
        /// IN to set, OUT of get: guest time in nanoseconds.
        pub elapsed_nsec: u64;
    }
}

record! {
    /// Payload of [`DomctlCmd::GET_VCPU_MSRS`](super::DomctlCmd::GET_VCPU_MSRS) and
    /// [`DomctlCmd::SET_VCPU_MSRS`](super::DomctlCmd::SET_VCPU_MSRS).
    pub struct VcpuMsrs = "struct xen_domctl_vcpu_msrs" {
        /// IN: which vCPU.
        pub vcpu: u32;
        /// IN: elements of the array. OUT: elements written or needed; of a failing set, the one at fault.
        pub msr_count: u32;
        /// Array of [`VcpuMsr`].
        pub msrs: Handle;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETVCPUEXTSTATE`](super::DomctlCmd::SETVCPUEXTSTATE) and
    /// [`DomctlCmd::GETVCPUEXTSTATE`](super::DomctlCmd::GETVCPUEXTSTATE): the state of XSAVE.
    pub struct VcpuExtState = "struct xen_domctl_vcpuextstate" {
        /// IN: which vCPU.
        pub vcpu: u32;
        /// IN to set, OUT of get: components.
        pub xfeature_mask: u64;
        /// IN: bytes of the buffer. OUT of get: bytes written, or needed with size 0.
        pub size: u64;
        /// Two 64-bit numbers (XCR0, and all components ever enabled) and the save area.
        pub buffer: Handle;
    }
}

scalars! { TscMode }

payloads! { CpuPolicy, HvmContext, HvmContextPartial, TscInfo, VcpuMsrs, VcpuExtState }

fixed_sizes! {
    CpuPolicy 40,
    HvmContext 16,
    HvmContextPartial 24,
    TscInfo 24,
    VcpuMsrs 16,
    VcpuExtState 32,
}
