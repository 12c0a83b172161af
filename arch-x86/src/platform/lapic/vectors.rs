//! Sets of vectors, as the APIC's registers of 256 bits hold them.

use core::sync::atomic::{AtomicU32, Ordering};

/// Vectors, lowest first in 8 words of 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors(pub [u32; 8]);

impl Vectors {
    /// Adds one.
    pub const fn insert(&mut self, vector: u8) {
        self.0[vector as usize / 32] |= 1 << (vector % 32);
    }

    /// Takes one out.
    pub const fn remove(&mut self, vector: u8) {
        self.0[vector as usize / 32] &= !(1 << (vector % 32));
    }

    /// Whether it holds one.
    pub const fn contains(&self, vector: u8) -> bool {
        self.0[vector as usize / 32] >> (vector % 32) & 1 != 0
    }

    /// The highest, which is the most urgent.
    pub fn highest(&self) -> Option<u8> {
        highest(self.0.iter().copied())
    }
}

fn highest(words: impl DoubleEndedIterator<Item = u32> + ExactSizeIterator) -> Option<u8> {
    let (n, word) = words.enumerate().rev().find(|(_, word)| *word != 0)?;
    Some((n as u32 * 32 + 31 - word.leading_zeros()) as u8)
}

/// Vectors that any CPU may add to.
#[derive(Debug, Default)]
pub(super) struct SharedVectors([AtomicU32; 8]);

impl SharedVectors {
    /// Adds or takes out one. What was written before is visible to whoever finds it.
    pub(super) fn set(&self, vector: u8, present: bool) {
        let word = &self.0[vector as usize / 32];
        let bit = 1 << (vector % 32);
        if present {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    pub(super) fn contains(&self, vector: u8) -> bool {
        self.word(vector / 32) >> (vector % 32) & 1 != 0
    }

    pub(super) fn word(&self, n: u8) -> u32 {
        self.0[usize::from(n & 7)].load(Ordering::SeqCst)
    }

    pub(super) fn highest(&self) -> Option<u8> {
        highest(self.0.iter().map(|word| word.load(Ordering::SeqCst)))
    }

    pub(super) fn get(&self) -> Vectors {
        Vectors([0, 1, 2, 3, 4, 5, 6, 7].map(|n| self.word(n)))
    }

    pub(super) fn replace(&self, with: &Vectors) {
        for (word, with) in self.0.iter().zip(with.0) {
            word.store(with, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn both_kinds_are_sets(steps: Vec<(u8, bool)>) {
            let mut model = BTreeSet::new();
            let (mut own, shared) = (Vectors::default(), SharedVectors::default());
            for (vector, add) in steps {
                if add {
                    model.insert(vector);
                    own.insert(vector);
                } else {
                    model.remove(&vector);
                    own.remove(vector);
                }
                shared.set(vector, add);
                prop_assert_eq!(own.highest(), model.last().copied());
                prop_assert_eq!(shared.highest(), model.last().copied());
                prop_assert_eq!(own.contains(vector), add);
                prop_assert_eq!(shared.contains(vector), add);
                prop_assert_eq!(shared.get(), own);
            }
        }
    }
}
