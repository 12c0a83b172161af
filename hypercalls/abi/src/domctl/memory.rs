//! A domain's memory: limits, page-table pools, dirty pages, caches, NUMA.

use super::Interface;
use crate::Handle;
use crate::versioned::Bitmap;

record! {
    /// Payload of [`DomctlCmd::MAX_MEM`](super::DomctlCmd::MAX_MEM).
    pub struct MaxMem = "struct xen_domctl_max_mem" {
        /// IN: memory the domain may have, in KiB.
        pub max_memkb: u64;
    }
}

open_enum! {
    /// Sub-operation of [`ShadowOp`].
    pub enum ShadowCmd: u32 {
        /// Ends whatever mode was enabled.
        OFF = 0 => "XEN_DOMCTL_SHADOW_OP_OFF",
        /// Shadow page tables for a test; deprecated.
        ENABLE_TEST = 1 => "XEN_DOMCTL_SHADOW_OP_ENABLE_TEST",
        /// Starts to note dirty pages.
        ENABLE_LOGDIRTY = 2 => "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY",
        /// Tells the dirty pages and forgets them.
        CLEAN = 11 => "XEN_DOMCTL_SHADOW_OP_CLEAN",
        /// Tells the dirty pages.
        PEEK = 12 => "XEN_DOMCTL_SHADOW_OP_PEEK",
        /// Size of the page-table pool in MiB.
        GET_ALLOCATION = 30 => "XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION",
        /// Sets the size of the page-table pool in MiB: the way to do it up to 0x14.
        SET_ALLOCATION = 31 => "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION",
        /// Enables what [`ShadowMode`] says.
        ENABLE = 32 => "XEN_DOMCTL_SHADOW_OP_ENABLE",
    }
}

flags! {
    /// Mode of [`ShadowCmd::ENABLE`].
    pub struct ShadowMode: u32 {
        /// Counts references for the guest.
        const REFCOUNT = 1 << 1 => "XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT";
        /// Notes dirty pages.
        const LOG_DIRTY = 1 << 2 => "XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY";
        /// Translates addresses.
        const TRANSLATE = 1 << 3 => "XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE";
        /// The guest does not see its page tables.
        const EXTERNAL = 1 << 4 => "XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL";
    }
}

flags! {
    /// Mode of [`ShadowCmd::CLEAN`] and [`ShadowCmd::PEEK`]; other bits are `-EINVAL`.
    pub struct LogDirtyMode: u32 {
        /// The last time: pages of the hypervisor's that the guest shares count as dirty, and noting may stop.
        const FINAL = 1 => "XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL";
    }
}

record! {
    /// Counts that a [`ShadowOp`] returns.
    pub struct ShadowStats = "struct xen_domctl_shadow_op_stats" {
        /// Faults since the last time.
        pub fault_count: u32;
        /// Dirty pages since the last time.
        pub dirty_count: u32;
    }
}

record! {
    /// Payload of [`DomctlCmd::SHADOW_OP`](super::DomctlCmd::SHADOW_OP).
    pub struct ShadowOp = "struct xen_domctl_shadow_op" {
        /// IN: what to do.
        pub op: ShadowCmd;
        /// IN: [`ShadowMode`] or [`LogDirtyMode`].
        pub mode: u32;
        /// IN to set, OUT of get: size of the pool in MiB.
        pub mb: u32;
        /// IN: bit map for dirty pages, null to get the counts alone.
        pub dirty_bitmap: Handle;
        /// IN: bits of the map. OUT: bits written.
        pub pages: u64;
        /// OUT: counts.
        pub stats: ShadowStats;
    }
}

record! {
    /// Payload of [`DomctlCmd::GET_PAGING_MEMPOOL_SIZE`](super::DomctlCmd::GET_PAGING_MEMPOOL_SIZE) and
    /// [`DomctlCmd::SET_PAGING_MEMPOOL_SIZE`](super::DomctlCmd::SET_PAGING_MEMPOOL_SIZE).
    pub struct PagingMempool = "struct xen_domctl_paging_mempool" {
        /// IN to set, OUT of get: bytes of the pool, a multiple of the page.
        pub size: u64;
    }
}

