//! Mapping things other than a domain's own memory into its address space.

use alloc::sync::Arc;

use xen_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, EXTENT_SHIFT, MAPIDX_GRANT_TABLE_STATUS, MapSpace, MemoryOp,
    RemoveFromPhysmap,
};
use xen_core::p2m::{P2m, P2mType};
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Domain, Error, Gfn, Mfn, Result};

use super::reservation;
use crate::call::{Call, DONE, Outcome};

/// `XENMEM_add_to_physmap`: one page, or a range of the domain's own.
pub(super) fn add<A: Arch>(call: &mut Call<'_, A>, start: u64, arg: u64) -> Result<Outcome> {
    let args: AddToPhysmap = call.read(arg)?;
    match args.space {
        MapSpace::GMFN_RANGE => return move_range(call, start, arg, &args),
        // Only a range keeps progress in the command.
        _ if start != 0 => return Err(Error::Inval),
        // Only a batch names another domain.
        MapSpace::GMFN_FOREIGN => return Err(Error::NoSys),
        _ => {}
    }
    let target = target(call, args.domid, args.space)?;
    let nobody = Err(Error::NoSys);
    add_one(call, &target, args.space, &nobody, args.idx, Gfn(args.gpfn))?;
    DONE
}

/// Moves `args.size` pages of the domain's own memory.
///
/// Errors: as for one, of the first that cannot be moved; [`Error::Inval`] for progress beyond the end.
fn move_range<A: Arch>(
    call: &mut Call<'_, A>,
    start: u64,
    arg: u64,
    args: &AddToPhysmap,
) -> Result<Outcome> {
    let target = target(call, args.domid, args.space)?;
    if !A::MAP_SPACES.contains(&args.space.0) {
        return Err(A::ABSENT_MAP_SPACE);
    }
    if start > args.size.into() {
        return Err(Error::Inval);
    }
    let nobody = Err(Error::NoSys);
    for n in start..args.size.into() {
        if n != start && call.hv.should_yield() {
            let op = u64::from(MemoryOp::ADD_TO_PHYSMAP.0);
            return Ok(Outcome::Restart([n << EXTENT_SHIFT | op, arg, 0, 0, 0]));
        }
        let from = args.idx.checked_add(n).ok_or(Error::Inval)?;
        let to = args.gpfn.checked_add(n).ok_or(Error::Inval)?;
        add_one(call, &target, args.space, &nobody, from, Gfn(to))?;
    }
    DONE
}

/// The domain whose physical map is to be changed.
fn target<A: Arch>(call: &Call<'_, A>, domid: u16, space: MapSpace) -> Result<Arc<Domain<A>>> {
    let target = call.domain_by_id(domid)?;
    // Devices are for their owner, and for itself alone.
    let served = A::MAP_SPACES.contains(&MapSpace::DEV_MMIO.0);
    let own = target.config.hardware && target.id() == call.domain().id();
    if served && space == MapSpace::DEV_MMIO && !own {
        return Err(Error::Access);
    }
    policy::may(call.domain(), Verb::Physmap, &target)?;
    Ok(target)
}

/// The domain whose frames are to be mapped into `target`.
fn foreign<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, domid: u16) -> Result<Arc<Domain<A>>> {
    let foreign = call.domain_by_number(domid)?;
    if foreign.id() == call.domain().id() {
        return Err(Error::Srch);
    }
    if foreign.id() == target.id() {
        return Err(Error::Inval);
    }
    // It is the domain that will see the frames that must be allowed to.
    policy::may(target, Verb::MapForeign, &foreign)?;
    Ok(foreign)
}

/// `XENMEM_add_to_physmap_batch`: several pages, each with an error of its own.
pub(super) fn add_batch<A: Arch>(call: &mut Call<'_, A>, start: u64, arg: u64) -> Result<Outcome> {
    let args: AddToPhysmapBatch = call.read(arg)?;
    let space = MapSpace(args.space.into());
    if space == MapSpace::GMFN_RANGE {
        return Err(Error::OpNotSupp);
    }
    let target = target(call, args.domid, space)?;
    // Nobody but a restart sets progress, and none begins at the end.
    if start != 0 && start >= u64::from(args.size) {
        return Err(Error::Inval);
    }
    if space == MapSpace::DEV_MMIO && args.foreign_domid != 0 {
        return Err(Error::OpNotSupp);
    }
    // If there is something wrong with it, each page says so.
    let foreign = if space == MapSpace::GMFN_FOREIGN {
        foreign(call, &target, args.foreign_domid)
    } else {
        Err(Error::NoSys)
    };
    for n in start..args.size.into() {
        if n != start && call.hv.should_yield() {
            let op = MemoryOp::ADD_TO_PHYSMAP_BATCH.0;
            return Ok(Outcome::Restart([
                n << EXTENT_SHIFT | u64::from(op),
                arg,
                0,
                0,
                0,
            ]));
        }
        let index: u64 = call.read_at(args.idxs.0, n)?;
        let gfn: u64 = call.read_at(args.gpfns.0, n)?;
        let error = match add_one(call, &target, space, &foreign, index, Gfn(gfn)) {
            Ok(()) => 0,
            Err(error) => error.to_result() as i32,
        };
        call.write_at(args.errs.0, n, &error)?;
    }
    DONE
}

