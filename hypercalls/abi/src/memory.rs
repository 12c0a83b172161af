//! `memory_op`: how much memory a domain has, and what lies where in its physical map (public/memory.h).

use crate::Handle;
use crate::arch_x86::MemmapType;
use crate::physdev::PciDevice;
use zerocopy::little_endian;

/// Lowest bit of `memory_op`'s command above the sub-operation; the bits from here up hold the extent at which a
/// continuation goes on. Not in the headers: guests pass 0.
pub const EXTENT_SHIFT: u32 = 6;

open_enum! {
    /// Sub-operation of `memory_op`: its command below [`EXTENT_SHIFT`].
    pub enum MemoryOp: u32 {
        /// Adds extents; PV only. [`Reservation`].
        INCREASE_RESERVATION = 0 => "XENMEM_increase_reservation",
        /// Gives extents back; returns how many. [`Reservation`].
        DECREASE_RESERVATION = 1 => "XENMEM_decrease_reservation",
        /// Returns the highest machine frame number; no argument.
        MAXIMUM_RAM_PAGE = 2 => "XENMEM_maximum_ram_page",
        /// Returns the pages a domain has. [`MemoryDomain`].
        CURRENT_RESERVATION = 3 => "XENMEM_current_reservation",
        /// Returns the pages a domain may have. [`MemoryDomain`].
        MAXIMUM_RESERVATION = 4 => "XENMEM_maximum_reservation",
        /// PV only. [`MachphysMfnList`].
        MACHPHYS_MFN_LIST = 5 => "XENMEM_machphys_mfn_list",
        /// Allocates extents at given guest frames; returns how many. [`Reservation`].
        POPULATE_PHYSMAP = 6 => "XENMEM_populate_physmap",
        /// Maps one page, or a range, of a [`MapSpace`]. [`AddToPhysmap`].
        ADD_TO_PHYSMAP = 7 => "XENMEM_add_to_physmap",
        /// The calling domain's memory map. [`MemoryMap`].
        MEMORY_MAP = 9 => "XENMEM_memory_map",
        /// The machine's memory map, for the initial domain. [`MemoryMap`].
        MACHINE_MEMORY_MAP = 10 => "XENMEM_machine_memory_map",
        /// Trades extents for others. [`Exchange`].
        EXCHANGE = 11 => "XENMEM_exchange",
        /// PV only.
        MACHPHYS_MAPPING = 12 => "XENMEM_machphys_mapping",
        /// Sets a domain's memory map. [`ForeignMemoryMap`].
        SET_MEMORY_MAP = 13 => "XENMEM_set_memory_map",
        /// Returns a domain's highest guest frame number. [`MemoryDomain`].
        MAXIMUM_GPFN = 14 => "XENMEM_maximum_gpfn",
        /// Takes one page out of the physical map. [`RemoveFromPhysmap`].
        REMOVE_FROM_PHYSMAP = 15 => "XENMEM_remove_from_physmap",
        /// [`PodTarget`].
        SET_POD_TARGET = 16 => "XENMEM_set_pod_target",
        /// [`PodTarget`].
        GET_POD_TARGET = 17 => "XENMEM_get_pod_target",
        /// Returns the pages saved by sharing; no argument.
        GET_SHARING_FREED_PAGES = 18 => "XENMEM_get_sharing_freed_pages",
        /// Returns the pages shared; no argument.
        GET_SHARING_SHARED_PAGES = 19 => "XENMEM_get_sharing_shared_pages",
        /// Paging to disk, for toolstacks.
        PAGING_OP = 20 => "XENMEM_paging_op",
        /// Access rights, for toolstacks.
        ACCESS_OP = 21 => "XENMEM_access_op",
        /// Page sharing, for toolstacks.
        SHARING_OP = 22 => "XENMEM_sharing_op",
        /// Maps a list of pages of a [`MapSpace`]. [`AddToPhysmapBatch`].
        ADD_TO_PHYSMAP_BATCH = 23 => "XENMEM_add_to_physmap_batch",
        /// Claims memory for a domain without allocating it. [`Reservation`].
        CLAIM_PAGES = 24 => "XENMEM_claim_pages",
        /// PV only. [`MachphysMfnList`].
        MACHPHYS_COMPAT_MFN_LIST = 25 => "XENMEM_machphys_compat_mfn_list",
        /// The calling domain's virtual NUMA topology. [`VnumaTopologyInfo`].
        GET_VNUMAINFO = 26 => "XENMEM_get_vnumainfo",
        /// Regions that devices need mapped one to one. [`ReservedDeviceMemoryMap`].
        RESERVED_DEVICE_MEMORY_MAP = 27 => "XENMEM_reserved_device_memory_map",
        /// Maps pages the hypervisor keeps for a domain. [`AcquireResource`].
        ACQUIRE_RESOURCE = 28 => "XENMEM_acquire_resource",
    }
}

