//! Memory set aside for a domain before it is allocated.
//!
//! A toolstack that builds a domain claims its memory first, so that two builders at the same time do not both find enough and
//! then both fail half-way. A claim is a number of frames, none in particular: other domains get no memory that would
//! leave too little for it, and each frame that its domain gets counts against it. The hypervisor's own needs go before
//! claims.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Frames;
use crate::{Error, Result};

/// A domain's claim. It ends with this value at the latest.
pub struct Claim {
    frames: &'static Frames,
    /// Changed under the allocator's lock only.
    pages: AtomicU64,
}

impl Claim {
    /// No claim yet.
    pub const fn new(frames: &'static Frames) -> Self {
        Self {
            frames,
            pages: AtomicU64::new(0),
        }
    }

    /// Frames claimed that the domain does not have yet.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Claims `pages` frames.
    ///
    /// Errors: [`Error::Inval`] if there is a claim already; [`Error::NoMem`] if fewer are free that nobody else has claimed.
    pub fn set(&self, pages: u64) -> Result<()> {
        let mut buddy = self.frames.buddy.lock();
        if self.pages() != 0 {
            return Err(Error::Inval);
        }
        let all = buddy.claimed.checked_add(pages).ok_or(Error::NoMem)?;
        if all > buddy.free_frames() {
            return Err(Error::NoMem);
        }
        buddy.claimed = all;
        self.pages.store(pages, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the claim.
    pub fn release(&self) {
        let mut buddy = self.frames.buddy.lock();
        let pages = self.pages.swap(0, Ordering::Relaxed);
        buddy.claimed = buddy.claimed.saturating_sub(pages);
    }

    /// Counts up to `count` frames against the claim; how many it covers. The allocator's lock, with the sum of all claims in
    /// it, is held.
    pub(super) fn draw(&self, claimed: &mut u64, count: u64) {
        let covered = self.pages().min(count);
        self.pages.fetch_sub(covered, Ordering::Relaxed);
        *claimed = claimed.saturating_sub(covered);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({})", self.pages())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

impl Frames {
    /// Frames that domains have claimed and do not have yet.
    pub fn claimed_frames(&self) -> u64 {
        self.buddy.lock().claimed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DomainId;
    use crate::mem::{AllocFlags, FrameBlock, SoftFrames};

    fn alloc(
        memory: &SoftFrames,
        owner: u16,
        order: u8,
        claim: Option<&Claim>,
    ) -> Result<FrameBlock> {
        let (frames, flags) = (memory.frames(), AllocFlags::empty());
        match claim {
            Some(claim) => frames.alloc_claimed(claim, DomainId(owner), order, flags, u64::MAX),
            None => frames.alloc(DomainId(owner), order, flags),
        }
    }

    #[test]
    fn a_claim_keeps_others_out() {
        let memory = SoftFrames::new(64);
        let (one, two) = (Claim::new(memory.frames()), Claim::new(memory.frames()));
        assert_eq!(one.set(65), Err(Error::NoMem));
        assert_eq!(one.set(u64::MAX), Err(Error::NoMem));
        assert_eq!(one.set(40), Ok(()));
        assert_eq!(one.set(1), Err(Error::Inval), "one at a time");
        assert_eq!(two.set(25), Err(Error::NoMem));
        assert_eq!(two.set(24), Ok(()));
        assert_eq!(memory.frames().claimed_frames(), 64);
        // Nothing is left for anybody else but the hypervisor.
        assert_eq!(alloc(&memory, 3, 0, None).err(), Some(Error::NoMem));
        let own = alloc(&memory, 1, 5, Some(&one)).ok();
        assert!(own.is_some());
        assert_eq!((one.pages(), memory.frames().claimed_frames()), (8, 32));
        // More than it claimed comes from what is free, and nothing is.
        assert_eq!(alloc(&memory, 1, 4, Some(&one)).err(), Some(Error::NoMem));
        assert_eq!(one.pages(), 8);
        assert!(memory.frames().alloc_page(DomainId::XEN).is_ok());
        one.release();
        assert!(alloc(&memory, 3, 3, None).is_ok());
        assert_eq!(alloc(&memory, 3, 4, None).err(), Some(Error::NoMem));
        drop(two);
        assert_eq!(memory.frames().claimed_frames(), 0);
        assert!(alloc(&memory, 3, 4, None).is_ok());
    }

    #[test]
    fn a_failed_allocation_draws_nothing() {
        let memory = SoftFrames::new(32);
        let claim = Claim::new(memory.frames());
        assert_eq!(claim.set(16), Ok(()));
        let fails = memory
            .frames()
            .alloc_claimed(&claim, DomainId(1), 2, AllocFlags::empty(), 1);
        assert_eq!(fails.err(), Some(Error::NoMem));
        assert_eq!(claim.pages(), 16);
    }

    proptest! {
        /// Whatever is claimed and allocated: who holds a claim can always get what is left of it.
        #[test]
        fn claims_are_kept(steps in prop::collection::vec((0..3usize, 0..5u64, 0..20u64), 1..60)) {
            let memory = SoftFrames::new(64);
            let claims: [_; 3] = core::array::from_fn(|_| Claim::new(memory.frames()));
            let mut held = Vec::new();
            for (who, what, n) in steps {
                match what {
                    0 => { let _ = claims[who].set(n); }
                    1 => claims[who].release(),
                    2 => held.extend(alloc(&memory, 9, (n % 4) as u8, None).ok()),
                    3 => held.extend(alloc(&memory, who as u16, (n % 4) as u8, Some(&claims[who])).ok()),
                    _ => { held.pop(); }
                }
                let sum: u64 = claims.iter().map(Claim::pages).sum();
                prop_assert_eq!(memory.frames().claimed_frames(), sum);
                prop_assert!(sum <= memory.frames().free_frames());
            }
            for (who, claim) in claims.iter().enumerate() {
                while claim.pages() > 0 {
                    held.push(alloc(&memory, who as u16, 0, Some(claim)).expect("was promised"));
                }
            }
        }
    }
}
