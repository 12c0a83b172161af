//! `sysctl`: management of the machine by toolstacks of several releases of Xen at once.
//!
//! As `domctl`, without a domain. Layouts, versions and permissions are in [`xen_abi::sysctl`].

pub(crate) mod bitmap;
mod console;
mod cpupool;
mod host;
mod policy;
mod power;
mod topology;

use xen_abi::sysctl::{self as abi, Interface, Sysctl, SysctlCmd};
use xen_abi::versioned::{Payload, Permission};
use xen_core::policy::Verb;
use xen_core::{Arch, Error, Result};

use crate::call::{Call, Outcome};

/// A call, checked but for its payload.
pub(crate) struct Request {
    /// The caller's version.
    pub(crate) interface: Interface,
    /// The payload; what is written back where the operation has results, and before a restart.
    pub(crate) payload: Payload,
}

/// Does one operation. What it leaves in the request is written back also when it fails, as in Xen.
type Handler<A> = fn(&mut Call<'_, A>, &mut Request) -> Result<Outcome>;

/// The handler of an operation; `None` for one that is not there.
fn handler<A: Arch>(cmd: SysctlCmd) -> Option<Handler<A>> {
    Some(match cmd {
        SysctlCmd::READCONSOLE => console::read,
        SysctlCmd::PHYSINFO => host::physinfo,
        SysctlCmd::SCHED_ID => host::sched_id,
        SysctlCmd::GETDOMAININFOLIST => host::domains,
        SysctlCmd::DEBUG_KEYS => console::debug_keys,
        SysctlCmd::GETCPUINFO => host::cpus,
        SysctlCmd::AVAILHEAP => host::free_memory,
        SysctlCmd::GET_PMSTAT => power::statistics,
        SysctlCmd::CPU_HOTPLUG => power::hotplug,
        SysctlCmd::PM_OP => power::operation,
        SysctlCmd::CPUTOPOINFO => topology::cpus,
        SysctlCmd::NUMAINFO => topology::nodes,
        SysctlCmd::CPUPOOL_OP => cpupool::operation,
        SysctlCmd::SCHEDULER_OP => cpupool::scheduler,
        SysctlCmd::PCITOPOINFO => topology::devices,
        SysctlCmd::GET_CPU_LEVELLING_CAPS => policy::levelling,
        SysctlCmd::GET_CPU_FEATURESET => policy::featureset,
        SysctlCmd::GET_CPU_POLICY => policy::policy,
        // What Xen answers that is built without them, or finds no such hardware.
        SysctlCmd::COVERAGE_OP | SysctlCmd::DT_OVERLAY => unsupported,
        SysctlCmd::PSR_CMT_OP | SysctlCmd::PSR_ALLOC => absent,
        // Trace buffers, performance counters, lock profiles, live patches, frames out of use: as operations that do
        // not exist.
        _ => return None,
    })
}

fn unsupported<A: Arch>(_: &mut Call<'_, A>, _: &mut Request) -> Result<Outcome> {
    Err(Error::OpNotSupp)
}

fn absent<A: Arch>(_: &mut Call<'_, A>, _: &mut Request) -> Result<Outcome> {
    Err(Error::NoDev)
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
    // A restart goes on where the payload says.
    if op.out || matches!(outcome, Err(Error::Restart)) {
        wire.u = request.payload;
        call.write(at, &wire)?;
    }
    outcome
}
