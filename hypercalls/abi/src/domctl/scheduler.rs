//! Scheduling parameters of a domain and of its vCPUs.

use super::Interface;
use crate::Handle;
use crate::versioned::{DecodeError, Machine, Shape, Wire};

open_enum! {
    /// A scheduler.
    pub enum Scheduler: u32 {
        /// Credit.
        CREDIT = 5 => "XEN_SCHEDULER_CREDIT",
        /// Credit2.
        CREDIT2 = 6 => "XEN_SCHEDULER_CREDIT2",
        /// ARINC 653.
        ARINC653 = 7 => "XEN_SCHEDULER_ARINC653",
        /// Real-time deferrable server.
        RTDS = 8 => "XEN_SCHEDULER_RTDS",
        /// A CPU for each vCPU.
        NULL = 9 => "XEN_SCHEDULER_NULL",
    }
}

open_enum! {
    /// Sub-operation of [`SchedulerOp`].
    pub enum SchedulerCmd: u32 {
        /// Sets a domain's parameters.
        PUT_INFO = 0 => "XEN_DOMCTL_SCHEDOP_putinfo",
        /// Tells a domain's parameters.
        GET_INFO = 1 => "XEN_DOMCTL_SCHEDOP_getinfo",
        /// Sets parameters of vCPUs.
        PUT_VCPU_INFO = 2 => "XEN_DOMCTL_SCHEDOP_putvcpuinfo",
        /// Tells parameters of vCPUs.
        GET_VCPU_INFO = 3 => "XEN_DOMCTL_SCHEDOP_getvcpuinfo",
    }
}

record! {
    /// Parameters of a proportional-share scheduler: credit and credit2.
    pub struct SchedCredit = "struct xen_domctl_sched_credit" {
        /// Share of the CPU in relation to others', 1 to 65535; 256 is the default. When setting, 0 keeps it.
        pub weight: u16;
        /// Most CPU time in percent of a CPU, 0 for no limit. When setting, 65535 keeps it.
        pub cap: u16;
    }
}

flags! {
    /// How a vCPU uses its reservation.
    pub struct RtdsFlags: u32 {
        /// It may also use time that nobody reserved.
        const EXTRA = 1 => "XEN_DOMCTL_SCHEDRT_extra";
    }
}

record! {
    /// Reservation of the real-time scheduler.
    pub struct SchedRtds = "struct xen_domctl_sched_rtds" {
        /// Microseconds between two budgets.
        pub period: u32;
        /// Microseconds of CPU time in each.
        pub budget: u32;
        /// How it is used.
        pub flags: RtdsFlags;
    }
}

record! {
    /// Where parameters of vCPUs are.
    pub struct SchedVcpus = "struct { XEN_GUEST_HANDLE_64(xen_domctl_schedparam_vcpu_t) vcpus; ... }" {
        /// Array of [`SchedVcpu`].
        pub vcpus: Handle;
        /// IN: elements. OUT: elements done.
        pub nr_vcpus: u32, skip 4;
    }
}

scalars! { Scheduler, SchedulerCmd, RtdsFlags }

overlay! {
    /// The union of [`SchedulerOp`].
    struct SchedulerBytes: 16 {
        credit: SchedCredit;
        credit2: SchedCredit;
        rtds: SchedRtds;
        v: SchedVcpus;
    }
}

record! {
    /// [`SchedulerOp`] as it lies in memory.
    struct SchedulerOpWire = "struct xen_domctl_scheduler_op" {
        pub sched_id: Scheduler;
        pub cmd: SchedulerCmd;
        pub u: SchedulerBytes;
    }
}

/// Parameters of a [`SchedulerOp`] or a [`SchedVcpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedParams {
    /// [`Scheduler::CREDIT`] and [`Scheduler::CREDIT2`].
    Credit(SchedCredit),
    /// [`Scheduler::RTDS`].
    Rtds(SchedRtds),
    /// [`SchedulerCmd::PUT_VCPU_INFO`] and [`SchedulerCmd::GET_VCPU_INFO`].
    Vcpus(SchedVcpus),
    /// A scheduler without parameters, or an unknown scheduler or sub-operation.
    None,
}

