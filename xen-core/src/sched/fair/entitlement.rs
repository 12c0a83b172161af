//! What each unit is owed of the whole machine's time.
//!
//! Queues share out their own CPU fairly, but one CPU may be more crowded than another. So that movable units do not
//! pay for that, the machine has a virtual time too: it advances by the time that all CPUs together spend on
//! units, divided by the weight of all units that can run. A unit's *lag* is its weight times that advance, minus what
//! it has run: nanoseconds it is owed. A busy CPU looks now and then for a unit that waits elsewhere and is owed
//! clearly more than what the CPU would run next, and takes it over.
//!
//! A heavy unit cannot use more than one CPU, whatever its weight. Here it counts with no more weight than gives it
//! one: the others' weight divided by the number of the other CPUs. That is found in steps, as each unit is settled.
//!
//! Units may still be owed what they can never get (those pinned to a crowded CPU), and others owe it. So lag decays,
//! faster the more it is: it then shows how fast a unit gains or loses against the whole, and can still be
//! compared. It is the memory of a fraction of a second, not a debt for ever.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{LAG_DECAY, LAG_FORGOTTEN, LAG_LIMIT};
use crate::Time;

/// Weights are counted in parts this small here, so that they can be found in steps.
const PARTS: u64 = 256;

/// The machine's virtual time. Wraps; only differences mean something.
#[derive(Debug, Default)]
pub(super) struct Entitlement {
    /// Nanoseconds per part of weight, times 2^32.
    time: AtomicU64,
    /// Parts of weight of all units that are queued or running.
    parts: AtomicU64,
    /// How many units are queued or running.
    runnable: AtomicU32,
    /// How many units wait in all queues.
    pub(super) waiting: AtomicU32,
    /// How many CPUs run units.
    pub(super) cpus: AtomicU32,
}

impl Entitlement {
    /// Some CPU has spent `ns` on a unit.
    pub(super) fn advance(&self, ns: u64) {
        let parts = self.parts.load(Ordering::Relaxed).max(1);
        // The common case needs no wide division.
        let by = match u32::try_from(ns) {
            Ok(ns) => (u64::from(ns) << 32) / parts,
            Err(_) => ((u128::from(ns) << 32) / u128::from(parts)) as u64,
        };
        self.time.fetch_add(by, Ordering::Relaxed);
    }

    /// The parts that a unit counts with that has `weight` and counted with `own` parts until now.
    fn feasible(&self, weight: u64, own: u64) -> u64 {
        let cpus = u64::from(self.cpus.load(Ordering::Relaxed));
        // With no more units than CPUs nobody has to wait, and all would shrink for ever.
        if cpus < 2 || u64::from(self.runnable.load(Ordering::Relaxed)) <= cpus {
            return weight * PARTS;
        }
        let others = self.parts.load(Ordering::Relaxed).saturating_sub(own);
        (others / (cpus - 1)).clamp(PARTS, weight * PARTS)
    }
}

/// What a unit is owed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    /// Nanoseconds, as of the times below.
    owed: i64,
    /// Parts of weight that it counts with; 0 while it cannot run.
    parts: u64,
    /// Virtual time up to which it is settled.
    seen: u64,
    /// Time up to which it has decayed.
    decayed: Time,
}

impl Lag {
    /// Nothing.
    pub(super) const NONE: Self = Self {
        owed: 0,
        parts: 0,
        seen: 0,
        decayed: Time(0),
    };

    /// The unit can run from now on: what it is owed counts from here. What it was owed before has decayed.
    pub(super) fn join(&mut self, all: &Entitlement, weight: u64, now: Time) {
        self.seen = all.time.load(Ordering::Relaxed);
        self.decay(now);
        all.runnable.fetch_add(1, Ordering::Relaxed);
        self.count(all, weight * PARTS);
    }

    /// The unit cannot run any more.
    pub(super) fn leave(&mut self, all: &Entitlement) {
        all.runnable.fetch_sub(1, Ordering::Relaxed);
        self.count(all, 0);
    }

    /// Brings it up to date, after the unit has run for `ran` nanoseconds since the last time; returns what is owed.
    pub(super) fn settle(&mut self, all: &Entitlement, weight: u64, ran: u64, now: Time) -> i64 {
        let time = all.time.load(Ordering::Relaxed);
        let earned = (u128::from(time.wrapping_sub(self.seen)) * u128::from(self.parts)) >> 32;
        self.seen = time;
        let change = i64::try_from(earned)
            .unwrap_or(i64::MAX)
            .saturating_sub_unsigned(ran);
        let limit = LAG_LIMIT as i64;
        self.owed = self.owed.saturating_add(change).clamp(-limit, limit);
        self.decay(now);
        self.count(all, all.feasible(weight, self.parts));
        self.owed
    }

    fn count(&mut self, all: &Entitlement, parts: u64) {
        if parts != self.parts {
            // Wraps for a decrease.
            all.parts
                .fetch_add(parts.wrapping_sub(self.parts), Ordering::Relaxed);
            self.parts = parts;
        }
    }

    fn decay(&mut self, now: Time) {
        let elapsed = now.since(self.decayed);
        self.decayed = self.decayed.max(now);
        if elapsed >= LAG_FORGOTTEN {
            self.owed = 0;
            return;
        }
        // Some bits are dropped from the square, so that 64 are enough: what is lost of less than that is nothing.
        const DROPPED: u32 = 20;
        const WHOLE: u64 = (LAG_LIMIT * LAG_DECAY) >> DROPPED;
        let owed = self.owed.unsigned_abs().min(LAG_LIMIT);
        let lost = ((owed * owed) >> DROPPED) * elapsed.min(LAG_DECAY) / WHOLE;
        self.owed -= lost as i64 * self.owed.signum();
    }
}
