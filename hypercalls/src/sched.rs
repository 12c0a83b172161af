//! `sched_op`: giving up the CPU, polling, shutting down.

use arrayvec::ArrayVec;
use xen_abi::sched::{
    POLL_MAX_PORTS, Poll, RemoteShutdown, SchedOp, Shutdown, ShutdownReason, Watchdog,
};
use xen_core::policy::{self, Verb};
use xen_core::sched::Scheduler as _;
use xen_core::{Arch, Error, Port, Result, Time};

use crate::call::{Call, DONE, Outcome};

pub(crate) fn sched_op<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [op, arg, ..] = *args;
    match SchedOp(op as u32) {
        SchedOp::YIELD => {
            if let Some(slot) = call.vcpu.slot() {
                call.hv.sched.yield_now(slot, call.hv.arch.now());
                call.hv.raise(xen_core::softirq::SCHEDULE);
            }
            DONE
        }
        SchedOp::BLOCK => {
            call.vcpu.info.unmask(call.vcpu);
            A::prepare_to_wait(call.hv, call.vcpu, call.context, true);
            call.vcpu.block(call.hv);
            DONE
        }
        SchedOp::SHUTDOWN => {
            let Shutdown { reason } = call.read(arg)?;
            call.domain().shutdown(call.hv, code(reason));
            DONE
        }
        SchedOp::SHUTDOWN_CODE => {
            let Shutdown { reason } = call.read(arg)?;
            call.domain().set_shutdown_code(code(reason));
            DONE
        }
        SchedOp::POLL => poll(call, arg),
        SchedOp::REMOTE_SHUTDOWN => {
            let RemoteShutdown {
                domain_id, reason, ..
            } = call.read(arg)?;
            let target = call.domain_by_number(domain_id)?;
            policy::may(call.domain(), Verb::Shutdown, &target)?;
            target.shutdown(call.hv, code(reason));
            DONE
        }
        SchedOp::WATCHDOG => {
            let Watchdog { id, timeout } = call.read(arg)?;
            let id = call.domain().watchdog(call.hv, id, timeout)?;
            Ok(Outcome::Done(id.into()))
        }
        _ => Err(Error::NoSys),
    }
}

/// Any code will do, also one without a name, but toolstacks are told 8 bits of it.
const fn code(reason: ShutdownReason) -> ShutdownReason {
    ShutdownReason(reason.0 & 0xff)
}

fn poll<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let poll: Poll = call.read(arg)?;
    if poll.nr_ports > POLL_MAX_PORTS {
        return Err(Error::Inval);
    }
    let mut ports: ArrayVec<Port, { POLL_MAX_PORTS as usize }> = ArrayVec::new();
    for n in 0..poll.nr_ports {
        let port = Port(call.read_at(poll.ports.0, n.into())?);
        if !call.domain().evtchn.is_valid(port) {
            return Err(Error::Inval);
        }
        let _ = ports.try_push(port);
    }
    let deadline = if poll.timeout == 0 {
        Time::NEVER
    } else {
        Time(poll.timeout)
    };
    A::prepare_to_wait(call.hv, call.vcpu, call.context, false);
    call.vcpu.poll(call.hv, &ports, deadline);
    DONE
}
