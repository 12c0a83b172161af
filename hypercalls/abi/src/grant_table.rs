//! `grant_table_op`: grant tables, their entries and operations (public/grant_table.h).

mod ops;

pub use ops::*;

open_enum! {
    /// Sub-operation of `grant_table_op`; an array of its argument and a count follow.
    pub enum GrantTableOp: u32 {
        /// Maps grants. [`MapGrantRef`].
        MAP_GRANT_REF = 0 => "GNTTABOP_map_grant_ref",
        /// Unmaps grants. [`UnmapGrantRef`].
        UNMAP_GRANT_REF = 1 => "GNTTABOP_unmap_grant_ref",
        /// Sizes a table and tells its frames. [`SetupTable`].
        SETUP_TABLE = 2 => "GNTTABOP_setup_table",
        /// Prints a table on the hypervisor's console. [`DumpTable`].
        DUMP_TABLE = 3 => "GNTTABOP_dump_table",
        /// Gives a page away; PV only. [`Transfer`].
        TRANSFER = 4 => "GNTTABOP_transfer",
        /// Copies between grants and frames. [`GrantCopy`].
        COPY = 5 => "GNTTABOP_copy",
        /// How large a table is and may become. [`QuerySize`].
        QUERY_SIZE = 6 => "GNTTABOP_query_size",
        /// Unmaps a grant and puts another mapping in its place; PV only. [`UnmapAndReplace`].
        UNMAP_AND_REPLACE = 7 => "GNTTABOP_unmap_and_replace",
        /// Chooses the version of the caller's table. [`SetVersion`].
        SET_VERSION = 8 => "GNTTABOP_set_version",
        /// Frames of the status words of version 2. [`GetStatusFrames`].
        GET_STATUS_FRAMES = 9 => "GNTTABOP_get_status_frames",
        /// Version of a table. [`GetVersion`].
        GET_VERSION = 10 => "GNTTABOP_get_version",
        /// Swaps two entries. [`SwapGrantRef`].
        SWAP_GRANT_REF = 11 => "GNTTABOP_swap_grant_ref",
        /// Cache maintenance on a grant; Arm. [`CacheFlush`].
        CACHE_FLUSH = 12 => "GNTTABOP_cache_flush",
    }
}

open_enum! {
    /// Status of one element of an operation.
    pub enum GrantStatus: i16 {
        /// Done.
        OKAY = 0 => "GNTST_okay",
        /// An error without a number of its own.
        GENERAL_ERROR = -1 => "GNTST_general_error",
        /// No such domain.
        BAD_DOMAIN = -2 => "GNTST_bad_domain",
        /// No such grant, or not one for this use.
        BAD_GNTREF = -3 => "GNTST_bad_gntref",
        /// No such mapping, or not one for this use.
        BAD_HANDLE = -4 => "GNTST_bad_handle",
        /// Not an address to map at.
        BAD_VIRT_ADDR = -5 => "GNTST_bad_virt_addr",
        /// Not a device address to unmap.
        BAD_DEV_ADDR = -6 => "GNTST_bad_dev_addr",
        /// No room in the I/O MMU.
        NO_DEVICE_SPACE = -7 => "GNTST_no_device_space",
        /// Not allowed.
        PERMISSION_DENIED = -8 => "GNTST_permission_denied",
        /// Not a page for this use.
        BAD_PAGE = -9 => "GNTST_bad_page",
        /// A copy crosses a page's end.
        BAD_COPY_ARG = -10 => "GNTST_bad_copy_arg",
        /// The page's address is too large for its receiver.
        ADDRESS_TOO_BIG = -11 => "GNTST_address_too_big",
        /// Not done: try again.
        EAGAIN = -12 => "GNTST_eagain",
        /// No room for a handle or the like.
        NO_SPACE = -13 => "GNTST_no_space",
    }
}

open_enum! {
    /// Type of an entry: the low two bits of its flags.
    pub enum GrantType: u16 {
        /// Grants nothing.
        INVALID = 0 => "GTF_invalid",
        /// A domain may map or copy the frame.
        PERMIT_ACCESS = 1 => "GTF_permit_access",
        /// A domain may give a frame; PV only.
        ACCEPT_TRANSFER = 2 => "GTF_accept_transfer",
        /// Passes on another domain's grant; version 2.
        TRANSITIVE = 3 => "GTF_transitive",
    }
}

flags! {
    /// Flags of an entry above its [`GrantType`].
    pub struct GrantFlags: u16 {
        /// Reading only. The granting guest sets it.
        const READONLY = 1 << 2 => "GTF_readonly";
        /// The frame is mapped or read. The hypervisor sets it; in version 2 in the status word.
        const READING = 1 << 3 => "GTF_reading";
        /// The frame is mapped for writing or written. The hypervisor sets it; in version 2 in the status word.
        const WRITING = 1 << 4 => "GTF_writing";
        /// Cache attribute.
        const PWT = 1 << 5 => "GTF_PWT";
        /// Cache attribute.
        const PCD = 1 << 6 => "GTF_PCD";
        /// Cache attribute.
        const PAT = 1 << 7 => "GTF_PAT";
        /// Only part of the page is granted, and only for copies; version 2.
        const SUB_PAGE = 1 << 8 => "GTF_sub_page";
    }
}

impl GrantFlags {
    /// The entry's type.
    pub const fn kind(self) -> GrantType {
        GrantType(self.bits() & TYPE_MASK)
    }

    /// These flags with the type `kind` in place of their own; bits of `kind` above the type are dropped.
    pub const fn with_kind(self, kind: GrantType) -> Self {
        Self::from_bits_retain(self.bits() & !TYPE_MASK | kind.0 & TYPE_MASK)
    }
}

