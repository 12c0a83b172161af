//! Power management, as on a machine whose frequencies and idle states nobody manages, and whose CPUs stay on.

use xen_abi::sysctl::{
    CATEGORY_MASK, CpuHotplug, GetPmStat, HotplugOp, PmCmd, PmOp, PmStat, PmStats,
};
use xen_core::{Arch, Error, Result};

use super::Request;
use crate::call::{Call, Outcome};

/// Category of a [`PmCmd`] that concerns a CPU's frequency.
const FREQUENCY: u32 = 0x10;

/// `XEN_SYSCTL_get_pmstat`.
///
/// Errors: [`Error::Inval`] for a CPU that is not there, or an unknown question about states there could be;
/// [`Error::NoDev`] for all others.
pub(super) fn statistics<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request,
) -> Result<Outcome> {
    let args = GetPmStat::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.cpuid >= call.hv.cpu_count() {
        return Err(Error::Inval);
    }
    Err(match (args.stats, args.kind) {
        (PmStats::Unknown, _)
        | (PmStats::Px(_), PmStat::GET_MAX_PX | PmStat::GET_PXSTAT | PmStat::RESET_PXSTAT)
        | (PmStats::Cx(_), PmStat::GET_MAX_CX | PmStat::GET_CXSTAT | PmStat::RESET_CXSTAT) => {
            Error::NoDev
        }
        _ => Error::Inval,
    })
}

/// `XEN_SYSCTL_pm_op`.
///
/// Errors: [`Error::Inval`] for a CPU that is not there; [`Error::NoDev`] for frequencies; [`Error::OpNotSupp`] for what
/// Xen can always do and Oxen cannot; [`Error::NoSys`] for an unknown operation.
pub(super) fn operation<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let args = PmOp::decode(&request.payload, request.interface, A::MACHINE)?;
    // To those about the idle states the field means something else.
    let idle = matches!(args.cmd, PmCmd::GET_MAX_CSTATE | PmCmd::SET_MAX_CSTATE);
    if !idle && args.cpuid >= call.hv.cpu_count() {
        return Err(Error::Inval);
    }
    Err(match args.cmd {
        cmd if cmd.0 & CATEGORY_MASK == FREQUENCY => Error::NoDev,
        PmCmd::ENABLE_TURBO | PmCmd::DISABLE_TURBO => Error::NoDev,
        PmCmd::SET_SCHED_OPT_SMT | PmCmd::GET_MAX_CSTATE | PmCmd::SET_MAX_CSTATE => {
            Error::OpNotSupp
        }
        _ => Error::NoSys,
    })
}

/// `XEN_SYSCTL_cpu_hotplug`.
///
/// Errors: [`Error::Inval`] for a CPU that is not there, and for the first one, which never goes; [`Error::Exist`] for one
/// that is on already; [`Error::OpNotSupp`].
pub(super) fn hotplug<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let args = CpuHotplug::decode(&request.payload, request.interface, A::MACHINE)?;
    let there = args.cpu < call.hv.cpu_count();
    Err(match args.op {
        HotplugOp::ONLINE | HotplugOp::OFFLINE if !there => Error::Inval,
        HotplugOp::ONLINE => Error::Exist,
        HotplugOp::OFFLINE if args.cpu == 0 => Error::Inval,
        _ => Error::OpNotSupp,
    })
}
