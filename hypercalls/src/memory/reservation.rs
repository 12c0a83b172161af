//! Giving memory to domains and taking it back.

use xen_abi::memory::{EXTENT_SHIFT, MemFlags, MemoryOp, Reservation};
use xen_core::mem::AllocFlags;
use xen_core::p2m::P2mType;
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, Error, Gfn, Mfn, PAGE_SHIFT, Result};

use crate::call::{Call, Outcome};

/// log2 of the largest extent that an ordinary domain, and the one with the hardware, may ask for.
const DOMU_ORDER: u32 = 9;
const HARDWARE_ORDER: u32 = 10;
/// log2 of the largest extent for one that manages others: 1 GiB.
const CONTROL_ORDER: u32 = 18;
/// log2 of the frames taken from a domain between two looks for more urgent work.
const CHUNK_ORDER: u8 = 9;
/// Most extents that a 32-bit command can count.
const MAX_EXTENTS: u64 = u32::MAX as u64 >> EXTENT_SHIFT;

/// Changes a reservation. The result is the number of extents done, and never an error: the interface answers with
/// that count whatever keeps the next extent from being done, the lack of permission included.
pub(super) fn change<A: Arch>(
    call: &mut Call<'_, A>,
    op: MemoryOp,
    start: u64,
    arg: u64,
) -> Result<Outcome> {
    let done = Ok(Outcome::Done(start as i64));
    let Ok(reservation) = call.read::<Reservation>(arg) else {
        return done;
    };
    if reservation.nr_extents > MAX_EXTENTS || start >= reservation.nr_extents {
        return done;
    }
    let Ok(target) = call.target(reservation.domid, Verb::Memory) else {
        return done;
    };
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
    let flags = reservation.mem_flags;
    // Memory on demand is not served, and there is one node, number 0.
    let unserved = flags.contains(MemFlags::POPULATE_ON_DEMAND)
        || flags.contains(MemFlags::EXACT_NODE_REQUEST) && flags.node().is_some_and(|n| n != 0);
    let Some(below) = frame_limit(flags).filter(|_| op != MemoryOp::POPULATE_PHYSMAP || !unserved)
    else {
        return done;
    };
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
            MemoryOp::POPULATE_PHYSMAP => populate(call, &target, Gfn(gfn), order, below),
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

/// The frame number below which the caller wants its memory; `None` for one without memory below.
fn frame_limit(flags: MemFlags) -> Option<u64> {
    match u32::from(flags.address_bits()) {
        0 => Some(u64::MAX),
        bits if bits <= PAGE_SHIFT => None,
        bits => Some(1u64.checked_shl(bits - PAGE_SHIFT).unwrap_or(u64::MAX)),
    }
}

fn populate<A: Arch>(
    call: &Call<'_, A>,
    target: &Domain<A>,
    gfn: Gfn,
    order: u8,
    below: u64,
) -> Result<()> {
    if target.config.direct_mapped {
        return repopulate(call, target, gfn, order);
    }
    let count = 1u64 << order;
    target.charge_pages(count)?;
    let mapped = call
        .hv
        .frames
        .alloc_below(target.id(), order, AllocFlags::empty(), below)
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

/// Maps frames again that [`take`] kept for a domain whose guest frames are machine frames.
fn repopulate<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn, order: u8) -> Result<()> {
    let end = gfn.checked_add(1 << order).ok_or(Error::Inval)?;
    for n in gfn.0..end.0 {
        let (gfn, mfn) = (Gfn(n), Mfn(n));
        let own = |entry: &xen_core::p2m::Entry| entry.mfn == mfn && entry.kind.is_ram();
        if call.hv.frames.owner(mfn) != Some(target.id()) {
            return Err(Error::Inval);
        }
        match target.p2m.lookup(gfn) {
            Some(entry) if own(&entry) => continue,
            Some(_) => {
                let other = |entry| {
                    if own(&entry) {
                        Err(Error::Busy)
                    } else {
                        Ok(())
                    }
                };
                target.p2m.unmap_if(gfn, other)?;
            }
            None => {}
        }
        // Another vCPU may have been faster: only who maps the frame ends its being kept.
        let frame = call.hv.frames.get(mfn).ok_or(Error::Inval)?;
        target.p2m.map_new(gfn, frame, P2mType::RamRw)?;
        drop(call.hv.frames.adopt(mfn));
    }
    Ok(())
}

/// Takes an extent away. Large ones go in pieces: a restart begins with the extent again, so holes in it are no error.
fn decrease<A: Arch>(call: &Call<'_, A>, target: &Domain<A>, gfn: Gfn, order: u8) -> Result<()> {
    let end = gfn.checked_add(1 << order).ok_or(Error::Inval)?;
    let large = order > CHUNK_ORDER;
    let (mut at, mut taken) = (gfn.0, 0u64);
    while at < end.0 {
        match target.p2m.lookup(Gfn(at)) {
            Some(entry) if entry.kind.is_ram() => take(call, target, Gfn(at))?,
            None if large => {
                at = next_mapped(target, Gfn(at)).map_or(end.0, |next| next.0.min(end.0));
                continue;
            }
            _ => return Err(Error::Inval),
        }
        at += 1;
        taken += 1;
        // Not before something was done, or the restart would come to this point again and again.
        if taken.is_multiple_of(1 << CHUNK_ORDER) && at < end.0 && call.hv.should_yield() {
            return Err(Error::Restart);
        }
    }
    Ok(())
}

/// The first guest frame from `from` on at which something is mapped.
fn next_mapped<A: Arch>(target: &Domain<A>, from: Gfn) -> Option<Gfn> {
    let mut next = None;
    target.p2m.walk(from, |gfn, _| {
        next = Some(Gfn(gfn.0.max(from.0)));
        false
    });
    next
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
