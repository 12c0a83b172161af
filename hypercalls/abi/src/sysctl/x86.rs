//! What only x86 has: CPU features and policies of the host.

use super::Interface;
use crate::Handle;

flags! {
    /// What the CPU can hide from PV guests ([`CpuLevellingCaps`]).
    pub struct LevellingCaps: u32 {
        /// CPUID faults.
        const FAULTING = 1 => "XEN_SYSCTL_CPU_LEVELCAP_faulting";
        /// Leaf 1, ECX.
        const ECX = 1 << 1 => "XEN_SYSCTL_CPU_LEVELCAP_ecx";
        /// Leaf 1, EDX.
        const EDX = 1 << 2 => "XEN_SYSCTL_CPU_LEVELCAP_edx";
        /// Leaf 0x80000001, ECX.
        const EXTD_ECX = 1 << 3 => "XEN_SYSCTL_CPU_LEVELCAP_extd_ecx";
        /// Leaf 0x80000001, EDX.
        const EXTD_EDX = 1 << 4 => "XEN_SYSCTL_CPU_LEVELCAP_extd_edx";
        /// Leaf 0xd subleaf 1, EAX.
        const XSAVE_EAX = 1 << 5 => "XEN_SYSCTL_CPU_LEVELCAP_xsave_eax";
        /// Leaf 6, ECX.
        const THERMAL_ECX = 1 << 6 => "XEN_SYSCTL_CPU_LEVELCAP_thermal_ecx";
        /// Leaf 7, EAX.
        const L7S0_EAX = 1 << 7 => "XEN_SYSCTL_CPU_LEVELCAP_l7s0_eax";
        /// Leaf 7, EBX.
        const L7S0_EBX = 1 << 8 => "XEN_SYSCTL_CPU_LEVELCAP_l7s0_ebx";
    }
}

record! {
    /// Payload of [`SysctlCmd::GET_CPU_LEVELLING_CAPS`](super::SysctlCmd::GET_CPU_LEVELLING_CAPS).
    pub struct CpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps" {
        /// OUT: what can be hidden.
        pub caps: LevellingCaps;
    }
}

open_enum! {
    /// Which features [`CpuFeatureset`] tells.
    pub enum FeaturesetIndex: u32 {
        /// The CPU's.
        RAW = 0 => "XEN_SYSCTL_cpu_featureset_raw",
        /// Those that the hypervisor uses.
        HOST = 1 => "XEN_SYSCTL_cpu_featureset_host",
        /// A PV guest's by default.
        PV = 2 => "XEN_SYSCTL_cpu_featureset_pv",
        /// An HVM guest's by default.
        HVM = 3 => "XEN_SYSCTL_cpu_featureset_hvm",
        /// The most a PV guest may have.
        PV_MAX = 4 => "XEN_SYSCTL_cpu_featureset_pv_max",
        /// The most an HVM guest may have.
        HVM_MAX = 5 => "XEN_SYSCTL_cpu_featureset_hvm_max",
    }
}

record! {
    /// Payload of [`SysctlCmd::GET_CPU_FEATURESET`](super::SysctlCmd::GET_CPU_FEATURESET).
    pub struct CpuFeatureset = "struct xen_sysctl_cpu_featureset" {
        /// IN: which features; an unknown one is `-EINVAL`.
        pub index: FeaturesetIndex;
        /// IN: room in the array; too little is filled and answered `-ENOBUFS`. OUT: words written, or there are with a null
        /// array.
        pub nr_features: u32;
        /// Array of 32-bit words of features.
        pub features: Handle;
    }
}

open_enum! {
    /// Which policy [`SystemCpuPolicy`] tells.
    pub enum CpuPolicyIndex: u32 {
        /// The CPU's.
        RAW = 0 => "XEN_SYSCTL_cpu_policy_raw",
        /// What the hypervisor uses.
        HOST = 1 => "XEN_SYSCTL_cpu_policy_host",
        /// The most a PV guest may have.
        PV_MAX = 2 => "XEN_SYSCTL_cpu_policy_pv_max",
        /// The most an HVM guest may have.
        HVM_MAX = 3 => "XEN_SYSCTL_cpu_policy_hvm_max",
        /// A PV guest's by default.
        PV_DEFAULT = 4 => "XEN_SYSCTL_cpu_policy_pv_default",
        /// An HVM guest's by default.
        HVM_DEFAULT = 5 => "XEN_SYSCTL_cpu_policy_hvm_default",
    }
}

record! {
    /// Payload of [`SysctlCmd::GET_CPU_POLICY`](super::SysctlCmd::GET_CPU_POLICY).
    pub struct SystemCpuPolicy = "struct xen_sysctl_cpu_policy" {
        /// IN: which policy; an unknown one is `-EINVAL`.
        pub index: CpuPolicyIndex;
        /// IN: room for leaves; too little is `-ENOBUFS`. OUT: leaves written, or the most there can be with a null array.
        pub nr_leaves: u32;
        /// IN: room for registers; too little is `-ENOBUFS`. OUT: registers written, or the most there can be with a null
        /// array.
        pub nr_msrs: u32, zero 4;
        /// Array of [`CpuidLeaf`](crate::domctl::CpuidLeaf).
        pub leaves: Handle;
        /// Array of [`MsrEntry`](crate::domctl::MsrEntry).
        pub msrs: Handle;
    }
}

scalars! { LevellingCaps, FeaturesetIndex, CpuPolicyIndex }

payloads! { CpuLevellingCaps, CpuFeatureset, SystemCpuPolicy }

fixed_sizes! {
    CpuLevellingCaps 4,
    CpuFeatureset 16,
    SystemCpuPolicy 32,
}
