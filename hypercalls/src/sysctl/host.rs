//! The host as a whole.

use xen_abi::domctl::Scheduler;
use xen_abi::sysctl::SchedId;
use xen_core::{Arch, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// `XEN_SYSCTL_sched_id`.
pub(super) fn sched_id<A: Arch>(call: &mut Call<'_, A>, request: &mut Request) -> Result<Outcome> {
    let told = SchedId {
        sched_id: Scheduler::CREDIT2,
    };
    let _ = call;
    told.encode(&mut request.payload, request.interface, A::MACHINE);
    DONE
}
