//! What becomes of a domain: made, paused, ended.

use xen_core::{Arch, Error, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// `XEN_DOMCTL_pausedomain`.
pub(super) fn pause<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let target = request.target()?;
    if target.id() == call.domain().id() {
        return Err(Error::Inval);
    }
    target.pause_nosync(call.hv);
    DONE
}

/// `XEN_DOMCTL_unpausedomain`.
pub(super) fn unpause<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    request.target()?.unpause(call.hv);
    DONE
}
