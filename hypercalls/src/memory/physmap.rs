//! Mapping things other than a domain's own memory into its address space.

use alloc::sync::Arc;

use xen_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, EXTENT_SHIFT, MAPIDX_GRANT_TABLE_STATUS, MapSpace,
    RemoveFromPhysmap,
};
use xen_core::p2m::P2mType;
use xen_core::policy::{self, Verb};
use xen_core::{Arch, Domain, Error, Gfn, Mfn, Result};

use super::reservation;
use crate::call::{Call, DONE, Outcome};

/// `XENMEM_add_to_physmap`: one page.
pub(super) fn add<A: Arch>(call: &mut Call<'_, A>, start: u64, arg: u64) -> Result<Outcome> {
    if start != 0 {
        return Err(Error::Inval);
    }
    let args: AddToPhysmap = call.read(arg)?;
    let target = call.target(args.domid, Verb::Physmap)?;
    let space = args.space;
    match space {
        // These need what only a batch names.
        MapSpace::GMFN_FOREIGN | MapSpace::DEV_MMIO => Err(Error::NoSys),
        _ => {
            add_one(call, &target, space, None, args.idx, Gfn(args.gpfn))?;
            DONE
        }
    }
}

/// `XENMEM_add_to_physmap_batch`: several pages, each with an error of its own.
pub(super) fn add_batch<A: Arch>(call: &mut Call<'_, A>, start: u64, arg: u64) -> Result<Outcome> {
    let args: AddToPhysmapBatch = call.read(arg)?;
    let space = MapSpace(args.space.into());
    if u64::from(args.size) < start {
        return Err(Error::Inval);
    }
    let target = call.target(args.domid, Verb::Physmap)?;
    let foreign = match space {
        MapSpace::GMFN_FOREIGN => {
            let foreign = call.domain_by_id(args.foreign_domid)?;
            if foreign.id() == target.id() {
                return Err(Error::Inval);
            }
            policy::may(call.domain(), Verb::MapForeign, &foreign)?;
            Some(foreign)
        }
        // What is no domain here must be 0.
        _ if args.foreign_domid != 0 => return Err(Error::Inval),
        _ => None,
    };
    for n in start..args.size.into() {
        if n != start && call.hv.should_yield() {
            let op = xen_abi::memory::MemoryOp::ADD_TO_PHYSMAP_BATCH.0;
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
        let error = match add_one(call, &target, space, foreign.as_ref(), index, Gfn(gfn)) {
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
    foreign: Option<&Arc<Domain<A>>>,
    index: u64,
    gfn: Gfn,
) -> Result<()> {
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
            let foreign = foreign.ok_or(Error::NoSys)?;
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
        _ => return Err(Error::NoSys),
    };
    let dropped = target.p2m.map_frame(gfn, frame, kind)?;
    target.uncharge_pages(dropped.ram);
    Ok(())
}

/// Maps a page of a device's registers that the domain owns.
fn map_device<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, mfn: Mfn, gfn: Gfn) -> Result<()> {
    if !target.config.hardware || call.hv.frames.is_ram(mfn) || !call.hv.arch.is_guest_device(mfn) {
        return Err(Error::Perm);
    }
    let dropped = target.p2m.map(gfn, mfn, 1, P2mType::Mmio)?;
    target.uncharge_pages(dropped.ram);
    Ok(())
}

/// `XENMEM_remove_from_physmap`.
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
