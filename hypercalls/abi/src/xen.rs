//! Hypercall numbers, virtual interrupts, domain identifiers and the shared-info page (public/xen.h).
//!
//! The shared-info page and `vcpu_info` differ between the architectures in size only. Code that serves both takes
//! the layout as data, a [`SharedInfoLayout`]: [`arm64::SHARED_INFO`] or [`x86_64::SHARED_INFO`].

open_enum! {
    /// Number of a hypercall: `rax` on x86-64, `x16` on arm64.
    pub enum Hypercall: u64 {
        /// PV only.
        SET_TRAP_TABLE = 0 => "__HYPERVISOR_set_trap_table",
        /// PV only.
        MMU_UPDATE = 1 => "__HYPERVISOR_mmu_update",
        /// PV only.
        SET_GDT = 2 => "__HYPERVISOR_set_gdt",
        /// PV only.
        STACK_SWITCH = 3 => "__HYPERVISOR_stack_switch",
        /// PV only.
        SET_CALLBACKS = 4 => "__HYPERVISOR_set_callbacks",
        /// PV only.
        FPU_TASKSWITCH = 5 => "__HYPERVISOR_fpu_taskswitch",
        /// Superseded by [`Self::SCHED_OP`].
        SCHED_OP_COMPAT = 6 => "__HYPERVISOR_sched_op_compat",
        /// Platform operations of the hardware domain ([`crate::platform`]).
        PLATFORM_OP = 7 => "__HYPERVISOR_platform_op",
        /// PV only.
        SET_DEBUGREG = 8 => "__HYPERVISOR_set_debugreg",
        /// PV only.
        GET_DEBUGREG = 9 => "__HYPERVISOR_get_debugreg",
        /// PV only.
        UPDATE_DESCRIPTOR = 10 => "__HYPERVISOR_update_descriptor",
        /// Memory reservation and physical map ([`crate::memory`]).
        MEMORY_OP = 12 => "__HYPERVISOR_memory_op",
        /// Several hypercalls in one ([`MulticallEntry`]).
        MULTICALL = 13 => "__HYPERVISOR_multicall",
        /// PV only.
        UPDATE_VA_MAPPING = 14 => "__HYPERVISOR_update_va_mapping",
        /// Sets the vCPU's timer to an absolute system time; not on arm64.
        SET_TIMER_OP = 15 => "__HYPERVISOR_set_timer_op",
        /// Superseded by [`Self::EVENT_CHANNEL_OP`].
        EVENT_CHANNEL_OP_COMPAT = 16 => "__HYPERVISOR_event_channel_op_compat",
        /// Version and features ([`crate::version`]).
        XEN_VERSION = 17 => "__HYPERVISOR_xen_version",
        /// The hypervisor's console ([`crate::console`]).
        CONSOLE_IO = 18 => "__HYPERVISOR_console_io",
        /// Superseded by [`Self::PHYSDEV_OP`].
        PHYSDEV_OP_COMPAT = 19 => "__HYPERVISOR_physdev_op_compat",
        /// Grant tables ([`crate::grant_table`]).
        GRANT_TABLE_OP = 20 => "__HYPERVISOR_grant_table_op",
        /// Switches special modes on and off ([`VmAssistCmd`], [`VmAssistType`]).
        VM_ASSIST = 21 => "__HYPERVISOR_vm_assist",
        /// PV only.
        UPDATE_VA_MAPPING_OTHERDOMAIN = 22 => "__HYPERVISOR_update_va_mapping_otherdomain",
        /// PV only.
        IRET = 23 => "__HYPERVISOR_iret",
        /// Operations on a vCPU ([`crate::vcpu`]).
        VCPU_OP = 24 => "__HYPERVISOR_vcpu_op",
        /// PV only.
        SET_SEGMENT_BASE = 25 => "__HYPERVISOR_set_segment_base",
        /// Page-table operations; mostly PV.
        MMUEXT_OP = 26 => "__HYPERVISOR_mmuext_op",
        /// Security module.
        XSM_OP = 27 => "__HYPERVISOR_xsm_op",
        /// PV only.
        NMI_OP = 28 => "__HYPERVISOR_nmi_op",
        /// Scheduling ([`crate::sched`]).
        SCHED_OP = 29 => "__HYPERVISOR_sched_op",
        /// PV only.
        CALLBACK_OP = 30 => "__HYPERVISOR_callback_op",
        /// Profiling; gone.
        XENOPROF_OP = 31 => "__HYPERVISOR_xenoprof_op",
        /// Event channels ([`crate::event_channel`]).
        EVENT_CHANNEL_OP = 32 => "__HYPERVISOR_event_channel_op",
        /// Physical interrupts and PCI devices ([`crate::physdev`]).
        PHYSDEV_OP = 33 => "__HYPERVISOR_physdev_op",
        /// Hardware-virtualized guests ([`crate::hvm_op`]).
        HVM_OP = 34 => "__HYPERVISOR_hvm_op",
        /// Host management, for toolstacks; versioned.
        SYSCTL = 35 => "__HYPERVISOR_sysctl",
        /// Domain management, for toolstacks; versioned.
        DOMCTL = 36 => "__HYPERVISOR_domctl",
        /// Loading and entering a crash kernel.
        KEXEC_OP = 37 => "__HYPERVISOR_kexec_op",
        /// Transcendent memory; gone.
        TMEM_OP = 38 => "__HYPERVISOR_tmem_op",
        /// Inter-domain messages.
        ARGO_OP = 39 => "__HYPERVISOR_argo_op",
        /// Performance counters, PV.
        XENPMU_OP = 40 => "__HYPERVISOR_xenpmu_op",
        /// Device models.
        DM_OP = 41 => "__HYPERVISOR_dm_op",
        /// The hypervisor's parameter tree.
        HYPFS_OP = 42 => "__HYPERVISOR_hypfs_op",
        /// Architecture's own; x86: machine checks.
        ARCH_0 = 48 => "__HYPERVISOR_arch_0",
        /// Architecture's own; x86: internal to the hypervisor.
        ARCH_1 = 49 => "__HYPERVISOR_arch_1",
        /// Architecture's own.
        ARCH_2 = 50 => "__HYPERVISOR_arch_2",
        /// Architecture's own.
        ARCH_3 = 51 => "__HYPERVISOR_arch_3",
        /// Architecture's own.
        ARCH_4 = 52 => "__HYPERVISOR_arch_4",
        /// Architecture's own.
        ARCH_5 = 53 => "__HYPERVISOR_arch_5",
        /// Architecture's own.
        ARCH_6 = 54 => "__HYPERVISOR_arch_6",
        /// Architecture's own.
        ARCH_7 = 55 => "__HYPERVISOR_arch_7",
    }
}

