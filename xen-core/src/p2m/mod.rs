//! The p2m: a domain's map from guest frames to machine frames, in the format the CPU walks.
//!
//! One implementation serves every architecture; only the bits of an entry differ ([`PteFormat`]). The map also
//! *owns*: an entry that is not a device holds one reference to each frame it maps, and the reference is
//! dropped only after the CPUs' translation caches were flushed. Changes are prepared (page-table pages are
//! allocated, which may fail) and then committed (which cannot fail).

mod ram;
mod table;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::fmt;

use arrayvec::ArrayVec;
use spin::RwLock;

use crate::mem::{FrameRef, Frames};
use crate::{Arch, Error, Gfn, Mfn, Result};
use table::Tables;

pub use ram::{Run, STRIDE, Taken};

/// What a p2m entry maps, and so what the guest may do with it and who holds the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum P2mType {
    /// The domain's own memory.
    RamRw = 1,
    /// The domain's own memory, read-only.
    RamRo = 2,
    /// A device's registers or memory, passed through; holds no reference.
    Mmio = 3,
    /// Another domain's frame.
    ForeignRw = 4,
    /// Another domain's frame, read-only.
    ForeignRo = 5,
    /// A granted frame.
    GrantRw = 6,
    /// A granted frame, read-only.
    GrantRo = 7,
    /// A page of the hypervisor shared with the guest: shared info, grant table.
    Shared = 8,
    /// A page of the hypervisor the guest may only read.
    SharedRo = 9,
}

impl P2mType {
    /// All types.
    pub const ALL: [Self; 9] = [
        Self::RamRw,
        Self::RamRo,
        Self::Mmio,
        Self::ForeignRw,
        Self::ForeignRo,
        Self::GrantRw,
        Self::GrantRo,
        Self::Shared,
        Self::SharedRo,
    ];

    /// The type with this number, as stored in an entry.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::RamRw,
            2 => Self::RamRo,
            3 => Self::Mmio,
            4 => Self::ForeignRw,
            5 => Self::ForeignRo,
            6 => Self::GrantRw,
            7 => Self::GrantRo,
            8 => Self::Shared,
            9 => Self::SharedRo,
            _ => return None,
        })
    }

    /// Whether the guest may write.
    pub const fn writable(self) -> bool {
        matches!(
            self,
            Self::RamRw | Self::Mmio | Self::ForeignRw | Self::GrantRw | Self::Shared
        )
    }

    /// Whether this is the domain's own memory.
    pub const fn is_ram(self) -> bool {
        matches!(self, Self::RamRw | Self::RamRo)
    }

    /// Whether the entry belongs to a grant mapping.
    pub const fn is_grant(self) -> bool {
        matches!(self, Self::GrantRw | Self::GrantRo)
    }

    /// Whether the entry holds a reference to each frame.
    pub const fn holds_frames(self) -> bool {
        !matches!(self, Self::Mmio)
    }
}

/// A decoded page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pte {
    /// Nothing.
    Empty,
    /// The next table.
    Table(Mfn),
    /// Memory, from this frame on.
    Leaf(Mfn, P2mType),
}

/// The bits of second-level page-table entries.
///
/// A table is one 4 KiB frame of up to 512 entries; a root may be several contiguous frames.
pub trait PteFormat: Send + Sync + 'static {
    /// An entry that maps `mfn` on; `last` says that it stands in the lowest table.
    fn leaf(mfn: Mfn, kind: P2mType, last: bool) -> u64;
    /// An entry that points to a lower table.
    fn table(mfn: Mfn) -> u64;
    /// What an entry says. 0 is [`Pte::Empty`].
    fn decode(pte: u64, last: bool) -> Pte;
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The machine frame behind the guest frame asked for.
    pub mfn: Mfn,
    /// What it is.
    pub kind: P2mType,
    /// log2 of the number of frames that the entry maps.
    pub order: u8,
}

/// A leaf that was taken out: `1 << order` frames from `mfn` on.
#[derive(Clone, Copy, Debug)]
struct Removed {
    mfn: Mfn,
    order: u8,
    kind: P2mType,
}