fn add_one<A: Arch>(
    call: &Call<'_, A>,
    target: &Arc<Domain<A>>,
    space: MapSpace,
    foreign: &Result<Arc<Domain<A>>>,
    index: u64,
    gfn: Gfn,
) -> Result<()> {
    if !A::MAP_SPACES.contains(&space.0) {
        return Err(A::ABSENT_MAP_SPACE);
    }
    let (frame, kind) = match space {
        MapSpace::SHARED_INFO if index == 0 => (
            target.shared_info.try_clone().ok_or(Error::NoMem)?,
            P2mType::Shared,
        ),
        MapSpace::SHARED_INFO => return Err(Error::Inval),
        MapSpace::GRANT_TABLE => {
            let number =
                u32::try_from(index & !MAPIDX_GRANT_TABLE_STATUS).map_err(|_| Error::Inval)?;
            if index & MAPIDX_GRANT_TABLE_STATUS != 0 {
                (target.grants.status_frame(number)?, P2mType::Shared)
            } else {
                (target.grants.shared_frame(number)?, P2mType::Shared)
            }
        }
        MapSpace::GMFN_FOREIGN => {
            let foreign = foreign.as_ref().map_err(|e| *e)?;
            let (frame, kind) = foreign
                .p2m
                .frame(Gfn(index), false)
                .map_err(|_| Error::Inval)?;
            match kind {
                P2mType::RamRw => (frame, P2mType::ForeignRw),
                P2mType::RamRo => (frame, P2mType::ForeignRo),
                _ => return Err(Error::Inval),
            }
        }
        MapSpace::DEV_MMIO => return map_device(call, target, Mfn(index), gfn),
        // Its guest frames are machine frames.
        MapSpace::GMFN | MapSpace::GMFN_RANGE if target.config.direct_mapped => {
            return Err(Error::OpNotSupp);
        }
        MapSpace::GMFN | MapSpace::GMFN_RANGE => {
            let dropped = target.p2m.move_frame(Gfn(index), gfn)?;
            target.uncharge_pages(dropped.ram);
            return Ok(());
        }
        _ => return Err(Error::NoSys),
    };
    make_room(call, target, gfn)?;
    let dropped = target.p2m.map_frame(gfn, frame, kind)?;
    target.uncharge_pages(dropped.ram);
    Ok(())
}

/// Takes memory out of the way of what is about to be mapped at `gfn`, where it must stay its domain's.
pub(super) fn make_room<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn) -> Result<()> {
    match target.p2m.lookup(gfn) {
        Some(entry) if target.config.direct_mapped && entry.kind.is_ram() => {
            reservation::take(call, target, gfn)
        }
        _ => Ok(()),
    }
}

/// Maps a page of a device's registers. Xen answers 0 without doing anything if it is not the domain's to map.
fn map_device<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, mfn: Mfn, gfn: Gfn) -> Result<()> {
    if !P2m::<A>::can_name(mfn, P2mType::Mmio)
        || call.hv.frames.is_ram(mfn)
        || !call.hv.arch.is_guest_device(mfn)
    {
        return Err(Error::Perm);
    }
    make_room(call, target, gfn)?;
    let dropped = target.p2m.map(gfn, mfn, 1, P2mType::Mmio)?;
    target.uncharge_pages(dropped.ram);
    Ok(())
}

/// `XENMEM_remove_from_physmap`. The domain's own memory is given back (in Xen it stays the domain's, out of anybody's
/// reach), and devices' pages can be taken out too.
pub(super) fn remove<A: Arch>(call: &mut Call<'_, A>, arg: u64) -> Result<Outcome> {
    let args: RemoveFromPhysmap = call.read(arg)?;
    let target = call.target(args.domid, Verb::Physmap)?;
    let gfn = Gfn(args.gpfn);
    match target.p2m.lookup(gfn) {
        None => Err(Error::NoEnt),
        Some(entry) if entry.kind.is_ram() => {
            reservation::take(call, &target, gfn)?;
            DONE
        }
        Some(_) => {
            target.p2m.unmap_if(gfn, |entry| {
                // A grant mapping ends by unmapping its handle; memory was dealt with above.
                if entry.kind.is_grant() || entry.kind.is_ram() {
                    Err(Error::Inval)
                } else {
                    Ok(())
                }
            })?;
            DONE
        }
    }
}