open_enum! {
    /// Virtual interrupt, bound to an event channel; see [`Virq::is_global`].
    pub enum Virq: u32 {
        /// The vCPU's timer.
        TIMER = 0 => "VIRQ_TIMER",
        /// Asks the guest for a dump of its state.
        DEBUG = 1 => "VIRQ_DEBUG",
        /// Input on the hypervisor's console.
        CONSOLE = 2 => "VIRQ_CONSOLE",
        /// Something happened to some domain (it ended, for instance).
        DOM_EXC = 3 => "VIRQ_DOM_EXC",
        /// The trace buffer has records.
        TBUF = 4 => "VIRQ_TBUF",
        /// A domain was paused for a debugger.
        DEBUGGER = 6 => "VIRQ_DEBUGGER",
        /// The hypervisor wrote to its console ring.
        CON_RING = 8 => "VIRQ_CON_RING",
        /// A physical CPU went on or off line.
        PCPU_STATE = 9 => "VIRQ_PCPU_STATE",
        /// A memory event occurred.
        MEM_EVENT = 10 => "VIRQ_MEM_EVENT",
        /// A message of argo.
        ARGO = 11 => "VIRQ_ARGO",
        /// Heap memory runs low.
        ENOMEM = 12 => "VIRQ_ENOMEM",
        /// A performance counter overflowed.
        XENPMU = 13 => "VIRQ_XENPMU",
        /// Architecture's own; x86: machine check.
        ARCH_0 = 16 => "VIRQ_ARCH_0",
        /// Architecture's own.
        ARCH_1 = 17 => "VIRQ_ARCH_1",
        /// Architecture's own.
        ARCH_2 = 18 => "VIRQ_ARCH_2",
        /// Architecture's own.
        ARCH_3 = 19 => "VIRQ_ARCH_3",
        /// Architecture's own.
        ARCH_4 = 20 => "VIRQ_ARCH_4",
        /// Architecture's own.
        ARCH_5 = 21 => "VIRQ_ARCH_5",
        /// Architecture's own.
        ARCH_6 = 22 => "VIRQ_ARCH_6",
        /// Architecture's own.
        ARCH_7 = 23 => "VIRQ_ARCH_7",
    }
}

