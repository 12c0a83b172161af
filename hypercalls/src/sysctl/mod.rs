//! `sysctl`: management of the machine by toolstacks of several releases of Xen at once.
//!
//! As `domctl`, without a domain. Layouts, versions and permissions are in [`xen_abi::sysctl`].

mod host;

use xen_abi::sysctl::{self as abi, Interface, Sysctl, SysctlCmd};
use xen_abi::versioned::{Payload, Permission};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

/// A call, checked but for its payload.
pub(crate) struct Request {
    /// The caller's version.
    pub(crate) interface: Interface,
    /// The payload; what is written back where the operation has results.
    pub(crate) payload: Payload,
}

/// Does one operation. What it leaves in the request is written back also when it fails, as in Xen.
type Handler<A> = fn(&mut Call<'_, A>, &mut Request) -> Result<Outcome>;

/// The handler of an operation; `None` for one that is not there.
fn handler<A: Arch>(cmd: SysctlCmd) -> Option<Handler<A>> {
    Some(match cmd {
        SysctlCmd::SCHED_ID => host::sched_id,
        _ => return None,
    })
}

pub(crate) fn sysctl<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [at, ..] = *args;
    let mut wire: Sysctl = call.read(at)?;
    let interface = Interface::of(wire.interface_version).ok_or(Error::Access)?;
    let op = abi::lookup(wire.cmd, interface, A::MACHINE);
    // A caller without the right does not learn what operations there are.
    let xenstore = op.is_some_and(|op| op.permission == Permission::Xenstore);
    if !(xenstore && call.domain().config.xenstore) {
        call.may(Verb::Control)?;
    }
    let (op, handler) = op.zip(handler::<A>(wire.cmd)).ok_or(Error::NoSys)?;
    let _guard = match op.serialized {
        true => Some(call.hv.management.acquire()?),
        false => None,
    };
    let mut request = Request {
        interface,
        payload: wire.u,
    };
    let outcome = handler(call, &mut request);
    if op.out {
        wire.u = request.payload;
        call.write(at, &wire)?;
    }
    outcome
}
