//! The frame table and allocator.
#![expect(unsafe_code, reason = "frames are handed out as untyped memory")]

use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use bitflags::bitflags;
use spin::Mutex;

use super::buddy::Buddy;
use super::claim::Claim;
use super::page::Page;
use crate::{DomainId, Error, Mfn, PAGE_SHIFT, PAGE_SIZE, Result};

/// Largest block the allocator keeps together: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// Most banks of memory a machine may have.
const MAX_BANKS: usize = 64;
/// References beyond this many on one frame are refused, so that a guest cannot make a count wrap.
const MAX_COUNT: u32 = 1 << 30;

bitflags! {
    /// How to allocate.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AllocFlags: u32 {
        /// The content does not matter: whatever was left by the firmware need not be scrubbed. Memory that
        /// belonged to a domain was scrubbed when it was freed all the same.
        const NO_SCRUB = 1;
    }
}

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never given to the allocator.
    Reserved,
    /// First frame of a free block.
    Free { dirty: bool },
    /// Another frame of a free block.
    FreeTail,
    /// Allocated, untyped.
    Used,
    /// Given to the hypervisor's heap for ever.
    Heap,
}

/// The frame table's entry for one frame: 16 bytes.
#[derive(Debug, Default)]
pub struct FrameInfo {
    count: AtomicU32,
    next: AtomicU32,
    prev: AtomicU32,
    owner: AtomicU16,
    kind: AtomicU8,
    order: AtomicU8,
}

// All accesses to kind, order and links happen under the allocator's lock or by the frame's only holder.
impl FrameInfo {
    /// An entry for a frame that the allocator does not own.
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            next: AtomicU32::new(u32::MAX),
            prev: AtomicU32::new(u32::MAX),
            owner: AtomicU16::new(0),
            kind: AtomicU8::new(0),
            order: AtomicU8::new(0),
        }
    }
    /// Back to the state of [`FrameInfo::new`].
    #[cfg(feature = "soft")]
    pub(super) fn reset(&self) {
        self.set_kind(Kind::Reserved, 0);
        self.count.store(0, Ordering::Relaxed);
    }
    pub(super) fn kind(&self) -> Kind {
        match self.kind.load(Ordering::Relaxed) {
            1 => Kind::Free { dirty: false },
            2 => Kind::Free { dirty: true },
            3 => Kind::FreeTail,
            4 => Kind::Used,
            5 => Kind::Heap,
            _ => Kind::Reserved,
        }
    }
    pub(super) fn set_kind(&self, kind: Kind, order: u8) {
        let kind = match kind {
            Kind::Reserved => 0,
            Kind::Free { dirty: false } => 1,
            Kind::Free { dirty: true } => 2,
            Kind::FreeTail => 3,
            Kind::Used => 4,
            Kind::Heap => 5,
        };
        self.kind.store(kind, Ordering::Relaxed);
        self.order.store(order, Ordering::Relaxed);
    }
    pub(super) fn order(&self) -> u8 {
        self.order.load(Ordering::Relaxed)
    }
    pub(super) fn links(&self) -> (u32, u32) {
        (
            self.prev.load(Ordering::Relaxed),
            self.next.load(Ordering::Relaxed),
        )
    }
    pub(super) fn set_links(&self, prev: u32, next: u32) {
        self.set_prev(prev);
        self.set_next(next);
    }
    pub(super) fn set_prev(&self, prev: u32) {
        self.prev.store(prev, Ordering::Relaxed);
    }
    pub(super) fn set_next(&self, next: u32) {
        self.next.store(next, Ordering::Relaxed);
    }
}

/// One contiguous range of memory.
pub(super) struct Bank {
    base: Mfn,
    va: NonNull<u8>,
    info: &'static [FrameInfo],
    first_index: u32,
}

// SAFETY: `va` is only an address; what is behind it is reached through `Page`, which is safe to share.
unsafe impl Send for Bank {}
// SAFETY: as above.
unsafe impl Sync for Bank {}

