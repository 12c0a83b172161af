//! The radix tree behind a p2m.

use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;

use super::{Entry, P2mType, Pte, PteFormat, Sink};
use crate::mem::{AllocFlags, Frames};
use crate::{DomainId, Error, Gfn, Mfn, Result};

/// Most levels a format may have.
const MAX_LEVELS: usize = 5;
/// log2 of the entries of one frame.
const FRAME_BITS: u8 = 9;

/// One level: how many bits of the frame number it resolves, and how many are left below it.
#[derive(Clone, Copy)]
struct Level {
    bits: u8,
    order: u8,
    leaf: bool,
}

/// The page-table pages of one p2m.
pub(super) struct Tables {
    root: Mfn,
    levels: ArrayVec<Level, MAX_LEVELS>,
    /// Page-table pages in use, the root included.
    pub(super) used: u64,
    /// The most that may be used.
    pub(super) limit: Option<u64>,
    /// The highest guest frame ever mapped.
    pub(super) max_gfn: Gfn,
    /// Pages that `prepare` allocated for `commit`, linked through their first entry.
    spare: Option<Mfn>,
    /// How many these are.
    spares: u64,
}

type Target = Option<(Mfn, P2mType)>;

impl Tables {
    pub(super) fn new(
        frames: &'static Frames,
        bits: &[u8],
        max_leaf_order: u8,
        limit: Option<u64>,
    ) -> Result<Self> {
        let mut levels = ArrayVec::new();
        let mut order: u8 = bits.iter().sum();
        for &bits in bits {
            order -= bits;
            let level = Level {
                bits,
                order,
                leaf: order <= max_leaf_order,
            };
            levels.try_push(level).map_err(|_| Error::Inval)?;
        }
        let root_order = bits.first().map_or(0, |b| b.saturating_sub(FRAME_BITS));
        let root = frames
            .alloc(DomainId::XEN, root_order, AllocFlags::empty())?
            .into_raw();
        Ok(Self {
            root,
            levels,
            used: 1 << root_order,
            limit,
            max_gfn: Gfn(0),
            spare: None,
            spares: 0,
        })
    }

    pub(super) const fn root(&self) -> Mfn {
        self.root
    }

    fn load(frames: &Frames, table: Mfn, index: u64) -> u64 {
        // Entries of a multi-frame root continue in the next frame.
        frames
            .page(Mfn(table.0 + (index >> FRAME_BITS)))
            .map_or(0, |p| {
                p.load_u64((index as usize & 511) * 8, Ordering::Acquire)
            })
    }

    fn store(frames: &Frames, table: Mfn, index: u64, pte: u64) {
        if let Some(p) = frames.page(Mfn(table.0 + (index >> FRAME_BITS))) {
            p.store_u64((index as usize & 511) * 8, pte, Ordering::Release);
        }
    }

    fn is_last(&self, depth: usize) -> bool {
        depth + 1 == self.levels.len()
    }

    pub(super) fn lookup<F: PteFormat>(&self, frames: &Frames, gfn: Gfn) -> Option<Entry> {
        let top = self.levels.first()?;
        if gfn.0 >> (top.order + top.bits) != 0 {
            return None;
        }
        let mut table = self.root;
        for (depth, level) in self.levels.iter().enumerate() {
            let index = (gfn.0 >> level.order) & ((1 << level.bits) - 1);
            match F::decode(Self::load(frames, table, index), self.is_last(depth)) {
                Pte::Empty => return None,
                Pte::Table(next) => table = next,
                Pte::Leaf(mfn, kind) => {
                    let mfn = Mfn(mfn.0 + (gfn.0 & ((1 << level.order) - 1)));
                    return Some(Entry {
                        mfn,
                        kind,
                        order: level.order,
                    });
                }
            }
        }
        None
    }