/// Frames that left the map: how many of the domain's own were among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Frames of the domain's own memory.
    pub ram: u64,
}

/// A domain's p2m.
pub struct P2m<A: Arch> {
    tables: RwLock<Tables>,
    arch: Arc<A>,
    frames: &'static Frames,
    tag: A::P2mTag,
    bits: u32,
}

impl<A: Arch> P2m<A> {
    /// An empty map. `pool` bounds the page-table pages; `None` is no bound.
    ///
    /// Errors: [`Error::NoMem`]; what the architecture says if it has no identifier left.
    pub fn new(arch: Arc<A>, frames: &'static Frames, pool: Option<u64>) -> Result<Self> {
        let levels = arch.p2m_levels();
        let mut tables = Tables::new(frames, levels, arch.p2m_max_leaf_order(), pool)?;
        let tag = match arch.new_p2m_tag(tables.root()) {
            Ok(tag) => tag,
            Err(error) => {
                tables.free_all::<A::Pte>(frames);
                return Err(error);
            }
        };
        let bits = levels.iter().map(|b| u32::from(*b)).sum();
        Ok(Self {
            tables: RwLock::new(tables),
            arch,
            frames,
            tag,
            bits,
        })
    }

    /// The architecture's identifier of this map.
    pub const fn tag(&self) -> &A::P2mTag {
        &self.tag
    }

    /// Number of bits of a guest frame number that the map can hold.
    pub const fn gfn_bits(&self) -> u32 {
        self.bits
    }

    /// The highest guest frame that was ever mapped.
    pub fn max_gfn(&self) -> Gfn {
        self.tables.read().max_gfn
    }

    /// Page-table pages in use, and the bound on them.
    pub fn pool(&self) -> (u64, Option<u64>) {
        let tables = self.tables.read();
        (tables.used, tables.limit)
    }

    /// Changes the bound on page-table pages.
    ///
    /// Errors: [`Error::NoMem`] if more are in use.
    pub fn set_pool(&self, limit: u64) -> Result<()> {
        let mut tables = self.tables.write();
        if tables.used > limit {
            return Err(Error::NoMem);
        }
        tables.limit = Some(limit);
        Ok(())
    }

    /// What is mapped at `gfn`.
    pub fn lookup(&self, gfn: Gfn) -> Option<Entry> {
        self.tables.read().lookup::<A::Pte>(self.frames, gfn)
    }

    /// A reference to the frame at `gfn`, and its type.
    ///
    /// Errors: [`Error::Fault`] if there is none, if it is a device, or if `write` and it is read-only.
    pub fn frame(&self, gfn: Gfn, write: bool) -> Result<(FrameRef, P2mType)> {
        let tables = self.tables.read();
        let entry = tables
            .lookup::<A::Pte>(self.frames, gfn)
            .ok_or(Error::Fault)?;
        if !entry.kind.holds_frames() || (write && !entry.kind.writable()) {
            return Err(Error::Fault);
        }
        // Under the lock the entry's own reference keeps the frame.
        Ok((self.frames.get(entry.mfn).ok_or(Error::Fault)?, entry.kind))
    }

    fn check_range(&self, gfn: Gfn, count: u64) -> Result<()> {
        match gfn.0.checked_add(count) {
            Some(end) if end <= 1 << self.bits => Ok(()),
            _ => Err(Error::Inval),
        }
    }

    /// Maps `count` frames from `mfn` on at `gfn` on, replacing what was there. For a type that holds frames,
    /// the caller hands over one reference to each. The largest entries that fit are used.
    ///
    /// Errors, with the map as it was and the references still the caller's: [`Error::NoMem`] without
    /// page-table pages; [`Error::Inval`] outside the address space, or for frames that entries cannot name.
    pub fn map(&self, gfn: Gfn, mfn: Mfn, count: u64, kind: P2mType) -> Result<Dropped> {
        self.check_range(gfn, count)?;
        // Frames with an owner exist; other numbers are the guest's choice, and cut short they would name something else.
        let last = mfn.0.checked_add(count.saturating_sub(1)).map(Mfn);
        if !kind.holds_frames() && !last.is_some_and(|last| Self::can_name(last, kind)) {
            return Err(Error::Inval);
        }
        let mut tables = self.tables.write();
        let target = Some((mfn, kind));
        tables.prepare::<A::Pte>(self.frames, gfn, count, target)?;
        Ok(self.commit(&mut tables, gfn, count, target))
    }

