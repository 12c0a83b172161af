//! What becomes of a domain: paused, resumed, ended.

use xen_core::{Arch, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// `XEN_DOMCTL_pausedomain`: when it returns the domain stands still.
///
/// Errors: [`xen_core::Error::Inval`] for the caller itself; [`xen_core::Error::Overflow`] beyond 255 times.
pub(super) fn pause<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    request.still(call)?.pause_for_toolstack(call.hv)?;
    DONE
}

/// `XEN_DOMCTL_unpausedomain`.
///
/// Errors: [`xen_core::Error::Inval`] for one that no toolstack paused.
pub(super) fn unpause<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    request.target()?.unpause_for_toolstack(call.hv)?;
    DONE
}

/// `XEN_DOMCTL_resumedomain`: lets a domain run on that shut down to be suspended, after that failed or on a copy of it.
///
/// Errors: [`xen_core::Error::Inval`] for the caller itself.
pub(super) fn resume<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    request.still(call)?.resume(call.hv);
    DONE
}

/// `XEN_DOMCTL_destroydomain`: in steps; when it returns there is no such domain any more. What others still refer to, such
/// as frames that they have mapped, goes with the last of them.
///
/// Errors: [`xen_core::Error::Inval`] for the caller itself.
pub(super) fn destroy<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let target = request.other(call)?;
    target.kill(call.hv)?;
    call.hv.domains.remove(target.id());
    call.hv.domains.note_change(call.hv, target.id());
    DONE
}