impl Bank {
    pub(super) fn contains(&self, mfn: Mfn) -> bool {
        mfn.0.wrapping_sub(self.base.0) < self.info.len() as u64
    }
    pub(super) fn info(&self, mfn: Mfn) -> Option<&'static FrameInfo> {
        self.info
            .get(usize::try_from(mfn.0.checked_sub(self.base.0)?).ok()?)
    }
    pub(super) fn index(&self, mfn: Mfn) -> Option<u32> {
        self.contains(mfn)
            .then(|| self.first_index + (mfn.0 - self.base.0) as u32)
    }
    pub(super) fn info_by_index(&self, index: u32) -> Option<&'static FrameInfo> {
        self.info.get(index.checked_sub(self.first_index)? as usize)
    }
    pub(super) fn mfn_by_index(&self, index: u32) -> Option<Mfn> {
        let n = index.checked_sub(self.first_index)?;
        ((n as usize) < self.info.len()).then(|| Mfn(self.base.0 + u64::from(n)))
    }
    fn address(&self, mfn: Mfn) -> NonNull<u8> {
        debug_assert!(self.contains(mfn));
        // SAFETY: callers looked the bank up by `mfn`, so the offset is inside the mapped range.
        unsafe { self.va.add(((mfn.0 - self.base.0) << PAGE_SHIFT) as usize) }
    }
}

/// All memory of the machine that the hypervisor manages.
pub struct Frames {
    banks: ArrayVec<Bank, MAX_BANKS>,
    pub(super) buddy: Mutex<Buddy>,
    total: AtomicU64,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// No memory yet.
    pub const fn new() -> Self {
        Self {
            banks: ArrayVec::new_const(),
            buddy: Mutex::new(Buddy::new()),
            total: AtomicU64::new(0),
        }
    }

    /// Makes a bank known: `info.len()` frames from `base` on. None of them is free until [`Frames::release`].
    ///
    /// Errors: [`Error::NoSpc`] beyond 64 banks or 2^32 frames.
    ///
    /// # Safety
    /// The bank's memory is mapped readable and writable at the page-aligned address `va`, for ever, and does
    /// not overlap another bank. Whatever is released of it is used by nobody else as typed memory.
    pub unsafe fn add_bank(
        &mut self,
        base: Mfn,
        va: NonNull<u8>,
        info: &'static [FrameInfo],
    ) -> Result<()> {
        let first_index = self.banks.iter().map(|b| b.info.len()).sum::<usize>();
        let end = first_index.checked_add(info.len()).ok_or(Error::NoSpc)?;
        let first_index = u32::try_from(first_index).map_err(|_| Error::NoSpc)?;
        if end >= u32::MAX as usize {
            return Err(Error::NoSpc);
        }
        self.banks
            .try_push(Bank {
                base,
                va,
                info,
                first_index,
            })
            .map_err(|_| Error::NoSpc)
    }

    /// Gives `count` frames from `base` on to the allocator, at boot. Frames of no bank and frames that were
    /// released or assigned before are skipped. Their content counts as unscrubbed.
    pub fn release(&self, base: Mfn, count: u64) {
        let mut at = base.0;
        let end = base.0.saturating_add(count);
        while at < end {
            let mut order = at.trailing_zeros().min(u32::from(MAX_ORDER)) as u8;
            while at + (1 << order) > end || !self.all_reserved(Mfn(at), order) {
                if order == 0 {
                    break;
                }
                order -= 1;
            }
            if self.all_reserved(Mfn(at), order) {
                for n in 0..1 << order {
                    if let Some(info) = self.info(Mfn(at + n)) {
                        info.set_kind(Kind::FreeTail, 0);
                    }
                }
                self.buddy.lock().free(&self.banks, Mfn(at), order, true);
                self.total.fetch_add(1 << order, Ordering::Relaxed);
            }
            at += 1 << order;
        }
    }

