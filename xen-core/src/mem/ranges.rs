//! Sets of physical address ranges: what is RAM, what is taken, what is left.

use crate::{Error, HostPhysAddr, Result};
use arrayvec::ArrayVec;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    /// First byte.
    pub base: HostPhysAddr,
    /// Size in bytes.
    pub size: u64,
}

impl PhysRange {
    /// A range; one that would pass the end of the address space is cut there.
    pub const fn new(base: u64, size: u64) -> Self {
        let room = u64::MAX - base;
        Self {
            base: HostPhysAddr(base),
            size: if size > room { room } else { size },
        }
    }

    /// First address after the range.
    pub const fn end(&self) -> u64 {
        self.base.0.saturating_add(self.size)
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.base.0 < other.end() && other.base.0 < self.end()
    }

    /// Whether all of `other` lies in this range.
    pub const fn contains(&self, other: &Self) -> bool {
        self.base.0 <= other.base.0 && other.end() <= self.end()
    }

    /// The pages that lie in the range as a whole.
    pub const fn inner_pages(&self) -> Self {
        let start = match self.base.0.checked_next_multiple_of(4096) {
            Some(s) => s,
            None => !0xfff,
        };
        let end = self.end() & !0xfff;
        Self {
            base: HostPhysAddr(start),
            size: end.saturating_sub(start),
        }
    }

    /// The pages the range touches.
    pub const fn outer_pages(&self) -> Self {
        let start = self.base.0 & !0xfff;
        let end = match self.end().checked_next_multiple_of(4096) {
            Some(e) => e,
            None => !0xfff,
        };
        Self {
            base: HostPhysAddr(start),
            size: end.saturating_sub(start),
        }
    }
}

/// Most RAM banks that are used; further ones are reported and left alone.
pub const MAX_BANKS: usize = 64;
/// Most ranges of memory that may be in use when the frame allocator starts.
pub const MAX_USED: usize = 192;

/// Memory as the boot phase leaves it to the frame allocator.
#[derive(Clone, Debug, Default)]
pub struct BootMemory {
    /// Banks of RAM: whole pages, below the limit that [`BootMemory::add_ram`] was given, ascending, without overlap.
    pub ram: ArrayVec<PhysRange, MAX_BANKS>,
    /// What must not be given out: image, modules, tables and reservations of the firmware, boot-time
    /// allocations. May overlap and lie outside RAM; not aligned.
    pub used: ArrayVec<PhysRange, MAX_USED>,
    /// The part of `used` that is not even mapped (`no-map` reservations).
    pub no_map: ArrayVec<PhysRange, MAX_USED>,
}

impl BootMemory {
    /// Adds a bank of RAM, cut to whole pages below `limit`; ranges that overlap banks that are there are merged.
    ///
    /// # Errors
    /// [`Error::NoSpc`] if the table is full.
    pub fn add_ram(&mut self, range: PhysRange, limit: u64) -> Result<()> {
        let mut new = range;
        if new.base.0 >= limit {
            return Ok(());
        }
        new.size = new.size.min(limit - new.base.0);
        new = new.inner_pages();
        if new.size == 0 {
            return Ok(());
        }
        // Swallow every bank that touches the new one, then insert in order.
        let mut i = 0;
        while let Some(bank) = self.ram.get(i).copied() {
            if bank.base.0 <= new.end() && new.base.0 <= bank.end() {
                let end = bank.end().max(new.end());
                new.base = HostPhysAddr(bank.base.0.min(new.base.0));
                new.size = end - new.base.0;
                self.ram.remove(i);
            } else {
                i += 1;
            }
        }
        let at = self
            .ram
            .iter()
            .position(|b| b.base.0 > new.base.0)
            .unwrap_or(self.ram.len());
        self.ram.try_insert(at, new).map_err(|_| Error::NoSpc)
    }

    /// Marks a range as used. Empty ranges are ignored.
    ///
    /// # Errors
    /// [`Error::NoSpc`] if the table is full.
    pub fn add_used(&mut self, range: PhysRange) -> Result<()> {
        if range.size == 0 {
            return Ok(());
        }
        self.used.try_push(range).map_err(|_| Error::NoSpc)
    }

    /// Marks a range as used and never to be mapped.
    ///
    /// # Errors
    /// [`Error::NoSpc`] if a table is full.
    pub fn add_no_map(&mut self, range: PhysRange) -> Result<()> {
        self.add_used(range)?;
        self.no_map.try_push(range).map_err(|_| Error::NoSpc)
    }

    /// Bytes of RAM.
    pub fn total(&self) -> u64 {
        self.ram.iter().map(|r| r.size).sum()
    }

    /// The lowest `size` bytes of RAM at a multiple of `align` (a power of two) that nothing uses.
    pub fn find_free(&self, size: u64, align: u64) -> Option<HostPhysAddr> {
        for bank in &self.ram {
            let mut at = bank.base.0.checked_next_multiple_of(align)?;
            'candidate: while at.checked_add(size)? <= bank.end() {
                let here = PhysRange::new(at, size);
                for used in &self.used {
                    if here.overlaps(used) {
                        at = used.end().checked_next_multiple_of(align)?;
                        continue 'candidate;
                    }
                }
                return Some(HostPhysAddr(at));
            }
        }
        None
    }

    /// As [`BootMemory::find_free`], but the highest, and below `limit`: what stays for good is kept out of the memory
    /// that devices with short addresses reach.
    pub fn find_free_high(&self, size: u64, align: u64, limit: u64) -> Option<HostPhysAddr> {
        let down = |end: u64| end.checked_sub(size).map(|at| at & !(align - 1));
        self.ram.iter().rev().find_map(|bank| {
            let mut at = down(bank.end().min(limit))?;
            while at >= bank.base.0 {
                let here = PhysRange::new(at, size);
                match self.used.iter().find(|used| here.overlaps(used)) {
                    Some(used) => at = down(used.base.0)?,
                    None => return Some(HostPhysAddr(at)),
                }
            }
            None
        })
    }
}

