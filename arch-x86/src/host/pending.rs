//! A set of interrupt vectors that one CPU records and takes.

use core::sync::atomic::{AtomicU64, Ordering};

/// An interrupt vector of the host, 32 to 255 for interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(pub u8);

impl core::fmt::Display for Vector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

/// Vectors that were acknowledged and not handled yet.
///
/// Only its own CPU changes it: the handler inside a window of [`super::interrupts`], and the code outside. So the
/// atomics are for the compiler, and each access is a plain load or store or one instruction.
#[derive(Debug)]
pub struct PendingSet([AtomicU64; 4]);

impl Default for PendingSet {
    fn default() -> Self {
        Self::new()
    }
}

impl PendingSet {
    /// Nothing is pending.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 4])
    }

    /// Adds a vector.
    pub fn insert(&self, vector: Vector) {
        if let Some(word) = self.0.get(usize::from(vector.0 >> 6)) {
            word.fetch_or(1 << (vector.0 & 63), Ordering::Relaxed);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| w.load(Ordering::Relaxed) == 0)
    }

    /// Takes out the highest vector, which is the most urgent one.
    pub fn take(&self) -> Option<Vector> {
        for (n, word) in self.0.iter().enumerate().rev() {
            let bits = word.load(Ordering::Relaxed);
            if bits != 0 {
                let bit = bits.ilog2();
                word.fetch_and(!(1 << bit), Ordering::Relaxed);
                return Some(Vector((n as u32 * 64 + bit) as u8));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn each_vector_comes_out_once_highest_first(vectors in prop::collection::vec(any::<u8>(), 0..80)) {
            let set = PendingSet::new();
            for v in &vectors {
                set.insert(Vector(*v));
            }
            prop_assert_eq!(set.is_empty(), vectors.is_empty());
            let expected: Vec<u8> = vectors.into_iter().collect::<BTreeSet<_>>().into_iter().rev().collect();
            let got: Vec<u8> = core::iter::from_fn(|| set.take()).map(|v| v.0).collect();
            prop_assert_eq!(got, expected);
            prop_assert!(set.is_empty());
        }
    }
}
