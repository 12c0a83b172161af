//! CPU pools, of which there is one, and its scheduler.

use xen_abi::sysctl::{
    CPUPOOL_ANY, CpupoolCmd, CpupoolOp, Credit2Schedule, Schedule, SchedulerOp, SchedulerOpCmd,
};
use xen_core::{Arch, CpuMask, DomainId, Error, Result};

use super::{Request, bitmap, host};
use crate::call::{Call, DONE, Outcome};

/// The pool that all CPUs and domains are in.
pub(crate) const POOL: u32 = 0;

/// `XEN_SYSCTL_cpupool_op`.
///
/// Errors: [`Error::NoEnt`] past the last pool; [`Error::Fault`]; [`Error::Srch`] for a domain that does not exist;
/// [`Error::Inval`], [`Error::NoDev`] and [`Error::Busy`] where Xen has them; [`Error::OpNotSupp`] for what would need a second
/// pool or leave a CPU without one; [`Error::NoSys`] for an unknown operation.
pub(super) fn operation<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = CpupoolOp::decode(&request.payload, request.interface, A::MACHINE)?;
    match args.op {
        CpupoolCmd::INFO => {
            if args.cpupool_id > POOL {
                return Err(Error::NoEnt);
            }
            (args.cpupool_id, args.sched_id) = (POOL, host::scheduler(call));
            args.n_dom = call.hv.domains.all().len() as u32;
            let all = CpuMask::first(call.hv.cpu_count());
            bitmap::write(call, &args.cpumap, &all)?;
        }
        CpupoolCmd::FREEINFO => bitmap::write(call, &args.cpumap, &CpuMask::default())?,
        CpupoolCmd::MOVEDOMAIN => move_domain(call, &args)?,
        CpupoolCmd::CREATE => {
            return Err(match args.cpupool_id {
                POOL => Error::Exist,
                _ => Error::OpNotSupp,
            });
        }
        _ if args.op.0 == 0 || args.op.0 > CpupoolCmd::FREEINFO.0 => return Err(Error::NoSys),
        // The one that adds looks at the CPU first.
        CpupoolCmd::ADDCPU => {
            return Err(match args.cpu {
                CPUPOOL_ANY => Error::Inval,
                cpu if cpu >= call.hv.cpu_count() => Error::Inval,
                _ => Error::NoDev,
            });
        }
        _ if args.cpupool_id != POOL => return Err(Error::NoEnt),
        CpupoolCmd::DESTROY => return Err(Error::Busy),
        _ => {
            // The one that removes.
            return Err(match args.cpu {
                CPUPOOL_ANY => Error::OpNotSupp,
                cpu if cpu >= call.hv.cpu_count() => Error::Inval,
                _ => Error::OpNotSupp,
            });
        }
    }
    args.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}

/// Moves a domain to the pool that it is in.
fn move_domain<A: Arch>(call: &Call<'_, A>, args: &CpupoolOp) -> Result<()> {
    let id = u16::try_from(args.domid).map_err(|_| Error::Srch)?;
    if DomainId(id) == DomainId::DOM0 {
        return Err(Error::Inval);
    }
    call.domain_by_number(id)?;
    match args.cpupool_id {
        POOL => Ok(()),
        _ => Err(Error::NoEnt),
    }
}

/// `XEN_SYSCTL_scheduler_op`: parameters of the scheduler as a whole.
///
/// The proportional-share scheduler, which goes by the name of credit2, knows no time for which a unit may keep its CPU
/// whatever happens: it tells 0, "none", and takes nothing else.
///
/// Errors: [`Error::Srch`] for a pool that does not exist; [`Error::Inval`] for another scheduler than the pool's, an unknown
/// operation, or values out of range; [`Error::OpNotSupp`].
pub(super) fn scheduler<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let mut args = SchedulerOp::decode(&request.payload, request.interface, A::MACHINE)?;
    if args.cmd != SchedulerOpCmd::PUT_INFO && args.cmd != SchedulerOpCmd::GET_INFO {
        return Err(Error::Inval);
    }
    if args.cpupool_id != POOL {
        return Err(Error::Srch);
    }
    if args.sched_id != host::scheduler(call) {
        return Err(Error::Inval);
    }
    if let Schedule::Credit2(schedule) = args.schedule {
        match args.cmd {
            SchedulerOpCmd::GET_INFO => {
                args.schedule = Schedule::Credit2(Credit2Schedule { ratelimit_us: 0 });
                args.encode(&mut request.payload, request.interface, A::MACHINE);
            }
            _ => put(schedule.ratelimit_us)?,
        }
    }
    DONE
}

fn put(ratelimit_us: u32) -> Result<()> {
    use xen_abi::sysctl::{RATELIMIT_US_MAX, RATELIMIT_US_MIN};
    match ratelimit_us {
        0 => Ok(()),
        RATELIMIT_US_MIN..=RATELIMIT_US_MAX => Err(Error::OpNotSupp),
        _ => Err(Error::Inval),
    }
}
