//! A unit: what the scheduler knows about one schedulable thing, and the arithmetic of shares.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use super::entitlement::Lag;
use super::{CAP_PERIOD, CAP_SLACK};
use crate::heap::Entry;
use crate::sched::{Params, Schedulable, Slot};
use crate::{CpuMask, Time};

/// Where a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no queue; its owner says it cannot run.
    Asleep,
    /// In its CPU's queue.
    Queued,
    /// Could run but for its cap; waits for the refill among its CPU's parked units.
    Parked,
    /// Given to its CPU.
    Running,
    /// Removed; someone may still hold on to it for a moment.
    Gone,
}

/// CPU time that a cap leaves a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Nanoseconds per period; 0 for no cap.
    quota: i64,
    /// Nanoseconds left; negative is a debt to be paid by the next refill.
    left: i64,
    /// When the next refill is due.
    pub(super) refill: Time,
}

impl Budget {
    pub(super) fn new(cap: u16, now: Time) -> Self {
        let quota = (CAP_PERIOD / 100 * u64::from(cap)) as i64;
        Self {
            quota,
            left: quota,
            refill: now.after(CAP_PERIOD),
        }
    }

    /// Whether there is a cap.
    pub(super) const fn limited(&self) -> bool {
        self.quota != 0
    }

    /// Takes note of `ns` that were run.
    pub(super) const fn charge(&mut self, ns: u64) {
        self.left = self.left.saturating_sub_unsigned(ns);
    }

    /// Adds what is due; refills that were not used are lost but for a rest too small to run with.
    pub(super) fn top_up(&mut self, now: Time) {
        if self.limited() && now >= self.refill {
            let periods = now.since(self.refill) / CAP_PERIOD + 1;
            let due = self
                .quota
                .saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
            self.left = self
                .left
                .saturating_add(due)
                .min(self.quota + CAP_SLACK as i64);
            self.refill = self.refill.after(periods * CAP_PERIOD);
        }
    }

    /// Whether too little is left to run with.
    pub(super) const fn exhausted(&self) -> bool {
        self.limited() && self.left < CAP_SLACK as i64
    }

    /// When a unit that starts now has used it up.
    pub(super) const fn ends(&self, now: Time) -> Time {
        if self.limited() {
            now.after(if self.left > 0 { self.left as u64 } else { 0 })
        } else {
            Time::NEVER
        }
    }
}

/// What changes about a unit.
pub(super) struct State {
    pub(super) place: Place,
    pub(super) params: Params,
    pub(super) hard: CpuMask,
    pub(super) soft: CpuMask,
    /// Weighted time it has run, on its queue's scale ([`virtual_ns`]).
    pub(super) vruntime: u128,
    /// What it is owed of the whole machine's time.
    pub(super) lag: Lag,
    pub(super) budget: Budget,
    /// Up to when it has been charged, while it runs.
    pub(super) charged: Time,
    /// Nanoseconds it may run without its virtual time advancing: a gift to one that another CPU owes.
    pub(super) gift: u64,
    /// How much of that it has run since it was put on its CPU.
    pub(super) given: u64,
    /// Nanoseconds it has run in all.
    pub(super) runtime: u64,
    /// Nanoseconds it has run in its current time slice.
    pub(super) ran: u64,
    /// It lets others go first, once.
    pub(super) yielded: bool,
    /// The CPU it ran on last.
    pub(super) last: Option<u32>,
}

impl State {
    pub(super) fn weight(&self) -> u64 {
        u64::from(self.params.weight)
    }

    /// Moves its virtual time from one queue's scale to another's (or the same, later), and bounds how far it may be
    /// behind (`credit`, which lets it run before others) and ahead, in nanoseconds of its own running.
    pub(super) fn rebase(&mut self, from: u128, to: u128, credit: u64) {
        let least = to.saturating_sub(virtual_ns(credit, self.params.weight));
        let most = to.saturating_add(virtual_ns(super::DEBT, self.params.weight));
        let moved = if self.vruntime >= from {
            to.saturating_add(self.vruntime - from)
        } else {
            to.saturating_sub(from - self.vruntime)
        };
        self.vruntime = moved.clamp(least, most);
    }
}

/// Virtual time that a unit of this weight spends in `ns` of running: the lighter, the more.
pub(super) fn virtual_ns(ns: u64, weight: u16) -> u128 {
    // 47 bits of nanoseconds are a day and a half: nothing runs that long uncharged, and if it did it would be forgiven.
    let ns = ns.min(1 << 47);
    u128::from((ns << 16) / u64::from(weight.max(1)))
}

/// A unit.
pub(super) struct Unit<T> {
    pub(super) item: T,
    pub(super) slot: Slot,
    /// The CPU whose queue it is in, runs on, or was in last. Changes only under that CPU's lock.
    cpu: AtomicU32,
    /// Its place in that CPU's heap of queued or of parked units.
    position: AtomicU32,
    pub(super) state: Mutex<State>,
}

impl<T: Schedulable> Unit<T> {
    pub(super) fn new(item: T, slot: Slot, cpu: usize, state: State) -> Self {
        let (cpu, position) = (AtomicU32::new(cpu as u32), AtomicU32::new(0));
        Self {
            item,
            slot,
            cpu,
            position,
            state: Mutex::new(state),
        }
    }

    pub(super) fn cpu(&self) -> usize {
        self.cpu.load(Ordering::SeqCst) as usize
    }

    /// Gives it to another CPU, under the locks of both.
    pub(super) fn set_cpu(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::SeqCst);
    }

    pub(super) fn position(&self) -> u32 {
        self.position.load(Ordering::Relaxed)
    }
}

/// A unit that waits for its CPU, in order of virtual time.
pub(super) struct Waiting<T> {
    pub(super) vruntime: u128,
    pub(super) unit: Arc<Unit<T>>,
}

impl<T> Entry for Waiting<T> {
    type Key = u128;

    fn key(&self) -> u128 {
        self.vruntime
    }

    fn moved(&self, position: u32) {
        self.unit.position.store(position, Ordering::Relaxed);
    }
}

/// A unit that waits for its cap's refill.
pub(super) struct Parked<T> {
    pub(super) refill: Time,
    pub(super) unit: Arc<Unit<T>>,
}

impl<T> Entry for Parked<T> {
    type Key = Time;

    fn key(&self) -> Time {
        self.refill
    }

    fn moved(&self, position: u32) {
        self.unit.position.store(position, Ordering::Relaxed);
    }
}
