//! CPU pools and their schedulers.

use super::Interface;
use crate::Handle;
use crate::domctl::Scheduler;
use crate::versioned::{Bitmap, DecodeError, Machine, Shape, Wire};

open_enum! {
    /// Sub-operation of [`CpupoolOp`].
    pub enum CpupoolCmd: u32 {
        /// Makes a pool.
        CREATE = 1 => "XEN_SYSCTL_CPUPOOL_OP_CREATE",
        /// Ends a pool without domains.
        DESTROY = 2 => "XEN_SYSCTL_CPUPOOL_OP_DESTROY",
        /// Tells about the pool, or the next one above; `-ENOENT` past the last.
        INFO = 3 => "XEN_SYSCTL_CPUPOOL_OP_INFO",
        /// Gives a free CPU to a pool.
        ADDCPU = 4 => "XEN_SYSCTL_CPUPOOL_OP_ADDCPU",
        /// Takes a CPU from a pool.
        RMCPU = 5 => "XEN_SYSCTL_CPUPOOL_OP_RMCPU",
        /// Moves a domain to a pool; to its own succeeds.
        MOVEDOMAIN = 6 => "XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN",
        /// Tells the CPUs that no pool has.
        FREEINFO = 7 => "XEN_SYSCTL_CPUPOOL_OP_FREEINFO",
    }
}

constants! {
    in CPUPOOL_CONSTANTS;

    /// Any pool, or any CPU.
    pub const CPUPOOL_ANY: u32 = u32::MAX => "XEN_SYSCTL_CPUPOOL_PAR_ANY";
    /// Longest time slice in milliseconds.
    pub const TSLICE_MS_MAX: u32 = 1000 => "XEN_SYSCTL_CSCHED_TSLICE_MAX";
    /// Shortest time slice in milliseconds.
    pub const TSLICE_MS_MIN: u32 = 1 => "XEN_SYSCTL_CSCHED_TSLICE_MIN";
    /// Longest time in microseconds that a vCPU may keep a CPU against others.
    pub const RATELIMIT_US_MAX: u32 = 500_000 => "XEN_SYSCTL_SCHED_RATELIMIT_MAX";
    /// Shortest such time other than 0, which is none.
    pub const RATELIMIT_US_MIN: u32 = 100 => "XEN_SYSCTL_SCHED_RATELIMIT_MIN";
    /// Longest time in microseconds that a vCPU counts as hot in a CPU's cache.
    pub const MIGRATION_DELAY_US_MAX: u32 = 100_000 => "XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US";
}

record! {
    /// Payload of [`SysctlCmd::CPUPOOL_OP`](super::SysctlCmd::CPUPOOL_OP).
    pub struct CpupoolOp = "struct xen_sysctl_cpupool_op" {
        /// IN: what to do.
        pub op: CpupoolCmd;
        /// IN: which pool. OUT of create and info: the pool.
        pub cpupool_id: u32;
        /// IN to create, OUT of info: its scheduler.
        pub sched_id: Scheduler;
        /// IN: the domain to move.
        pub domid: u32;
        /// IN: the CPU to add or remove, or [`CPUPOOL_ANY`].
        pub cpu: u32;
        /// OUT of info: domains in the pool.
        pub n_dom: u32;
        /// Filled by info with the pool's CPUs, by free info with the free ones.
        pub cpumap: Bitmap;
    }
}

open_enum! {
    /// Sub-operation of [`SchedulerOp`].
    pub enum SchedulerOpCmd: u32 {
        /// Sets parameters.
        PUT_INFO = 0 => "XEN_SYSCTL_SCHEDOP_putinfo",
        /// Tells parameters.
        GET_INFO = 1 => "XEN_SYSCTL_SCHEDOP_getinfo",
    }
}

record! {
    /// Parameters of the credit scheduler.
    pub struct CreditSchedule = "struct xen_sysctl_credit_schedule" {
        /// Time slice in milliseconds.
        pub tslice_ms: u32;
        /// How long a vCPU may keep a CPU against others, in microseconds; 0 for not at all.
        pub ratelimit_us: u32;
        /// How long a vCPU counts as hot in a CPU's cache, in microseconds; since 0x11.
        pub vcpu_migr_delay_us: u32, since 0x11;
    }
}

