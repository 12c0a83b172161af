//! `domctl`: management of domains by toolstacks of several releases of Xen at once.
//!
//! Every call goes through [`domctl`]: version, permission, operation, domain, lock; then the operation's handler, which sees the
//! payload as one type whatever the version. Layouts, versions and permissions are in [`xen_abi::domctl`].
//!
//! # Operations that need a domain to stand still
//! They hold it ([`Request::still`]) and are restarted until its vCPUs are off the CPUs: nobody waits. It is let go when the
//! operation ends, however it does; one that is restarted and never comes back loses its hold after a while.

mod bitmap;
mod create;
mod device;
pub(crate) mod info;
mod lifecycle;
mod machine;
mod memlist;
mod memory;
mod policy;
mod sched;
mod settings;
mod vcpu;

use alloc::sync::Arc;

use xen_abi::domctl::{self as abi, Domctl, DomctlCmd, Interface};
use xen_abi::versioned::{Op, Payload, Permission, Target, Wire};
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, DomainId, Error, Result};

use crate::call::{Call, Outcome};

/// A call, checked but for its payload.
pub(crate) struct Request<A: Arch> {
    /// The caller's version.
    pub(crate) interface: Interface,
    /// The domain as the caller named it; what is written back.
    pub(crate) domain: u16,
    /// The payload; what is written back where the operation has results, and before a restart.
    pub(crate) payload: Payload,
    /// Where the caller's structure is.
    address: u64,
    /// The call's second argument: nothing from a caller, progress from a restart that needs a place for it.
    progress: u64,
    target: Option<Arc<Domain<A>>>,
}

impl<A: Arch> Request<A> {
    /// The domain that the call is about, if the operation is about one.
    ///
    /// Errors: [`Error::Srch`].
    pub(crate) fn target(&self) -> Result<&Arc<Domain<A>>> {
        self.target.as_ref().ok_or(Error::Srch)
    }

    /// As [`Request::target`], for what no domain may do to itself.
    ///
    /// Errors: [`Error::Srch`]; [`Error::Inval`] for the caller's own domain.
    fn other(&self, call: &Call<'_, A>) -> Result<Arc<Domain<A>>> {
        let target = self.target()?;
        if target.id() == call.domain().id() {
            return Err(Error::Inval);
        }
        Ok(target.clone())
    }

    /// As [`Request::other`]; the domain stands still until the operation is done.
    ///
    /// Errors: as there; [`Error::Restart`] until it does. The operation has changed nothing so far.
    fn still(&self, call: &Call<'_, A>) -> Result<Arc<Domain<A>>> {
        let target = self.other(call)?;
        target.hold(call.hv)?;
        Ok(target)
    }

    /// The payload as what the operation has.
    ///
    /// Errors: [`Error::Inval`] for bytes that must be zero and are not.
    fn decode<T: Wire>(&self) -> Result<T> {
        let version = self.interface.number();
        let size = T::SHAPE.size(version, A::MACHINE);
        let bytes = self.payload.0.get(..size).ok_or(Error::Inval)?;
        Ok(T::get(bytes, version, A::MACHINE)?)
    }

    /// Makes `value` the payload. Bytes that no field covers stay the caller's own.
    fn encode<T: Wire>(&mut self, value: &T) {
        let version = self.interface.number();
        let size = T::SHAPE.size(version, A::MACHINE);
        if let Some(bytes) = self.payload.0.get_mut(..size) {
            value.put(bytes, version, A::MACHINE);
        }
    }
}

