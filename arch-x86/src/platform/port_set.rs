//! Sets of ports.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use xen_core::{Error, Result};

/// A set of ports, as ascending ranges with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    /// The ranges.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// Whether all of `count` ports from `first` on are in the set, and are ports.
    pub fn has_all(&self, first: u16, count: u32) -> bool {
        let Some(last) = count
            .checked_sub(1)
            .and_then(|n| n.checked_add(first.into()))
        else {
            return count == 0;
        };
        let within =
            |range: &RangeInclusive<u16>| range.contains(&first) && last <= u32::from(*range.end());
        self.0.iter().any(within)
    }

    /// Adds ports.
    ///
    /// # Errors
    /// [`Error::NoMem`], with the set as it was.
    pub fn insert(&mut self, range: RangeInclusive<u16>) -> Result<()> {
        self.rebuild(&range, true)
    }

    /// Takes ports out.
    ///
    /// # Errors
    /// [`Error::NoMem`], with the set as it was.
    pub fn remove(&mut self, range: RangeInclusive<u16>) -> Result<()> {
        self.rebuild(&range, false)
    }

    fn rebuild(&mut self, changed: &RangeInclusive<u16>, present: bool) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let (first, last) = (*changed.start(), *changed.end());
        let mut new = Vec::new();
        new.try_reserve_exact(self.0.len() + 2)
            .map_err(|_| Error::NoMem)?;
        // What of the old ranges is below the changed ones, these, and what is above: adjacent ranges become one.
        let below = self.0.iter().filter_map(|range| {
            let end = first.checked_sub(1)?.min(*range.end());
            (*range.start() <= end).then(|| *range.start()..=end)
        });
        let above = self.0.iter().filter_map(|range| {
            let start = last.checked_add(1)?.max(*range.start());
            (start <= *range.end()).then(|| start..=*range.end())
        });
        let changed = present.then_some(first..=last);
        for range in below.chain(changed).chain(above) {
            match new.last_mut() {
                Some(end) if touches(end, &range) => *end = *end.start()..=*range.end(),
                _ => new.push(range),
            }
        }
        self.0 = new;
        Ok(())
    }
}

/// Whether one range ends where the other begins.
fn touches(low: &RangeInclusive<u16>, high: &RangeInclusive<u16>) -> bool {
    low.end().checked_add(1) == Some(*high.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_last_port_is_one() {
        let mut set = PortSet::default();
        assert_eq!(set.insert(0xfff0..=0xffff), Ok(()));
        assert!(set.has_all(0xfff0, 16) && set.has_all(0xffff, 1) && set.has_all(7, 0));
        assert!(!set.has_all(0xfff0, 17) && !set.has_all(0xffff, u32::MAX));
        assert_eq!(set.insert(0..=0xffff), Ok(()));
        assert!(set.has_all(0, 0x1_0000));
        assert_eq!(set.remove(0..=0xffff), Ok(()));
        assert_eq!(set, PortSet::default());
    }

    proptest! {
        // As a set of single ports, in which ranges are as long as they can be.
        #[test]
        fn it_is_a_set(changes in prop::collection::vec((0u16..200, 0u16..40, any::<bool>()), 0..40), first in 0u16..250, count in 0u32..50) {
            let mut set = PortSet::default();
            let mut model = BTreeSet::new();
            for (start, more, present) in changes {
                let range = start..=start + more;
                if present {
                    prop_assert_eq!(set.insert(range.clone()), Ok(()));
                    model.extend(range);
                } else {
                    prop_assert_eq!(set.remove(range.clone()), Ok(()));
                    model.retain(|port| !range.contains(port));
                }
                for pair in set.ranges().windows(2) {
                    prop_assert!(pair[0].end() + 1 < *pair[1].start());
                }
            }
            let ports: BTreeSet<u16> = set.ranges().iter().cloned().flatten().collect();
            prop_assert_eq!(&ports, &model);
            let all = (0..count).all(|n| model.contains(&(first + n as u16)));
            prop_assert_eq!(set.has_all(first, count), all);
        }
    }
}