constants! {
    in MEMORY_CONSTANTS;

    /// Where [`GetPageFrameInfo3`] puts a frame's type.
    pub const PFINFO_LTAB_SHIFT: u32 = 28 => "XEN_DOMCTL_PFINFO_LTAB_SHIFT";
    /// Mask of a frame's type and pin.
    pub const PFINFO_LTAB_MASK: u32 = 0xf000_0000 => "XEN_DOMCTL_PFINFO_LTAB_MASK";
    /// Mask of a frame's type.
    pub const PFINFO_LTABTYPE_MASK: u32 = 0x7000_0000 => "XEN_DOMCTL_PFINFO_LTABTYPE_MASK";
    /// Ordinary memory.
    pub const PFINFO_NOTAB: u32 = 0 => "XEN_DOMCTL_PFINFO_NOTAB";
    /// PV: a page table of level 1.
    pub const PFINFO_L1TAB: u32 = 0x1000_0000 => "XEN_DOMCTL_PFINFO_L1TAB";
    /// PV: a page table of level 2.
    pub const PFINFO_L2TAB: u32 = 0x2000_0000 => "XEN_DOMCTL_PFINFO_L2TAB";
    /// PV: a page table of level 3.
    pub const PFINFO_L3TAB: u32 = 0x3000_0000 => "XEN_DOMCTL_PFINFO_L3TAB";
    /// PV: a page table of level 4.
    pub const PFINFO_L4TAB: u32 = 0x4000_0000 => "XEN_DOMCTL_PFINFO_L4TAB";
    /// PV: a pinned page table.
    pub const PFINFO_LPINTAB: u32 = 0x8000_0000 => "XEN_DOMCTL_PFINFO_LPINTAB";
    /// A broken frame.
    pub const PFINFO_BROKEN: u32 = 0xd000_0000 => "XEN_DOMCTL_PFINFO_BROKEN";
    /// A frame without content, which the receiver allocates.
    pub const PFINFO_XALLOC: u32 = 0xe000_0000 => "XEN_DOMCTL_PFINFO_XALLOC";
    /// No frame.
    pub const PFINFO_XTAB: u32 = 0xf000_0000 => "XEN_DOMCTL_PFINFO_XTAB";
}

record! {
    /// Payload of [`DomctlCmd::GETPAGEFRAMEINFO3`](super::DomctlCmd::GETPAGEFRAMEINFO3).
    pub struct GetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3" {
        /// IN: frames; at most 1024.
        pub num: u64;
        /// IN: array of 64-bit frame numbers. OUT: their types, such as [`PFINFO_NOTAB`].
        pub array: Handle;
    }
}

record! {
    /// Payload of [`DomctlCmd::CACHEFLUSH`](super::DomctlCmd::CACHEFLUSH): cleans and invalidates the data cache.
    pub struct CacheFlush = "struct xen_domctl_cacheflush" {
        /// IN: first guest frame.
        pub start_pfn: u64;
        /// IN: how many; the sum may not wrap.
        pub nr_pfns: u64;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETNODEAFFINITY`](super::DomctlCmd::SETNODEAFFINITY) and
    /// [`DomctlCmd::GETNODEAFFINITY`](super::DomctlCmd::GETNODEAFFINITY).
    pub struct NodeAffinity = "struct xen_domctl_nodeaffinity" {
        /// IN to set, filled by get: NUMA nodes.
        pub nodemap: Bitmap;
    }
}

record! {
    /// Payload of [`DomctlCmd::SETVNUMAINFO`](super::DomctlCmd::SETVNUMAINFO), all IN.
    pub struct VnumaInfo = "struct xen_domctl_vnuma" {
        /// Virtual nodes.
        pub nr_vnodes: u32;
        /// Ranges of memory.
        pub nr_vmemranges: u32;
        /// vCPUs; as many as the domain has.
        pub nr_vcpus: u32, zero 4;
        /// `nr_vnodes` by `nr_vnodes` 32-bit distances.
        pub vdistance: Handle;
        /// The 32-bit virtual node of each vCPU.
        pub vcpu_to_vnode: Handle;
        /// The 32-bit node of each virtual node.
        pub vnode_to_pnode: Handle;
        /// The ranges ([`crate::memory::Vmemrange`]).
        pub vmemrange: Handle;
    }
}

record! {
    /// Payload of [`DomctlCmd::SET_LLC_COLORS`](super::DomctlCmd::SET_LLC_COLORS), all IN.
    pub struct SetLlcColors = "struct xen_domctl_set_llc_colors" {
        /// Number of colours; 0 for the default.
        pub num_llc_colors: u32, zero 4;
        /// The 32-bit colours.
        pub llc_colors: Handle;
    }
}

scalars! { ShadowCmd }

payloads! { MaxMem, ShadowOp, PagingMempool, GetPageFrameInfo3, CacheFlush, NodeAffinity, VnumaInfo, SetLlcColors }

fixed_sizes! {
    MaxMem 8,
    ShadowOp 40,
    PagingMempool 8,
    GetPageFrameInfo3 16,
    CacheFlush 16,
    NodeAffinity 16,
    VnumaInfo 48,
    SetLlcColors 16,
}
