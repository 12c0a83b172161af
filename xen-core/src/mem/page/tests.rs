//! What becomes of changes to words that others change at the same time.

use core::cell::Cell;
use core::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::DomainId;
use crate::mem::SoftFrames;

/// A word that somebody else writes to before each of the first attempts.
struct Contended {
    value: Cell<u32>,
    attempts: Cell<u32>,
    /// What is written, before attempt 0, 1 and so on; nothing to fail without a change.
    others: Vec<Option<u32>>,
}

impl Contended {
    fn new(value: u32, others: Vec<Option<u32>>) -> Self {
        Self {
            value: Cell::new(value),
            attempts: Cell::new(0),
            others,
        }
    }

    /// One exclusive pair: it fails if the word was written to, be it with the same value.
    fn attempt(&self, old: u32, new: u32) -> Result<u32, u32> {
        let n = self.attempts.replace(self.attempts.get() + 1) as usize;
        match self.others.get(n) {
            Some(Some(other)) => {
                self.value.set(*other);
                Err(*other)
            }
            Some(None) => Err(self.value.get()),
            None if self.value.get() == old => Ok(self.value.replace(new)),
            None => Err(self.value.get()),
        }
    }
}

#[test]
fn a_word_that_never_rests_is_given_up() {
    for others in [vec![None; 10_000], (0..10_000).map(Some).collect()] {
        let word = Contended::new(3, others);
        let last = change(3, |old| old | 8, |old, new| word.attempt(old, new));
        assert_eq!(word.attempts.get(), TRIES);
        assert_eq!(last, Err(word.value.get()), "made from what was seen last");
    }
    let word = Contended::new(3, vec![None; 10_000]);
    let result = exchange(3, 4, |old, new| word.attempt(old, new));
    assert_eq!((result, word.value.get()), (Err(3), 3));
    assert_eq!(word.attempts.get(), TRIES);
}

#[test]
fn another_value_ends_an_exchange_at_once() {
    let word = Contended::new(3, vec![None, Some(7)]);
    assert_eq!(exchange(3, 4, |old, new| word.attempt(old, new)), Err(7));
    assert_eq!(word.attempts.get(), 2);
}

#[test]
fn changes_survive_a_neighbour_that_hammers_the_word() {
    const OURS: u32 = 0xffff;
    let memory = SoftFrames::new(1);
    let frame = memory.frames().alloc_page(DomainId(1)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As a guest would: every bit of the upper half, again and again, by a loop of its own.
            let word = frame.page();
            while !done.load(Ordering::Relaxed) {
                for bit in 16..32 {
                    let old = word.load_u32(0, Ordering::Relaxed);
                    let _ = word.compare_exchange_u32(0, old, old ^ 1 << bit);
                }
            }
        });
        let page = frame.page();
        for n in 0..20_000u32 {
            let bit = 1 << (n % 16);
            assert_eq!(page.fetch_or_u32(0, bit) & bit, 0, "round {n}");
            assert_eq!(page.load_u32(0, Ordering::Relaxed) & OURS, bit);
            assert_eq!(page.fetch_and_u32(0, !bit) & OURS, bit);
        }
        done.store(true, Ordering::Relaxed);
    });
}

proptest! {
    /// As long as others rest in time, a change is exactly that of an undisturbed word.
    #[test]
    fn contention_delays_and_changes_nothing(
        value: u32,
        bits: u32,
        others in prop::collection::vec(any::<Option<u32>>(), 0..TRIES as usize - 1),
    ) {
        let last = others.iter().flatten().next_back().copied().unwrap_or(value);
        let word = Contended::new(value, others);
        let old = change(value, |old| old | bits, |old, new| word.attempt(old, new));
        prop_assert_eq!(old, Ok(last));
        prop_assert_eq!(word.value.get(), last | bits);
    }

    #[test]
    fn an_exchange_happens_or_says_what_it_found(
        value in 0..3u32,
        current in 0..3u32,
        others in prop::collection::vec(prop::option::of(0..3u32), 0..40),
    ) {
        let word = Contended::new(value, others);
        match exchange(current, 9, |old, new| word.attempt(old, new)) {
            Ok(old) => {
                prop_assert_eq!(old, current);
                prop_assert_eq!(word.value.get(), 9);
            }
            Err(found) => {
                prop_assert_ne!(found, current);
                prop_assert_eq!(word.value.get(), found);
            }
        }
    }
}