impl Virq {
    /// Whether the interrupt exists once in the system, delivered to one domain and to vCPU 0 when bound, rather than
    /// once per vCPU. The architecture's own are not: each of its interrupts decides for itself.
    pub const fn is_global(self) -> bool {
        matches!(
            self,
            Self::CONSOLE
                | Self::DOM_EXC
                | Self::TBUF
                | Self::DEBUGGER
                | Self::CON_RING
                | Self::PCPU_STATE
                | Self::MEM_EVENT
                | Self::ARGO
                | Self::ENOMEM
        )
    }
}

open_enum! {
    /// First argument of `vm_assist`.
    pub enum VmAssistCmd: u32 {
        /// Switches the assist on.
        ENABLE = 0 => "VMASST_CMD_enable",
        /// Switches the assist off.
        DISABLE = 1 => "VMASST_CMD_disable",
    }
}

open_enum! {
    /// Second argument of `vm_assist`.
    pub enum VmAssistType: u32 {
        /// x86-32 PV: 4 GiB segment limits.
        FOUR_GB_SEGMENTS = 0 => "VMASST_TYPE_4gb_segments",
        /// x86-32 PV: trap when the above is used.
        FOUR_GB_SEGMENTS_NOTIFY = 1 => "VMASST_TYPE_4gb_segments_notify",
        /// x86 PV: writable page tables.
        WRITABLE_PAGETABLES = 2 => "VMASST_TYPE_writable_pagetables",
        /// x86 PAE PV: page-directory pointers above 4 GiB.
        PAE_EXTENDED_CR3 = 3 => "VMASST_TYPE_pae_extended_cr3",
        /// x86 PV: I/O privilege level as the architecture has it.
        ARCHITECTURAL_IOPL = 4 => "VMASST_TYPE_architectural_iopl",
        /// Bit 63 of `state_entry_time` is set while a runstate area is being updated.
        RUNSTATE_UPDATE_FLAG = 5 => "VMASST_TYPE_runstate_update_flag",
        /// x86 PV: the machine-to-physical table is kernel-only.
        M2P_STRICT = 32 => "VMASST_TYPE_m2p_strict",
    }
}

constants! {
    /// One more than the largest [`Virq`].
    pub const NR_VIRQS: u32 = 24 => "NR_VIRQS";
    /// First identifier that no ordinary domain has.
    pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0 => "DOMID_FIRST_RESERVED";
    /// The calling domain.
    pub const DOMID_SELF: u16 = 0x7ff0 => "DOMID_SELF";
    /// Owner of machine I/O frames.
    pub const DOMID_IO: u16 = 0x7ff1 => "DOMID_IO";
    /// The hypervisor, owner of frames it shares.
    pub const DOMID_XEN: u16 = 0x7ff2 => "DOMID_XEN";
    /// Owner of copy-on-write frames.
    pub const DOMID_COW: u16 = 0x7ff3 => "DOMID_COW";
    /// No domain.
    pub const DOMID_INVALID: u16 = 0x7ff4 => "DOMID_INVALID";
    /// The idle domain.
    pub const DOMID_IDLE: u16 = 0x7fff => "DOMID_IDLE";
    /// Bits that an identifier may have.
    pub const DOMID_MASK: u16 = 0x7fff => "DOMID_MASK";
}

