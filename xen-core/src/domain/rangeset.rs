//! Sets of numbers that come in long runs: machine frames and interrupts that a domain was given.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{Error, Result};

/// Most runs that a set may have: one more is [`Error::NoMem`].
const MAX_RUNS: usize = 1024;

/// A set of numbers, as ascending runs with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// No numbers.
    pub const EMPTY: Self = Self(Vec::new());

    /// Whether all of `range` is in the set; an empty range always is.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .0
                .iter()
                .any(|run| run.start <= range.start && range.end <= run.end)
    }

    /// Adds a range.
    ///
    /// Errors, with the set as it was: [`Error::NoMem`] for too many runs.
    pub fn insert(&mut self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // Every run that overlaps the new one or touches it becomes part of it.
        let first = self.0.partition_point(|run| run.end < range.start);
        let last = self.0.partition_point(|run| run.start <= range.end);
        let mut whole = range;
        if let Some(run) = self.0.get(first..last).and_then(<[_]>::first) {
            whole.start = whole.start.min(run.start);
        }
        if let Some(run) = self.0.get(first..last).and_then(<[_]>::last) {
            whole.end = whole.end.max(run.end);
        }
        self.replace(first..last, [Some(whole), None])
    }

    /// Takes a range out.
    ///
    /// Errors, with the set as it was: [`Error::NoMem`] for too many runs.
    pub fn remove(&mut self, range: &Range<u64>) -> Result<()> {
        let first = self.0.partition_point(|run| run.end <= range.start);
        let last = self.0.partition_point(|run| run.start < range.end);
        if range.is_empty() || first >= last {
            return Ok(());
        }
        let below = self.0.get(first).map(|run| run.start..range.start);
        let above = self.0.get(last - 1).map(|run| range.end..run.end);
        let rest = [below, above].map(|run| run.filter(|run| !run.is_empty()));
        self.replace(first..last, rest)
    }

    /// Puts `runs` in the place of some others.
    fn replace(&mut self, old: Range<usize>, runs: [Option<Range<u64>>; 2]) -> Result<()> {
        let new = runs.iter().flatten().count();
        let total = self.0.len() - old.len() + new;
        if total > MAX_RUNS {
            return Err(Error::NoMem);
        }
        let more = total.saturating_sub(self.0.len());
        self.0.try_reserve(more).map_err(|_| Error::NoMem)?;
        self.0.splice(old, runs.into_iter().flatten());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_are_bounded() {
        let mut set = RangeSet::default();
        for n in 0..MAX_RUNS as u64 {
            assert_eq!(set.insert(4 * n..4 * n + 2), Ok(()));
        }
        let before = set.clone();
        let beyond = 4 * MAX_RUNS as u64;
        assert_eq!(set.insert(beyond..beyond + 1), Err(Error::NoMem));
        assert_eq!(set, before);
        // What joins others needs no room.
        assert_eq!(set.insert(2..4), Ok(()));
        assert_eq!(set.remove(&(3..4)), Ok(()));
        assert_eq!(set.remove(&(1..2)), Err(Error::NoMem));
        assert!(set.contains(&(0..3)));
        assert_eq!(set.remove(&(0..u64::MAX)), Ok(()));
        assert_eq!(set, RangeSet::EMPTY);
    }

    #[test]
    fn the_whole_number_space_fits() {
        let mut set = RangeSet::default();
        assert_eq!(set.insert(0..u64::MAX), Ok(()));
        assert!(set.contains(&(5..u64::MAX)));
        assert_eq!(set.remove(&(1..2)), Ok(()));
        assert!(!set.contains(&(0..2)) && set.contains(&(2..u64::MAX)));
        assert!(set.contains(&(1..1)));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(changes in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..20), 0..40)) {
            let mut set = RangeSet::default();
            let mut model = [false; 96];
            for (add, start, count) in changes {
                let range = start..start + count;
                model[start as usize..(start + count) as usize].fill(add);
                let done = if add { set.insert(range) } else { set.remove(&range) };
                prop_assert_eq!(done, Ok(()));
                for (at, member) in (0..).zip(model) {
                    prop_assert_eq!(set.contains(&(at..at + 1)), member);
                    let pair = model.get(at as usize..at as usize + 2);
                    prop_assert_eq!(
                        set.contains(&(at..at + 2)),
                        pair.is_some_and(|pair| pair.iter().all(|m| *m))
                    );
                }
                // Runs ascend, none is empty, and none touches the next.
                prop_assert!(set.0.iter().all(|run| !run.is_empty()));
                prop_assert!(set.0.windows(2).all(|w| w[0].end < w[1].start));
            }
        }
    }
}
