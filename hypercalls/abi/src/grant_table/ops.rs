//! Arguments of the grant-table operations.

use super::{CacheFlushFlags, CopyFlags, GrantStatus, MapFlags};
use crate::Handle;

wire! {
    /// Argument of `map_grant_ref`.
    pub struct MapGrantRef = "struct gnttab_map_grant_ref", 32 {
        /// Where to map: in a translated domain a guest physical address.
        pub host_addr: u64, @0;
        /// How.
        pub flags: MapFlags, @8;
        /// Which grant.
        pub gref: u32, @12 = "ref";
        /// Whose.
        pub dom: u16, @16;
        /// OUT.
        pub status: GrantStatus, @18;
        /// OUT: names the mapping in `unmap_grant_ref`.
        pub handle: u32, @20;
        /// OUT: address for devices.
        pub dev_bus_addr: u64, @24;
    }
}

wire! {
    /// Argument of `unmap_grant_ref`.
    pub struct UnmapGrantRef = "struct gnttab_unmap_grant_ref", 24 {
        /// Where it is mapped, 0 to leave that mapping.
        pub host_addr: u64, @0;
        /// Its address for devices, 0 to leave that mapping.
        pub dev_bus_addr: u64, @8;
        /// Which mapping.
        pub handle: u32, @16;
        /// OUT.
        pub status: GrantStatus, @20;
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// Argument of `setup_table`.
    pub struct SetupTable = "struct gnttab_setup_table", 24 {
        /// Whose table.
        pub dom: u16, @0;
        /// Padding.
        pub pad0: u16;
        /// Frames it shall have at least.
        pub nr_frames: u32, @4;
        /// OUT.
        pub status: GrantStatus, @8;
        /// Padding.
        pub pad1: [u16; 3];
        /// OUT: array of `u64` frame numbers.
        pub frame_list: Handle, @16;
    }
}

wire! {
    /// Argument of `dump_table`.
    pub struct DumpTable = "struct gnttab_dump_table", 4 {
        /// Whose table.
        pub dom: u16, @0;
        /// OUT.
        pub status: GrantStatus, @2;
    }
}

wire! {
    /// Argument of `transfer`.
    pub struct Transfer = "struct gnttab_transfer", 24 {
        /// Frame to give.
        pub mfn: u64, @0;
        /// To whom.
        pub domid: u16, @8;
        /// Padding.
        pub pad0: u16;
        /// The receiver's grant.
        pub gref: u32, @12 = "ref";
        /// OUT.
        pub status: GrantStatus, @16;
        /// Padding.
        pub pad1: [u16; 3];
    }
}

wire! {
    /// One end of a [`GrantCopy`].
    pub struct GrantCopyPtr = "struct gnttab_copy_ptr", 16 {
        /// Guest frame; or a grant reference in the low half, see [`GrantCopyPtr::gref`].
        pub frame: u64, @0 = "u.gmfn";
        /// Whose.
        pub domid: u16, @8;
        /// First byte in the page.
        pub offset: u16, @10;
        /// Padding.
        pub pad: u32;
    }
}

impl GrantCopyPtr {
    /// The grant reference, if the flags say that this end is a grant: it fills the first four bytes of the union, and
    /// the others mean nothing.
    pub const fn gref(&self) -> u32 {
        self.frame as u32
    }
}

wire! {
    /// Argument of `copy`.
    pub struct GrantCopy = "struct gnttab_copy", 40 {
        /// From where.
        pub source: GrantCopyPtr, @0;
        /// To where.
        pub dest: GrantCopyPtr, @16;
        /// Bytes.
        pub len: u16, @32;
        /// Which ends are grants.
        pub flags: CopyFlags, @34;
        /// OUT.
        pub status: GrantStatus, @36;
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// Argument of `query_size`.
    pub struct QuerySize = "struct gnttab_query_size", 16 {
        /// Whose table.
        pub dom: u16, @0;
        /// Padding.
        pub pad0: u16;
        /// OUT: frames it has.
        pub nr_frames: u32, @4;
        /// OUT: frames it may have.
        pub max_nr_frames: u32, @8;
        /// OUT.
        pub status: GrantStatus, @12;
        /// Padding.
        pub pad1: u16;
    }
}

wire! {
    /// Argument of `unmap_and_replace`.
    pub struct UnmapAndReplace = "struct gnttab_unmap_and_replace", 24 {
        /// Where it is mapped.
        pub host_addr: u64, @0;
        /// Address whose mapping takes its place.
        pub new_addr: u64, @8;
        /// Which mapping.
        pub handle: u32, @16;
        /// OUT.
        pub status: GrantStatus, @20;
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// Argument of `set_version`.
    pub struct SetVersion = "struct gnttab_set_version", 4 {
        /// IN: 1 or 2. OUT: the version the table has now.
        pub version: u32, @0;
    }
}

wire! {
    /// Argument of `get_status_frames`.
    pub struct GetStatusFrames = "struct gnttab_get_status_frames", 16 {
        /// Length of the array.
        pub nr_frames: u32, @0;
        /// Whose table.
        pub dom: u16, @4;
        /// OUT.
        pub status: GrantStatus, @6;
        /// OUT: array of `u64` frame numbers.
        pub frame_list: Handle, @8;
    }
}

wire! {
    /// Argument of `get_version`.
    pub struct GetVersion = "struct gnttab_get_version", 8 {
        /// Whose table.
        pub dom: u16, @0;
        /// Padding.
        pub pad: u16, @2;
        /// OUT: its version.
        pub version: u32, @4;
    }
}

wire! {
    /// Argument of `swap_grant_ref`.
    pub struct SwapGrantRef = "struct gnttab_swap_grant_ref", 12 {
        /// One entry.
        pub ref_a: u32, @0;
        /// The other.
        pub ref_b: u32, @4;
        /// OUT.
        pub status: GrantStatus, @8;
        /// Padding.
        pub pad: u16;
    }
}

wire! {
    /// Argument of `cache_flush`.
    pub struct CacheFlush = "struct gnttab_cache_flush", 16 {
        /// Address for devices; or a grant reference in the low half, see [`CacheFlush::gref`].
        pub dev_bus_addr: u64, @0 = "a.dev_bus_addr";
        /// First byte in the page.
        pub offset: u16, @8;
        /// Bytes.
        pub length: u16, @10;
        /// What to do.
        pub op: CacheFlushFlags, @12;
    }
}

impl CacheFlush {
    /// The grant reference, with [`CacheFlushFlags::SOURCE_GREF`].
    pub const fn gref(&self) -> u32 {
        self.dev_bus_addr as u32
    }
}