/// Calls `each` with the whole pages of `range` that touch none of `holes`, in ascending order.
///
/// # Errors
/// Stops at the first error of `each`.
pub fn for_each_outside(
    range: PhysRange,
    holes: &[PhysRange],
    mut each: impl FnMut(PhysRange) -> Result<()>,
) -> Result<()> {
    let range = range.inner_pages();
    let mut at = range.base.0;
    while at < range.end() {
        // A hole that covers `at` is skipped; otherwise the piece ends at the next hole.
        let mut end = range.end();
        let mut covered = None;
        for hole in holes {
            let hole = hole.outer_pages();
            if hole.size == 0 {
                continue;
            }
            if hole.base.0 <= at && at < hole.end() {
                covered = Some(hole.end());
            } else if hole.base.0 > at {
                end = end.min(hole.base.0);
            }
        }
        match covered {
            Some(next) => at = next,
            None => {
                each(PhysRange::new(at, end - at))?;
                at = end;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    #[test]
    fn banks_are_merged_cut_and_sorted() {
        let mut m = BootMemory::default();
        m.add_ram(PhysRange::new(0x8000_0000, 0x1000_0000), 1 << 46)
            .unwrap();
        m.add_ram(PhysRange::new(0x4000_0800, 0x1000_0000), 1 << 46)
            .unwrap();
        m.add_ram(PhysRange::new(0x9000_0000, 0x1000), 1 << 46)
            .unwrap();
        m.add_ram(PhysRange::new(1 << 46, 0x1000), 1 << 46).unwrap();
        assert_eq!(
            m.ram.as_slice(),
            &[
                PhysRange::new(0x4000_1000, 0xfff_f000),
                PhysRange::new(0x8000_0000, 0x1000_1000)
            ]
        );
        assert_eq!(m.total(), 0x2000_0000);
    }

    #[test]
    fn free_memory_avoids_what_is_used() {
        let mut m = BootMemory::default();
        m.add_ram(PhysRange::new(0x4000_0000, 0x100_0000), 1 << 46)
            .unwrap();
        m.add_used(PhysRange::new(0x4000_0000, 0x1)).unwrap();
        m.add_used(PhysRange::new(0x4040_0000, 0x1000)).unwrap();
        assert_eq!(
            m.find_free(0x20_0000, 0x20_0000),
            Some(HostPhysAddr(0x4020_0000))
        );
        assert_eq!(
            m.find_free(0x40_0000, 0x20_0000),
            Some(HostPhysAddr(0x4060_0000))
        );
        assert_eq!(m.find_free(0x100_0000, 0x1000), None);
    }

    #[test]
    fn high_memory_avoids_what_is_used() {
        let mut m = BootMemory::default();
        for base in [0x10_0000, 0x4000_0000] {
            m.add_ram(PhysRange::new(base, 0x100_0000), 1 << 46)
                .unwrap();
        }
        m.add_used(PhysRange::new(0x40f0_0800, 0x1)).unwrap();
        let high = |size, align, limit| m.find_free_high(size, align, limit).map(|at| at.0);
        assert_eq!(high(0xf_f000, 0x1000, u64::MAX), Some(0x40f0_1000));
        assert_eq!(high(0x10_0000, 0x1000, u64::MAX), Some(0x40e0_0000));
        assert_eq!(high(0x10_0000, 0x20_0000, u64::MAX), Some(0x40e0_0000));
        assert_eq!(high(0x10_0801, 0x20_0000, u64::MAX), Some(0x40c0_0000));
        assert_eq!(high(0x1000, 0x1000, 0x4000_0fff), Some(0x10f_f000));
        assert_eq!(high(0xf0_0801, 0x1000, u64::MAX), Some(0x1f_f000));
        assert_eq!(high(0x100_0001, 0x1000, u64::MAX), None);
        assert_eq!(high(0x1000, 0x1000, 0x10_0000), None);
    }

    #[test]
    fn full_tables_say_so() {
        let mut m = BootMemory::default();
        for i in 0..MAX_BANKS as u64 {
            m.add_ram(PhysRange::new(i * 0x10000, 0x1000), 1 << 46)
                .unwrap();
        }
        assert_eq!(
            m.add_ram(PhysRange::new(0x1000_0000, 0x1000), 1 << 46),
            Err(Error::NoSpc)
        );
        assert_eq!(m.ram.len(), MAX_BANKS);
    }

    proptest! {
        #[test]
        fn pieces_are_exactly_the_pages_outside(
            holes in proptest::collection::vec((0u64..0x20_0000, 0u64..0x8000), 0..6),
            base in 0u64..0x1_0000, size in 0u64..0x10_0000,
        ) {
            let holes: Vec<_> = holes.into_iter().map(|(b, s)| PhysRange::new(b, s)).collect();
            let range = PhysRange::new(base, size);
            let mut pages = vec![];
            for_each_outside(range, &holes, |r| {
                pages.extend((r.base.0..r.end()).step_by(4096));
                Ok(())
            }).unwrap();
            let inner = range.inner_pages();
            let expected: Vec<u64> = (inner.base.0..inner.end()).step_by(4096)
                .filter(|&p| !holes.iter().any(|h| h.size > 0 && h.outer_pages().overlaps(&PhysRange::new(p, 4096))))
                .collect();
            prop_assert_eq!(pages, expected);
        }
    }
}