impl MemoryOp {
    /// Splits a command into sub-operation and start extent.
    pub const fn decode(cmd: u64) -> (Self, u64) {
        (
            Self((cmd & ((1 << EXTENT_SHIFT) - 1)) as u32),
            cmd >> EXTENT_SHIFT,
        )
    }

    /// The command that continues this sub-operation at extent `start`; `None` if `start` does not fit.
    pub const fn continuation(self, start: u64) -> Option<u64> {
        if start > u64::MAX >> EXTENT_SHIFT {
            None
        } else {
            Some(start << EXTENT_SHIFT | (self.0 & ((1 << EXTENT_SHIFT) - 1)) as u64)
        }
    }
}

flags! {
    /// Bits of [`Reservation::mem_flags`] above the two numbers in it.
    pub struct MemFlags: u32 {
        /// Populate on demand.
        const POPULATE_ON_DEMAND = 1 << 16 => "XENMEMF_populate_on_demand";
        /// Allocate from the named node or not at all.
        const EXACT_NODE_REQUEST = 1 << 17 => "XENMEMF_exact_node_request";
        /// The node named is one of the guest's virtual ones.
        const VNODE = 1 << 18 => "XENMEMF_vnode";
    }
}

impl MemFlags {
    /// Width of the machine addresses allowed, in bits; 0 for any (`XENMEMF_get_address_bits`).
    pub const fn address_bits(self) -> u8 {
        (self.bits() & 0xff) as u8
    }

    /// NUMA node asked for, `None` for any (`XENMEMF_get_node`).
    pub const fn node(self) -> Option<u8> {
        match (self.bits() >> 8) as u8 {
            0 => None,
            n => Some(n - 1),
        }
    }
}

open_enum! {
    /// Where the pages to map come from.
    pub enum MapSpace: u32 {
        /// The shared-info page.
        SHARED_INFO = 0 => "XENMAPSPACE_shared_info",
        /// Frames of the grant table; with [`MAPIDX_GRANT_TABLE_STATUS`] its status frames.
        GRANT_TABLE = 1 => "XENMAPSPACE_grant_table",
        /// Another guest frame of the same domain.
        GMFN = 2 => "XENMAPSPACE_gmfn",
        /// A range of guest frames of the same domain; not in batches.
        GMFN_RANGE = 3 => "XENMAPSPACE_gmfn_range",
        /// A guest frame of another domain; only in batches.
        GMFN_FOREIGN = 4 => "XENMAPSPACE_gmfn_foreign",
        /// A machine frame of a device; Arm only.
        DEV_MMIO = 5 => "XENMAPSPACE_dev_mmio",
    }
}

open_enum! {
    /// Kind of resource of [`AcquireResource`].
    pub enum ResourceType: u16 {
        /// An ioreq server's pages; `id` is the server's.
        IOREQ_SERVER = 0 => "XENMEM_resource_ioreq_server",
        /// The grant table; `id` is a [`GrantTableId`].
        GRANT_TABLE = 1 => "XENMEM_resource_grant_table",
        /// A processor trace buffer; `id` is the vCPU's.
        VMTRACE_BUF = 2 => "XENMEM_resource_vmtrace_buf",
    }
}

open_enum! {
    /// Which part of the grant table is acquired.
    pub enum GrantTableId: u32 {
        /// The entries.
        SHARED = 0 => "XENMEM_resource_grant_table_id_shared",
        /// The status words of version 2.
        STATUS = 1 => "XENMEM_resource_grant_table_id_status",
    }
}

constants! {
    /// Bit of a grant-table index that selects the status frames.
    pub const MAPIDX_GRANT_TABLE_STATUS: u64 = 0x8000_0000 => "XENMAPIDX_grant_table_status";
    /// Frame of an ioreq server's buffered page; the synchronous ones follow.
    pub const IOREQ_SERVER_FRAME_BUFIOREQ: u64 = 0 => "XENMEM_resource_ioreq_server_frame_bufioreq";
    /// Flag of [`ReservedDeviceMemoryMap`]: all devices.
    pub const RDM_ALL: u32 = 1 => "XENMEM_RDM_ALL";
}