    /// Allocates the tables that a change of `count` frames at `gfn` will need, beside those for changes prepared before.
    ///
    /// Errors: [`Error::NoMem`]; then nothing is prepared any more.
    pub(super) fn prepare<F: PteFormat>(
        &mut self,
        frames: &'static Frames,
        gfn: Gfn,
        count: u64,
        target: Target,
    ) -> Result<()> {
        let needed = self.needed::<F>(
            frames,
            Source::Table(self.root),
            0,
            gfn.0,
            gfn.0 + count,
            target,
        );
        let wanted = self.used + self.spares + needed;
        if self.limit.is_some_and(|limit| wanted > limit) {
            self.free_spares(frames);
            return Err(Error::NoMem);
        }
        for _ in 0..needed {
            match frames.alloc_page(DomainId::XEN) {
                Ok(frame) => {
                    let next = self.spare.map_or(0, |m| m.0 + 1);
                    frame.page().store_u64(0, next, Ordering::Relaxed);
                    self.spare = Some(frame.into_raw());
                    self.spares += 1;
                }
                Err(e) => {
                    self.free_spares(frames);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    fn take_spare(&mut self, frames: &Frames) -> Option<Mfn> {
        let mfn = self.spare?;
        let page = frames.page(mfn)?;
        self.spare = page.load_u64(0, Ordering::Relaxed).checked_sub(1).map(Mfn);
        page.store_u64(0, 0, Ordering::Relaxed);
        self.spares -= 1;
        self.used += 1;
        Some(mfn)
    }

    /// Gives back what `prepare` allocated and nothing used.
    fn free_spares(&mut self, frames: &'static Frames) {
        while let Some(mfn) = self.take_spare(frames) {
            self.used -= 1;
            drop(frames.adopt(mfn));
        }
    }

    /// Whether an entry at `start` of this level can be one leaf of the target.
    fn fits(level: &Level, start: u64, from: u64, to: u64, target: Target, gfn: u64) -> bool {
        let covered = from <= start && start + (1 << level.order) <= to;
        covered
            && match target {
                None => true,
                Some((mfn, _)) => {
                    level.leaf && (mfn.0 + (start - gfn)).trailing_zeros() >= u32::from(level.order)
                }
            }
    }

    /// Counts the tables missing below `table` for a change of [from, to).
    fn needed<F: PteFormat>(
        &self,
        frames: &Frames,
        table: Source,
        depth: usize,
        from: u64,
        to: u64,
        target: Target,
    ) -> u64 {
        let Some(level) = self.levels.get(depth) else {
            return 0;
        };
        let size = 1u64 << level.order;
        let mut needed = 0;
        let mut start = from & !(size - 1);
        let gfn = from;
        while start < to {
            let (lo, hi) = (from.max(start), to.min(start + size));
            if !Self::fits(level, start, from, to, target, gfn) && !self.is_last(depth) {
                let index = (start >> level.order) & ((1 << level.bits) - 1);
                let below = match table {
                    Source::Table(t) => match F::decode(Self::load(frames, t, index), false) {
                        Pte::Empty => Source::Empty,
                        Pte::Table(next) => Source::Table(next),
                        Pte::Leaf(..) => Source::Leaf,
                    },
                    other => other,
                };
                // A piece of the target starts `lo - gfn` frames further on.
                let piece = target.map(|(mfn, kind)| (Mfn(mfn.0 + (lo - gfn)), kind));
                let new = match below {
                    Source::Empty if target.is_none() => {
                        start += size;
                        continue;
                    }
                    Source::Table(_) => 0,
                    Source::Empty | Source::Leaf => 1,
                };
                needed += new + self.needed::<F>(frames, below, depth + 1, lo, hi, piece);
            }
            start += size;
        }
        needed
    }

    /// Makes the one change that was prepared; `prepare` has allocated all it needs.
    pub(super) fn commit<F: PteFormat>(
        &mut self,
        frames: &'static Frames,
        gfn: Gfn,
        count: u64,
        target: Target,
        sink: &mut dyn Sink,
    ) {
        self.apply::<F>(frames, gfn, count, target, sink);
        // An over-estimate of `needed` (pieces of a split leaf) leaves pages over.
        self.free_spares(frames);
    }

    /// Makes one of the changes that were prepared; the last is to be made by `commit`.
    pub(super) fn apply<F: PteFormat>(
        &mut self,
        frames: &'static Frames,
        gfn: Gfn,
        count: u64,
        target: Target,
        sink: &mut dyn Sink,
    ) {
        if target.is_some() && count > 0 {
            self.max_gfn = self.max_gfn.max(Gfn(gfn.0 + count - 1));
        }
        self.change::<F>(frames, self.root, 0, gfn.0, gfn.0 + count, target, sink);
    }

    #[expect(clippy::too_many_arguments, reason = "a recursive walk's state")]
    fn change<F: PteFormat>(
        &mut self,
        frames: &'static Frames,
        table: Mfn,
        depth: usize,
        from: u64,
        to: u64,
        target: Target,
        sink: &mut dyn Sink,
    ) {
        let Some(&level) = self.levels.get(depth) else {
            return;
        };
        let last = self.is_last(depth);
        let size = 1u64 << level.order;
        let mut start = from & !(size - 1);
        while start < to {
            let index = (start >> level.order) & ((1 << level.bits) - 1);
            let old = F::decode(Self::load(frames, table, index), last);
            let (lo, hi) = (from.max(start), to.min(start + size));
            let piece = target.map(|(mfn, kind)| (Mfn(mfn.0 + (lo - from)), kind));
            if Self::fits(&level, start, from, to, target, from) {
                if old != Pte::Empty {
                    // Break before make: nobody may see the old and the new translation at once.
                    Self::store(frames, table, index, 0);
                    if piece.is_some() || matches!(old, Pte::Table(_)) {
                        sink.flush(Gfn(start), size);
                    }
                    self.drop_subtree::<F>(frames, old, depth, start, sink);
                }
                if let Some((mfn, kind)) = piece {
                    Self::store(frames, table, index, F::leaf(mfn, kind, last));
                }
            } else if !(old == Pte::Empty && target.is_none()) {
                let next = match old {
                    Pte::Table(next) => Some(next),
                    Pte::Empty | Pte::Leaf(..) => {
                        self.new_table::<F>(frames, table, index, depth, start, old, sink)
                    }
                };
                if let Some(next) = next {
                    self.change::<F>(frames, next, depth + 1, lo, hi, piece, sink);
                }
            }
            start += size;
        }
    }

    /// Puts a table where `old` (nothing, or a leaf, which it then maps in smaller pieces) stands.
    #[expect(clippy::too_many_arguments, reason = "a recursive walk's state")]
    fn new_table<F: PteFormat>(
        &mut self,
        frames: &Frames,
        table: Mfn,
        index: u64,
        depth: usize,
        start: u64,
        old: Pte,
        sink: &mut dyn Sink,
    ) -> Option<Mfn> {
        let (level, below) = (*self.levels.get(depth)?, *self.levels.get(depth + 1)?);
        let next = self.take_spare(frames)?;
        if let Pte::Leaf(mfn, kind) = old {
            for n in 0..1u64 << below.bits {
                let pte = F::leaf(
                    Mfn(mfn.0 + (n << below.order)),
                    kind,
                    self.is_last(depth + 1),
                );
                Self::store(frames, next, n, pte);
            }
            Self::store(frames, table, index, 0);
            sink.flush(Gfn(start), 1 << level.order);
        }
        Self::store(frames, table, index, F::table(next));
        Some(next)
    }

    /// Reports all leaves of a subtree that is no longer reachable and frees its tables.
    fn drop_subtree<F: PteFormat>(
        &mut self,
        frames: &'static Frames,
        pte: Pte,
        depth: usize,
        start: u64,
        sink: &mut dyn Sink,
    ) {
        match pte {
            Pte::Empty => {}
            Pte::Leaf(mfn, kind) => {
                let order = self.levels.get(depth).map_or(0, |l| l.order);
                sink.removed(Gfn(start), mfn, order, kind);
            }
            Pte::Table(table) => {
                let Some(&below) = self.levels.get(depth + 1) else {
                    return;
                };
                for n in 0..1u64 << below.bits {
                    let pte = F::decode(Self::load(frames, table, n), self.is_last(depth + 1));
                    self.drop_subtree::<F>(
                        frames,
                        pte,
                        depth + 1,
                        start + (n << below.order),
                        sink,
                    );
                }
                self.used -= 1;
                drop(frames.adopt(table));
            }
        }
    }

    pub(super) fn walk<F: PteFormat>(
        &self,
        frames: &Frames,
        from: Gfn,
        visit: &mut dyn FnMut(Gfn, Entry) -> bool,
    ) {
        self.walk_table::<F>(frames, self.root, 0, 0, from.0, visit);
    }

    fn walk_table<F: PteFormat>(
        &self,
        frames: &Frames,
        table: Mfn,
        depth: usize,
        base: u64,
        from: u64,
        visit: &mut dyn FnMut(Gfn, Entry) -> bool,
    ) -> bool {
        let Some(level) = self.levels.get(depth) else {
            return true;
        };
        for index in 0..1u64 << level.bits {
            let start = base + (index << level.order);
            if start + (1 << level.order) <= from {
                continue;
            }
            let go_on = match F::decode(Self::load(frames, table, index), self.is_last(depth)) {
                Pte::Empty => true,
                Pte::Table(next) => {
                    self.walk_table::<F>(frames, next, depth + 1, start, from, visit)
                }
                Pte::Leaf(mfn, kind) => visit(
                    Gfn(start),
                    Entry {
                        mfn,
                        kind,
                        order: level.order,
                    },
                ),
            };
            if !go_on {
                return false;
            }
        }
        true
    }

    /// Frees the root and all tables below it; the map is empty and no CPU uses it.
    pub(super) fn free_all<F: PteFormat>(&mut self, frames: &'static Frames) {
        let Some(&level) = self.levels.first() else {
            return;
        };
        for index in 0..1u64 << level.bits {
            let pte = F::decode(Self::load(frames, self.root, index), self.is_last(0));
            self.drop_subtree::<F>(frames, pte, 0, index << level.order, &mut Nothing);
        }
        for n in 0..1u64 << level.bits.saturating_sub(FRAME_BITS) {
            drop(frames.adopt(Mfn(self.root.0 + n)));
        }
    }
}

/// What stands where `needed` looks: a table, nothing, or part of a leaf that will have been split.
#[derive(Clone, Copy)]
enum Source {
    Table(Mfn),
    Empty,
    Leaf,
}

/// A sink for a map that holds no leaves any more.
struct Nothing;

impl Sink for Nothing {
    fn removed(&mut self, _: Gfn, _: Mfn, _: u8, _: P2mType) {}
    fn flush(&mut self, _: Gfn, _: u64) {}
}