record! {
    /// Parameters of the credit2 scheduler.
    pub struct Credit2Schedule = "struct xen_sysctl_credit2_schedule" {
        /// How long a vCPU may keep a CPU against others, in microseconds; 0 for not at all.
        pub ratelimit_us: u32;
    }
}

record! {
    /// Where the ARINC 653 scheduler's table is.
    pub struct Arinc653Schedule = "struct xen_sysctl_sched_arinc653" {
        /// The table.
        pub schedule: Handle;
    }
}

scalars! { CpupoolCmd, SchedulerOpCmd }

overlay! {
    /// The union of [`SchedulerOp`], as long as it was at its longest.
    struct ScheduleBytes: 16 {
        sched_arinc653: Arinc653Schedule;
        sched_credit: CreditSchedule;
        sched_credit2: Credit2Schedule;
    }
}

record! {
    /// [`SchedulerOp`] as it lies in memory.
    struct SchedulerOpWire = "struct xen_sysctl_scheduler_op" {
        pub cpupool_id: u32;
        pub sched_id: Scheduler;
        pub cmd: SchedulerOpCmd;
        pub u: ScheduleBytes;
    }
}

/// Parameters of a [`SchedulerOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// [`Scheduler::CREDIT`].
    Credit(CreditSchedule),
    /// [`Scheduler::CREDIT2`].
    Credit2(Credit2Schedule),
    /// [`Scheduler::ARINC653`].
    Arinc653(Arinc653Schedule),
    /// A scheduler without parameters, or an unknown one.
    None,
}

/// Payload of [`SysctlCmd::SCHEDULER_OP`](super::SysctlCmd::SCHEDULER_OP).
///
/// `schedule` is decoded as `sched_id` says, and encoded as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerOp {
    /// IN: the pool.
    pub cpupool_id: u32,
    /// IN: its scheduler; another is `-EINVAL`.
    pub sched_id: Scheduler,
    /// IN: what to do.
    pub cmd: SchedulerOpCmd,
    /// IN to put, OUT of get: the parameters.
    pub schedule: Schedule,
}

impl Wire for SchedulerOp {
    const SHAPE: Shape = SchedulerOpWire::SHAPE;

    fn absent() -> Self {
        Self {
            cpupool_id: 0,
            sched_id: Scheduler(0),
            cmd: SchedulerOpCmd(0),
            schedule: Schedule::None,
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let wire = SchedulerOpWire::get(bytes, version, machine)?;
        let u = &wire.u.0;
        let schedule = match wire.sched_id {
            Scheduler::CREDIT => Schedule::Credit(CreditSchedule::get(u, version, machine)?),
            Scheduler::CREDIT2 => Schedule::Credit2(Credit2Schedule::get(u, version, machine)?),
            Scheduler::ARINC653 => Schedule::Arinc653(Arinc653Schedule::get(u, version, machine)?),
            _ => Schedule::None,
        };
        Ok(Self {
            cpupool_id: wire.cpupool_id,
            sched_id: wire.sched_id,
            cmd: wire.cmd,
            schedule,
        })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = ScheduleBytes::absent();
        match self.schedule {
            Schedule::Credit(params) => params.put(&mut u.0, version, machine),
            Schedule::Credit2(params) => params.put(&mut u.0, version, machine),
            Schedule::Arinc653(params) => params.put(&mut u.0, version, machine),
            Schedule::None => {}
        }
        SchedulerOpWire {
            cpupool_id: self.cpupool_id,
            sched_id: self.sched_id,
            cmd: self.cmd,
            u,
        }
        .put(bytes, version, machine);
    }
}

payloads! { CpupoolOp, SchedulerOp }

sizes! { SchedulerOp:
    V10 24 24,
    V13 32 32,
    V14 32 32,
    V15 32 32,
    V16 32 32,
}

fixed_sizes! {
    CpupoolOp 40,
}