    /// Gives exactly these `count` frames, none of which was released or assigned before, to `owner`, at boot: one
    /// reference to each, which [`Frames::adopt`] takes. Their content stays.
    ///
    /// Errors, with everything as before: [`Error::Inval`] if one of them is in no bank; [`Error::Busy`] if one of
    /// them was released or assigned.
    pub fn assign(&self, owner: DomainId, base: Mfn, count: u64) -> Result<()> {
        let frames = || (0..count).map(|n| base.0.checked_add(n).map(Mfn));
        for mfn in frames() {
            let info = mfn.and_then(|mfn| self.info(mfn)).ok_or(Error::Inval)?;
            if info.kind() != Kind::Reserved {
                return Err(Error::Busy);
            }
        }
        for info in frames().flatten().filter_map(|mfn| self.info(mfn)) {
            info.set_kind(Kind::Used, 0);
            info.owner.store(owner.0, Ordering::Relaxed);
            info.count.store(1, Ordering::Release);
        }
        self.total.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn all_reserved(&self, base: Mfn, order: u8) -> bool {
        let Some(bank) = self.bank(base) else {
            return false;
        };
        (0..1u64 << order).all(|n| {
            bank.info(Mfn(base.0 + n))
                .is_some_and(|i| i.kind() == Kind::Reserved)
        })
    }

    fn bank(&self, mfn: Mfn) -> Option<&Bank> {
        self.banks.iter().find(|b| b.contains(mfn))
    }

    fn info(&self, mfn: Mfn) -> Option<&'static FrameInfo> {
        self.bank(mfn)?.info(mfn)
    }

    /// Frames that were given to the allocator or to domains at boot, in all.
    pub fn total_frames(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Frames that are free now.
    pub fn free_frames(&self) -> u64 {
        self.buddy.lock().free_frames()
    }

    /// Free frames whose machine addresses have from `least` to `most` bits.
    pub fn free_frames_of_width(&self, least: u32, most: u32) -> u64 {
        let bits = |width: u32| width.saturating_sub(PAGE_SHIFT) as usize;
        self.buddy.lock().free_of_width(bits(least), bits(most))
    }

    /// One past the highest frame of any bank.
    pub fn end(&self) -> Mfn {
        Mfn(self
            .banks
            .iter()
            .map(|b| b.base.0 + b.info.len() as u64)
            .max()
            .unwrap_or(0))
    }

    /// Whether the frame is ordinary memory, the hypervisor's own included.
    pub fn is_ram(&self, mfn: Mfn) -> bool {
        self.bank(mfn).is_some()
    }

    /// The owner of an allocated frame.
    pub fn owner(&self, mfn: Mfn) -> Option<DomainId> {
        let info = self.info(mfn)?;
        (info.count.load(Ordering::Acquire) > 0)
            .then(|| DomainId(info.owner.load(Ordering::Relaxed)))
    }

    /// The number of references to a frame; 0 if it is free.
    pub fn count(&self, mfn: Mfn) -> u32 {
        self.info(mfn)
            .map_or(0, |i| i.count.load(Ordering::Acquire))
    }

    /// Allocates `1 << order` contiguous, naturally aligned frames for `owner`, one reference to each.
    ///
    /// Errors: [`Error::NoMem`]; [`Error::Inval`] for an order above [`MAX_ORDER`].
    pub fn alloc(
        &'static self,
        owner: DomainId,
        order: u8,
        flags: AllocFlags,
    ) -> Result<FrameBlock> {
        self.alloc_below(owner, order, flags, u64::MAX)
    }

    /// As [`Frames::alloc`], with all frames below frame number `limit`.
    pub fn alloc_below(
        &'static self,
        owner: DomainId,
        order: u8,
        flags: AllocFlags,
        limit: u64,
    ) -> Result<FrameBlock> {
        self.alloc_with(owner, order, flags, limit, None)
    }

    /// As [`Frames::alloc_below`], for an owner with a claim, against which the frames count as far as it goes.
    pub fn alloc_claimed(
        &'static self,
        claim: &Claim,
        owner: DomainId,
        order: u8,
        flags: AllocFlags,
        limit: u64,
    ) -> Result<FrameBlock> {
        self.alloc_with(owner, order, flags, limit, Some(claim))
    }

    fn alloc_with(
        &'static self,
        owner: DomainId,
        order: u8,
        flags: AllocFlags,
        limit: u64,
        claim: Option<&Claim>,
    ) -> Result<FrameBlock> {
        if order > MAX_ORDER {
            return Err(Error::Inval);
        }
        let (mfn, dirty) = {
            let mut buddy = self.buddy.lock();
            let count = 1u64 << order;
            let others = buddy.claimed.saturating_sub(claim.map_or(0, Claim::pages));
            if owner != DomainId::XEN && others.saturating_add(count) > buddy.free_frames() {
                return Err(Error::NoMem);
            }
            let found = buddy.alloc(&self.banks, order, limit)?;
            if let Some(claim) = claim {
                claim.draw(&mut buddy.claimed, count);
            }
            found
        };
        let bank = self.bank(mfn).ok_or(Error::NoMem)?;
        for n in 0..1u64 << order {
            let mfn = Mfn(mfn.0 + n);
            if let Some(info) = bank.info(mfn) {
                info.set_kind(Kind::Used, 0);
                info.owner.store(owner.0, Ordering::Relaxed);
                if dirty && !flags.contains(AllocFlags::NO_SCRUB) {
                    self.page_in(bank, mfn).zero();
                }
                info.count.store(1, Ordering::Release);
            }
        }
        Ok(FrameBlock {
            mfn,
            order,
            frames: self,
        })
    }

    /// Allocates one zeroed frame.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn alloc_page(&'static self, owner: DomainId) -> Result<FrameRef> {
        let block = self.alloc(owner, 0, AllocFlags::empty())?;
        let mfn = block.into_raw();
        self.adopt(mfn).ok_or(Error::NoMem)
    }

