//! `vcpu_op`: operations on one vCPU of the calling domain (public/vcpu.h).

use crate::Handle;

open_enum! {
    /// Sub-operation of `vcpu_op`; the vCPU's number and an argument follow.
    pub enum VcpuOp: u32 {
        /// Sets the state of a vCPU that is down; the argument is the architecture's own.
        INITIALISE = 0 => "VCPUOP_initialise",
        /// Brings an initialised vCPU up; no argument.
        UP = 1 => "VCPUOP_up",
        /// Takes a vCPU down; no argument.
        DOWN = 2 => "VCPUOP_down",
        /// Returns 1 if the vCPU is up; no argument.
        IS_UP = 3 => "VCPUOP_is_up",
        /// Writes [`RunstateInfo`].
        GET_RUNSTATE_INFO = 4 => "VCPUOP_get_runstate_info",
        /// Names a virtual address where [`RunstateInfo`] is kept up to date; [`RegisterMemoryArea`].
        REGISTER_RUNSTATE_MEMORY_AREA = 5 => "VCPUOP_register_runstate_memory_area",
        /// Sets the periodic timer; [`SetPeriodicTimer`].
        SET_PERIODIC_TIMER = 6 => "VCPUOP_set_periodic_timer",
        /// Stops the periodic timer; no argument.
        STOP_PERIODIC_TIMER = 7 => "VCPUOP_stop_periodic_timer",
        /// Sets the one-shot timer; [`SetSingleshotTimer`].
        SET_SINGLESHOT_TIMER = 8 => "VCPUOP_set_singleshot_timer",
        /// Stops the one-shot timer; no argument.
        STOP_SINGLESHOT_TIMER = 9 => "VCPUOP_stop_singleshot_timer",
        /// Places the vCPU's `vcpu_info`, once; [`RegisterVcpuInfo`].
        REGISTER_VCPU_INFO = 10 => "VCPUOP_register_vcpu_info",
        /// Sends a non-maskable interrupt; no argument.
        SEND_NMI = 11 => "VCPUOP_send_nmi",
        /// Physical identifiers of the CPU a vCPU is pinned to; PV initial domain.
        GET_PHYSID = 12 => "VCPUOP_get_physid",
        /// Names a virtual address where the vCPU's time information is kept; [`RegisterMemoryArea`].
        REGISTER_VCPU_TIME_MEMORY_AREA = 13 => "VCPUOP_register_vcpu_time_memory_area",
        /// As 5, by guest physical address (from 4.18).
        REGISTER_RUNSTATE_PHYS_AREA = 14 => "VCPUOP_register_runstate_phys_area",
        /// As 13, by guest physical address (from 4.18).
        REGISTER_VCPU_TIME_PHYS_AREA = 15 => "VCPUOP_register_vcpu_time_phys_area",
    }
}

open_enum! {
    /// What a vCPU does; also the index in [`RunstateInfo::time`].
    pub enum Runstate: i32 {
        /// On a physical CPU.
        RUNNING = 0 => "RUNSTATE_running",
        /// Ready, without a physical CPU.
        RUNNABLE = 1 => "RUNSTATE_runnable",
        /// Waiting for an event.
        BLOCKED = 2 => "RUNSTATE_blocked",
        /// Down or paused.
        OFFLINE = 3 => "RUNSTATE_offline",
    }
}

constants! {
    /// Bit of [`RunstateInfo::state_entry_time`] that is set during an update, if the guest enabled
    /// [`crate::xen::VmAssistType::RUNSTATE_UPDATE_FLAG`].
    pub const RUNSTATE_UPDATE: u64 = 1 << 63 => "XEN_RUNSTATE_UPDATE";
}

flags! {
    /// Flags of [`SetSingleshotTimer`].
    pub struct SingleshotFlags: u32 {
        /// A time in the past is `-ETIME`.
        const FUTURE = 1 => "VCPU_SSHOTTMR_future";
    }
}

wire! {
    /// What a vCPU does, since when, and how long it did what.
    pub struct RunstateInfo = "struct vcpu_runstate_info", 48 {
        /// Current state.
        pub state: Runstate, @0;
        /// Padding.
        pub pad: u32;
        /// System time of the last change of state, in nanoseconds; see [`RUNSTATE_UPDATE`].
        pub state_entry_time: u64, @8;
        /// Nanoseconds spent in each state up to the last change.
        pub time: [u64; 4], @16;
    }
}

wire! {
    /// Argument of the four `register_*_area` operations.
    pub struct RegisterMemoryArea = "struct vcpu_register_runstate_memory_area", 8 {
        /// Virtual address, or guest physical address for the `phys` operations; null unregisters the latter.
        pub addr: Handle, @0;
    }
}

wire! {
    /// Argument of [`VcpuOp::SET_PERIODIC_TIMER`].
    pub struct SetPeriodicTimer = "struct vcpu_set_periodic_timer", 8 {
        /// Nanoseconds between ticks.
        pub period_ns: u64, @0;
    }
}

wire! {
    /// Argument of [`VcpuOp::SET_SINGLESHOT_TIMER`].
    pub struct SetSingleshotTimer = "struct vcpu_set_singleshot_timer", 16 {
        /// Absolute system time in nanoseconds.
        pub timeout_abs_ns: u64, @0;
        /// How.
        pub flags: SingleshotFlags, @8;
        /// Padding.
        pub pad: u32;
    }
}

wire! {
    /// Argument of [`VcpuOp::REGISTER_VCPU_INFO`].
    pub struct RegisterVcpuInfo = "struct vcpu_register_vcpu_info", 16 {
        /// Guest frame number, despite its name.
        pub mfn: u64, @0;
        /// Byte offset in the page; the `vcpu_info` must be aligned and may not cross the page's end.
        pub offset: u32, @8;
        /// Unused.
        pub rsvd: u32, @12;
    }
}

wire! {
    /// Result of [`VcpuOp::GET_PHYSID`].
    pub struct GetPhysid = "struct vcpu_get_physid", 8 {
        /// x86: APIC identifier in the low half, ACPI identifier in the high half.
        pub phys_id: u64, @0;
    }
}