    /// Whether an entry of this type can have this frame.
    pub fn can_name(mfn: Mfn, kind: P2mType) -> bool {
        let entry = A::Pte::leaf(mfn, kind, true);
        matches!(A::Pte::decode(entry, true), Pte::Leaf(m, k) if (m, k) == (mfn, kind))
    }

    /// Maps one frame, if nothing is mapped there yet.
    ///
    /// Errors as [`P2m::map`]; [`Error::Busy`] if `gfn` is taken.
    pub fn map_new(&self, gfn: Gfn, frame: FrameRef, kind: P2mType) -> Result<()> {
        self.check_range(gfn, 1)?;
        let mut tables = self.tables.write();
        if tables.lookup::<A::Pte>(self.frames, gfn).is_some() {
            return Err(Error::Busy);
        }
        let target = Some((frame.mfn(), kind));
        tables.prepare::<A::Pte>(self.frames, gfn, 1, target)?;
        frame.into_raw();
        self.commit(&mut tables, gfn, 1, target);
        Ok(())
    }

    /// Maps one frame, replacing what was there.
    ///
    /// Errors as [`P2m::map`].
    pub fn map_frame(&self, gfn: Gfn, frame: FrameRef, kind: P2mType) -> Result<Dropped> {
        let dropped = self.map(gfn, frame.mfn(), 1, kind)?;
        frame.into_raw();
        Ok(dropped)
    }

    /// As [`P2m::map_frame`]; memory of the domain's own that was there stays owned by it, with the reference that the
    /// entry stood for, so that the very same frame can come back. Only what was not kept is reported as dropped.
    ///
    /// Errors as [`P2m::map`], with the map as it was.
    pub fn map_frame_keeping(&self, gfn: Gfn, frame: FrameRef, kind: P2mType) -> Result<Dropped> {
        self.check_range(gfn, 1)?;
        let mut tables = self.tables.write();
        let kept = match tables.lookup::<A::Pte>(self.frames, gfn) {
            Some(entry) if entry.kind.is_ram() => {
                Some(self.frames.get(entry.mfn).ok_or(Error::Inval)?)
            }
            _ => None,
        };
        let target = Some((frame.mfn(), kind));
        tables.prepare::<A::Pte>(self.frames, gfn, 1, target)?;
        frame.into_raw();
        let mut dropped = self.commit(&mut tables, gfn, 1, target);
        if let Some(kept) = kept {
            kept.into_raw();
            dropped.ram -= 1;
        }
        Ok(dropped)
    }

    /// Takes `count` frames out of the map from `gfn` on. Holes are skipped.
    ///
    /// Errors: [`Error::NoMem`] if a large entry must be split and there is no page; [`Error::Inval`] outside
    /// the address space.
    pub fn unmap(&self, gfn: Gfn, count: u64) -> Result<Dropped> {
        self.check_range(gfn, count)?;
        let mut tables = self.tables.write();
        tables.prepare::<A::Pte>(self.frames, gfn, count, None)?;
        Ok(self.commit(&mut tables, gfn, count, None))
    }

    /// As [`P2m::unmap`] for one frame, only if `check` agrees with what is there.
    ///
    /// Errors: [`Error::NoEnt`] if nothing is there; what `check` says; [`Error::NoMem`].
    pub fn unmap_if(&self, gfn: Gfn, check: impl FnOnce(Entry) -> Result<()>) -> Result<Dropped> {
        self.check_range(gfn, 1)?;
        let mut tables = self.tables.write();
        check(
            tables
                .lookup::<A::Pte>(self.frames, gfn)
                .ok_or(Error::NoEnt)?,
        )?;
        tables.prepare::<A::Pte>(self.frames, gfn, 1, None)?;
        Ok(self.commit(&mut tables, gfn, 1, None))
    }