    fn page_in(&self, bank: &Bank, mfn: Mfn) -> Page<'_> {
        // SAFETY: the bank's memory is mapped for ever (contract of `add_bank`); frames of the allocator are
        // untyped, so all accesses of the hypervisor to them go through `Page`.
        unsafe { Page::new(bank.address(mfn)) }
    }

    /// A view of an allocated frame that the caller knows is held: by a p2m entry under the p2m's lock, or as
    /// a page-table page. `None` if the frame is not allocated.
    pub fn page(&self, mfn: Mfn) -> Option<Page<'_>> {
        let bank = self.bank(mfn)?;
        (bank.info(mfn)?.kind() == Kind::Used).then(|| self.page_in(bank, mfn))
    }

    /// Takes a further reference to an allocated frame; `None` if the frame is free or not memory.
    pub fn get(&'static self, mfn: Mfn) -> Option<FrameRef> {
        let bank = self.bank(mfn)?;
        let info = bank.info(mfn)?;
        info.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |c| {
                (c > 0 && c < MAX_COUNT).then_some(c + 1)
            })
            .ok()?;
        Some(FrameRef {
            mfn,
            va: bank.address(mfn),
            frames: self,
        })
    }

    /// Makes a [`FrameRef`] of a reference that was turned raw before.
    pub fn adopt(&'static self, mfn: Mfn) -> Option<FrameRef> {
        let bank = self.bank(mfn)?;
        debug_assert!(self.count(mfn) > 0);
        (bank.info(mfn)?.kind() == Kind::Used).then(|| FrameRef {
            mfn,
            va: bank.address(mfn),
            frames: self,
        })
    }

    fn put(&self, mfn: Mfn) {
        let Some(bank) = self.bank(mfn) else { return };
        let Some(info) = bank.info(mfn) else { return };
        if info.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.page_in(bank, mfn).zero();
            self.buddy.lock().free(&self.banks, mfn, 0, false);
        }
    }

    /// For the debug key: how memory is used.
    pub fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for bank in &self.banks {
            let kib = bank.info.len() * (PAGE_SIZE as usize / 1024);
            writeln!(out, "bank {} + {} KiB", bank.base.base(), kib)?;
        }
        let (free, total) = (self.free_frames(), self.total_frames());
        writeln!(out, "{free} of {total} frames free")
    }

    /// Owners and counts of all allocated frames, for tests and leak checks.
    pub fn allocated(&self) -> Vec<(Mfn, DomainId, u32)> {
        let mut all = Vec::new();
        for bank in &self.banks {
            for (n, info) in bank.info.iter().enumerate() {
                let count = info.count.load(Ordering::Acquire);
                if count > 0 {
                    all.push((
                        Mfn(bank.base.0 + n as u64),
                        DomainId(info.owner.load(Ordering::Relaxed)),
                        count,
                    ));
                }
            }
        }
        all
    }
}

