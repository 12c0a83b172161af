//! Sets of physical CPUs.

use core::fmt;

use crate::CpuId;

#[cfg(feature = "sched_fair")]
mod atomic;
#[cfg(feature = "sched_fair")]
pub(crate) use atomic::AtomicCpuMask;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = CpuMask::MAX_CPUS as usize / WORD_BITS;

/// A set of physical CPUs with numbers below [`CpuMask::MAX_CPUS`].
///
/// Other numbers are never members: inserting one does nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CpuMask([u64; WORDS]);

impl CpuMask {
    /// How many CPUs a mask has room for.
    pub const MAX_CPUS: u32 = 256;
    /// The set without members.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// The first `count` CPUs.
    pub fn first(count: u32) -> Self {
        let mut mask = Self::EMPTY;
        let mut left = count;
        for word in &mut mask.0 {
            *word = match left {
                0 => break,
                1..64 => (1 << left) - 1,
                _ => u64::MAX,
            };
            left = left.saturating_sub(u64::BITS);
        }
        mask
    }

    /// The set of one CPU.
    pub fn one(cpu: CpuId) -> Self {
        [cpu].into_iter().collect()
    }

    /// Decodes a bitmap of the management interface: bit `n % 8` of byte `n / 8` is CPU `n`. Bits past the end
    /// of the mask are ignored, missing bytes are zero.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut mask = Self::EMPTY;
        for (word, chunk) in mask.0.iter_mut().zip(bytes.chunks(8)) {
            let mut le = [0; 8];
            for (to, from) in le.iter_mut().zip(chunk) {
                *to = *from;
            }
            *word = u64::from_le_bytes(le);
        }
        mask
    }

    /// Encodes the set as [`CpuMask::from_bytes`] reads it.
    pub fn to_bytes(&self) -> [u8; Self::MAX_CPUS as usize / 8] {
        let mut bytes = [0; Self::MAX_CPUS as usize / 8];
        for (to, word) in bytes.chunks_mut(8).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.0 as usize / WORD_BITS) {
            *word |= bit(cpu);
        }
    }

    /// Takes a CPU out; true if it was a member.
    pub fn remove(&mut self, cpu: CpuId) -> bool {
        let was = self.contains(cpu);
        if let Some(word) = self.0.get_mut(cpu.0 as usize / WORD_BITS) {
            *word &= !bit(cpu);
        }
        was
    }

    /// Whether a CPU is a member.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0
            .get(cpu.0 as usize / WORD_BITS)
            .is_some_and(|word| word & bit(cpu) != 0)
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        // Not a comparison of arrays, which becomes a call of `memcmp`.
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    /// Number of members.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Members of both.
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Members of either.
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Members of this and not of `other`.
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether they have a member in common.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.and(other).is_empty()
    }

    /// The member with the lowest number.
    pub fn lowest(&self) -> Option<CpuId> {
        self.iter().next()
    }

    /// Its members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let (index, word) = left.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
            let low = word.trailing_zeros();
            *word &= *word - 1;
            Some(CpuId((index * WORD_BITS) as u32 + low))
        })
    }

    /// Its members in ascending order, beginning with the first that is not below `start`, then round again.
    pub fn iter_from(&self, start: CpuId) -> impl Iterator<Item = CpuId> + use<> {
        let below = Self::first(start.0);
        self.without(&below).iter().chain(self.and(&below).iter())
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = *self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        out
    }
}

const fn bit(cpu: CpuId) -> u64 {
    1 << (cpu.0 as usize % WORD_BITS)
}

impl FromIterator<CpuId> for CpuMask {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        let mut mask = Self::EMPTY;
        cpus.into_iter().for_each(|cpu| mask.insert(cpu));
        mask
    }
}

/// As ranges: `0-3,5`.
impl fmt::Display for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = self.iter().map(|cpu| cpu.0).peekable();
        let mut comma = "";
        while let Some(start) = members.next() {
            let mut end = start;
            while let Some(next) = members.next_if_eq(&(end + 1)) {
                end = next;
            }
            write!(f, "{comma}{start}")?;
            if end > start {
                write!(f, "-{end}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuMask({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_ranges() {
        let mask: CpuMask = [0, 1, 2, 5, 63, 64, 255].map(CpuId).into_iter().collect();
        assert_eq!(mask.to_string(), "0-2,5,63-64,255");
        assert_eq!(CpuMask::EMPTY.to_string(), "");
        assert_eq!(CpuMask::first(256).to_string(), "0-255");
    }

    #[test]
    fn numbers_out_of_range_are_never_members() {
        let mut mask = CpuMask::first(1000);
        mask.insert(CpuId(256));
        mask.insert(CpuId(u32::MAX));
        assert_eq!(mask.count(), 256);
        assert!(!mask.contains(CpuId(256)) && !mask.remove(CpuId(u32::MAX)));
    }

    #[test]
    fn bytes_are_little_endian_bitmaps() {
        let mask = CpuMask::from_bytes(&[0b101, 0, 0x80]);
        assert_eq!(mask.to_string(), "0,2,23");
        assert_eq!(CpuMask::from_bytes(&[0xff; 40]), CpuMask::first(256));
        assert_eq!(
            CpuMask::from_bytes(&CpuMask::first(77).to_bytes()),
            CpuMask::first(77)
        );
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in prop::collection::btree_set(0u32..256, 0..40),
                            b in prop::collection::btree_set(0u32..256, 0..40), start in 0u32..300) {
            let mask = |set: &BTreeSet<u32>| set.iter().copied().map(CpuId).collect::<CpuMask>();
            let list = |mask: CpuMask| mask.iter().map(|c| c.0).collect::<BTreeSet<_>>();
            let (x, y) = (mask(&a), mask(&b));
            prop_assert_eq!(list(x.and(&y)), &a & &b);
            prop_assert_eq!(list(x.or(&y)), &a | &b);
            prop_assert_eq!(list(x.without(&y)), &a - &b);
            prop_assert_eq!(x.count() as usize, a.len());
            prop_assert_eq!(x.lowest().map(|c| c.0), a.first().copied());
            let round: Vec<u32> = x.iter_from(CpuId(start)).map(|c| c.0).collect();
            let want: Vec<u32> = a.iter().filter(|c| **c >= start).chain(a.iter().filter(|c| **c < start)).copied().collect();
            prop_assert_eq!(round, want);
            prop_assert_eq!(CpuMask::from_bytes(&x.to_bytes()), x);
        }
    }
}
