//! A domain's vCPUs: what they do, and where they may run.

use super::Interface;
use crate::Handle;
use crate::versioned::Bitmap;

record! {
    /// Payload of [`DomctlCmd::GETVCPUINFO`](super::DomctlCmd::GETVCPUINFO).
    pub struct GetVcpuInfo = "struct xen_domctl_getvcpuinfo" {
        /// IN: which vCPU.
        pub vcpu: u32;
        /// OUT: 1 if it is not down.
        pub online: u8;
        /// OUT: 1 if it waits for an event.
        pub blocked: u8;
        /// OUT: 1 if it runs now.
        pub running: u8;
        /// OUT: CPU time it used, in nanoseconds.
        pub cpu_time: u64;
        /// OUT: the CPU it runs on or ran on last.
        pub cpu: u32;
    }
}

flags! {
    /// Which affinity a [`VcpuAffinity`] means; other bits are `-EINVAL`, and so is none of the first two.
    pub struct AffinityFlags: u32 {
        /// Where the vCPU may run.
        const HARD = 1 => "XEN_VCPUAFFINITY_HARD";
        /// Where it runs best.
        const SOFT = 1 << 1 => "XEN_VCPUAFFINITY_SOFT";
        /// Overrides a temporary pinning; when setting.
        const FORCE = 1 << 2 => "XEN_VCPUAFFINITY_FORCE";
    }
}

record! {
    /// Payload of [`DomctlCmd::SETVCPUAFFINITY`](super::DomctlCmd::SETVCPUAFFINITY) and
    /// [`DomctlCmd::GETVCPUAFFINITY`](super::DomctlCmd::GETVCPUAFFINITY).
    pub struct VcpuAffinity = "struct xen_domctl_vcpuaffinity" {
        /// IN: which vCPU.
        pub vcpu: u32;
        /// IN: which affinities.
        pub flags: AffinityFlags;
        /// IN to set; after either, filled with what is in effect.
        pub cpumap_hard: Bitmap;
        /// IN to set; after either, filled with what is in effect.
        pub cpumap_soft: Bitmap;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETVCPUCONTEXT`](super::DomctlCmd::SETVCPUCONTEXT) and
    /// [`DomctlCmd::GETVCPUCONTEXT`](super::DomctlCmd::GETVCPUCONTEXT).
    pub struct VcpuContext = "struct xen_domctl_vcpucontext" {
        /// IN: which vCPU.
        pub vcpu: u32;
        /// IN: where the context is ([`ArmVcpuContext`](super::ArmVcpuContext); on x86-64
        /// [`X86_VCPU_CONTEXT_SIZE`](super::X86_VCPU_CONTEXT_SIZE) bytes). Null to set takes the vCPU down.
        pub ctxt: Handle;
    }
}

scalars! { AffinityFlags }

payloads! { GetVcpuInfo, VcpuAffinity, VcpuContext }

fixed_sizes! {
    GetVcpuInfo 24,
    VcpuAffinity 40,
    VcpuContext 16,
}