/// A domain's handle, 16 bytes chosen by the toolstack (`xen_domain_handle_t`).
pub type DomainHandle = [u8; 16];

flags! {
    /// Flags of the start information (`SIF_*`).
    pub struct StartInfoFlags: u32 {
        /// The domain may call privileged operations.
        const PRIVILEGED = 1 => "SIF_PRIVILEGED";
        /// The domain is the initial domain.
        const INITDOMAIN = 1 << 1 => "SIF_INITDOMAIN";
    }
}

flags! {
    /// Flags of a [`VcpuTimeInfo`].
    pub struct PvclockFlags: u8 {
        /// The counter is in step on all vCPUs.
        const TSC_STABLE = 1 => "XEN_PVCLOCK_TSC_STABLE_BIT";
        /// The guest was stopped by its host.
        const GUEST_STOPPED = 1 << 1 => "XEN_PVCLOCK_GUEST_STOPPED";
    }
}

wire! {
    /// One hypercall of a multicall.
    pub struct MulticallEntry = "struct multicall_entry", 64 {
        /// IN: number of the hypercall.
        pub op: Hypercall, @0;
        /// OUT: its result, a negative errno as two's complement.
        pub result: u64, @8;
        /// IN: its arguments.
        pub args: [u64; 6], @16;
    }
}

wire! {
    /// How to turn the time-stamp counter into system time: the paravirtual clock, used on x86.
    ///
    /// System time is `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul) >> 32`, where a
    /// negative shift shifts right. `version` is odd during an update.
    pub struct VcpuTimeInfo = "struct vcpu_time_info", 32 {
        /// Counts up before and after an update.
        pub version: u32, @0;
        /// Padding.
        pub pad0: u32, @4;
        /// Counter at the last update.
        pub tsc_timestamp: u64, @8;
        /// System time at the last update, in nanoseconds.
        pub system_time: u64, @16;
        /// Nanoseconds per shifted tick, in units of 2^-32.
        pub tsc_to_system_mul: u32, @24;
        /// Shift of the tick count.
        pub tsc_shift: i8, @28;
        /// Properties of the clock.
        pub flags: PvclockFlags, @29;
        /// Padding.
        pub pad1: [u8; 2], @30;
    }
}

/// Where things lie in the shared-info page and in a `vcpu_info`: byte offsets and sizes.
///
/// Offsets named `vcpu_*` are relative to a `vcpu_info`, the others to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedInfoLayout {
    /// Bytes of the shared info that are used; the rest of the page is zero.
    pub size: usize,
    /// Size of one `vcpu_info`, also of one registered elsewhere.
    pub vcpu_info_size: usize,
    /// Number of `vcpu_info`s in the array at the start of the page; a later vCPU has to register one.
    pub vcpu_info_count: usize,
    /// Pending bits of the two-level event channels: 64 words of 64 bits.
    pub evtchn_pending: usize,
    /// Mask bits of the two-level event channels: 64 words of 64 bits.
    pub evtchn_mask: usize,
    /// `u32` version of the wall clock, odd during an update.
    pub wc_version: usize,
    /// Low `u32` of the seconds since 1970 at system time 0.
    pub wc_sec: usize,
    /// `u32` nanoseconds at system time 0.
    pub wc_nsec: usize,
    /// High `u32` of the seconds.
    pub wc_sec_hi: usize,
    /// The architecture's own part; empty on arm64.
    pub arch: usize,
    /// `u8`, non-zero when an event is pending for the vCPU.
    pub vcpu_upcall_pending: usize,
    /// `u8`, non-zero when the vCPU wants no upcall; `None` where the architecture's own interrupt mask serves.
    pub vcpu_upcall_mask: Option<usize>,
    /// `u64`, one bit per word of `evtchn_pending` that has a pending bit.
    pub vcpu_pending_sel: usize,
    /// The architecture's own part; empty on arm64.
    pub vcpu_arch: usize,
    /// [`VcpuTimeInfo`].
    pub vcpu_time: usize,
}

