//! The buddy allocator's free lists: doubly linked through the frame table, by index.

use super::frames::{Bank, FrameInfo, Kind, MAX_ORDER};
use crate::{Error, Mfn, Result};

/// "No frame" in a list.
const NIL: u32 = u32::MAX;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Widths of frame numbers, from 0 bits up.
const WIDTHS: usize = 65;

/// Free lists, one per order; blocks are aligned to their size by machine frame number.
pub(super) struct Buddy {
    heads: [u32; ORDERS],
    free: u64,
    /// Free frames by the bits of their number.
    by_width: [u64; WIDTHS],
    /// Frames that are spoken for: the sum of all [`super::Claim`]s.
    pub(super) claimed: u64,
}

/// Bits of a frame number.
const fn width(mfn: u64) -> usize {
    (u64::BITS - mfn.leading_zeros()) as usize
}

impl Buddy {
    pub(super) const fn new() -> Self {
        Self {
            heads: [NIL; ORDERS],
            free: 0,
            by_width: [0; WIDTHS],
            claimed: 0,
        }
    }

    /// Free frames whose numbers have from `least` to `most` bits.
    pub(super) fn free_of_width(&self, least: usize, most: usize) -> u64 {
        let widths = self.by_width.iter().take(most.saturating_add(1));
        widths.skip(least).sum()
    }

    /// Notes that a block is free, or no longer.
    fn count(&mut self, mfn: Mfn, order: u8, free: bool) {
        let mut note = |width: usize, frames: u64| {
            if let Some(sum) = self.by_width.get_mut(width) {
                *sum = match free {
                    true => *sum + frames,
                    false => *sum - frames,
                };
            }
        };
        if mfn.0 == 0 {
            // The one block whose numbers differ in their highest bit.
            note(0, 1);
            (0..order).for_each(|n| note(usize::from(n) + 1, 1 << n));
        } else {
            note(width(mfn.0), 1 << order);
        }
        match free {
            true => self.free += 1 << order,
            false => self.free -= 1 << order,
        }
    }

    /// Frames on the free lists.
    pub(super) const fn free_frames(&self) -> u64 {
        self.free
    }

    fn info(banks: &[Bank], index: u32) -> Option<&'static FrameInfo> {
        banks.iter().find_map(|b| b.info_by_index(index))
    }

    fn push(&mut self, bank: &Bank, banks: &[Bank], mfn: Mfn, order: u8, dirty: bool) {
        let (Some(index), Some(info)) = (bank.index(mfn), bank.info(mfn)) else {
            return;
        };
        let Some(head) = self.heads.get_mut(order as usize) else {
            return;
        };
        info.set_links(NIL, *head);
        if let Some(next) = Self::info(banks, *head) {
            next.set_prev(index);
        }
        info.set_kind(Kind::Free { dirty }, order);
        *head = index;
        self.count(mfn, order, true);
    }

    /// Takes a block off its list. Its head is no free block's any more from here on, under the lock: whoever frees the
    /// neighbour meanwhile must not join the two.
    fn unlink(&mut self, banks: &[Bank], mfn: Mfn, info: &FrameInfo) {
        let order = info.order();
        let (prev, next) = info.links();
        match Self::info(banks, prev) {
            Some(p) => p.set_next(next),
            None => {
                if let Some(head) = self.heads.get_mut(order as usize) {
                    *head = next;
                }
            }
        }
        if let Some(n) = Self::info(banks, next) {
            n.set_prev(prev);
        }
        info.set_kind(Kind::FreeTail, 0);
        self.count(mfn, order, false);
    }

    /// Frees the block of `1 << order` frames at `mfn`, merging it with free buddies.
    pub(super) fn free(&mut self, banks: &[Bank], mfn: Mfn, order: u8, mut dirty: bool) {
        let Some(bank) = banks.iter().find(|b| b.contains(mfn)) else {
            return;
        };
        let (mut mfn, mut order) = (mfn, order);
        while order < MAX_ORDER {
            let buddy = Mfn(mfn.0 ^ (1 << order));
            let Some(info) = bank.info(buddy) else { break };
            let Kind::Free { dirty: other } = info.kind() else {
                break;
            };
            if info.order() != order {
                break;
            }
            self.unlink(banks, buddy, info);
            if let Some(head) = bank.info(mfn) {
                head.set_kind(Kind::FreeTail, 0);
            }
            dirty |= other;
            mfn = Mfn(mfn.0 & !(1 << order));
            order += 1;
        }
        self.push(bank, banks, mfn, order, dirty);
    }

    /// Takes a block of `1 << order` frames that lies below frame `limit`; says whether it needs scrubbing.
    pub(super) fn alloc(&mut self, banks: &[Bank], order: u8, limit: u64) -> Result<(Mfn, bool)> {
        for from in order..=MAX_ORDER {
            let mut at = self.heads.get(from as usize).copied().unwrap_or(NIL);
            while let Some(info) = Self::info(banks, at) {
                let Some((bank, mfn)) = banks.iter().find_map(|b| Some((b, b.mfn_by_index(at)?)))
                else {
                    break;
                };
                if mfn.0.saturating_add(1 << order) <= limit {
                    let Kind::Free { dirty } = info.kind() else {
                        return Err(Error::Inval);
                    };
                    self.unlink(banks, mfn, info);
                    // Give back the upper halves until the block has the size asked for.
                    for split in (order..from).rev() {
                        self.push(bank, banks, Mfn(mfn.0 + (1 << split)), split, dirty);
                    }
                    return Ok((mfn, dirty));
                }
                if limit == u64::MAX {
                    break;
                }
                at = info.links().1;
            }
        }
        Err(Error::NoMem)
    }
}
