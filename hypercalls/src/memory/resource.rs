//! Mapping what the hypervisor keeps for a domain into the address space of one that manages it.

use alloc::sync::Arc;

use xen_abi::memory::{AcquireResource, GrantTableId, MemoryOp, ResourceType};
use xen_core::mem::FrameRef;
use xen_core::p2m::P2mType;
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Domain, Error, Gfn, Result};

use super::physmap::make_room;
use crate::call::{Call, DONE, Outcome};

/// Most frames of one call: a 32-bit command must be able to count them.
const MAX_FRAMES: u32 = u32::MAX >> xen_abi::memory::EXTENT_SHIFT;

/// `XENMEM_acquire_resource`: tells the size of a resource, or maps frames of it.
///
/// Errors, in this order: [`Error::Fault`]; [`Error::Inval`] for padding that is not 0 and frames that no resource
/// has; [`Error::Srch`]; [`Error::Perm`], for the caller's own resources too; [`Error::OpNotSupp`] for a kind of
/// resource that does not exist here, [`Error::Inval`] for one that the domain has not.
pub(super) fn acquire<A: Arch>(call: &mut Call<'_, A>, start: u64, arg: u64) -> Result<Outcome> {
    let mut args: AcquireResource = call.read(arg)?;
    if args.pad != 0 {
        return Err(Error::Inval);
    }
    let first = u32::try_from(args.frame).map_err(|_| Error::Inval)?;
    let end = first.checked_add(args.nr_frames).ok_or(Error::Inval)?;
    let target = call.domain_by_number(args.domid)?;
    if target.id() == call.domain().id() {
        return Err(Error::Perm);
    }
    policy::may(call.domain(), Verb::MapForeign, &target)?;
    let size = size(&target, &args)?;
    if args.frame_list.0 == 0 {
        if args.nr_frames != 0 || start != 0 {
            return Err(Error::Inval);
        }
        args.nr_frames = size;
        call.write(arg, &args)?;
        return DONE;
    }
    let count = u64::from(args.nr_frames);
    if start >= count || args.nr_frames > MAX_FRAMES || end > size {
        return Err(Error::Inval);
    }
    for n in start..count {
        if n != start && call.hv.should_yield() {
            let command = MemoryOp::ACQUIRE_RESOURCE.continuation(n);
            return Ok(Outcome::Restart([
                command.ok_or(Error::Inval)?,
                arg,
                0,
                0,
                0,
            ]));
        }
        let gfn = Gfn(call.read_at(args.frame_list.0, n)?);
        let frame = frame(&target, &args, first + n as u32)?;
        let own = call.domain();
        make_room(call, own, gfn)?;
        let dropped = own.p2m.map_frame(gfn, frame, P2mType::ForeignRw)?;
        own.uncharge_pages(dropped.ram);
    }
    DONE
}

/// The number of frames that a resource has, or could grow to.
fn size<A: Arch>(target: &Domain<A>, args: &AcquireResource) -> Result<u32> {
    match args.kind {
        ResourceType::GRANT_TABLE => match GrantTableId(args.id) {
            GrantTableId::SHARED => Ok(target.grants.size().1),
            GrantTableId::STATUS => Ok(target.grants.max_status_frames()),
            _ => Err(Error::Inval),
        },
        // No domain has these.
        ResourceType::IOREQ_SERVER | ResourceType::VMTRACE_BUF => Err(Error::Inval),
        _ => Err(Error::OpNotSupp),
    }
}

/// A frame of a resource, which grows to it.
fn frame<A: Arch>(target: &Arc<Domain<A>>, args: &AcquireResource, n: u32) -> Result<FrameRef> {
    match GrantTableId(args.id) {
        GrantTableId::STATUS => target.grants.status_frame(n),
        _ => target.grants.shared_frame(n),
    }
}
