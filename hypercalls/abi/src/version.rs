//! `xen_version`: what hypervisor this is (public/version.h).

open_enum! {
    /// Sub-operation of `xen_version`.
    pub enum VersionOp: u32 {
        /// Returns the version, see [`version`]; no argument.
        VERSION = 0 => "XENVER_version",
        /// Writes the extra version, a string in [`EXTRAVERSION_LEN`] bytes.
        EXTRAVERSION = 1 => "XENVER_extraversion",
        /// Writes [`CompileInfo`].
        COMPILE_INFO = 2 => "XENVER_compile_info",
        /// Writes the capabilities, a string in [`CAPABILITIES_INFO_LEN`] bytes.
        CAPABILITIES = 3 => "XENVER_capabilities",
        /// Writes the changeset, a string in [`CHANGESET_INFO_LEN`] bytes.
        CHANGESET = 4 => "XENVER_changeset",
        /// Writes [`PlatformParameters`].
        PLATFORM_PARAMETERS = 5 => "XENVER_platform_parameters",
        /// Reads and writes [`FeatureInfo`].
        GET_FEATURES = 6 => "XENVER_get_features",
        /// Returns the page size; no argument.
        PAGESIZE = 7 => "XENVER_pagesize",
        /// Writes the domain's handle, [`crate::xen::DomainHandle`].
        GUEST_HANDLE = 8 => "XENVER_guest_handle",
        /// Writes the hypervisor's command line, a string in [`COMMANDLINE_LEN`] bytes.
        COMMANDLINE = 9 => "XENVER_commandline",
        /// The build identifier, into a [`VarBuf`].
        BUILD_ID = 10 => "XENVER_build_id",
        /// The extra version, into a [`VarBuf`] (from 4.20).
        EXTRAVERSION2 = 11 => "XENVER_extraversion2",
        /// The capabilities, into a [`VarBuf`] (from 4.20).
        CAPABILITIES2 = 12 => "XENVER_capabilities2",
        /// The changeset, into a [`VarBuf`] (from 4.20).
        CHANGESET2 = 13 => "XENVER_changeset2",
        /// The hypervisor's command line, into a [`VarBuf`] (from 4.20).
        COMMANDLINE2 = 14 => "XENVER_commandline2",
    }
}

constants! {
    /// Bytes that [`VersionOp::EXTRAVERSION`] writes, NUL included.
    pub const EXTRAVERSION_LEN: usize = 16 => "XEN_EXTRAVERSION_LEN";
    /// Bytes that [`VersionOp::CAPABILITIES`] writes, NUL included.
    pub const CAPABILITIES_INFO_LEN: usize = 1024 => "XEN_CAPABILITIES_INFO_LEN";
    /// Bytes that [`VersionOp::CHANGESET`] writes, NUL included.
    pub const CHANGESET_INFO_LEN: usize = 64 => "XEN_CHANGESET_INFO_LEN";
}

/// Bytes that [`VersionOp::COMMANDLINE`] writes, NUL included (`xen_commandline_t`).
pub const COMMANDLINE_LEN: usize = 1024;

/// The value that [`VersionOp::VERSION`] returns for a release.
pub const fn version(major: u16, minor: u16) -> u32 {
    (major as u32) << 16 | minor as u32
}

wire! {
    /// How the hypervisor was built: NUL-terminated strings.
    pub struct CompileInfo = "struct xen_compile_info", 144 {
        /// The compiler.
        pub compiler: [u8; 64], @0;
        /// Who.
        pub compile_by: [u8; 16], @64;
        /// Where.
        pub compile_domain: [u8; 32], @80;
        /// When.
        pub compile_date: [u8; 32], @112;
    }
}

wire! {
    /// Where the hypervisor lies in the guest's address space.
    pub struct PlatformParameters = "struct xen_platform_parameters", 8 {
        /// First virtual address the hypervisor keeps for itself; has no meaning for translated guests.
        pub virt_start: u64, @0;
    }
}

wire! {
    /// Argument of [`VersionOp::GET_FEATURES`].
    pub struct FeatureInfo = "struct xen_feature_info", 8 {
        /// IN: which submap; submaps from [`crate::features::NR_SUBMAPS`] up are empty.
        pub submap_idx: u32, @0;
        /// OUT: the submap, [`crate::features::Features`] for submap 0.
        pub submap: u32, @4;
    }
}

wire! {
    /// Head of a buffer of variable length; a null handle in its place asks for the length.
    pub struct VarBuf = "struct xen_build_id", 4 {
        /// IN: bytes of room that follow this head; too few is `-ENOBUFS`.
        pub len: u32, @0;
    }
}