/// Does one operation. What it leaves in the request is written back also when it fails, as in Xen.
type Handler<A> = fn(&mut Call<'_, A>, &mut Request<A>) -> Result<Outcome>;

/// The handler of an operation; `None` for one that is not there.
fn handler<A: Arch>(cmd: DomctlCmd) -> Option<Handler<A>> {
    Some(match cmd {
        DomctlCmd::CREATEDOMAIN => create::create,
        DomctlCmd::MAX_VCPUS => create::max_vcpus,
        DomctlCmd::DESTROYDOMAIN => lifecycle::destroy,
        DomctlCmd::PAUSEDOMAIN => lifecycle::pause,
        DomctlCmd::UNPAUSEDOMAIN => lifecycle::unpause,
        DomctlCmd::RESUMEDOMAIN => lifecycle::resume,
        DomctlCmd::GETDOMAININFO => info::domain_info,
        DomctlCmd::GET_DOMAIN_STATE => info::domain_state,
        DomctlCmd::SETDOMAINHANDLE => settings::handle,
        DomctlCmd::SETDEBUGGING => settings::debugging,
        DomctlCmd::SETTIMEOFFSET => settings::time_offset,
        DomctlCmd::SUBSCRIBE => settings::subscribe,
        DomctlCmd::DISABLE_MIGRATE => settings::disable_migrate,
        DomctlCmd::SET_ACCESS_REQUIRED => settings::access_required,
        DomctlCmd::SET_VIRQ_HANDLER => settings::virq_handler,
        DomctlCmd::SET_TARGET => settings::device_model,
        DomctlCmd::GETVCPUINFO => vcpu::info,
        DomctlCmd::SETVCPUAFFINITY => vcpu::set_affinity,
        DomctlCmd::GETVCPUAFFINITY => vcpu::affinity,
        DomctlCmd::SETVCPUCONTEXT => vcpu::set_context,
        DomctlCmd::GETVCPUCONTEXT => vcpu::context,
        DomctlCmd::SCHEDULER_OP => sched::operation,
        DomctlCmd::GETMEMLIST => memlist::list,
        DomctlCmd::MAX_MEM => memory::max_mem,
        DomctlCmd::SHADOW_OP => memory::shadow,
        DomctlCmd::GET_PAGING_MEMPOOL_SIZE => memory::paging_pool,
        DomctlCmd::SET_PAGING_MEMPOOL_SIZE => memory::set_paging_pool,
        DomctlCmd::GETPAGEFRAMEINFO3 => memory::frame_types,
        DomctlCmd::CACHEFLUSH => memory::clean_caches,
        DomctlCmd::SETNODEAFFINITY => memory::set_nodes,
        DomctlCmd::GETNODEAFFINITY => memory::nodes,
        DomctlCmd::SET_LLC_COLORS => memory::colors,
        DomctlCmd::IOMEM_PERMISSION => device::frames,
        DomctlCmd::MEMORY_MAPPING => device::map_frames,
        DomctlCmd::IRQ_PERMISSION => device::interrupt,
        DomctlCmd::GSI_PERMISSION => device::global_interrupt,
        DomctlCmd::IOPORT_PERMISSION => device::ports,
        DomctlCmd::IOPORT_MAPPING => device::map_ports,
        DomctlCmd::HYPERCALL_INIT => machine::hypercall_page,
        DomctlCmd::SET_ADDRESS_SIZE => machine::set_address_size,
        DomctlCmd::GET_ADDRESS_SIZE => machine::address_size,
        DomctlCmd::SENDTRIGGER => machine::trigger,
        DomctlCmd::GETHVMCONTEXT => machine::context,
        DomctlCmd::SETHVMCONTEXT => machine::set_context,
        DomctlCmd::GETHVMCONTEXT_PARTIAL => machine::record,
        DomctlCmd::GETTSCINFO => machine::tsc,
        DomctlCmd::SETTSCINFO => machine::set_tsc,
        DomctlCmd::VUART_OP => machine::uart,
        DomctlCmd::GET_CPU_POLICY => policy::policy,
        DomctlCmd::SET_CPU_POLICY => policy::set_policy,
        // What Xen answers that was built without them, or finds no such hardware: no IOMMU, monitor, sharing, virtual
        // NUMA, soft reset, trace.
        DomctlCmd::ASSIGN_DEVICE
        | DomctlCmd::TEST_ASSIGN_DEVICE
        | DomctlCmd::DEASSIGN_DEVICE
        | DomctlCmd::GET_DEVICE_GROUP
        | DomctlCmd::VM_EVENT_OP
        | DomctlCmd::MONITOR_OP
        | DomctlCmd::MEM_SHARING_OP
        | DomctlCmd::SETVNUMAINFO
        | DomctlCmd::SOFT_RESET
        | DomctlCmd::VMTRACE_OP => unsupported,
        DomctlCmd::PSR_CMT_OP | DomctlCmd::PSR_ALLOC => absent,
        _ => return None,
    })
}

fn unsupported<A: Arch>(_: &mut Call<'_, A>, _: &mut Request<A>) -> Result<Outcome> {
    Err(Error::OpNotSupp)
}

fn absent<A: Arch>(_: &mut Call<'_, A>, _: &mut Request<A>) -> Result<Outcome> {
    Err(Error::NoDev)
}

pub(crate) fn domctl<A: Arch>(call: &mut Call<'_, A>, args: &[u64; 6]) -> Result<Outcome> {
    let [address, progress, ..] = *args;
    let mut wire: Domctl = call.read(address)?;
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
    if op.target == Target::New {
        // A domain that nobody can name must not come to be: first whether the answer can be given.
        call.write(address, &wire)?;
    }
    let mut request = Request {
        interface,
        domain: target.as_ref().map_or(wire.domain, |d| d.id().0),
        payload: wire.u,
        address,
        progress,
        target,
    };
    let outcome = handler(call, &mut request);
    let again = matches!(outcome, Err(Error::Restart) | Ok(Outcome::Restart(_)));
    if let Some(target) = request.target.as_ref().filter(|_| op.serialized && !again) {
        target.release(call.hv);
    }
    let named = matches!(op.target, Target::New | Target::Next | Target::DomainOrNone);
    // A restart begins with what the caller wrote, unless the handler changed it to go on elsewhere.
    if op.out || named || (again && wire.u != request.payload) {
        wire.u = request.payload;
        wire.domain = request.domain;
        call.write(address, &wire)?;
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

/// Whether an operation has a handler.
#[cfg(test)]
pub(crate) fn is_served<A: Arch>(cmd: DomctlCmd) -> bool {
    handler::<A>(cmd).is_some()
}
