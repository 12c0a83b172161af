//! The host as a whole: messages, memory, CPUs, domains.

use super::Interface;
use crate::Handle;
use crate::domctl::Scheduler;

record! {
    /// Payload of [`SysctlCmd::READCONSOLE`](super::SysctlCmd::READCONSOLE).
    pub struct ReadConsole = "struct xen_sysctl_readconsole" {
        /// IN: non-zero forgets what was read.
        pub clear: u8;
        /// IN: non-zero starts at `index`, zero at the oldest byte there is.
        pub incremental: u8;
        /// IN: running number of the first byte wanted. OUT: the one after the last byte read.
        pub index: u32;
        /// OUT: the bytes.
        pub buffer: Handle;
        /// IN: room in the buffer. OUT: bytes written.
        pub count: u32;
    }
}

flags! {
    /// What the hypervisor and the host can do ([`PhysInfo::capabilities`]).
    pub struct PhysCaps: u32 {
        /// Hardware-virtualized guests.
        const HVM = 1 => "XEN_SYSCTL_PHYSCAP_hvm";
        /// Paravirtualized guests.
        const PV = 1 << 1 => "XEN_SYSCTL_PHYSCAP_pv";
        /// Devices can be given to domains, with an IOMMU.
        const DIRECTIO = 1 << 2 => "XEN_SYSCTL_PHYSCAP_directio";
        /// Second-level page tables.
        const HAP = 1 << 3 => "XEN_SYSCTL_PHYSCAP_hap";
        /// Shadow page tables.
        const SHADOW = 1 << 4 => "XEN_SYSCTL_PHYSCAP_shadow";
        /// The IOMMU can use the CPU's page tables.
        const IOMMU_HAP_PT_SHARE = 1 << 5 => "XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share";
        /// Processor trace; since 4.15.
        const VMTRACE = 1 << 6 => "XEN_SYSCTL_PHYSCAP_vmtrace";
        /// Performance counters for guests; since 0x14.
        const VPMU = 1 << 7 => "XEN_SYSCTL_PHYSCAP_vpmu";
        /// Grant tables of version 1; since 0x14. Toolstacks derive the version that domains may use from this and the next.
        const GNTTAB_V1 = 1 << 8 => "XEN_SYSCTL_PHYSCAP_gnttab_v1";
        /// Grant tables of version 2; since 0x14.
        const GNTTAB_V2 = 1 << 9 => "XEN_SYSCTL_PHYSCAP_gnttab_v2";
    }
}

impl PhysCaps {
    /// The bits that callers of `interface` know; the others are not to be told them.
    ///
    /// Callers of 0x10 read bit 1 as the ability to give devices to domains.
    pub const fn known(interface: Interface) -> Self {
        let highest = match interface {
            Interface::V10 => Self::HVM,
            Interface::V13 => Self::VMTRACE,
            Interface::V14 | Interface::V15 | Interface::V16 => Self::GNTTAB_V2,
        };
        Self::from_bits_retain(highest.bits() * 2 - 1)
    }
}

constants! {
    in HOST_CONSTANTS;

    /// Bits of [`PhysInfo::arch_capabilities`] on Arm that hold the longest SVE vector in units of 128 bits.
    pub const PHYSCAP_ARM_SVE_MASK: u32 = 0x1f => "XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK";
}

record! {
    /// Payload of [`SysctlCmd::PHYSINFO`](super::SysctlCmd::PHYSINFO), all OUT.
    pub struct PhysInfo = "struct xen_sysctl_physinfo" {
        /// Threads of a core.
        pub threads_per_core: u32;
        /// Cores of a socket.
        pub cores_per_socket: u32;
        /// CPUs on line.
        pub nr_cpus: u32;
        /// Highest identifier that a CPU may have.
        pub max_cpu_id: u32;
        /// NUMA nodes on line.
        pub nr_nodes: u32;
        /// Highest identifier that a node may have.
        pub max_node_id: u32;
        /// Frequency of the clock in kHz.
        pub cpu_khz: u32;
        /// What the hypervisor can do.
        pub capabilities: PhysCaps;
        /// What it can do on this architecture ([`PHYSCAP_ARM_SVE_MASK`]); since 0x15.
        pub arch_capabilities: u32, since 0x15, skip 4 since 0x15;
        /// Pages of memory.
        pub total_pages: u64;
        /// Free pages.
        pub free_pages: u64;
        /// Pages that wait for being scrubbed, free ones among them.
        pub scrub_pages: u64;
        /// Pages that domains claimed and do not have yet.
        pub outstanding_pages: u64;
        /// Highest machine frame.
        pub max_mfn: u64;
        /// x86: words of CPUID features.
        pub hw_cap: [u32; 8];
    }
}

