//! Feature bits of the hypervisor as a guest sees them (public/features.h).

open_enum! {
    /// Number of a bit in submap 0 of `XENVER_get_features`.
    pub enum Feature: u32 {
        /// Page tables need not be read-only to the guest.
        WRITABLE_PAGE_TABLES = 0 => "XENFEAT_writable_page_tables",
        /// Descriptor tables need not be read-only to the guest.
        WRITABLE_DESCRIPTOR_TABLES = 1 => "XENFEAT_writable_descriptor_tables",
        /// The hypervisor translates: the guest knows guest frame numbers only.
        AUTO_TRANSLATED_PHYSMAP = 2 => "XENFEAT_auto_translated_physmap",
        /// The kernel runs in supervisor mode.
        SUPERVISOR_MODE_KERNEL = 3 => "XENFEAT_supervisor_mode_kernel",
        /// x86 PAE page directories may lie above 4 GiB.
        PAE_PGDIR_ABOVE_4GB = 4 => "XENFEAT_pae_pgdir_above_4gb",
        /// x86: `MMU_PT_UPDATE_PRESERVE_AD` is there.
        MMU_PT_UPDATE_PRESERVE_AD = 5 => "XENFEAT_mmu_pt_update_preserve_ad",
        /// x86: `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE` are there.
        HIGHMEM_ASSIST = 6 => "XENFEAT_highmem_assist",
        /// `GNTMAP_guest_avail` bits are honoured.
        GNTTAB_MAP_AVAIL_BITS = 7 => "XENFEAT_gnttab_map_avail_bits",
        /// x86: the event callback can be a vector.
        HVM_CALLBACK_VECTOR = 8 => "XENFEAT_hvm_callback_vector",
        /// x86: the paravirtual clock is safe in hardware-virtualized guests.
        HVM_SAFE_PVCLOCK = 9 => "XENFEAT_hvm_safe_pvclock",
        /// x86: hardware-virtualized guests can use pirqs.
        HVM_PIRQS = 10 => "XENFEAT_hvm_pirqs",
        /// The domain is the initial domain.
        DOM0 = 11 => "XENFEAT_dom0",
        /// Grants are also mapped at gfn = mfn.
        GRANT_MAP_IDENTITY = 12 => "XENFEAT_grant_map_identity",
        /// `XENMEMF_vnode` is understood.
        MEMORY_OP_VNODE_SUPPORTED = 13 => "XENFEAT_memory_op_vnode_supported",
        /// Arm: the SMC calling convention is supported.
        ARM_SMCCC_SUPPORTED = 14 => "XENFEAT_ARM_SMCCC_supported",
        /// x86/PVH: the RSDP may lie anywhere.
        LINUX_RSDP_UNRESTRICTED = 15 => "XENFEAT_linux_rsdp_unrestricted",
        /// The domain's memory is not mapped one to one (from 4.14 on one of this and the next is set).
        NOT_DIRECT_MAPPED = 16 => "XENFEAT_not_direct_mapped",
        /// The domain's memory is mapped one to one.
        DIRECT_MAPPED = 17 => "XENFEAT_direct_mapped",
        /// Runstate areas can be registered by physical address (from 4.18).
        RUNSTATE_PHYS_AREA = 18 => "XENFEAT_runstate_phys_area",
        /// vCPU time areas can be registered by physical address (from 4.18).
        VCPU_TIME_PHYS_AREA = 19 => "XENFEAT_vcpu_time_phys_area",
        /// Device models see every write to an MSI-X table (from 4.19).
        DM_MSIX_ALL_WRITES = 20 => "XENFEAT_dm_msix_all_writes",
    }
}

impl Feature {
    /// The bit as a mask of submap 0; no bit for numbers from 32 up.
    pub const fn mask(self) -> u32 {
        match 1u32.checked_shl(self.0) {
            Some(mask) => mask,
            None => 0,
        }
    }
}

constants! {
    /// Number of submaps there are.
    pub const NR_SUBMAPS: u32 = 1 => "XENFEAT_NR_SUBMAPS";
}

macro_rules! feature_set {
    ($($name:ident)*) => {
        bitflags::bitflags! {
            /// Submap 0 of the features, one bit per [`Feature`].
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub struct Features: u32 {
                $(
                    #[doc = concat!("The bit of [`Feature::", stringify!($name), "`].")]
                    const $name = Feature::$name.mask();
                )*
            }
        }
    };
}

feature_set! {
    WRITABLE_PAGE_TABLES WRITABLE_DESCRIPTOR_TABLES AUTO_TRANSLATED_PHYSMAP SUPERVISOR_MODE_KERNEL
    PAE_PGDIR_ABOVE_4GB MMU_PT_UPDATE_PRESERVE_AD HIGHMEM_ASSIST GNTTAB_MAP_AVAIL_BITS HVM_CALLBACK_VECTOR
    HVM_SAFE_PVCLOCK HVM_PIRQS DOM0 GRANT_MAP_IDENTITY MEMORY_OP_VNODE_SUPPORTED ARM_SMCCC_SUPPORTED
    LINUX_RSDP_UNRESTRICTED NOT_DIRECT_MAPPED DIRECT_MAPPED RUNSTATE_PHYS_AREA VCPU_TIME_PHYS_AREA
    DM_MSIX_ALL_WRITES
}
