//! A priority queue whose members can be taken out from the middle.
//!
//! A binary heap in one vector: push, pop and removal take O(log n) and, within the reserved capacity, no memory.
//! Each member is told where it lies whenever it moves and can be taken out by that position.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// What a heap stores.
pub(crate) trait Entry {
    /// What the heap is ordered by; the least comes first.
    type Key: Ord;
    /// Its key; must not change while it is in a heap.
    fn key(&self) -> Self::Key;
    /// Takes note of where in the heap it is now.
    fn moved(&self, position: u32);
}

/// A heap of `E`, least key first. Members with equal keys have no particular order.
#[derive(Debug)]
pub(crate) struct Heap<E>(Vec<E>);

impl<E> Default for Heap<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E: Entry> Heap<E> {
    /// Makes room for `total` members in all.
    pub(crate) fn reserve(&mut self, total: usize) -> Result<(), TryReserveError> {
        self.0.try_reserve(total.saturating_sub(self.0.len()))
    }

    /// The member with the least key.
    pub(crate) fn peek(&self) -> Option<&E> {
        self.0.first()
    }

    /// Adds a member.
    pub(crate) fn push(&mut self, entry: E) {
        self.0.push(entry);
        self.up(self.0.len() - 1);
    }

    /// Takes out the member at a position; `None` past the end.
    pub(crate) fn remove(&mut self, position: u32) -> Option<E> {
        let at = position as usize;
        if at >= self.0.len() {
            return None;
        }
        let entry = self.0.swap_remove(at);
        if at < self.0.len() {
            // What was last lies here now; it may be too small or too large for this place.
            let at = self.up(at);
            self.down(at);
        }
        Some(entry)
    }

    /// Moves a member up to its place; returns it.
    fn up(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.0[parent].key() <= self.0[at].key() {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        self.0[at].moved(at as u32);
        at
    }

    /// Moves a member down to its place.
    fn down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.0.len() && self.0[child].key() < self.0[least].key() {
                    least = child;
                }
            }
            if least == at {
                break;
            }
            self.swap(at, least);
            at = least;
        }
        self.0[at].moved(at as u32);
    }

    /// Swaps a member that is on the move with another, which is told.
    fn swap(&mut self, moving: usize, other: usize) {
        self.0.swap(moving, other);
        self.0[moving].moved(moving as u32);
    }
}

/// What only the scheduler asks of it.
#[cfg(any(feature = "sched_fair", test))]
impl<E: Entry> Heap<E> {
    /// Number of members.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All members; only the first one's place means something.
    pub(crate) fn as_slice(&self) -> &[E] {
        &self.0
    }

    /// Takes out the member with the least key.
    pub(crate) fn pop(&mut self) -> Option<E> {
        self.remove(0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    struct Member(u32, Rc<Cell<u32>>);

    impl Entry for Member {
        type Key = u32;
        fn key(&self) -> u32 {
            self.0
        }
        fn moved(&self, position: u32) {
            self.1.set(position);
        }
    }

    proptest! {
        #[test]
        fn least_first_and_positions_hold(keys in prop::collection::vec(0u32..50, 1..60),
                                          victims in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let mut heap = Heap::default();
            heap.reserve(keys.len()).unwrap();
            let mut places: Vec<(u32, Rc<Cell<u32>>)> = Vec::new();
            for key in keys {
                let place = Rc::new(Cell::new(u32::MAX));
                places.push((key, place.clone()));
                heap.push(Member(key, place));
            }
            for victim in victims {
                if places.is_empty() { break; }
                let (key, place) = places.swap_remove(victim.index(places.len()));
                let out = heap.remove(place.get()).unwrap();
                prop_assert!(Rc::ptr_eq(&out.1, &place) && out.0 == key);
            }
            for (_, place) in &places {
                prop_assert!(Rc::ptr_eq(&heap.as_slice()[place.get() as usize].1, place));
            }
            let mut left: Vec<u32> = places.iter().map(|p| p.0).collect();
            left.sort_unstable();
            for key in left {
                prop_assert_eq!(heap.peek().map(|m| m.0), Some(key));
                prop_assert_eq!(heap.pop().map(|m| m.0), Some(key));
            }
            prop_assert!(heap.is_empty() && heap.pop().is_none() && heap.remove(0).is_none());
        }
    }
}