flags! {
    /// How a grant is mapped.
    pub struct MapFlags: u32 {
        /// For access by devices.
        const DEVICE_MAP = 1 => "GNTMAP_device_map";
        /// For access by the CPU.
        const HOST_MAP = 1 << 1 => "GNTMAP_host_map";
        /// Reading only.
        const READONLY = 1 << 2 => "GNTMAP_readonly";
        /// Also for user mode; PV.
        const APPLICATION_MAP = 1 << 3 => "GNTMAP_application_map";
        /// `host_addr` is the machine address of a page-table entry; PV.
        const CONTAINS_PTE = 1 << 4 => "GNTMAP_contains_pte";
        /// The caller expects failure (gone from the headers after 4.14; ignored).
        const CAN_FAIL = 1 << 5 => "GNTMAP_can_fail";
    }
}

flags! {
    /// What the two ends of a copy are.
    pub struct CopyFlags: u16 {
        /// The source is a grant, not a frame.
        const SOURCE_GREF = 1 => "GNTCOPY_source_gref";
        /// The destination is a grant, not a frame.
        const DEST_GREF = 1 << 1 => "GNTCOPY_dest_gref";
    }
}

flags! {
    /// What a cache flush does.
    pub struct CacheFlushFlags: u32 {
        /// Writes dirty lines back.
        const CLEAN = 1 => "GNTTAB_CACHE_CLEAN";
        /// Drops lines.
        const INVAL = 1 << 1 => "GNTTAB_CACHE_INVAL";
        /// The address is a grant reference.
        const SOURCE_GREF = 1 << 31 => "GNTTAB_CACHE_SOURCE_GREF";
    }
}

constants! {
    /// Mask of the type in an entry's flags.
    pub const TYPE_MASK: u16 = 3 => "GTF_type_mask";
    /// Entries at the start of a table that toolstacks fill and a change of version keeps.
    pub const NR_RESERVED_ENTRIES: u32 = 8 => "GNTTAB_NR_RESERVED_ENTRIES";
    /// Reserved entry: the console ring's page.
    pub const RESERVED_CONSOLE: u32 = 0 => "GNTTAB_RESERVED_CONSOLE";
    /// Reserved entry: the store ring's page.
    pub const RESERVED_XENSTORE: u32 = 1 => "GNTTAB_RESERVED_XENSTORE";
    /// Flag of an accept-transfer entry: a transfer has begun; PV.
    pub const TRANSFER_COMMITTED: u16 = 1 << 2 => "GTF_transfer_committed";
    /// Flag of an accept-transfer entry: the transfer is done; PV.
    pub const TRANSFER_COMPLETED: u16 = 1 << 3 => "GTF_transfer_completed";
    /// Lowest of the bits of [`MapFlags`] that a PV guest may use as it likes.
    pub const MAP_GUEST_AVAIL0: u32 = 16 => "_GNTMAP_guest_avail0";
    /// Those bits.
    pub const MAP_GUEST_AVAIL_MASK: u32 = 0xffff_0000 => "GNTMAP_guest_avail_mask";
}

/// Version 1 entries in a page.
pub const V1_ENTRIES_PER_PAGE: u32 = 4096 / 8;
/// Version 2 entries in a page.
pub const V2_ENTRIES_PER_PAGE: u32 = 4096 / 16;
/// Status words (`u16`) of version 2 in a page.
pub const STATUS_PER_PAGE: u32 = 4096 / 2;

wire! {
    /// Entry of version 1. Shared memory: the hypervisor reads and changes the first word atomically.
    pub struct EntryV1 = "struct grant_entry_v1", 8 {
        /// Type and flags; written last by the guest.
        pub flags: GrantFlags, @0;
        /// Who may use it.
        pub domid: u16, @2;
        /// Guest frame granted.
        pub frame: u32, @4;
    }
}

wire! {
    /// Entry of version 2 that grants a page.
    pub struct EntryV2FullPage = "union grant_entry_v2", 16 {
        /// Type and flags; written last by the guest.
        pub flags: GrantFlags, @0 = "full_page.hdr.flags";
        /// Who may use it.
        pub domid: u16, @2 = "full_page.hdr.domid";
        /// Padding.
        pub pad0: u32, @4 = "full_page.pad0";
        /// Guest frame granted.
        pub frame: u64, @8 = "full_page.frame";
    }
}

wire! {
    /// Entry of version 2 that grants part of a page ([`GrantFlags::SUB_PAGE`]).
    pub struct EntryV2SubPage = "union grant_entry_v2", 16 {
        /// Type and flags; written last by the guest.
        pub flags: GrantFlags, @0 = "sub_page.hdr.flags";
        /// Who may use it.
        pub domid: u16, @2 = "sub_page.hdr.domid";
        /// First byte granted.
        pub page_off: u16, @4 = "sub_page.page_off";
        /// Bytes granted.
        pub length: u16, @6 = "sub_page.length";
        /// Guest frame granted.
        pub frame: u64, @8 = "sub_page.frame";
    }
}

wire! {
    /// Entry of version 2 that passes on another domain's grant ([`GrantType::TRANSITIVE`]).
    #[repr(align(8))]
    pub struct EntryV2Transitive = "union grant_entry_v2", 16 {
        /// Type and flags; written last by the guest.
        pub flags: GrantFlags, @0 = "transitive.hdr.flags";
        /// Who may use it.
        pub domid: u16, @2 = "transitive.hdr.domid";
        /// Whose grant is passed on.
        pub trans_domid: u16, @4 = "transitive.trans_domid";
        /// Padding.
        pub pad0: u16, @6 = "transitive.pad0";
        /// The grant passed on.
        pub gref: u32, @8 = "transitive.gref";
        /// Padding.
        pub pad1: u32;
    }
}