wire! {
    /// Argument of the reservation operations.
    pub struct Reservation = "struct xen_memory_reservation", 32 {
        /// Array of `u64` frame numbers, first of each extent; IN, OUT or both.
        pub extent_start: Handle, @0;
        /// Length of the array.
        pub nr_extents: u64, @8;
        /// An extent is 2^order pages, aligned to its size.
        pub extent_order: u32, @16;
        /// Node, address width and flags.
        pub mem_flags: MemFlags, @20;
        /// Whose reservation.
        pub domid: u16, @24;
        /// Padding.
        pub pad: [u8; 6];
    }
}

wire! {
    /// Argument of [`MemoryOp::EXCHANGE`].
    pub struct Exchange = "struct xen_memory_exchange", 72 {
        /// Extents to give.
        pub input: Reservation, @0 = "in";
        /// Extents to get.
        pub output: Reservation, @32 = "out";
        /// IN: 0. OUT: how many extents of `input` are gone.
        pub nr_exchanged: u64, @64;
    }
}

wire! {
    /// Argument of the operations that ask about a domain.
    pub struct MemoryDomain = "struct xen_memory_domain", 2 {
        /// The domain.
        pub domid: u16, @0;
    }
}

wire! {
    /// Argument of [`MemoryOp::MACHPHYS_MFN_LIST`].
    pub struct MachphysMfnList = "struct xen_machphys_mfn_list", 24 {
        /// Length of the array.
        pub max_extents: u32, @0;
        /// Padding.
        pub pad0: u32;
        /// OUT: array of `u64` frame numbers.
        pub extent_start: Handle, @8;
        /// OUT: entries written.
        pub nr_extents: u32, @16;
        /// Padding.
        pub pad1: u32;
    }
}

wire! {
    /// Argument of [`MemoryOp::ADD_TO_PHYSMAP`].
    pub struct AddToPhysmap = "struct xen_add_to_physmap", 24 {
        /// Whose map.
        pub domid: u16, @0;
        /// Pages of a [`MapSpace::GMFN_RANGE`].
        pub size: u16, @2;
        /// Where the page comes from.
        pub space: MapSpace, @4;
        /// Index in the space.
        pub idx: u64, @8;
        /// Guest frame where it shall appear.
        pub gpfn: u64, @16;
    }
}

wire! {
    /// Argument of [`MemoryOp::ADD_TO_PHYSMAP_BATCH`].
    pub struct AddToPhysmapBatch = "struct xen_add_to_physmap_batch", 32 {
        /// Whose map.
        pub domid: u16, @0;
        /// A [`MapSpace`], here of 16 bits.
        pub space: u16, @2;
        /// Number of pages.
        pub size: u16, @4;
        /// The other domain of [`MapSpace::GMFN_FOREIGN`]; 0 for the other spaces.
        pub foreign_domid: u16, @6 = "u.foreign_domid";
        /// Array of `u64` indices in the space.
        pub idxs: Handle, @8;
        /// Array of `u64` guest frames.
        pub gpfns: Handle, @16;
        /// OUT: array of `i32`, 0 or a negative errno each.
        pub errs: Handle, @24;
    }
}

wire! {
    /// Argument of [`MemoryOp::REMOVE_FROM_PHYSMAP`].
    pub struct RemoveFromPhysmap = "struct xen_remove_from_physmap", 16 {
        /// Whose map.
        pub domid: u16, @0;
        /// Padding.
        pub pad: [u8; 6];
        /// Guest frame to unmap.
        pub gpfn: u64, @8;
    }
}

wire! {
    /// Argument of [`MemoryOp::MEMORY_MAP`] and [`MemoryOp::MACHINE_MEMORY_MAP`].
    pub struct MemoryMap = "struct xen_memory_map", 16 {
        /// IN: entries the buffer holds. OUT: entries written.
        pub nr_entries: u32, @0;
        /// Padding.
        pub pad: u32;
        /// Array of [`E820Entry`].
        pub buffer: Handle, @8;
    }
}

wire! {
    /// Argument of [`MemoryOp::SET_MEMORY_MAP`].
    pub struct ForeignMemoryMap = "struct xen_foreign_memory_map", 24 {
        /// Whose map.
        pub domid: u16, @0;
        /// Padding.
        pub pad: [u8; 6];
        /// The map.
        pub map: MemoryMap, @8;
    }
}

