//! The machine's registers, ports and interrupts: who may reach them, and where.

use xen_abi::domctl::{
    GsiAction, GsiPermission, IomemPermission, IoportMapping, IoportPermission, IrqPermission,
    MappingAction, MemoryMapping,
};
use xen_core::p2m::{P2m, P2mType};
use xen_core::{Arch, Error, Gfn, Mfn, Result};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Most frames that are mapped at once; callers that ask for more try with half as many.
const MAX_FRAMES: u64 = 64;
/// Ports there are.
const PORTS: u32 = 1 << 16;

/// `XEN_DOMCTL_iomem_permission`: frames that are no memory, which the domain may have mapped. Those that are mapped stay so.
///
/// Errors: [`Error::Inval`] for no frames or past the end of numbers; [`Error::Perm`] for those that the caller does not have;
/// [`Error::NoMem`].
pub(super) fn frames<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let args: IomemPermission = request.decode()?;
    let first = Mfn(args.first_mfn);
    let last = args
        .nr_mfns
        .checked_sub(1)
        .and_then(|more| first.0.checked_add(more))
        .ok_or(Error::Inval)?;
    let end = Mfn(last.checked_add(1).ok_or(Error::Perm)?);
    if !A::has_frames(call.hv, call.domain(), first, args.nr_mfns) {
        return Err(Error::Perm);
    }
    let control = &request.target()?.control;
    control.permit_frames(first..end, args.allow_access != 0)?;
    DONE
}

/// `XEN_DOMCTL_memory_mapping`: maps frames that the domain was given, or takes them out of its address space.
///
/// Errors: [`Error::Inval`] past the end of numbers, for frames that no entry can name, and for taking out something else;
/// [`Error::TooBig`] for more than 64; [`Error::Perm`] for frames that the caller or the domain does not have, or that are
/// memory; [`Error::Busy`] if something else is in the way; [`Error::NoMem`].
pub(super) fn map_frames<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: MemoryMapping = request.decode()?;
    let (gfn, mfn, count) = (Gfn(args.first_gfn), Mfn(args.first_mfn), args.nr_mfns);
    let more = count.checked_sub(1).ok_or(Error::Inval)?;
    let last = mfn.0.checked_add(more).map(Mfn).ok_or(Error::Inval)?;
    if gfn.checked_add(more).is_none() || !P2m::<A>::can_name(last, P2mType::Mmio) {
        return Err(Error::Inval);
    }
    if count > MAX_FRAMES {
        return Err(Error::TooBig);
    }
    let target = request.target()?;
    let reachable = A::has_frames(call.hv, call.domain(), mfn, count)
        && A::has_frames(call.hv, target, mfn, count);
    // What somebody was given once need not be a device's, if the machine's memory is not where it was thought to be.
    let device = |at: u64| !call.hv.frames.is_ram(Mfn(at)) && call.hv.arch.is_guest_device(Mfn(at));
    if !reachable || !(mfn.0..=last.0).all(device) {
        return Err(Error::Perm);
    }
    let pairs = || (0..count).map(|n| (Gfn(gfn.0 + n), Mfn(mfn.0 + n)));
    if args.add_mapping != MappingAction::REMOVE {
        let taken = |at| {
            target
                .p2m
                .lookup(at)
                .is_some_and(|e| e.kind != P2mType::Mmio)
        };
        if pairs().any(|(at, _)| taken(at)) {
            return Err(Error::Busy);
        }
        let dropped = target.p2m.map(gfn, mfn, count, P2mType::Mmio)?;
        target.uncharge_pages(dropped.ram);
        return DONE;
    }
    let mut result = DONE;
    for (gfn, mfn) in pairs() {
        let removed = target.p2m.unmap_if(gfn, |entry| {
            match (entry.kind, entry.mfn) == (P2mType::Mmio, mfn) {
                true => Ok(()),
                false => Err(Error::Inval),
            }
        });
        match removed {
            Ok(_) | Err(Error::NoEnt) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Gives the domain an interrupt of the machine, or takes it away.
fn permit_interrupt<A: Arch>(
    call: &Call<'_, A>,
    request: &Request<A>,
    number: u32,
    allow: bool,
) -> Result<Outcome> {
    let exists = A::guest_interrupt(call.hv, number)?;
    let caller = call.domain();
    let owned = caller.config.hardware || caller.control.may_use_interrupt(number);
    if !exists || !owned {
        return Err(Error::Perm);
    }
    request.target()?.control.permit_interrupt(number, allow)?;
    DONE
}

/// `XEN_DOMCTL_irq_permission`.
///
/// Errors: [`Error::Perm`] for an interrupt that the caller does not have; what
/// [`xen_core::manage::Manage::guest_interrupt`] says.
pub(super) fn interrupt<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: IrqPermission = request.decode()?;
    permit_interrupt(call, request, args.pirq.0, args.allow_access != 0)
}

/// `XEN_DOMCTL_gsi_permission`.
///
/// Errors: as [`interrupt`]; [`Error::Inval`] for unknown flags.
pub(super) fn global_interrupt<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: GsiPermission = request.decode()?;
    if !GsiAction::all().contains(args.flags) {
        return Err(Error::Inval);
    }
    let allow = args.flags.contains(GsiAction::GRANT);
    permit_interrupt(call, request, args.gsi, allow)
}

/// Whether `count` ports from `first` on are ports; the first.
fn ports_from(first: u32, count: u32) -> Result<u16> {
    let end = first.checked_add(count).filter(|end| *end <= PORTS);
    if end.is_none() || count == 0 {
        return Err(Error::Inval);
    }
    u16::try_from(first).map_err(|_| Error::Inval)
}

/// `XEN_DOMCTL_ioport_permission`.
///
/// Errors: [`Error::Inval`] for no ports and past the last one; [`Error::Perm`] for those that the caller does not have; what
/// [`xen_core::manage::Manage::permit_ports`] says.
pub(super) fn ports<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let args: IoportPermission = request.decode()?;
    let first = ports_from(args.first_port, args.nr_ports)?;
    if !A::has_ports(call.domain(), first, args.nr_ports) {
        return Err(Error::Perm);
    }
    let allow = args.allow_access != 0;
    A::permit_ports(request.target()?, first, args.nr_ports, allow)?;
    DONE
}

/// `XEN_DOMCTL_ioport_mapping`.
///
/// Errors: as [`ports`]; what [`xen_core::manage::Manage::map_ports`] says.
pub(super) fn map_ports<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let args: IoportMapping = request.decode()?;
    let guest = ports_from(args.first_gport, args.nr_ports)?;
    let machine = ports_from(args.first_mport, args.nr_ports)?;
    if !A::has_ports(call.domain(), machine, args.nr_ports) {
        return Err(Error::Perm);
    }
    let add = args.add_mapping != MappingAction::REMOVE;
    A::map_ports(request.target()?, guest, machine, args.nr_ports, add)?;
    DONE
}
