//! Ranges of addresses: of the host, which cannot be empty or wrap, and of a domain.

use core::fmt;
use xen_core::{GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

/// A non-empty range of host physical addresses whose end does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    start: u64,
    size: u64,
}

impl PhysRange {
    /// The `size` bytes from `start`; `None` if that is nothing or reaches past the last address but one.
    pub const fn new(start: HostPhysAddr, size: u64) -> Option<Self> {
        if size == 0 || start.0.checked_add(size).is_none() {
            return None;
        }
        Some(Self {
            start: start.0,
            size,
        })
    }

    /// The bytes from `start` up to but not including `end`; `None` unless `start` lies below `end`.
    pub const fn from_bounds(start: HostPhysAddr, end: HostPhysAddr) -> Option<Self> {
        match end.0.checked_sub(start.0) {
            Some(size) => Self::new(start, size),
            None => None,
        }
    }

    /// The first address.
    pub const fn start(&self) -> HostPhysAddr {
        HostPhysAddr(self.start)
    }

    /// The address after the last one.
    pub const fn end(&self) -> HostPhysAddr {
        HostPhysAddr(self.start + self.size)
    }

    /// Size in bytes, at least 1.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether `addr` lies in the range.
    pub const fn contains(&self, addr: HostPhysAddr) -> bool {
        addr.0 >= self.start && addr.0 - self.start < self.size
    }

    /// Whether all of `other` lies in the range.
    pub const fn covers(&self, other: &Self) -> bool {
        other.start >= self.start && other.end().0 <= self.end().0
    }

    /// Whether the two ranges share an address.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end().0 && other.start < self.end().0
    }

    /// The smallest range of whole 4 KiB pages that covers this one; `None` if it would wrap.
    pub const fn to_pages(&self) -> Option<Self> {
        let start = self.start & !(PAGE_SIZE - 1);
        match self.end().0.checked_next_multiple_of(PAGE_SIZE) {
            Some(end) => Self::from_bounds(HostPhysAddr(start), HostPhysAddr(end)),
            None => None,
        }
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end().0)
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysRange({self})")
    }
}

/// A range of a domain's physical addresses: a bank of its memory, or registers it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bank {
    /// First address.
    pub start: GuestPhysAddr,
    /// Size in bytes.
    pub size: u64,
}

impl Bank {
    /// The address after the last one; the last of all if it would wrap.
    pub const fn end(&self) -> GuestPhysAddr {
        GuestPhysAddr(self.start.0.saturating_add(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, size: u64) -> PhysRange {
        PhysRange::new(HostPhysAddr(start), size).unwrap()
    }

    #[test]
    fn empty_and_wrapping_ranges_do_not_exist() {
        assert_eq!(PhysRange::new(HostPhysAddr(5), 0), None);
        assert_eq!(PhysRange::new(HostPhysAddr(u64::MAX), 1), None);
        assert!(PhysRange::new(HostPhysAddr(u64::MAX - 1), 1).is_some());
        assert_eq!(
            PhysRange::from_bounds(HostPhysAddr(7), HostPhysAddr(7)),
            None
        );
    }

    #[test]
    fn neighbours_do_not_overlap() {
        assert!(!range(0x1000, 0x1000).overlaps(&range(0x2000, 1)));
        assert!(range(0x1000, 0x1001).overlaps(&range(0x2000, 1)));
        assert!(range(0x1000, 0x1000).covers(&range(0x1fff, 1)));
        assert!(!range(0x1000, 0x1000).covers(&range(0x1fff, 2)));
    }

    #[test]
    fn pages_grow_outwards() {
        assert_eq!(range(0x1fff, 2).to_pages(), Some(range(0x1000, 0x2000)));
        assert_eq!(range(u64::MAX - 10, 1).to_pages(), None);
    }
}
