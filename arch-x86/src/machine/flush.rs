//! Forgetting translations on all CPUs before a change of a p2m counts.
//!
//! Each p2m has an *epoch*, which [`Tag::advance`] increases when translations have to be forgotten. A vCPU remembers the
//! epoch at its last entry, and drops what its CPU holds for it before it enters with another one. So only the CPUs that
//! are inside a guest of this p2m at that moment have to be interrupted and waited for; they cannot be inside any more when
//! they come back.
//!
//! A CPU says that it is about to enter before it looks at the epoch, and who increases the epoch does so before it looks at
//! who is inside: one of the two sees the other.

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;

use crate::host::percpu::MAX_CPUS;

/// Identifies a p2m.
#[derive(Debug)]
pub struct Tag {
    /// A number that no other p2m ever has; not 0.
    number: u64,
    epoch: AtomicU64,
}

impl Tag {
    /// The tag of a new p2m. `number` is unique and not 0.
    pub(super) const fn new(number: u64) -> Self {
        Self {
            number,
            epoch: AtomicU64::new(1),
        }
    }

    /// From now on all translations count as old.
    fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a CPU does: the number of the p2m it is inside with, and how often it went in and out.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Inside {
    /// Odd while it is inside or about to be.
    passages: AtomicU64,
    tag: AtomicU64,
}

impl Inside {
    /// The CPU is about to enter a guest of this p2m. `seen` is the vCPU's epoch; true if its translations have to be forgotten.
    #[inline]
    pub(super) fn enter(&self, tag: &Tag, seen: &mut u64) -> bool {
        self.tag.store(tag.number, Ordering::Relaxed);
        // Nobody else writes here. The swap orders it before the load below.
        let passages = self.passages.load(Ordering::Relaxed);
        self.passages
            .swap(passages.wrapping_add(1), Ordering::SeqCst);
        let epoch = tag.epoch.load(Ordering::SeqCst);
        core::mem::replace(seen, epoch) != epoch
    }

    /// The CPU has left the guest.
    #[inline]
    pub(super) fn leave(&self) {
        let passages = self.passages.load(Ordering::Relaxed);
        self.passages
            .store(passages.wrapping_add(1), Ordering::Release);
    }

    /// The passage that the CPU is in with this p2m, if it is.
    fn passage(&self, tag: &Tag) -> Option<u64> {
        let passages = self.passages.load(Ordering::SeqCst);
        // Read second: a CPU that goes in with another p2m meanwhile looks at its epoch later than we advanced ours.
        let inside = self.tag.load(Ordering::SeqCst) == tag.number;
        (passages & 1 != 0 && inside).then_some(passages)
    }
}

/// Has all CPUs forget the translations of a p2m before it returns. `kick` makes a CPU leave its guest, soon.
pub(super) fn everywhere(tag: &Tag, cpus: &[Inside], mut kick: impl FnMut(u32)) {
    tag.advance();
    // First all are kicked, then all are waited for. Who enters after this look does so with the new epoch.
    let mut inside: ArrayVec<(&Inside, u64), MAX_CPUS> = ArrayVec::new();
    for (n, cpu) in (0..).zip(cpus).take(MAX_CPUS) {
        if let Some(passage) = cpu.passage(tag) {
            kick(n);
            inside.push((cpu, passage));
        }
    }
    for (cpu, passage) in inside {
        while cpu.passages.load(Ordering::Acquire) == passage {
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::vec::Vec;

    #[test]
    fn only_those_inside_are_kicked() {
        let (tag, other) = (Tag::new(1), Tag::new(2));
        let cpus: Vec<Inside> = (0..3).map(|_| Inside::default()).collect();
        let mut seen = 0;
        assert!(cpus[0].enter(&other, &mut seen));
        let mut kicked = Vec::new();
        everywhere(&tag, &cpus, |n| kicked.push(n));
        assert_eq!(kicked, []);
        cpus[0].leave();
        let mut mine = 0;
        assert!(cpus[1].enter(&tag, &mut mine));
        everywhere(&tag, &cpus, |n| {
            kicked.push(n);
            cpus[1].leave();
        });
        assert_eq!(kicked, [1]);
        assert!(cpus[1].enter(&tag, &mut mine));
        cpus[1].leave();
        assert!(!cpus[1].enter(&tag, &mut mine));
    }

    /// CPUs go in and out of guests and use a "translation" they cached, while another one changes what it should be.
    #[test]
    fn no_cpu_uses_an_old_translation() {
        const CPUS: usize = 3;
        let tag = Tag::new(7);
        let cpus: Vec<Inside> = (0..CPUS).map(|_| Inside::default()).collect();
        let kicks: Vec<AtomicBool> = (0..CPUS).map(|_| AtomicBool::new(false)).collect();
        let (table, oldest) = (AtomicU64::new(0), AtomicU64::new(0));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (cpu, kick) in cpus.iter().zip(&kicks) {
                let (tag, table, oldest, done) = (&tag, &table, &oldest, &done);
                scope.spawn(move || {
                    let (mut seen, mut cached) = (0, None);
                    while !done.load(Ordering::SeqCst) {
                        if cpu.enter(tag, &mut seen) {
                            cached = None;
                        }
                        while !kick.swap(false, Ordering::SeqCst) && !done.load(Ordering::SeqCst) {
                            let value = *cached.get_or_insert_with(|| table.load(Ordering::SeqCst));
                            assert!(value >= oldest.load(Ordering::SeqCst));
                            std::thread::yield_now();
                        }
                        cpu.leave();
                    }
                });
            }
            for value in 1..200 {
                table.store(value, Ordering::SeqCst);
                let kick = |n: u32| kicks[n as usize].store(true, Ordering::SeqCst);
                everywhere(&tag, &cpus, kick);
                // Everyone who had the value before has left, and has forgotten it.
                oldest.store(value, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}