/// Newly allocated contiguous frames, one reference to each; dropping it frees those still unshared.
pub struct FrameBlock {
    mfn: Mfn,
    order: u8,
    frames: &'static Frames,
}

impl FrameBlock {
    /// The first frame.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// log2 of the number of frames.
    pub const fn order(&self) -> u8 {
        self.order
    }
    /// Gives up the references without dropping them; returns the first frame. Each frame's reference is given
    /// back by [`Frames::adopt`].
    pub fn into_raw(self) -> Mfn {
        ManuallyDrop::new(self).mfn
    }
    /// Turns the frames into ordinary memory of the hypervisor, for ever.
    pub fn into_memory(self) -> NonNull<[u8]> {
        let this = ManuallyDrop::new(self);
        for n in 0..1u64 << this.order {
            if let Some(info) = this.frames.info(Mfn(this.mfn.0 + n)) {
                // With no count and this kind, neither `get`, `page` nor `adopt` reaches the frame again.
                info.set_kind(Kind::Heap, 0);
                info.count.store(0, Ordering::Release);
            }
        }
        let base = match this.frames.bank(this.mfn) {
            Some(bank) => bank.address(this.mfn),
            None => NonNull::dangling(),
        };
        NonNull::slice_from_raw_parts(base, (PAGE_SIZE as usize) << this.order)
    }
}

impl Drop for FrameBlock {
    fn drop(&mut self) {
        for n in 0..1u64 << self.order {
            self.frames.put(Mfn(self.mfn.0 + n));
        }
    }
}

/// A counted reference to one allocated frame.
pub struct FrameRef {
    mfn: Mfn,
    va: NonNull<u8>,
    frames: &'static Frames,
}

// SAFETY: the pointer is only used through `Page`, whose accesses are atomic.
unsafe impl Send for FrameRef {}
// SAFETY: as above.
unsafe impl Sync for FrameRef {}

impl FrameRef {
    /// The frame's number.
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }
    /// The frame's owner.
    pub fn owner(&self) -> DomainId {
        DomainId(
            self.frames
                .info(self.mfn)
                .map_or(0, |i| i.owner.load(Ordering::Relaxed)),
        )
    }
    /// The frame's bytes.
    pub const fn page(&self) -> Page<'_> {
        // SAFETY: `va` maps the frame (looked up when the reference was made) and the reference keeps the
        // frame allocated, hence untyped, while the view lives.
        unsafe { Page::new(self.va) }
    }
    /// Gives up the reference without dropping it; [`Frames::adopt`] takes it back.
    pub fn into_raw(self) -> Mfn {
        ManuallyDrop::new(self).mfn
    }
    /// A further reference to the same frame; `None` if there are too many.
    pub fn try_clone(&self) -> Option<Self> {
        self.frames.get(self.mfn)
    }
}

impl Drop for FrameRef {
    fn drop(&mut self) {
        self.frames.put(self.mfn);
    }
}

impl fmt::Debug for FrameRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameRef({})", self.mfn)
    }
}
