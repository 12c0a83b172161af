//! Giving memory to domains and taking it back.

use xen_abi::memory::{EXTENT_SHIFT, MemoryOp, Reservation};
use xen_core::mem::AllocFlags;
use xen_core::p2m::P2mType;
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, Error, Gfn, Mfn, Result};

use crate::call::{Call, Outcome};

/// log2 of the largest extent that an ordinary domain, and the one with the hardware, may ask for.
const DOMU_ORDER: u32 = 9;
const HARDWARE_ORDER: u32 = 10;
/// log2 of the largest extent for one that manages others: 1 GiB.
const CONTROL_ORDER: u32 = 18;
/// log2 of the frames taken from a domain between two looks for more urgent work.
const CHUNK_ORDER: u32 = 9;

/// Counts done extents: the result is their number, never an error, once one was done.
pub(super) fn change<A: Arch>(
    call: &mut Call<'_, A>,
    op: MemoryOp,
    start: u64,
    arg: u64,
) -> Result<Outcome> {
    let done = Ok(Outcome::Done(start as i64));
    // The interface answers with the count of extents where other operations answer with an error.
    let Ok(reservation) = call.read::<Reservation>(arg) else {
        return done;
    };
    if reservation.nr_extents > u64::MAX >> EXTENT_SHIFT || start > reservation.nr_extents {
        return done;
    }
    let Ok(target) = call.domain_by_id(reservation.domid) else {
        return done;
    };
    xen_core::policy::may(call.domain(), Verb::Memory, &target)?;
    let config = &call.domain().config;
    let limit = match (config.privileged, config.hardware) {
        (true, _) => CONTROL_ORDER,
        (false, true) => HARDWARE_ORDER,
        (false, false) => DOMU_ORDER,
    };
    // A translated domain has no use for memory that is mapped nowhere.
    if reservation.extent_order > limit || op == MemoryOp::INCREASE_RESERVATION {
        return done;
    }
    let order = reservation.extent_order as u8;
    for n in start..reservation.nr_extents {
        let again = Outcome::Restart([n << EXTENT_SHIFT | u64::from(op.0), arg, 0, 0, 0]);
        if n != start && call.hv.should_yield() {
            return Ok(again);
        }
        let Ok(gfn) = call.read_at::<u64>(reservation.extent_start.0, n) else {
            return Ok(Outcome::Done(n as i64));
        };
        let result = match op {
            MemoryOp::POPULATE_PHYSMAP => populate(call, &target, Gfn(gfn), order),
            _ => decrease(call, &target, Gfn(gfn), order),
        };
        match result {
            Ok(()) => {}
            Err(Error::Restart) => return Ok(again),
            Err(_) => return Ok(Outcome::Done(n as i64)),
        }
    }
    Ok(Outcome::Done(reservation.nr_extents as i64))
}

fn populate<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn, order: u8) -> Result<()> {
    if target.config.direct_mapped {
        return repopulate(call, target, gfn, order);
    }
    let count = 1u64 << order;
    target.charge_pages(count)?;
    let mapped = call
        .hv
        .frames
        .alloc(target.id(), order, AllocFlags::empty())
        .and_then(|block| {
            let dropped = target.p2m.map(gfn, block.mfn(), count, P2mType::RamRw)?;
            block.into_raw();
            Ok(dropped)
        });
    match mapped {
        Ok(dropped) => {
            target.uncharge_pages(dropped.ram);
            Ok(())
        }
        Err(error) => {
            target.uncharge_pages(count);
            Err(error)
        }
    }
}

/// Maps frames again that [`decrease`] kept for a domain whose guest frames are machine frames.
fn repopulate<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn, order: u8) -> Result<()> {
    let end = gfn.checked_add(1 << order).ok_or(Error::Inval)?;
    for n in gfn.0..end.0 {
        let mfn = Mfn(n);
        if call.hv.frames.owner(mfn) != Some(target.id()) {
            return Err(Error::Inval);
        }
        match target.p2m.lookup(Gfn(n)) {
            Some(entry) if entry.mfn == mfn && entry.kind.is_ram() => {}
            // Not mapped as its own memory, but owned: the kept reference goes back to the p2m.
            _ => {
                let frame = call.hv.frames.adopt(mfn).ok_or(Error::Inval)?;
                target.p2m.map_frame(Gfn(n), frame, P2mType::RamRw)?;
            }
        }
    }
    Ok(())
}

/// Takes an extent away. Large ones go in pieces, and what is gone already is passed over.
fn decrease<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn, order: u8) -> Result<()> {
    let end = gfn.checked_add(1 << order).ok_or(Error::Inval)?;
    let chunk = 1u64 << u32::from(order).min(CHUNK_ORDER);
    let whole = chunk == 1 << order;
    let mut at = gfn.0;
    while at < end.0 {
        for n in at..at + chunk {
            match target.p2m.lookup(Gfn(n)) {
                Some(entry) if entry.kind.is_ram() => take(call, target, Gfn(n))?,
                None if !whole => {}
                _ => return Err(Error::Inval),
            }
        }
        at += chunk;
        if at < end.0 && call.hv.should_yield() {
            return Err(Error::Restart);
        }
    }
    Ok(())
}

/// Takes one frame of the domain's own memory out of its p2m. One whose guest frames are machine frames keeps it,
/// so that it can have the very same frame back.
pub(super) fn take<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn) -> Result<()> {
    let mut kept = None;
    let dropped = target.p2m.unmap_if(gfn, |entry| {
        if !entry.kind.is_ram() {
            return Err(Error::Inval);
        }
        if target.config.direct_mapped {
            kept = Some(call.hv.frames.get(entry.mfn).ok_or(Error::Inval)?);
        }
        Ok(())
    })?;
    match kept {
        Some(frame) => {
            frame.into_raw();
        }
        None => target.uncharge_pages(dropped.ram),
    }
    Ok(())
}
