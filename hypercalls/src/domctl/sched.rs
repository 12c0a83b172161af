//! Scheduling parameters.

use xen_abi::domctl::{SchedCredit, SchedParams, Scheduler, SchedulerCmd, SchedulerOp};
use xen_core::sched::Params;
use xen_core::{Arch, Error, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Limit of a share that says to leave it as it is.
const SAME_CAP: u16 = u16::MAX;

/// `XEN_DOMCTL_scheduler_op`: a domain's share under the proportional-share scheduler, which goes by the number of credit2. The
/// null scheduler has no parameters, and nothing that is asked of it is an error.
///
/// Errors: [`Error::Inval`] for another scheduler than the one in use, an unknown sub-operation, and parameters of single vCPUs,
/// which credit2 does not have.
pub(super) fn operation<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let mut op: SchedulerOp = request.decode()?;
    let known = [
        SchedulerCmd::PUT_INFO,
        SchedulerCmd::GET_INFO,
        SchedulerCmd::PUT_VCPU_INFO,
        SchedulerCmd::GET_VCPU_INFO,
    ];
    if op.sched_id.0 != call.hv.sched.kind().id() || !known.contains(&op.cmd) {
        return Err(Error::Inval);
    }
    if op.sched_id == Scheduler::NULL {
        return DONE;
    }
    let target = request.target()?;
    let now = target.control.share();
    match (op.cmd, op.params) {
        (SchedulerCmd::PUT_INFO, SchedParams::Credit(wanted)) => {
            let share = Params {
                weight: match wanted.weight {
                    0 => now.weight,
                    weight => weight,
                },
                cap: match wanted.cap {
                    SAME_CAP => now.cap,
                    cap => cap,
                },
            };
            target.set_share(call.hv, share)?;
        }
        (SchedulerCmd::GET_INFO, SchedParams::Credit(_)) => {
            op.params = SchedParams::Credit(SchedCredit {
                weight: now.weight,
                cap: now.cap,
            });
            request.encode(&op);
        }
        _ => return Err(Error::Inval),
    }
    DONE
}
