//! `hvm_op`: parameters and services of hardware-virtualized guests (public/hvm/hvm_op.h).

use crate::hvm_params::HvmParam;

open_enum! {
    /// Sub-operation of `hvm_op`.
    pub enum HvmOp: u64 {
        /// Sets a parameter. [`Param`].
        SET_PARAM = 0 => "HVMOP_set_param",
        /// Gets a parameter. [`Param`].
        GET_PARAM = 1 => "HVMOP_get_param",
        /// Flushes the TLBs of all vCPUs; the argument is null.
        FLUSH_TLBS = 5 => "HVMOP_flush_tlbs",
        /// Hint that a page table goes away. [`PagetableDying`].
        PAGETABLE_DYING = 9 => "HVMOP_pagetable_dying",
        /// System time. [`GetTime`].
        GET_TIME = 10 => "HVMOP_get_time",
        /// Writes a trace record.
        XENTRACE = 11 => "HVMOP_xentrace",
        /// Superseded by memory operations; for toolstacks.
        SET_MEM_ACCESS = 12 => "HVMOP_set_mem_access",
        /// Superseded by memory operations; for toolstacks.
        GET_MEM_ACCESS = 13 => "HVMOP_get_mem_access",
        /// Type of a page. [`GetMemType`].
        GET_MEM_TYPE = 15 => "HVMOP_get_mem_type",
        /// Sets the upcall vector of a vCPU; x86. [`EvtchnUpcallVector`].
        SET_EVTCHN_UPCALL_VECTOR = 23 => "HVMOP_set_evtchn_upcall_vector",
        /// Tells the monitor; the argument is null.
        GUEST_REQUEST_VM_EVENT = 24 => "HVMOP_guest_request_vm_event",
        /// Alternate physical maps.
        ALTP2M = 25 => "HVMOP_altp2m",
    }
}

open_enum! {
    /// Type of a page, as [`HvmOp::GET_MEM_TYPE`] tells it (an `enum` in C).
    pub enum MemType: u16 {
        /// Memory.
        RAM_RW = 0 => "HVMMEM_ram_rw",
        /// Memory; writes are dropped.
        RAM_RO = 1 => "HVMMEM_ram_ro",
        /// Accesses go to the device model.
        MMIO_DM = 2 => "HVMMEM_mmio_dm",
        /// Not used any more.
        UNUSED = 3 => "HVMMEM_unused",
        /// Claimed by an ioreq server.
        IOREQ_SERVER = 4 => "HVMMEM_ioreq_server",
    }
}

wire! {
    /// Argument of [`HvmOp::SET_PARAM`] and [`HvmOp::GET_PARAM`].
    pub struct Param = "struct xen_hvm_param", 16 {
        /// Whose parameter.
        pub domid: u16, @0;
        /// Padding.
        pub pad: u16, @2;
        /// Which.
        pub index: HvmParam, @4;
        /// IN to set, OUT of get.
        pub value: u64, @8;
    }
}

wire! {
    /// Argument of [`HvmOp::PAGETABLE_DYING`].
    pub struct PagetableDying = "struct xen_hvm_pagetable_dying", 16 {
        /// Whose.
        pub domid: u16, @0;
        /// Padding.
        pub pad: [u16; 3], @2;
        /// Guest physical address of the top-level table.
        pub gpa: u64, @8;
    }
}

wire! {
    /// Argument of [`HvmOp::GET_TIME`].
    pub struct GetTime = "struct xen_hvm_get_time", 8 {
        /// OUT: system time in nanoseconds.
        pub now: u64, @0;
    }
}

wire! {
    /// Argument of [`HvmOp::GET_MEM_TYPE`].
    pub struct GetMemType = "struct xen_hvm_get_mem_type", 16 {
        /// Whose page.
        pub domid: u16, @0;
        /// OUT: its type.
        pub mem_type: MemType, @2;
        /// Padding.
        pub pad: [u16; 2], @4;
        /// Guest frame.
        pub pfn: u64, @8;
    }
}

wire! {
    /// Argument of [`HvmOp::SET_EVTCHN_UPCALL_VECTOR`].
    pub struct EvtchnUpcallVector = "struct xen_hvm_evtchn_upcall_vector", 8 {
        /// Which vCPU.
        pub vcpu: u32, @0;
        /// Its vector, from 16 up.
        pub vector: u8, @4;
        /// Padding.
        pub pad: [u8; 3];
    }
}
