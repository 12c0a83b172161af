//! Taking a domain's own memory out of its map, much of it at a time, and moving it.

use super::{Batch, Dropped, P2m, P2mType};
use crate::{Arch, Error, Gfn, Mfn, Result};

/// The most frames that one call of [`P2m::take_ram`] is to be asked for: they are scrubbed with the map locked.
pub const STRIDE: u64 = 512;

/// `count` guest frames from `gfn` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub gfn: Gfn,
    /// How many.
    pub count: u64,
}

/// What [`P2m::take_ram`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Runs that are gone completely.
    pub runs: usize,
    /// Frames that the domain has lost, those of a run that is gone in part among them.
    pub ram: u64,
}

impl<A: Arch> P2m<A> {
    /// Takes runs of the domain's own memory out of the map, in order, until one holds something else, a hole, or cannot be
    /// taken for want of a page-table page; what comes before that place in such a run is gone.
    ///
    /// The CPUs forget their translations once for up to 64 entries, not for each; no frame is freed, and nothing else can
    /// be mapped in its place, before they have. With `keep`, frames stay the domain's, each with the reference that its
    /// entry stood for, so that the very same ones can come back.
    pub fn take_ram(&self, runs: &[Run], keep: bool) -> Taken {
        let mut tables = self.tables.write();
        let mut batch = Batch::new(self);
        let (mut done, mut kept) = (0, 0);
        'runs: for run in runs {
            if self.check_range(run.gfn, run.count).is_err() {
                break;
            }
            let (mut at, end) = (run.gfn.0, run.gfn.0 + run.count);
            while at < end {
                let gfn = Gfn(at);
                let entry = tables.lookup::<A::Pte>(self.frames, gfn);
                let Some(entry) = entry.filter(|entry| entry.kind.is_ram()) else {
                    break 'runs;
                };
                let count = piece(at, end, entry.order);
                // First the page: then nothing can fail that would have to be undone.
                if tables
                    .prepare::<A::Pte>(self.frames, gfn, count, None)
                    .is_err()
                {
                    break 'runs;
                }
                if keep {
                    kept += self.hold(entry.mfn, count);
                }
                tables.commit::<A::Pte>(self.frames, gfn, count, None, &mut batch);
                at += count;
            }
            done += 1;
        }
        batch.finish();
        Taken {
            runs: done,
            ram: batch.dropped.ram - kept,
        }
    }

    /// Takes a further reference to each of `count` mapped frames, for the domain itself.
    fn hold(&self, first: Mfn, count: u64) -> u64 {
        let frames = (first.0..first.0 + count).filter_map(|n| self.frames.get(Mfn(n)));
        let mut held = 0;
        for frame in frames {
            frame.into_raw();
            held += 1;
        }
        held
    }

    /// Moves a page of the domain's own memory to another guest frame, in place of what is there.
    ///
    /// Errors, with the map as it was: [`Error::Inval`] if there is no such memory at `from`, or outside the address space;
    /// [`Error::NoMem`] without page-table pages.
    pub fn move_frame(&self, from: Gfn, to: Gfn) -> Result<Dropped> {
        self.check_range(from, 1)?;
        self.check_range(to, 1)?;
        let mut tables = self.tables.write();
        let entry = tables
            .lookup::<A::Pte>(self.frames, from)
            .filter(|entry| entry.kind.is_ram())
            .ok_or(Error::Inval)?;
        if from == to {
            return Ok(Dropped::default());
        }
        let frame = self.frames.get(entry.mfn).ok_or(Error::Inval)?;
        let target: Option<(Mfn, P2mType)> = Some((frame.mfn(), entry.kind));
        tables.prepare::<A::Pte>(self.frames, from, 1, None)?;
        tables.prepare::<A::Pte>(self.frames, to, 1, target)?;
        frame.into_raw();
        let mut batch = Batch::new(self);
        tables.apply::<A::Pte>(self.frames, from, 1, None, &mut batch);
        tables.commit::<A::Pte>(self.frames, to, 1, target, &mut batch);
        batch.finish();
        // The one that moved left its old place, but not the domain.
        batch.dropped.ram -= 1;
        Ok(batch.dropped)
    }
}

/// How many frames from `at` on can be taken out at once: those of one entry, or as large a part of it as an entry could map.
fn piece(at: u64, end: u64, order: u8) -> u64 {
    let aligned = at.trailing_zeros().min(u32::from(order)).min(63);
    let fits = (end - at).min(STRIDE).ilog2();
    1 << aligned.min(fits)
}
