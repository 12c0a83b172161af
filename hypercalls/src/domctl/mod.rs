//! `domctl`: management of domains by toolstacks of several releases of Xen at once.
//!
//! Every call goes through [`domctl`]: version, permission, operation, domain, lock; then the operation's handler, which sees the
//! payload as one type whatever the version. Layouts, versions and permissions are in [`xen_abi::domctl`].

mod lifecycle;

use alloc::sync::Arc;

use xen_abi::domctl::{self as abi, Domctl, DomctlCmd, Interface};
use xen_abi::versioned::{Op, Payload, Permission, Target};
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, DomainId, Error, Result};

use crate::call::{Call, Outcome};

/// A call, checked but for its payload.
pub(crate) struct Request<A: Arch> {
    /// The caller's version.
    pub(crate) interface: Interface,
    /// The domain as the caller named it; what is written back.
    pub(crate) domain: u16,
    /// The payload; what is written back where the operation has results.
    pub(crate) payload: Payload,
    target: Option<Arc<Domain<A>>>,
}

impl<A: Arch> Request<A> {
    /// The domain that the call is about, if the operation is about one.
    ///
    /// Errors: [`Error::Srch`].
    pub(crate) fn target(&self) -> Result<&Arc<Domain<A>>> {
        self.target.as_ref().ok_or(Error::Srch)
    }
}

/// Does one operation. What it leaves in the request is written back also when it fails, as in Xen.
type Handler<A> = fn(&mut Call<'_, A>, &mut Request<A>) -> Result<Outcome>;

/// The handler of an operation; `None` for one that is not there.
fn handler<A: Arch>(cmd: DomctlCmd) -> Option<Handler<A>> {
    Some(match cmd {
        DomctlCmd::PAUSEDOMAIN => lifecycle::pause,
        DomctlCmd::UNPAUSEDOMAIN => lifecycle::unpause,
        _ => return None,
    })
}

pub(crate) fn domctl<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [at, ..] = *args;
    let mut wire: Domctl = call.read(at)?;
    let interface = abi::interface(wire.cmd, wire.interface_version).ok_or(Error::Access)?;
    let op = abi::lookup(wire.cmd, interface, A::MACHINE);
    // A caller without the right learns neither what operations nor what domains there are.
    permit(call, op, wire.domain)?;
    let (op, handler) = op.zip(handler::<A>(wire.cmd)).ok_or(Error::NoSys)?;
    let target = find(call, op, interface, wire.domain)?;
    let _guard = match op.serialized {
        true => Some(call.hv.management.acquire()?),
        false => None,
    };
    let mut request = Request {
        interface,
        domain: target.as_ref().map_or(wire.domain, |d| d.id().0),
        payload: wire.u,
        target,
    };
    let outcome = handler(call, &mut request);
    let named = matches!(op.target, Target::New | Target::Next | Target::DomainOrNone);
    // A restart begins with what the caller wrote, unless the handler changed it to go on elsewhere.
    if op.out || named {
        wire.u = request.payload;
        wire.domain = request.domain;
        call.write(at, &wire)?;
    }
    outcome
}

/// Whether the caller may use the operation at all.
fn permit<A: Arch>(call: &Call<'_, A>, op: Option<&'static Op>, domain: u16) -> Result<()> {
    let caller = call.domain();
    let allowed = match op.map_or(Permission::Control, |op| op.permission) {
        Permission::Control => false,
        Permission::Xenstore => caller.config.xenstore,
        Permission::DeviceModel => call
            .hv
            .domains
            .get(DomainId(domain))
            .is_some_and(|d| d.is_served_by(caller)),
    };
    match allowed {
        true => Ok(()),
        false => call.may(Verb::Control),
    }
}

/// The domain that a call is about.
fn find<A: Arch>(
    call: &Call<'_, A>,
    op: &Op,
    interface: Interface,
    id: u16,
) -> Result<Option<Arc<Domain<A>>>> {
    let known = || call.domain_by_number(id).map(Some);
    match op.target {
        Target::Host | Target::New => Ok(None),
        Target::Domain => known(),
        Target::DomainOrNone if id == DomainId::INVALID.0 => Ok(None),
        Target::DomainOrIo if id == DomainId::IO.0 => Ok(None),
        Target::DomainOrNone | Target::DomainOrIo => known(),
        Target::Next if interface.finds_next() => {
            if id >= DomainId::FIRST_RESERVED {
                return Err(Error::Inval);
            }
            let next = call.hv.domains.at_or_above(DomainId(id));
            next.ok_or(Error::Srch).map(Some)
        }
        Target::Next => known(),
    }
}
