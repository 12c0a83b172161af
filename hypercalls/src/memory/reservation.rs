//! Giving memory to domains and taking it back.

use arrayvec::ArrayVec;
use xen_abi::memory::{EXTENT_SHIFT, MemFlags, MemoryOp, Reservation};
use xen_core::mem::AllocFlags;
use xen_core::p2m::{P2mType, Run, STRIDE};
use xen_core::policy::Verb;
use xen_core::{Arch, Domain, Error, Gfn, Mfn, PAGE_SHIFT, Result};

use crate::call::{Call, Outcome};

/// log2 of the largest extent that an ordinary domain, and the one with the hardware, may ask for.
const DOMU_ORDER: u32 = 9;
const HARDWARE_ORDER: u32 = 10;
/// log2 of the largest extent for one that manages others: 1 GiB.
const CONTROL_ORDER: u32 = 18;
/// Most extents taken from a domain between two looks for more urgent work.
const EXTENTS: usize = 64;
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
    match op {
        MemoryOp::POPULATE_PHYSMAP => populate_all(call, &target, &reservation, start, arg, below),
        _ => decrease_all(call, &target, &reservation, start, arg),
    }
}

/// To be gone on with at extent `n`.
fn again(op: MemoryOp, n: u64, arg: u64) -> Result<Outcome> {
    Ok(Outcome::Restart([
        n << EXTENT_SHIFT | u64::from(op.0),
        arg,
        0,
        0,
        0,
    ]))
}

fn populate_all<A: Arch>(
    call: &mut Call<'_, A>,
    target: &Domain<A>,
    reservation: &Reservation,
    start: u64,
    arg: u64,
    below: u64,
) -> Result<Outcome> {
    let order = reservation.extent_order as u8;
    for n in start..reservation.nr_extents {
        if n != start && call.hv.should_yield() {
            return again(MemoryOp::POPULATE_PHYSMAP, n, arg);
        }
        let done = call
            .read_at(reservation.extent_start.0, n)
            .and_then(|gfn| populate(call, target, Gfn(gfn), order, below));
        if done.is_err() {
            return Ok(Outcome::Done(n as i64));
        }
    }
    Ok(Outcome::Done(reservation.nr_extents as i64))
}

/// Takes extents away: small ones by the stride, so that the CPUs forget their translations once for many, large ones in
/// pieces.
fn decrease_all<A: Arch>(
    call: &mut Call<'_, A>,
    target: &Domain<A>,
    reservation: &Reservation,
    start: u64,
    arg: u64,
) -> Result<Outcome> {
    let (list, all) = (reservation.extent_start.0, reservation.nr_extents);
    let count = 1u64 << reservation.extent_order;
    let mut n = start;
    while n < all {
        if n != start && call.hv.should_yield() {
            return again(MemoryOp::DECREASE_RESERVATION, n, arg);
        }
        if count > STRIDE {
            let taken = call
                .read_at(list, n)
                .and_then(|gfn| decrease_large(call, target, Gfn(gfn), count));
            match taken {
                Ok(()) => n += 1,
                Err(Error::Restart) => return again(MemoryOp::DECREASE_RESERVATION, n, arg),
                Err(_) => return Ok(Outcome::Done(n as i64)),
            }
            continue;
        }
        let mut runs: ArrayVec<Run, EXTENTS> = ArrayVec::new();
        let most = (all - n).min(STRIDE / count).min(EXTENTS as u64);
        let mut readable = true;
        for at in n..n + most {
            match call.read_at(list, at) {
                Ok(gfn) => runs.push(Run {
                    gfn: Gfn(gfn),
                    count,
                }),
                Err(_) => {
                    readable = false;
                    break;
                }
            }
        }
        let taken = target.p2m.take_ram(&runs, target.config.direct_mapped);
        target.uncharge_pages(taken.ram);
        n += taken.runs as u64;
        if taken.runs < runs.len() || !readable {
            return Ok(Outcome::Done(n as i64));
        }
    }
    Ok(Outcome::Done(all as i64))
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
        .alloc_claimed(
            &target.claim,
            target.id(),
            order,
            AllocFlags::empty(),
            below,
        )
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

/// Takes a large extent away, in pieces: a restart begins with the extent again, so holes in it are no error.
fn decrease_large<A: Arch>(
    call: &Call<'_, A>,
    target: &Domain<A>,
    gfn: Gfn,
    count: u64,
) -> Result<()> {
    let end = gfn.checked_add(count).ok_or(Error::Inval)?;
    let mut at = gfn;
    while at < end {
        let run = Run {
            gfn: at,
            count: STRIDE.min(end.0 - at.0),
        };
        let taken = target.p2m.take_ram(&[run], target.config.direct_mapped);
        target.uncharge_pages(taken.ram);
        at = match taken.runs {
            0 => match next_mapped(target, at) {
                // Memory that nothing was in the way of, and that could not be taken.
                Some((next, true)) if next == at => return Err(Error::NoMem),
                Some((next, true)) => next.min(end),
                Some((next, false)) if next < end => return Err(Error::Inval),
                _ => end,
            },
            _ => Gfn(at.0 + run.count),
        };
        // Not before something was done, or the restart would come to this point again and again.
        if taken.ram != 0 && at < end && call.hv.should_yield() {
            return Err(Error::Restart);
        }
    }
    Ok(())
}

/// The first guest frame from `from` on at which something is mapped, and whether that is the domain's own memory.
fn next_mapped<A: Arch>(target: &Domain<A>, from: Gfn) -> Option<(Gfn, bool)> {
    let mut next = None;
    target.p2m.walk(from, |gfn, entry| {
        next = Some((gfn.max(from), entry.kind.is_ram()));
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