record! {
    /// Payload of [`SysctlCmd::SCHED_ID`](super::SysctlCmd::SCHED_ID).
    pub struct SchedId = "struct xen_sysctl_sched_id" {
        /// OUT: the default scheduler.
        pub sched_id: Scheduler;
    }
}

record! {
    /// Payload of [`SysctlCmd::GETDOMAININFOLIST`](super::SysctlCmd::GETDOMAININFOLIST).
    ///
    /// Stride of the array: [`DomainInfo::size`](crate::domctl::DomainInfo::size) for [`Interface::domctl`].
    pub struct GetDomainInfoList = "struct xen_sysctl_getdomaininfolist" {
        /// IN: lowest identifier wanted.
        pub first_domain: u16;
        /// IN: room in the array.
        pub max_domains: u32;
        /// Array of [`DomainInfo`](crate::domctl::DomainInfo), in ascending order of identifiers.
        pub buffer: Handle;
        /// OUT: elements written.
        pub num_domains: u32;
    }
}

record! {
    /// Payload of [`SysctlCmd::DEBUG_KEYS`](super::SysctlCmd::DEBUG_KEYS), all IN.
    pub struct DebugKeys = "struct xen_sysctl_debug_keys" {
        /// The keys, one byte each.
        pub keys: Handle;
        /// How many.
        pub nr_keys: u32;
    }
}

wire! {
    /// Element of the array of [`GetCpuInfo`]; the same in every version.
    pub struct CpuInfo = "struct xen_sysctl_cpuinfo", 8 {
        /// How long the CPU was idle, in nanoseconds.
        pub idletime: u64, @0;
    }
}

record! {
    /// Payload of [`SysctlCmd::GETCPUINFO`](super::SysctlCmd::GETCPUINFO).
    pub struct GetCpuInfo = "struct xen_sysctl_getcpuinfo" {
        /// IN: room in the array.
        pub max_cpus: u32;
        /// Array of [`CpuInfo`].
        pub info: Handle;
        /// OUT: elements written.
        pub nr_cpus: u32;
    }
}

record! {
    /// Payload of [`SysctlCmd::AVAILHEAP`](super::SysctlCmd::AVAILHEAP).
    pub struct AvailHeap = "struct xen_sysctl_availheap" {
        /// IN: fewest bits of a frame's address; 0 for any.
        pub min_bitwidth: u32;
        /// IN: most bits of a frame's address; 0 for any.
        pub max_bitwidth: u32;
        /// IN: node, -1 for all.
        pub node: i32;
        /// OUT: free bytes.
        pub avail_bytes: u64;
    }
}

open_enum! {
    /// Sub-operation of [`PageOffline`].
    pub enum PageOfflineCmd: u32 {
        /// Takes frames out of use, once they are free.
        OFFLINE = 1 => "sysctl_page_offline",
        /// Takes them back.
        ONLINE = 2 => "sysctl_page_online",
        /// Tells their state.
        QUERY = 3 => "sysctl_query_page_offline",
    }
}

record! {
    /// Payload of [`SysctlCmd::PAGE_OFFLINE_OP`](super::SysctlCmd::PAGE_OFFLINE_OP), all IN.
    pub struct PageOffline = "struct xen_sysctl_page_offline_op" {
        /// What to do.
        pub cmd: PageOfflineCmd;
        /// First machine frame.
        pub start: u32;
        /// Last machine frame, included.
        pub end: u32;
        /// Array of 32-bit states, [`PAGE_OFFLINED`] and others.
        pub status: Handle;
    }
}

constants! {
    in PAGE_CONSTANTS;

    /// State of a frame: there is none.
    pub const PAGE_INVALID: u32 = 1 => "PG_OFFLINE_INVALID";
    /// State of a frame: out of use, or back after [`PageOfflineCmd::ONLINE`].
    pub const PAGE_OFFLINED: u32 = 1 << 1 => "PG_OFFLINE_OFFLINED";
    /// State of a frame: out of use when it becomes free.
    pub const PAGE_PENDING: u32 = 1 << 2 => "PG_OFFLINE_PENDING";
    /// State of a frame: refused.
    pub const PAGE_FAILED: u32 = 1 << 3 => "PG_OFFLINE_FAILED";
    /// State of a frame: the caller has to try again.
    pub const PAGE_AGAIN: u32 = 1 << 4 => "PG_OFFLINE_AGAIN";
}

scalars! { PhysCaps, PageOfflineCmd }

payloads! { ReadConsole, PhysInfo, SchedId, GetDomainInfoList, DebugKeys, GetCpuInfo, AvailHeap, PageOffline }

sizes! { PhysInfo:
    V13 104 104,
    V14 104 104,
    V15 112 112,
    V16 112 112,
}

fixed_sizes! {
    ReadConsole 24,
    SchedId 4,
    GetDomainInfoList 24,
    DebugKeys 16,
    GetCpuInfo 24,
    AvailHeap 24,
    PageOffline 24,
}
