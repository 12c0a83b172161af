//! What a toolstack tells the hypervisor of a domain.

use xen_abi::domctl::{
    DisableMigrate, SetAccessRequired, SetDebugging, SetDomainHandle, SetTarget, SetTimeOffset,
    SetVirqHandler, Subscribe,
};
use xen_core::{Arch, DomainId, Error, Port, Result, evtchn};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// `XEN_DOMCTL_setdomainhandle`.
pub(super) fn handle<A: Arch>(_: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let SetDomainHandle { handle } = request.decode()?;
    request.target()?.control.set_handle(handle);
    DONE
}

/// `XEN_DOMCTL_setdebugging`.
///
/// Errors: [`Error::Inval`] for the caller itself.
pub(super) fn debugging<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let SetDebugging { enable } = request.decode()?;
    request.still(call)?.control.set_debugged(enable != 0);
    DONE
}

/// `XEN_DOMCTL_settimeoffset`.
pub(super) fn time_offset<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let SetTimeOffset {
        time_offset_seconds,
    } = request.decode()?;
    request
        .target()?
        .set_time_offset(call.hv, time_offset_seconds);
    DONE
}

/// `XEN_DOMCTL_subscribe`: a port of the domain's that tells of its suspension. Whether there is such a port shows then.
pub(super) fn subscribe<A: Arch>(_: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let Subscribe { port } = request.decode()?;
    request.target()?.control.set_suspend_port(Port(port));
    DONE
}

/// `XEN_DOMCTL_disable_migrate`.
pub(super) fn disable_migrate<A: Arch>(
    _: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let DisableMigrate { disable } = request.decode()?;
    request.target()?.control.set_stays(disable != 0);
    DONE
}

/// `XEN_DOMCTL_set_access_required`: what becomes of an access that a monitor should judge, while there is none. No access is
/// ever held up for a monitor here, so either choice is kept by doing nothing.
///
/// Errors: [`Error::Perm`] for the caller itself.
pub(super) fn access_required<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let _: SetAccessRequired = request.decode()?;
    match request.target()?.id() == call.domain().id() {
        true => Err(Error::Perm),
        false => DONE,
    }
}

/// `XEN_DOMCTL_set_virq_handler`: who gets a global virtual interrupt.
///
/// Errors: [`Error::Inval`] for one that is not global, and for a domain that is being destroyed.
pub(super) fn virq_handler<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let SetVirqHandler { virq } = request.decode()?;
    evtchn::set_virq_handler(call.hv, virq, request.target()?)?;
    DONE
}

/// `XEN_DOMCTL_set_target`: makes a domain another's device model, once.
///
/// Errors: [`Error::Srch`] if the other does not exist; [`Error::Inval`] for a domain that serves one already, or itself.
pub(super) fn device_model<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let SetTarget { target } = request.decode()?;
    let (model, served) = (request.target()?, call.domain_by_number(target)?);
    if model.id() == served.id() || !model.try_serve(served.id()) {
        return Err(Error::Inval);
    }
    // One that went meanwhile has taken itself out of those that it knew of.
    if call.hv.domains.get(served.id()).is_none() {
        model.serve(DomainId::INVALID);
        return Err(Error::Srch);
    }
    DONE
}
