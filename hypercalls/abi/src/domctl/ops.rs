//! The operations of domctl: who has them, in which versions, and who may use them.

use super::*;
use crate::versioned::Op;
use crate::versioned::Permission::{DeviceModel, Xenstore};
use crate::versioned::Target::{DomainOrIo, DomainOrNone, New, Next};

// Versions as the table needs them. An operation older than the first version in which domains are created here counts
// from that one, unless it is among those few that callers of 4.10 are served.
const V0F: u32 = Interface::V0F.number();
const V12: u32 = Interface::V12.number();
const V13: u32 = Interface::V13.number();
const V14: u32 = Interface::V14.number();
const V15: u32 = Interface::V15.number();
const V17: u32 = Interface::V17.number();

operations! {
    /// Number of a domctl (`XEN_DOMCTL_*`).
    pub enum DomctlCmd {
        /// Creates a domain. [`CreateDomain`].
        CREATEDOMAIN = 1 => "XEN_DOMCTL_createdomain", Op::both(V12).target(New).gives::<CreateDomain>();
        /// Destroys a domain; starts over until all of it is gone.
        DESTROYDOMAIN = 2 => "XEN_DOMCTL_destroydomain", Op::both(V12);
        /// Pauses a domain; counts.
        PAUSEDOMAIN = 3 => "XEN_DOMCTL_pausedomain", Op::both(V0F);
        /// Takes one pause back.
        UNPAUSEDOMAIN = 4 => "XEN_DOMCTL_unpausedomain", Op::both(V0F);
        /// Tells about a domain. [`DomainInfo`].
        GETDOMAININFO = 5 => "XEN_DOMCTL_getdomaininfo",
            Op::both(V0F).target(Next).allow(Xenstore).unserialized().gives::<DomainInfo>();
        /// Lists a domain's frames; removed in 4.11, when it was x86's alone. [`GetMemList`].
        GETMEMLIST = 6 => "XEN_DOMCTL_getmemlist", Op::both(V0F).until(V0F).gives::<GetMemList>();
        /// Removed.
        GETPAGEFRAMEINFO = 7 => "XEN_DOMCTL_getpageframeinfo", Op::reserved();
        /// Removed.
        GETPAGEFRAMEINFO2 = 8 => "XEN_DOMCTL_getpageframeinfo2", Op::reserved();
        /// Sets where a vCPU runs. [`VcpuAffinity`].
        SETVCPUAFFINITY = 9 => "XEN_DOMCTL_setvcpuaffinity", Op::both(V12).takes::<VcpuAffinity>();
        /// Dirty pages, and up to 0x14 the page-table pool. [`ShadowOp`].
        SHADOW_OP = 10 => "XEN_DOMCTL_shadow_op", Op::both(V12).arm_until(V14).gives::<ShadowOp>();
        /// Sets how much memory a domain may have. [`MaxMem`].
        MAX_MEM = 11 => "XEN_DOMCTL_max_mem", Op::both(V12).takes::<MaxMem>();
        /// Sets a vCPU's registers. [`VcpuContext`].
        SETVCPUCONTEXT = 12 => "XEN_DOMCTL_setvcpucontext", Op::both(V12).takes::<VcpuContext>();
        /// Tells a vCPU's registers. [`VcpuContext`].
        GETVCPUCONTEXT = 13 => "XEN_DOMCTL_getvcpucontext", Op::both(V12).takes::<VcpuContext>();
        /// Tells about a vCPU. [`GetVcpuInfo`].
        GETVCPUINFO = 14 => "XEN_DOMCTL_getvcpuinfo", Op::both(V12).gives::<GetVcpuInfo>();
        /// Makes the vCPUs. [`MaxVcpus`].
        MAX_VCPUS = 15 => "XEN_DOMCTL_max_vcpus", Op::both(V12).takes::<MaxVcpus>();
        /// Scheduling parameters. [`SchedulerOp`].
        SCHEDULER_OP = 16 => "XEN_DOMCTL_scheduler_op", Op::both(V0F).gives::<SchedulerOp>();
        /// Sets the toolstack's identifier. [`SetDomainHandle`].
        SETDOMAINHANDLE = 17 => "XEN_DOMCTL_setdomainhandle", Op::both(V12).takes::<SetDomainHandle>();
        /// Attaches or detaches a debugger. [`SetDebugging`].
        SETDEBUGGING = 18 => "XEN_DOMCTL_setdebugging", Op::both(V12).takes::<SetDebugging>();
        /// Passes an interrupt on. [`IrqPermission`].
        IRQ_PERMISSION = 19 => "XEN_DOMCTL_irq_permission",
            Op::both(V12).arm_until(V17).unserialized().takes::<IrqPermission>();
        /// Passes machine frames on. [`IomemPermission`].
        IOMEM_PERMISSION = 20 => "XEN_DOMCTL_iomem_permission", Op::both(V12).unserialized().takes::<IomemPermission>();
        /// Passes ports on. [`IoportPermission`].
        IOPORT_PERMISSION = 21 => "XEN_DOMCTL_ioport_permission", Op::x86(V12).unserialized().takes::<IoportPermission>();
        /// Fills a hypercall page. [`HypercallInit`].
        HYPERCALL_INIT = 22 => "XEN_DOMCTL_hypercall_init", Op::x86(V12).takes::<HypercallInit>();
        /// A soft reset that goes on: the hypervisor's own, refused to callers.
        SOFT_RESET_CONT = 23 => "XEN_DOMCTL_soft_reset_cont", Op::reserved();
        /// Sets the wall clock's offset. [`SetTimeOffset`].
        SETTIMEOFFSET = 24 => "XEN_DOMCTL_settimeoffset", Op::both(V12).takes::<SetTimeOffset>();
        /// Tells where a vCPU runs. [`VcpuAffinity`].
        GETVCPUAFFINITY = 25 => "XEN_DOMCTL_getvcpuaffinity", Op::both(V12).takes::<VcpuAffinity>();
        /// PowerPC's; in the headers still.
        REAL_MODE_AREA = 26 => "XEN_DOMCTL_real_mode_area", Op::reserved();
        /// Resumes a suspended domain.
        RESUMEDOMAIN = 27 => "XEN_DOMCTL_resumedomain", Op::both(V12);
        /// Sends an NMI, a reset, or presses a button. [`SendTrigger`].
        SENDTRIGGER = 28 => "XEN_DOMCTL_sendtrigger", Op::x86(V12).takes::<SendTrigger>();
        /// An event when the domain suspends. [`Subscribe`].
        SUBSCRIBE = 29 => "XEN_DOMCTL_subscribe", Op::both(V12).takes::<Subscribe>();
        /// Tells the HVM context. [`HvmContext`].
        GETHVMCONTEXT = 33 => "XEN_DOMCTL_gethvmcontext", Op::x86(V12).gives::<HvmContext>();
        /// Sets the HVM context. [`HvmContext`].
        SETHVMCONTEXT = 34 => "XEN_DOMCTL_sethvmcontext", Op::x86(V12).takes::<HvmContext>();
        /// Sets the width of a guest's addresses. [`AddressSize`].
        SET_ADDRESS_SIZE = 35 => "XEN_DOMCTL_set_address_size", Op::both(V12).takes::<AddressSize>();
        /// Tells the width of a guest's addresses. [`AddressSize`].
        GET_ADDRESS_SIZE = 36 => "XEN_DOMCTL_get_address_size", Op::x86(V12).gives::<AddressSize>();
        /// Gives a device to a domain. [`AssignDevice`].
        ASSIGN_DEVICE = 37 => "XEN_DOMCTL_assign_device", Op::both(V12).target(DomainOrIo).takes::<AssignDevice>();
        /// Binds a device's interrupt. [`BindPtIrq`].
        BIND_PT_IRQ = 38 => "XEN_DOMCTL_bind_pt_irq",
            Op::both(V12).allow(DeviceModel).unserialized().takes::<BindPtIrq>();
        /// Maps machine frames. [`MemoryMapping`].
        MEMORY_MAPPING = 39 => "XEN_DOMCTL_memory_mapping",
            Op::both(V12).allow(DeviceModel).unserialized().takes::<MemoryMapping>();
        /// Maps ports. [`IoportMapping`].
        IOPORT_MAPPING = 40 => "XEN_DOMCTL_ioport_mapping",
            Op::x86(V12).allow(DeviceModel).unserialized().takes::<IoportMapping>();
        /// Removed in 4.11.
        PIN_MEM_CACHEATTR = 41 => "XEN_DOMCTL_pin_mem_cacheattr", Op::reserved();
        /// Sets more of a PV vCPU.
        SET_EXT_VCPUCONTEXT = 42 => "XEN_DOMCTL_set_ext_vcpucontext", Op::x86(V12);
        /// Tells more of a PV vCPU.
        GET_EXT_VCPUCONTEXT = 43 => "XEN_DOMCTL_get_ext_vcpucontext", Op::x86(V12);
        /// IA-64's; in the headers still.
        SET_OPT_FEATURE = 44 => "XEN_DOMCTL_set_opt_feature", Op::reserved();
        /// Whether a device could be assigned. [`AssignDevice`].
        TEST_ASSIGN_DEVICE = 45 => "XEN_DOMCTL_test_assign_device",
            Op::both(V12).target(DomainOrNone).takes::<AssignDevice>();
        /// Makes a domain another's device model. [`SetTarget`].
        SET_TARGET = 46 => "XEN_DOMCTL_set_target", Op::both(V12).unserialized().takes::<SetTarget>();
        /// Takes a device away. [`AssignDevice`].
        DEASSIGN_DEVICE = 47 => "XEN_DOMCTL_deassign_device", Op::both(V12).target(DomainOrIo).takes::<AssignDevice>();
        /// Unbinds a device's interrupt. [`BindPtIrq`].
        UNBIND_PT_IRQ = 48 => "XEN_DOMCTL_unbind_pt_irq",
            Op::both(V12).allow(DeviceModel).unserialized().takes::<BindPtIrq>();
        /// Removed in 4.13.
        SET_CPUID = 49 => "XEN_DOMCTL_set_cpuid", Op::reserved();
        /// Devices that the IOMMU cannot tell apart. [`GetDeviceGroup`].
        GET_DEVICE_GROUP = 50 => "XEN_DOMCTL_get_device_group", Op::both(V12).unserialized().gives::<GetDeviceGroup>();
        /// Removed in 4.13.
        SET_MACHINE_ADDRESS_SIZE = 51 => "XEN_DOMCTL_set_machine_address_size", Op::reserved();
        /// Removed in 4.13.
        GET_MACHINE_ADDRESS_SIZE = 52 => "XEN_DOMCTL_get_machine_address_size", Op::reserved();
        /// Removed in 4.13.
        SUPPRESS_SPURIOUS_PAGE_FAULTS = 53 => "XEN_DOMCTL_suppress_spurious_page_faults", Op::reserved();
        /// Single-steps a vCPU.
        DEBUG_OP = 54 => "XEN_DOMCTL_debug_op", Op::x86(V12);
        /// Tells one record of the HVM context. [`HvmContextPartial`].
        GETHVMCONTEXT_PARTIAL = 55 => "XEN_DOMCTL_gethvmcontext_partial", Op::x86(V12).gives::<HvmContextPartial>();
        /// Rings of a monitor.
        VM_EVENT_OP = 56 => "XEN_DOMCTL_vm_event_op", Op::both(V12).target(DomainOrNone);
        /// Copy-on-write sharing.
        MEM_SHARING_OP = 57 => "XEN_DOMCTL_mem_sharing_op", Op::x86(V12);
        /// Forbids migration; removed in 4.15. [`DisableMigrate`].
        DISABLE_MIGRATE = 58 => "XEN_DOMCTL_disable_migrate", Op::both(V12).until(V12).takes::<DisableMigrate>();
        /// Tells about the guest's time-stamp counter. [`TscInfo`].
        GETTSCINFO = 59 => "XEN_DOMCTL_gettscinfo", Op::x86(V12).gives::<TscInfo>();
        /// Sets the guest's time-stamp counter. [`TscInfo`].
        SETTSCINFO = 60 => "XEN_DOMCTL_settscinfo", Op::x86(V12).takes::<TscInfo>();
        /// Tells the types of frames. [`GetPageFrameInfo3`].
        GETPAGEFRAMEINFO3 = 61 => "XEN_DOMCTL_getpageframeinfo3",
            Op::x86(V12).unserialized().gives::<GetPageFrameInfo3>();
        /// Sets the state of XSAVE. [`VcpuExtState`].
        SETVCPUEXTSTATE = 62 => "XEN_DOMCTL_setvcpuextstate", Op::x86(V12).takes::<VcpuExtState>();
        /// Tells the state of XSAVE. [`VcpuExtState`].
        GETVCPUEXTSTATE = 63 => "XEN_DOMCTL_getvcpuextstate", Op::x86(V12).gives::<VcpuExtState>();
        /// Whether memory accesses need a listener. [`SetAccessRequired`].
        SET_ACCESS_REQUIRED = 64 => "XEN_DOMCTL_set_access_required", Op::both(V12).takes::<SetAccessRequired>();
        /// Checks a p2m.
        AUDIT_P2M = 65 => "XEN_DOMCTL_audit_p2m", Op::x86(V12);
        /// Who gets a global virtual interrupt. [`SetVirqHandler`].
        SET_VIRQ_HANDLER = 66 => "XEN_DOMCTL_set_virq_handler", Op::both(V12).takes::<SetVirqHandler>();
        /// Marks a frame broken.
        SET_BROKEN_PAGE_P2M = 67 => "XEN_DOMCTL_set_broken_page_p2m", Op::x86(V12);
        /// Sets a domain's nodes. [`NodeAffinity`].
        SETNODEAFFINITY = 68 => "XEN_DOMCTL_setnodeaffinity", Op::both(V12).takes::<NodeAffinity>();
        /// Tells a domain's nodes. [`NodeAffinity`].
        GETNODEAFFINITY = 69 => "XEN_DOMCTL_getnodeaffinity", Op::both(V12).takes::<NodeAffinity>();
        /// Removed in 4.12.
        SET_MAX_EVTCHN = 70 => "XEN_DOMCTL_set_max_evtchn", Op::reserved();
        /// Cleans caches. [`CacheFlush`].
        CACHEFLUSH = 71 => "XEN_DOMCTL_cacheflush", Op::arm(V12).takes::<CacheFlush>();
        /// Tells model-specific registers. [`VcpuMsrs`].
        GET_VCPU_MSRS = 72 => "XEN_DOMCTL_get_vcpu_msrs", Op::x86(V12).gives::<VcpuMsrs>();
        /// Sets model-specific registers. [`VcpuMsrs`].
        SET_VCPU_MSRS = 73 => "XEN_DOMCTL_set_vcpu_msrs", Op::x86(V12).gives::<VcpuMsrs>();
        /// Sets the virtual NUMA topology. [`VnumaInfo`].
        SETVNUMAINFO = 74 => "XEN_DOMCTL_setvnumainfo", Op::both(V12).takes::<VnumaInfo>();
        /// Cache monitoring.
        PSR_CMT_OP = 75 => "XEN_DOMCTL_psr_cmt_op", Op::x86(V12);
        /// Events for a monitor.
        MONITOR_OP = 77 => "XEN_DOMCTL_monitor_op", Op::both(V12);
        /// Cache allocation; `psr_cat_op` up to 4.10.
        PSR_ALLOC = 78 => "XEN_DOMCTL_psr_alloc", Op::x86(V12);
        /// Resets a domain that keeps its memory.
        SOFT_RESET = 79 => "XEN_DOMCTL_soft_reset", Op::both(V12);
        /// Removed in 4.12.
        SET_GNTTAB_LIMITS = 80 => "XEN_DOMCTL_set_gnttab_limits", Op::reserved();
        /// Makes a virtual UART. [`VuartOp`].
        VUART_OP = 81 => "XEN_DOMCTL_vuart_op", Op::arm(V12).gives::<VuartOp>();
        /// Tells a domain's CPU policy. [`CpuPolicy`].
        GET_CPU_POLICY = 82 => "XEN_DOMCTL_get_cpu_policy", Op::x86(V12).gives::<CpuPolicy>();
        /// Sets a domain's CPU policy. [`CpuPolicy`].
        SET_CPU_POLICY = 83 => "XEN_DOMCTL_set_cpu_policy", Op::x86(V12).gives::<CpuPolicy>();
        /// Processor trace.
        VMTRACE_OP = 84 => "XEN_DOMCTL_vmtrace_op", Op::x86(V13);
        /// Tells the size of the page-table pool. [`PagingMempool`].
        GET_PAGING_MEMPOOL_SIZE = 85 => "XEN_DOMCTL_get_paging_mempool_size", Op::both(V15).gives::<PagingMempool>();
        /// Sets the size of the page-table pool. [`PagingMempool`].
        SET_PAGING_MEMPOOL_SIZE = 86 => "XEN_DOMCTL_set_paging_mempool_size", Op::both(V15).takes::<PagingMempool>();
        /// Attaches devices of a device-tree overlay.
        DT_OVERLAY = 87 => "XEN_DOMCTL_dt_overlay", Op::arm(V17);
        /// Passes a global system interrupt on; since 4.20. [`GsiPermission`].
        GSI_PERMISSION = 88 => "XEN_DOMCTL_gsi_permission", Op::x86(V17).unserialized().takes::<GsiPermission>();
        /// Colours of the last-level cache; since 4.20. [`SetLlcColors`].
        SET_LLC_COLORS = 89 => "XEN_DOMCTL_set_llc_colors", Op::both(V17).takes::<SetLlcColors>();
        /// Tells what became of a domain; stable, since 4.21. [`DomainState`].
        GET_DOMAIN_STATE = 90 => "XEN_DOMCTL_get_domain_state",
            Op::both(0).until(0).target(DomainOrNone).allow(Xenstore).gives::<DomainState>();
        /// Reads and writes a guest's memory for a debugger.
        GDBSX_GUESTMEMIO = 1000 => "XEN_DOMCTL_gdbsx_guestmemio", Op::x86(V12);
        /// Pauses a vCPU for a debugger.
        GDBSX_PAUSEVCPU = 1001 => "XEN_DOMCTL_gdbsx_pausevcpu", Op::x86(V12);
        /// Takes that pause back.
        GDBSX_UNPAUSEVCPU = 1002 => "XEN_DOMCTL_gdbsx_unpausevcpu", Op::x86(V12);
        /// Tells a debugger what a domain waits for.
        GDBSX_DOMSTATUS = 1003 => "XEN_DOMCTL_gdbsx_domstatus", Op::x86(V12);
    }
}