    fn commit(
        &self,
        tables: &mut Tables,
        gfn: Gfn,
        count: u64,
        target: Option<(Mfn, P2mType)>,
    ) -> Dropped {
        let mut batch = Batch::new(self);
        tables.commit::<A::Pte>(self.frames, gfn, count, target, &mut batch);
        batch.finish();
        batch.dropped
    }

    /// Visits mapped leaves from `from` on, in order of guest frames: guest frame, entry (its first frame).
    /// `visit` answers whether to go on.
    pub fn walk(&self, from: Gfn, mut visit: impl FnMut(Gfn, Entry) -> bool) {
        self.tables
            .read()
            .walk::<A::Pte>(self.frames, from, &mut visit);
    }

    /// Empties the map from its lowest mapping on, up to `budget` leaves; true when it is empty.
    pub fn relinquish(&self, budget: usize) -> (bool, Dropped) {
        let mut left = budget;
        let mut leaves: ArrayVec<(Gfn, u8), 64> = ArrayVec::new();
        let mut total = Dropped::default();
        loop {
            leaves.clear();
            self.walk(Gfn(0), |gfn, entry| {
                leaves.try_push((gfn, entry.order)).is_ok()
            });
            if leaves.is_empty() {
                return (true, total);
            }
            for (gfn, order) in &leaves {
                if left == 0 {
                    return (false, total);
                }
                left -= 1;
                // A whole leaf needs no page to be taken out.
                if let Ok(dropped) = self.unmap(*gfn, 1 << order) {
                    total.ram += dropped.ram;
                }
            }
        }
    }
}

impl<A: Arch> Drop for P2m<A> {
    fn drop(&mut self) {
        while !self.relinquish(usize::MAX).0 {}
        self.tables.get_mut().free_all::<A::Pte>(self.frames);
    }
}

impl<A: Arch> fmt::Debug for P2m<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P2m({} bits)", self.bits)
    }
}

/// Leaves that were taken out and whose frames wait for the flush.
struct Batch<'a, A: Arch> {
    p2m: &'a P2m<A>,
    removed: ArrayVec<Removed, 64>,
    lo: u64,
    hi: u64,
    dropped: Dropped,
}

impl<'a, A: Arch> Batch<'a, A> {
    fn new(p2m: &'a P2m<A>) -> Self {
        Self {
            p2m,
            removed: ArrayVec::new(),
            lo: u64::MAX,
            hi: 0,
            dropped: Dropped::default(),
        }
    }

    fn note(&mut self, gfn: Gfn, removed: Removed) {
        if self.removed.is_full() {
            self.finish();
        }
        self.lo = self.lo.min(gfn.0);
        self.hi = self.hi.max(gfn.0 + (1 << removed.order));
        let _ = self.removed.try_push(removed);
    }

    /// Flushes translations of `count` frames at `gfn` now: the entry is about to get another value.
    fn flush_now(&self, gfn: Gfn, count: u64) {
        self.p2m.arch.flush_p2m(&self.p2m.tag, gfn, count);
    }

    fn finish(&mut self) {
        if self.lo < self.hi {
            self.p2m
                .arch
                .flush_p2m(&self.p2m.tag, Gfn(self.lo), self.hi - self.lo);
        }
        (self.lo, self.hi) = (u64::MAX, 0);
        for removed in self.removed.drain(..) {
            if !removed.kind.holds_frames() {
                continue;
            }
            for n in 0..1u64 << removed.order {
                drop(self.p2m.frames.adopt(Mfn(removed.mfn.0 + n)));
            }
            if removed.kind.is_ram() {
                self.dropped.ram += 1 << removed.order;
            }
        }
    }
}

/// Where commit reports what it takes out; implemented by [`Batch`].
trait Sink {
    fn removed(&mut self, gfn: Gfn, mfn: Mfn, order: u8, kind: P2mType);
    fn flush(&mut self, gfn: Gfn, count: u64);
}

impl<A: Arch> Sink for Batch<'_, A> {
    fn removed(&mut self, gfn: Gfn, mfn: Mfn, order: u8, kind: P2mType) {
        self.note(gfn, Removed { mfn, order, kind });
    }
    fn flush(&mut self, gfn: Gfn, count: u64) {
        self.flush_now(gfn, count);
    }
}