/// Number of 64-bit words in `evtchn_pending` and in `evtchn_mask`.
pub const EVTCHN_WORDS: usize = 64;

impl SharedInfoLayout {
    /// Offset in the page of the `vcpu_info` of vCPU `id`, `None` where the array has none for it.
    pub const fn vcpu_info(&self, id: u32) -> Option<usize> {
        if (id as usize) < self.vcpu_info_count {
            Some(id as usize * self.vcpu_info_size)
        } else {
            None
        }
    }

    /// The layout that follows from the three things the architectures choose.
    const fn derive(count: usize, vcpu_arch_size: usize, arch_size: usize, has_mask: bool) -> Self {
        let vcpu_info_size = 16 + vcpu_arch_size + size_of::<VcpuTimeInfo>();
        let evtchn_pending = count * vcpu_info_size;
        let evtchn_mask = evtchn_pending + EVTCHN_WORDS * 8;
        let wc_version = evtchn_mask + EVTCHN_WORDS * 8;
        Self {
            size: wc_version + 16 + arch_size,
            vcpu_info_size,
            vcpu_info_count: count,
            evtchn_pending,
            evtchn_mask,
            wc_version,
            wc_sec: wc_version + 4,
            wc_nsec: wc_version + 8,
            wc_sec_hi: wc_version + 12,
            arch: wc_version + 16,
            vcpu_upcall_pending: 0,
            vcpu_upcall_mask: if has_mask { Some(1) } else { None },
            vcpu_pending_sel: 8,
            vcpu_arch: 16,
            vcpu_time: 16 + vcpu_arch_size,
        }
    }
}

/// Layouts of 64-bit Arm guests (public/arch-arm.h).
pub mod arm64 {
    use super::SharedInfoLayout;
    use static_assertions::const_assert_eq;

    /// The shared-info page: one `vcpu_info` of 48 bytes.
    pub const SHARED_INFO: SharedInfoLayout = SharedInfoLayout::derive(1, 0, 0, false);

    const_assert_eq!(SHARED_INFO.vcpu_info_size, 48);
    const_assert_eq!(SHARED_INFO.evtchn_pending, 48);
    const_assert_eq!(SHARED_INFO.evtchn_mask, 560);
    const_assert_eq!(SHARED_INFO.wc_version, 1072);
    const_assert_eq!(SHARED_INFO.vcpu_time, 16);
    const_assert_eq!(SHARED_INFO.size, 1088);
}

/// Layouts of 64-bit x86 guests (public/arch-x86/xen.h).
pub mod x86_64 {
    use super::SharedInfoLayout;
    use static_assertions::const_assert_eq;

    /// The shared-info page: 32 `vcpu_info`s of 64 bytes.
    pub const SHARED_INFO: SharedInfoLayout = SharedInfoLayout::derive(32, 16, 48, true);

    const_assert_eq!(SHARED_INFO.vcpu_info_size, 64);
    const_assert_eq!(SHARED_INFO.evtchn_pending, 2048);
    const_assert_eq!(SHARED_INFO.evtchn_mask, 2560);
    const_assert_eq!(SHARED_INFO.wc_version, 3072);
    const_assert_eq!(SHARED_INFO.vcpu_time, 32);
    const_assert_eq!(SHARED_INFO.size, 3136);
}
