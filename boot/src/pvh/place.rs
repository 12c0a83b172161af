//! Room in dom0's memory.

use crate::range::PhysRange;
use alloc::vec::Vec;
use xen_core::{HostPhysAddr, PAGE_SIZE};

/// Memory of dom0's with nothing in it yet, in whole pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// In ascending order; the ranges do not overlap.
    free: Vec<PhysRange>,
}

impl Room {
    /// All of `ram`, as far as it is whole pages.
    pub fn new(ram: &[PhysRange]) -> Self {
        let mut free: Vec<PhysRange> = ram.iter().filter_map(inner_pages).collect();
        free.sort_unstable();
        Self { free }
    }

    /// What is free.
    pub fn free(&self) -> &[PhysRange] {
        &self.free
    }

    /// Takes `range` out, whatever of it is free.
    pub fn remove(&mut self, range: &PhysRange) {
        let Some(range) = range.to_pages() else {
            return self.free.clear();
        };
        self.free = subtract(&self.free, &[range]);
    }

    /// Takes the highest `size` bytes, rounded up to pages, whose last byte is at most at `last`, so that low memory
    /// stays for devices that reach no higher. `None`: there is no such room, or `size` is 0.
    pub fn take_high(&mut self, size: u64, last: u64) -> Option<PhysRange> {
        let size = size.checked_next_multiple_of(PAGE_SIZE)?;
        let limit = last.saturating_add(1) & !(PAGE_SIZE - 1);
        let found = self.free.iter().rev().find_map(|bank| {
            let end = bank.end().0.min(limit);
            let start = end.checked_sub(size).filter(|s| *s >= bank.start().0)?;
            // Nothing of what a start information points to may be at 0.
            (start != 0).then(|| PhysRange::new(HostPhysAddr(start), size))?
        })?;
        self.remove(&found);
        Some(found)
    }

    /// Takes the lowest `size` bytes, rounded up to pages, from `first` on. `None`: there is no such room, or `size` is
    /// 0.
    pub fn take_low(&mut self, size: u64, first: u64) -> Option<PhysRange> {
        let size = size.checked_next_multiple_of(PAGE_SIZE)?;
        let first = first.checked_next_multiple_of(PAGE_SIZE)?;
        let found = self.free.iter().find_map(|bank| {
            let range = PhysRange::new(HostPhysAddr(bank.start().0.max(first)), size)?;
            bank.covers(&range).then_some(range)
        })?;
        self.remove(&found);
        Some(found)
    }
}

/// The whole pages in a range.
pub(super) fn inner_pages(range: &PhysRange) -> Option<PhysRange> {
    let start = range.start().0.checked_next_multiple_of(PAGE_SIZE)?;
    let end = range.end().0 & !(PAGE_SIZE - 1);
    PhysRange::from_bounds(HostPhysAddr(start), HostPhysAddr(end))
}

/// What is in `from` and in none of `holes`. `from` is in ascending order, and so is the result.
pub(super) fn subtract(from: &[PhysRange], holes: &[PhysRange]) -> Vec<PhysRange> {
    let mut rest = from.to_vec();
    for hole in holes {
        let mut next = Vec::with_capacity(rest.len() + 1);
        for piece in rest {
            if !piece.overlaps(hole) {
                next.push(piece);
                continue;
            }
            next.extend(PhysRange::from_bounds(piece.start(), hole.start()));
            next.extend(PhysRange::from_bounds(hole.end(), piece.end()));
        }
        rest = next;
    }
    rest
}
