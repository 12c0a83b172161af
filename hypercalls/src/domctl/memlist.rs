//! A list of a domain's frames, for toolstacks of the first releases served.

use arrayvec::ArrayVec;
use xen_abi::domctl::GetMemList;
use xen_core::{Arch, Domain, Error, Gfn, Result};
use zerocopy::IntoBytes;

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// Most frames that can be asked for: 4 GiB.
const MAX_FRAMES: u64 = 1 << 20;
/// Frames written at a time, between two looks for more urgent work.
const STRIDE: usize = 128;
/// Second argument of a call that goes on where the payload says. Callers leave nothing there that means anything, so it
/// must be unlike what may stand there by chance; who writes it on purpose gets a list that begins elsewhere.
const GOES_ON: u64 = 0x7e6d_656d_6c69_7374;

/// `XEN_DOMCTL_getmemlist`: the guest frames at which the domain has memory of its own, in ascending order. The number of those
/// written is told also when the call fails on the way.
///
/// Errors: [`Error::Inval`] for a domain that is being destroyed; [`Error::OpNotSupp`] for more than 4 GiB at once;
/// [`Error::Fault`].
pub(super) fn list<A: Arch>(call: &mut Call<'_, A>, request: &mut Request<A>) -> Result<Outcome> {
    let mut args: GetMemList = request.decode()?;
    let target = request.target()?.clone();
    if !target.is_alive() {
        return Err(Error::Inval);
    }
    if args.max_pfns > MAX_FRAMES {
        return Err(Error::OpNotSupp);
    }
    // Callers may leave anything in the field for the first frame.
    let mut next = Gfn(0);
    if request.progress == GOES_ON && args.num_pfns <= args.max_pfns {
        next = Gfn(args.start_pfn);
    } else {
        args.num_pfns = 0;
    }
    let started = args.num_pfns;
    let result = loop {
        let room = (args.max_pfns - args.num_pfns).min(STRIDE as u64) as usize;
        let frames = collect(&target, next, room);
        let Some(last) = frames.last() else {
            break DONE;
        };
        if let Err(error) = write(call, &mut args, &frames) {
            break Err(error);
        }
        // There is a frame after the last that a map can hold.
        next = Gfn(last.saturating_add(1));
        if args.num_pfns > started && args.num_pfns < args.max_pfns && call.hv.should_yield() {
            args.start_pfn = next.0;
            request.encode(&args);
            return Ok(Outcome::Restart([request.address, GOES_ON, 0, 0, 0]));
        }
    };
    request.encode(&args);
    result
}

/// Writes frames behind those that are there, and counts them.
fn write<A: Arch>(call: &mut Call<'_, A>, args: &mut GetMemList, frames: &[u64]) -> Result<()> {
    let at = args.buffer.0.checked_add(args.num_pfns * 8);
    let written = call.write_bytes(at.ok_or(Error::Fault)?, frames.as_bytes());
    if written.is_ok() {
        args.num_pfns += frames.len() as u64;
        return Ok(());
    }
    // Those before the place that cannot be written count.
    for frame in frames {
        call.write_at(args.buffer.0, args.num_pfns, frame)?;
        args.num_pfns += 1;
    }
    Ok(())
}

/// The guest frames from `from` on at which the domain has memory of its own, up to `room`.
fn collect<A: Arch>(target: &Domain<A>, from: Gfn, room: usize) -> ArrayVec<u64, STRIDE> {
    let mut frames = ArrayVec::new();
    if room == 0 {
        return frames;
    }
    target.p2m.walk(from, |gfn, entry| {
        let end = gfn.0 + (1 << entry.order);
        if entry.kind.is_ram() {
            for n in gfn.0.max(from.0)..end {
                if frames.len() == room || frames.try_push(n).is_err() {
                    return false;
                }
            }
        }
        frames.len() < room
    });
    frames
}
