//! What a 64-bit x86 guest sees: start information of PVH and the hypervisor's CPUID leaves
//! (public/arch-x86/hvm/start_info.h, public/arch-x86/cpuid.h).

use crate::xen::StartInfoFlags;

open_enum! {
    /// Type of a region of the memory map; the numbers of E820.
    pub enum MemmapType: u32 {
        /// Memory.
        RAM = 1 => "XEN_HVM_MEMMAP_TYPE_RAM",
        /// Not for use.
        RESERVED = 2 => "XEN_HVM_MEMMAP_TYPE_RESERVED",
        /// ACPI tables, memory once they were read.
        ACPI = 3 => "XEN_HVM_MEMMAP_TYPE_ACPI",
        /// ACPI's own, kept over sleep.
        NVS = 4 => "XEN_HVM_MEMMAP_TYPE_NVS",
        /// Faulty.
        UNUSABLE = 5 => "XEN_HVM_MEMMAP_TYPE_UNUSABLE",
        /// Switched off.
        DISABLED = 6 => "XEN_HVM_MEMMAP_TYPE_DISABLED",
        /// Persistent memory.
        PMEM = 7 => "XEN_HVM_MEMMAP_TYPE_PMEM",
    }
}

flags! {
    /// `eax` of leaf base+4.
    pub struct CpuidHvmFeatures: u32 {
        /// Accesses to the APIC page are fast.
        const APIC_ACCESS_VIRT = 1 => "XEN_HVM_CPUID_APIC_ACCESS_VIRT";
        /// Accesses to the x2APIC's registers are fast.
        const X2APIC_VIRT = 1 << 1 => "XEN_HVM_CPUID_X2APIC_VIRT";
        /// Foreign and granted pages are mapped for devices too.
        const IOMMU_MAPPINGS = 1 << 2 => "XEN_HVM_CPUID_IOMMU_MAPPINGS";
        /// `ebx` is the vCPU's number.
        const VCPU_ID_PRESENT = 1 << 3 => "XEN_HVM_CPUID_VCPU_ID_PRESENT";
        /// `ecx` is the domain's number.
        const DOMID_PRESENT = 1 << 4 => "XEN_HVM_CPUID_DOMID_PRESENT";
        /// Interrupt messages carry 15-bit destinations.
        const EXT_DEST_ID = 1 << 5 => "XEN_HVM_CPUID_EXT_DEST_ID";
        /// Upcall vectors per vCPU work.
        const UPCALL_VECTOR = 1 << 6 => "XEN_HVM_CPUID_UPCALL_VECTOR";
    }
}

constants! {
    /// First word of [`HvmStartInfo`].
    pub const HVM_START_MAGIC: u32 = 0x336e_c578 => "XEN_HVM_START_MAGIC_VALUE";
    /// First leaf of the hypervisor; 0x100 further with Hyper-V enlightenments.
    pub const CPUID_FIRST_LEAF: u32 = 0x4000_0000 => "XEN_CPUID_FIRST_LEAF";
    /// Signature in `ebx`.
    pub const CPUID_SIGNATURE_EBX: u32 = 0x566e_6558 => "XEN_CPUID_SIGNATURE_EBX";
    /// Signature in `ecx`.
    pub const CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d => "XEN_CPUID_SIGNATURE_ECX";
    /// Signature in `edx`.
    pub const CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e => "XEN_CPUID_SIGNATURE_EDX";
    /// Number of the last leaf, relative to the first.
    pub const CPUID_MAX_NUM_LEAVES: u32 = 5 => "XEN_CPUID_MAX_NUM_LEAVES";
}

wire! {
    /// What a PVH guest finds through `ebx` at its entry.
    pub struct HvmStartInfo = "struct hvm_start_info", 56 {
        /// [`HVM_START_MAGIC`].
        pub magic: u32, @0;
        /// 1; 0 lacks the memory map.
        pub version: u32, @4;
        /// Who the domain is.
        pub flags: StartInfoFlags, @8;
        /// Number of modules.
        pub nr_modules: u32, @12;
        /// Guest physical address of the [`HvmModlistEntry`]s.
        pub modlist_paddr: u64, @16;
        /// Guest physical address of the command line, NUL-terminated.
        pub cmdline_paddr: u64, @24;
        /// Guest physical address of ACPI's root pointer.
        pub rsdp_paddr: u64, @32;
        /// Guest physical address of the [`HvmMemmapEntry`]s.
        pub memmap_paddr: u64, @40;
        /// Number of them.
        pub memmap_entries: u32, @48;
        /// Must be 0.
        pub reserved: u32, @52;
    }
}

wire! {
    /// A module, such as an initial ramdisk.
    pub struct HvmModlistEntry = "struct hvm_modlist_entry", 32 {
        /// Guest physical address.
        pub paddr: u64, @0;
        /// Size in bytes.
        pub size: u64, @8;
        /// Guest physical address of its command line, 0 for none.
        pub cmdline_paddr: u64, @16;
        /// Must be 0.
        pub reserved: u64, @24;
    }
}

wire! {
    /// A region of the memory map.
    pub struct HvmMemmapEntry = "struct hvm_memmap_table_entry", 24 {
        /// First byte.
        pub addr: u64, @0;
        /// Size in bytes.
        pub size: u64, @8;
        /// What it is.
        pub kind: MemmapType, @16 = "type";
        /// Must be 0.
        pub reserved: u32, @20;
    }
}
