//! `sched_op`: giving up the CPU and ending the domain (public/sched.h).

use crate::Handle;

open_enum! {
    /// Sub-operation of `sched_op`.
    pub enum SchedOp: u32 {
        /// Yields the CPU; no argument.
        YIELD = 0 => "SCHEDOP_yield",
        /// Unmasks events and blocks until one is pending; no argument.
        BLOCK = 1 => "SCHEDOP_block",
        /// Ends the calling domain; [`Shutdown`].
        SHUTDOWN = 2 => "SCHEDOP_shutdown",
        /// Blocks until one of some ports is pending; [`Poll`].
        POLL = 3 => "SCHEDOP_poll",
        /// Ends another domain, for its device model; [`RemoteShutdown`].
        REMOTE_SHUTDOWN = 4 => "SCHEDOP_remote_shutdown",
        /// Latches a reason for a later shutdown; [`Shutdown`].
        SHUTDOWN_CODE = 5 => "SCHEDOP_shutdown_code",
        /// Sets, kicks or destroys a watchdog; [`Watchdog`].
        WATCHDOG = 6 => "SCHEDOP_watchdog",
        /// Pins the calling vCPU for a while, for the hardware domain; [`PinOverride`].
        PIN_OVERRIDE = 7 => "SCHEDOP_pin_override",
    }
}

open_enum! {
    /// Why a domain ended.
    pub enum ShutdownReason: u32 {
        /// Exited normally: destroy it.
        POWEROFF = 0 => "SHUTDOWN_poweroff",
        /// Destroy and start again.
        REBOOT = 1 => "SHUTDOWN_reboot",
        /// Save its state, then destroy; also used for checkpoints.
        SUSPEND = 2 => "SHUTDOWN_suspend",
        /// The domain crashed.
        CRASH = 3 => "SHUTDOWN_crash",
        /// Its watchdog expired: start again.
        WATCHDOG = 4 => "SHUTDOWN_watchdog",
        /// Reset Xen's own state of the domain, keep its memory.
        SOFT_RESET = 5 => "SHUTDOWN_soft_reset",
    }
}

constants! {
    /// Largest valid shutdown reason.
    pub const SHUTDOWN_MAX: u32 = 5 => "SHUTDOWN_MAX";
}

/// Most ports that one poll may name; more is `-EINVAL` (a limit of the implementation, not in the headers).
pub const POLL_MAX_PORTS: u32 = 128;

wire! {
    /// Argument of [`SchedOp::SHUTDOWN`] and [`SchedOp::SHUTDOWN_CODE`].
    pub struct Shutdown = "struct sched_shutdown", 4 {
        /// Why.
        pub reason: ShutdownReason, @0;
    }
}

wire! {
    /// Argument of [`SchedOp::POLL`].
    pub struct Poll = "struct sched_poll", 24 {
        /// Array of `u32` ports.
        pub ports: Handle, @0;
        /// Number of ports, at most [`POLL_MAX_PORTS`].
        pub nr_ports: u32, @8;
        /// Padding.
        pub pad: u32;
        /// Absolute system time in nanoseconds at which to give up; 0 for never.
        pub timeout: u64, @16;
    }
}

wire! {
    /// Argument of [`SchedOp::REMOTE_SHUTDOWN`].
    pub struct RemoteShutdown = "struct sched_remote_shutdown", 8 {
        /// Domain to end.
        pub domain_id: u16, @0;
        /// Padding.
        pub pad: u16;
        /// Why.
        pub reason: ShutdownReason, @4;
    }
}

wire! {
    /// Argument of [`SchedOp::WATCHDOG`].
    pub struct Watchdog = "struct sched_watchdog", 8 {
        /// Which watchdog, counted from 1; 0 asks for a new one, whose number is returned.
        pub id: u32, @0;
        /// Seconds until it expires; 0 destroys it.
        pub timeout: u32, @4;
    }
}

wire! {
    /// Argument of [`SchedOp::PIN_OVERRIDE`].
    pub struct PinOverride = "struct sched_pin_override", 4 {
        /// Physical CPU to pin to; negative ends the override.
        pub pcpu: i32, @0;
    }
}
