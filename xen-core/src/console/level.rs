//! Which messages are shown: by level, and not too many of the less important ones.

use core::sync::atomic::{AtomicU8, Ordering};

use log::{Level, LevelFilter};

use crate::Time;

/// Limited messages that may come at once.
const BURST: u64 = 10;
/// Nanoseconds after which one more may come.
const INTERVAL: u64 = 5_000_000_000;

/// Levels of messages, as the parameters `loglvl` and `guest_loglvl` give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Up to this one each message is shown.
    pub always: LevelFilter,
    /// Up to this one messages are shown, but not too many at a time: ten at once, then one each five seconds.
    pub limited: LevelFilter,
}

impl From<LevelFilter> for Levels {
    /// Each message up to this level.
    fn from(level: LevelFilter) -> Self {
        Self {
            always: level,
            limited: level,
        }
    }
}

/// Whether a message is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Always,
    Limited,
    Never,
}

/// [`Levels`] that all CPUs see.
#[derive(Debug)]
pub(super) struct Threshold {
    always: AtomicU8,
    limited: AtomicU8,
}

impl Threshold {
    pub(super) const fn new(level: LevelFilter) -> Self {
        Self {
            always: AtomicU8::new(level as u8),
            limited: AtomicU8::new(level as u8),
        }
    }

    pub(super) fn set(&self, levels: Levels) {
        self.always.store(levels.always as u8, Ordering::Relaxed);
        self.limited.store(levels.limited as u8, Ordering::Relaxed);
    }

    pub(super) fn judge(&self, level: Level) -> Verdict {
        if level as u8 <= self.always.load(Ordering::Relaxed) {
            Verdict::Always
        } else if level as u8 <= self.limited.load(Ordering::Relaxed) {
            Verdict::Limited
        } else {
            Verdict::Never
        }
    }
}

/// Counts limited messages.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Nanoseconds' worth of messages that may come now.
    credit: u64,
    last: Time,
    suppressed: u32,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self {
            credit: BURST * INTERVAL,
            last: Time(0),
            suppressed: 0,
        }
    }

    /// Whether one more message may come: then the number of those that might not since the last one.
    pub(super) fn admit(&mut self, now: Time) -> Option<u32> {
        let earned = now.since(self.last);
        self.credit = self.credit.saturating_add(earned).min(BURST * INTERVAL);
        self.last = self.last.max(now);
        if self.credit < INTERVAL {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.credit -= INTERVAL;
        Some(core::mem::take(&mut self.suppressed))
    }
}