impl SchedParams {
    fn get(
        scheduler: Scheduler,
        bytes: &[u8],
        version: u32,
        machine: Machine,
    ) -> Result<Self, DecodeError> {
        Ok(match scheduler {
            Scheduler::CREDIT | Scheduler::CREDIT2 => {
                Self::Credit(SchedCredit::get(bytes, version, machine)?)
            }
            Scheduler::RTDS => Self::Rtds(SchedRtds::get(bytes, version, machine)?),
            _ => Self::None,
        })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        match self {
            Self::Credit(params) => params.put(bytes, version, machine),
            Self::Rtds(params) => params.put(bytes, version, machine),
            Self::Vcpus(params) => params.put(bytes, version, machine),
            Self::None => {}
        }
    }
}

/// Payload of [`DomctlCmd::SCHEDULER_OP`](super::DomctlCmd::SCHEDULER_OP).
///
/// `params` is decoded as `sched_id` and `cmd` say, and encoded as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerOp {
    /// IN: the scheduler of the domain's pool; another is `-EINVAL`.
    pub sched_id: Scheduler,
    /// IN: what to do.
    pub cmd: SchedulerCmd,
    /// IN to put, OUT of get: the parameters, or where those of vCPUs are.
    pub params: SchedParams,
}

impl Wire for SchedulerOp {
    const SHAPE: Shape = SchedulerOpWire::SHAPE;

    fn absent() -> Self {
        Self {
            sched_id: Scheduler(0),
            cmd: SchedulerCmd(0),
            params: SchedParams::None,
        }
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        let SchedulerOpWire { sched_id, cmd, u } = SchedulerOpWire::get(bytes, version, machine)?;
        let params = match cmd {
            SchedulerCmd::PUT_INFO | SchedulerCmd::GET_INFO => {
                SchedParams::get(sched_id, &u.0, version, machine)?
            }
            SchedulerCmd::PUT_VCPU_INFO | SchedulerCmd::GET_VCPU_INFO => {
                SchedParams::Vcpus(SchedVcpus::get(&u.0, version, machine)?)
            }
            _ => SchedParams::None,
        };
        Ok(Self {
            sched_id,
            cmd,
            params,
        })
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        let mut u = SchedulerBytes::absent();
        self.params.put(&mut u.0, version, machine);
        SchedulerOpWire {
            sched_id: self.sched_id,
            cmd: self.cmd,
            u,
        }
        .put(bytes, version, machine);
    }
}

overlay! {
    /// The union of [`SchedVcpu`].
    struct SchedVcpuBytes: 12 {
        credit: SchedCredit;
        credit2: SchedCredit;
        rtds: SchedRtds;
    }
}

record! {
    /// [`SchedVcpu`] as it lies in memory.
    struct SchedVcpuWire = "struct xen_domctl_schedparam_vcpu" {
        pub u: SchedVcpuBytes;
        pub vcpuid: u32;
    }
}

/// Parameters of one vCPU: element of the array that [`SchedVcpus`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedVcpu {
    /// Its parameters.
    pub params: SchedParams,
    /// Which vCPU.
    pub vcpuid: u32,
}

impl SchedVcpu {
    /// Bytes of an element, in every version.
    pub const SIZE: usize = 16;

    /// Reads an element of an array for `scheduler`.
    pub fn read(scheduler: Scheduler, bytes: &[u8; Self::SIZE]) -> Result<Self, DecodeError> {
        let wire = SchedVcpuWire::get(bytes, 0, Machine::X86_64)?;
        Ok(Self {
            params: SchedParams::get(scheduler, &wire.u.0, 0, Machine::X86_64)?,
            vcpuid: wire.vcpuid,
        })
    }

    /// The bytes of the element. Parameters that are no vCPU's leave zeros.
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let mut wire = SchedVcpuWire {
            u: SchedVcpuBytes::absent(),
            vcpuid: self.vcpuid,
        };
        if !matches!(self.params, SchedParams::Vcpus(_)) {
            self.params.put(&mut wire.u.0, 0, Machine::X86_64);
        }
        let mut bytes = [0; Self::SIZE];
        wire.put(&mut bytes, 0, Machine::X86_64);
        bytes
    }
}

/// Layout of [`SchedVcpu`].
pub const SCHED_VCPU_SHAPE: Shape = SchedVcpuWire::SHAPE;

payloads! { SchedulerOp }

fixed_sizes! {
    SchedulerOp 24,
}

const _: () = assert!(SCHED_VCPU_SHAPE.size(0, Machine::Arm64) == SchedVcpu::SIZE);
