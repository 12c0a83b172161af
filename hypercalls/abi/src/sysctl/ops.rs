//! The operations of sysctl: who has them, in which versions, and who may use them.

use super::*;
use crate::versioned::Op;
use crate::versioned::Permission::Xenstore;

// Versions as the table needs them; see the table of domctl.
const V10: u32 = Interface::V10.number();
const V13: u32 = Interface::V13.number();
const V15: u32 = Interface::V15.number();
const V16: u32 = Interface::V16.number();

/// On both machines since `first`, for the whole host.
const fn both(first: u32) -> Op {
    Op::both(first).target(crate::versioned::Target::Host)
}

/// On x86-64 alone, for the whole host.
const fn x86() -> Op {
    Op::x86(V13).target(crate::versioned::Target::Host)
}

operations! {
    /// Number of a sysctl (`XEN_SYSCTL_*`).
    pub enum SysctlCmd {
        /// Reads the hypervisor's messages. [`ReadConsole`].
        READCONSOLE = 1 => "XEN_SYSCTL_readconsole", both(V13).gives::<ReadConsole>();
        /// Trace buffers.
        TBUF_OP = 2 => "XEN_SYSCTL_tbuf_op", both(V13);
        /// Tells about the host. [`PhysInfo`].
        PHYSINFO = 3 => "XEN_SYSCTL_physinfo", both(V13).gives::<PhysInfo>();
        /// Tells the scheduler. [`SchedId`].
        SCHED_ID = 4 => "XEN_SYSCTL_sched_id", both(V10).gives::<SchedId>();
        /// Performance counters.
        PERFC_OP = 5 => "XEN_SYSCTL_perfc_op", both(V13);
        /// Lists domains. [`GetDomainInfoList`].
        GETDOMAININFOLIST = 6 => "XEN_SYSCTL_getdomaininfolist",
            both(V13).allow(Xenstore).gives::<GetDomainInfoList>();
        /// Presses debug keys. [`DebugKeys`].
        DEBUG_KEYS = 7 => "XEN_SYSCTL_debug_keys", both(V13).takes::<DebugKeys>();
        /// Tells how long CPUs were idle. [`GetCpuInfo`].
        GETCPUINFO = 8 => "XEN_SYSCTL_getcpuinfo", both(V13).gives::<GetCpuInfo>();
        /// Tells how much memory is free. [`AvailHeap`].
        AVAILHEAP = 9 => "XEN_SYSCTL_availheap", both(V13).gives::<AvailHeap>();
        /// Statistics of power management. [`GetPmStat`].
        GET_PMSTAT = 10 => "XEN_SYSCTL_get_pmstat", both(V13).gives::<GetPmStat>();
        /// Switches CPUs on and off. [`CpuHotplug`].
        CPU_HOTPLUG = 11 => "XEN_SYSCTL_cpu_hotplug", x86().takes::<CpuHotplug>();
        /// Power management. [`PmOp`].
        PM_OP = 12 => "XEN_SYSCTL_pm_op", both(V13).gives::<PmOp>();
        /// Takes frames out of use. [`PageOffline`].
        PAGE_OFFLINE_OP = 14 => "XEN_SYSCTL_page_offline_op", both(V13).takes::<PageOffline>();
        /// Lock profile.
        LOCKPROF_OP = 15 => "XEN_SYSCTL_lockprof_op", both(V13);
        /// Tells where CPUs are. [`CpuTopoInfo`].
        CPUTOPOINFO = 16 => "XEN_SYSCTL_cputopoinfo", both(V13).gives::<CpuTopoInfo>();
        /// Tells about NUMA nodes. [`NumaInfo`].
        NUMAINFO = 17 => "XEN_SYSCTL_numainfo", both(V13).gives::<NumaInfo>();
        /// CPU pools. [`CpupoolOp`].
        CPUPOOL_OP = 18 => "XEN_SYSCTL_cpupool_op", both(V13).gives::<CpupoolOp>();
        /// A scheduler's parameters. [`SchedulerOp`].
        SCHEDULER_OP = 19 => "XEN_SYSCTL_scheduler_op", both(V10).gives::<SchedulerOp>();
        /// Coverage; `gcov_op` up to 4.10.
        COVERAGE_OP = 20 => "XEN_SYSCTL_coverage_op", both(V13);
        /// Cache monitoring.
        PSR_CMT_OP = 21 => "XEN_SYSCTL_psr_cmt_op", x86();
        /// Tells where PCI devices are. [`PciTopoInfo`].
        PCITOPOINFO = 22 => "XEN_SYSCTL_pcitopoinfo", both(V13).gives::<PciTopoInfo>();
        /// Cache allocation; `psr_cat_op` up to 4.10.
        PSR_ALLOC = 23 => "XEN_SYSCTL_psr_alloc", x86();
        /// Transcendent memory; removed in 4.13.
        TMEM_OP = 24 => "XEN_SYSCTL_tmem_op", Op::reserved();
        /// Tells what the CPU can hide from PV guests; removed in 4.22, which shares its version with 4.21.
        /// [`CpuLevellingCaps`].
        GET_CPU_LEVELLING_CAPS = 25 => "XEN_SYSCTL_get_cpu_levelling_caps",
            x86().until(V16).gives::<CpuLevellingCaps>();
        /// Tells a set of CPU features. [`CpuFeatureset`].
        GET_CPU_FEATURESET = 26 => "XEN_SYSCTL_get_cpu_featureset", x86().gives::<CpuFeatureset>();
        /// Live patches.
        LIVEPATCH_OP = 27 => "XEN_SYSCTL_livepatch_op", both(V13);
        /// Removed in 4.14.
        SET_PARAMETER = 28 => "XEN_SYSCTL_set_parameter", Op::reserved();
        /// Tells a CPU policy of the host's. [`SystemCpuPolicy`].
        GET_CPU_POLICY = 29 => "XEN_SYSCTL_get_cpu_policy", x86().gives::<SystemCpuPolicy>();
        /// Adds and removes a device-tree overlay.
        DT_OVERLAY = 30 => "XEN_SYSCTL_dt_overlay", Op::arm(V15).target(crate::versioned::Target::Host);
    }
}