/// Entry of a memory map as the PC BIOS's call E820 gives it: 20 bytes without padding.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct E820Entry {
    /// First byte.
    pub addr: little_endian::U64,
    /// Size in bytes.
    pub size: little_endian::U64,
    /// What it is, a [`crate::arch_x86::MemmapType`].
    pub kind: little_endian::U32,
}
static_assertions::const_assert_eq!(size_of::<E820Entry>(), 20);

impl E820Entry {
    /// The entry of a region.
    pub const fn new(addr: u64, size: u64, kind: MemmapType) -> Self {
        Self {
            addr: little_endian::U64::new(addr),
            size: little_endian::U64::new(size),
            kind: little_endian::U32::new(kind.0),
        }
    }
}

wire! {
    /// Argument of the populate-on-demand operations.
    pub struct PodTarget = "struct xen_pod_target", 40 {
        /// IN: target in pages.
        pub target_pages: u64, @0;
        /// OUT: pages the domain has.
        pub tot_pages: u64, @8;
        /// OUT: pages in the cache.
        pub pod_cache_pages: u64, @16;
        /// OUT: entries outstanding.
        pub pod_entries: u64, @24;
        /// IN: which domain.
        pub domid: u16, @32;
        /// Padding.
        pub pad: [u8; 6];
    }
}

wire! {
    /// A region that a device needs mapped one to one.
    pub struct ReservedDeviceMemory = "struct xen_reserved_device_memory", 16 {
        /// First frame.
        pub start_pfn: u64, @0;
        /// Number of frames.
        pub nr_pages: u64, @8;
    }
}

wire! {
    /// Argument of [`MemoryOp::RESERVED_DEVICE_MEMORY_MAP`].
    pub struct ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map", 24 {
        /// [`RDM_ALL`] or 0.
        pub flags: u32, @0;
        /// IN: entries the buffer holds. OUT: entries there are; too few is `-ERANGE`.
        pub nr_entries: u32, @4;
        /// OUT: array of [`ReservedDeviceMemory`].
        pub buffer: Handle, @8;
        /// IN: which device.
        pub pci: PciDevice, @16 = "dev.pci";
        /// Padding.
        pub pad: u32;
    }
}

wire! {
    /// Argument of [`MemoryOp::ACQUIRE_RESOURCE`].
    pub struct AcquireResource = "struct xen_mem_acquire_resource", 32 {
        /// Whose resource.
        pub domid: u16, @0;
        /// Which kind.
        pub kind: ResourceType, @2 = "type";
        /// Which of its kind.
        pub id: u32, @4;
        /// IN: frames to map. OUT: size of the resource, if asked for it with 0 and a null `frame_list`.
        pub nr_frames: u32, @8;
        /// Must be 0.
        pub pad: u32, @12;
        /// First frame of the resource to map.
        pub frame: u64, @16;
        /// Array of `u64` guest frames of the caller.
        pub frame_list: Handle, @24;
    }
}

wire! {
    /// A range of memory of a virtual NUMA node.
    pub struct Vmemrange = "struct xen_vmemrange", 24 {
        /// First byte.
        pub start: u64, @0;
        /// One past the last byte.
        pub end: u64, @8;
        /// Reserved.
        pub flags: u32, @16;
        /// The node.
        pub nid: u32, @20;
    }
}

wire! {
    /// Argument of [`MemoryOp::GET_VNUMAINFO`].
    pub struct VnumaTopologyInfo = "struct xen_vnuma_topology_info", 40 {
        /// Which domain.
        pub domid: u16, @0;
        /// Padding.
        pub pad: u16, @2;
        /// IN: nodes there is room for. OUT: nodes there are.
        pub nr_vnodes: u32, @4;
        /// IN: vCPUs there is room for. OUT: vCPUs there are.
        pub nr_vcpus: u32, @8;
        /// IN: ranges there is room for. OUT: ranges there are.
        pub nr_vmemranges: u32, @12;
        /// OUT: matrix of `u32` distances.
        pub vdistance: Handle, @16;
        /// OUT: array of `u32`, the node of each vCPU.
        pub vcpu_to_vnode: Handle, @24;
        /// OUT: array of [`Vmemrange`].
        pub vmemrange: Handle, @32;
    }
}
