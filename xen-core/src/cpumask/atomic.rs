//! Sets of CPUs that several CPUs change at once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{CpuMask, WORD_BITS, WORDS, bit};
use crate::CpuId;

/// A set of CPUs. All accesses are sequentially consistent.
#[derive(Debug, Default)]
pub(crate) struct AtomicCpuMask([AtomicU64; WORDS]);

impl AtomicCpuMask {
    fn word(&self, cpu: CpuId) -> Option<&AtomicU64> {
        self.0.get(cpu.0 as usize / WORD_BITS)
    }

    /// Adds a CPU; true for the one caller that did.
    pub(crate) fn insert(&self, cpu: CpuId) -> bool {
        self.word(cpu)
            .is_some_and(|word| word.fetch_or(bit(cpu), Ordering::SeqCst) & bit(cpu) == 0)
    }

    /// Takes a CPU out; true for the one caller that did.
    pub(crate) fn remove(&self, cpu: CpuId) -> bool {
        // A shared cache line is written only when something changes.
        self.contains(cpu)
            && self
                .word(cpu)
                .is_some_and(|word| word.fetch_and(!bit(cpu), Ordering::SeqCst) & bit(cpu) != 0)
    }

    /// Whether a CPU is a member.
    pub(crate) fn contains(&self, cpu: CpuId) -> bool {
        self.word(cpu)
            .is_some_and(|word| word.load(Ordering::SeqCst) & bit(cpu) != 0)
    }

    /// Whether it has no members right now.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::SeqCst) == 0)
    }

    /// Its members right now; not one moment's, when others change it meanwhile.
    pub(crate) fn load(&self) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        for (to, from) in mask.0.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::SeqCst);
        }
        mask
    }
}

#[test]
fn one_of_many_takes_a_member_out() {
    let mask = AtomicCpuMask::default();
    assert!(mask.insert(CpuId(70)) && !mask.insert(CpuId(70)));
    assert_eq!(mask.load(), CpuMask::one(CpuId(70)));
    assert!(!mask.is_empty());
    assert!(mask.remove(CpuId(70)) && !mask.remove(CpuId(70)));
    assert!(!mask.insert(CpuId(300)) && !mask.remove(CpuId(300)));
    assert!(mask.is_empty() && mask.load().is_empty());
}
