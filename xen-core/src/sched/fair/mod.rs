//! The proportional-share scheduler.
//!
//! Each CPU has a queue under its own lock. A queue is ordered by *virtual time*: what a unit has run, divided by its
//! weight; who has had least goes first, for a time slice that shrinks with the number of units. A unit that slept
//! comes back where it was in relation to the others, but at most [`CREDIT`] behind them, so that it runs
//! at once if it used less than its share and gains nothing by sleeping otherwise. A *cap* is a budget per
//! [`CAP_PERIOD`]; a unit that has used it up is parked until the refill.
//!
//! Units move between CPUs when they wake up (to an idle CPU, else to the least loaded), when a CPU would idle (it
//! takes a waiting unit from any other), and when a unit that waits is owed clearly more of the machine's time than one that
//! runs elsewhere ([`entitlement`]).
//!
//! # Locking
//! 1. Queues, in the order of their CPUs' numbers. Out of order only by trying.
//! 2. One unit's state.
//!
//! Locks of the slot table are held alone. Which queue a unit belongs to (`Unit::cpu`) changes only under both queues'
//! locks, so who has locked the queue that the unit names, and looked again, has the unit. Units are never
//! dropped under a lock, as that runs their owners' code.
//!
//! # No CPU idles while a unit waits that may run there
//! A CPU that finds nothing in its queue enters the mask of idle CPUs *first* and *then* searches the other
//! queues. Whoever lets a unit wait adds it to the queue first and then looks at the mask. Both are sequentially
//! consistent, so one sees the other. Idle CPUs are asked for help again at each pick of a CPU where units wait, in
//! case another unit was taken than the one that was meant.

mod entitlement;
mod pick;
mod place;
mod queue;
mod table;
mod unit;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering;

use entitlement::Entitlement;
use queue::{Books, Cpu, Queue};
use spin::MutexGuard;
use table::Table;
use unit::{Budget, Place, State, Unit};

use super::{Choice, Params, Schedulable, Scheduler, Slot};
use crate::cpumask::AtomicCpuMask;
use crate::{CpuId, CpuMask, Error, Result, Time};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;

/// The longest time slice; units that share a CPU take turns within about this time.
const LATENCY: u64 = 10 * MILLISECOND;
/// The shortest time slice.
const MIN_SLICE: u64 = MILLISECOND;
/// A unit that wakes up must be this far behind the one that runs to take its CPU.
const GRANULARITY: u64 = MILLISECOND;
/// How far behind the others a unit may be when it joins them.
const CREDIT: u64 = 5 * MILLISECOND;
/// How far ahead of the others a unit may be when it joins them.
const DEBT: u64 = 20 * MILLISECOND;
/// Remainders of slices and budgets shorter than this are not worth coming back for.
const SLACK: u64 = 100 * MICROSECOND;
/// A cap's budget is for this long.
const CAP_PERIOD: u64 = 50 * MILLISECOND;
/// A unit with less budget than this is parked. Less than one percent of the period.
const CAP_SLACK: u64 = SLACK;
/// How often a busy CPU compares what it runs with what waits elsewhere.
const BALANCE_INTERVAL: u64 = 7 * MILLISECOND;
/// How much more a unit elsewhere must be owed to be taken over.
const IMBALANCE: u64 = 8 * MILLISECOND;
/// The most that a unit is owed, or owes.
const LAG_LIMIT: u64 = 100 * MILLISECOND;
/// How long it takes to forget that much; for less it takes longer in proportion.
const LAG_DECAY: u64 = 200 * MILLISECOND;
/// A unit that could not run for so long is owed nothing.
const LAG_FORGOTTEN: u64 = 1000 * MILLISECOND;
/// The longest that a unit taken over goes before the others.
const GIFT_LIMIT: u64 = 30 * MILLISECOND;
/// How many units a search looks at where looking at all is too long.
const SEARCH: usize = 16;

/// The proportional-share scheduler.
pub struct Fair<T> {
    cpus: Box<[Cpu<T>]>,
    table: Table<T>,
    all: Entitlement,
    /// CPUs that run units.
    online: AtomicCpuMask,
    /// CPUs that were taken offline; the others come online when they first pick.
    offline: AtomicCpuMask,
    /// CPUs that have nothing to run and have not been kicked since they found out.
    idle: AtomicCpuMask,
    /// CPUs that run the only unit of theirs, found that none waits elsewhere, and so do not come back by themselves.
    alone: AtomicCpuMask,
    /// CPUs that must pick again and have not been kicked yet.
    kicks: AtomicCpuMask,
}

/// What an operation on a unit leaves to be done without locks.
enum Then {
    Nothing,
    Kick,
    Wake,
}

impl<T: Schedulable> Fair<T> {
    /// A scheduler for a machine with `cpus` CPUs, at most [`CpuMask::MAX_CPUS`] of which it uses.
    pub fn new(cpus: u32) -> Self {
        Self {
            cpus: (0..cpus.min(CpuMask::MAX_CPUS) as usize)
                .map(Cpu::new)
                .collect(),
            table: Table::new(),
            all: Entitlement::default(),
            online: AtomicCpuMask::default(),
            offline: AtomicCpuMask::default(),
            idle: AtomicCpuMask::default(),
            alone: AtomicCpuMask::default(),
            kicks: AtomicCpuMask::default(),
        }
    }

    fn books(&self, cpu: usize) -> Books<'_> {
        Books {
            hints: &self.cpus[cpu].hints,
            all: &self.all,
        }
    }

    fn present(&self) -> CpuMask {
        CpuMask::first(self.cpus.len() as u32)
    }

    fn unit(&self, slot: Slot) -> Result<Arc<Unit<T>>> {
        self.table.get(slot).ok_or(Error::Srch)
    }

    /// Locks the queue that a unit belongs to.
    fn queue_of(&self, unit: &Unit<T>) -> MutexGuard<'_, Queue<T>> {
        loop {
            let cpu = unit.cpu();
            let queue = self.cpus[cpu].queue.lock();
            if unit.cpu() == cpu {
                return queue;
            }
        }
    }

    /// Locks two queues in order; the second argument of `f` is `None` if they are the same.
    fn with_both<R>(
        &self,
        a: usize,
        b: usize,
        f: impl FnOnce(&mut Queue<T>, Option<&mut Queue<T>>) -> R,
    ) -> R {
        if a == b {
            return f(&mut self.cpus[a].queue.lock(), None);
        }
        let mut low = self.cpus[a.min(b)].queue.lock();
        let mut high = self.cpus[a.max(b)].queue.lock();
        if a < b {
            f(&mut low, Some(&mut high))
        } else {
            f(&mut high, Some(&mut low))
        }
    }

    /// Takes a unit that waits or is parked out of its queue; it sleeps then.
    fn withdraw(&self, queue: &mut Queue<T>, unit: &Unit<T>, state: &mut State) {
        let books = self.books(queue.index);
        let entry = match state.place {
            Place::Queued => {
                queue.leave(&books, state);
                queue.dequeue(&books, unit.position())
            }
            Place::Parked => queue
                .parked
                .remove(unit.position())
                .map(|parked| parked.unit),
            _ => None,
        };
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.slot == unit.slot));
        state.place = Place::Asleep;
    }

    /// One CPU to kick. It finds the next one when it picks, and so on.
    fn next_kick(&self) -> Option<CpuId> {
        self.kicks.load().iter().find(|cpu| self.kicks.remove(*cpu))
    }

    /// Does what an operation on a unit left to be done.
    fn finish(&self, unit: &Arc<Unit<T>>, then: &Then, now: Time) -> Option<CpuId> {
        match then {
            Then::Nothing => None,
            Then::Kick => Some(CpuId(unit.cpu() as u32)),
            Then::Wake => self.wake(unit, now),
        }
    }
}

impl<T: Schedulable> Scheduler<T> for Fair<T> {
    fn insert(
        &self,
        item: T,
        params: Params,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Slot> {
        params.check()?;
        let first = hard.and(&self.present()).lowest().ok_or(Error::Inval)?.0 as usize;
        let vruntime = self.cpus[first].queue.lock().vtime;
        let state = State {
            place: Place::Asleep,
            params,
            hard: *hard,
            soft: *soft,
            vruntime,
            lag: entitlement::Lag::NONE,
            budget: Budget::new(params.cap, now),
            charged: now,
            gift: 0,
            given: 0,
            runtime: 0,
            ran: 0,
            yielded: false,
            last: None,
        };
        let slot = self
            .table
            .insert(|slot| Arc::new(Unit::new(item, slot, first, state)))?;
        // Memory is taken now, so that no wake-up needs any.
        let room = self.table.bound();
        for cpu in &self.cpus {
            let mut queue = cpu.queue.lock();
            let reserved = queue
                .heap
                .reserve(room)
                .and_then(|()| queue.parked.reserve(room));
            drop(queue);
            if reserved.is_err() {
                let removed = self.table.remove(slot);
                drop(removed);
                return Err(Error::NoMem);
            }
        }
        Ok(slot)
    }

    fn remove(&self, slot: Slot, _now: Time) -> Result<(T, Option<CpuId>)> {
        let unit = self.unit(slot)?;
        {
            let mut queue = self.queue_of(&unit);
            let mut state = unit.state.lock();
            match state.place {
                Place::Running => return Err(Error::Busy),
                Place::Gone => return Err(Error::Srch),
                Place::Queued | Place::Parked => self.withdraw(&mut queue, &unit, &mut state),
                Place::Asleep => {}
            }
            state.place = Place::Gone;
        }
        drop(self.table.remove(slot));
        Ok((unit.item.clone(), None))
    }

    fn update(&self, slot: Slot, now: Time) -> Option<CpuId> {
        let unit = self.table.get(slot)?;
        let then = {
            let mut queue = self.queue_of(&unit);
            let mut state = unit.state.lock();
            match (state.place, unit.item.runnable()) {
                (Place::Asleep, true) => Then::Wake,
                (Place::Running, false) => Then::Kick,
                (Place::Queued | Place::Parked, false) => {
                    self.withdraw(&mut queue, &unit, &mut state);
                    Then::Nothing
                }
                _ => Then::Nothing,
            }
        };
        self.finish(&unit, &then, now)
    }

    fn yield_now(&self, slot: Slot, _now: Time) {
        if let Some(unit) = self.table.get(slot) {
            let _queue = self.queue_of(&unit);
            let mut state = unit.state.lock();
            state.yielded = state.place == Place::Running;
        }
    }

    fn go_on(&self, cpu: CpuId, now: Time) -> Option<Time> {
        self.continue_here(cpu.0 as usize, now)
    }

    fn pick(&self, cpu: CpuId, now: Time) -> Choice<T> {
        if cpu.0 as usize >= self.cpus.len() {
            return Choice::idle(Time::NEVER);
        }
        if !self.online.contains(cpu) && !self.offline.contains(cpu) {
            self.bring_online(cpu.0 as usize, now);
        }
        self.choose(cpu.0 as usize, now)
    }

    fn set_params(&self, slot: Slot, params: Params, now: Time) -> Result<Option<CpuId>> {
        params.check()?;
        let unit = self.unit(slot)?;
        let then = {
            let mut queue = self.queue_of(&unit);
            let books = self.books(queue.index);
            queue.charge(&books, now);
            let mut state = unit.state.lock();
            let counts = matches!(state.place, Place::Queued | Place::Running);
            if counts {
                queue.leave(&books, &mut state);
            }
            let before = core::mem::replace(&mut state.params, params);
            if counts {
                queue.join(&books, &mut state, now);
            }
            if before.cap == params.cap {
                Then::Nothing
            } else {
                state.budget = Budget::new(params.cap, now);
                match state.place {
                    Place::Running => Then::Kick,
                    Place::Parked => {
                        self.withdraw(&mut queue, &unit, &mut state);
                        Then::Wake
                    }
                    _ => Then::Nothing,
                }
            }
        };
        Ok(self.finish(&unit, &then, now))
    }

    fn params(&self, slot: Slot) -> Result<Params> {
        let unit = self.unit(slot)?;
        let params = unit.state.lock().params;
        Ok(params)
    }

    fn set_affinity(
        &self,
        slot: Slot,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Option<CpuId>> {
        if !hard.intersects(&self.present()) {
            return Err(Error::Inval);
        }
        let unit = self.unit(slot)?;
        let then = {
            let mut queue = self.queue_of(&unit);
            let mut state = unit.state.lock();
            (state.hard, state.soft) = (*hard, *soft);
            let stays = hard.contains(CpuId(queue.index as u32));
            match state.place {
                Place::Running if !stays => Then::Kick,
                // It may run elsewhere at once now.
                Place::Queued if !stays || hard.intersects(&self.idle.load()) => {
                    self.withdraw(&mut queue, &unit, &mut state);
                    Then::Wake
                }
                Place::Parked if !stays => {
                    self.withdraw(&mut queue, &unit, &mut state);
                    Then::Wake
                }
                _ => Then::Nothing,
            }
        };
        Ok(self.finish(&unit, &then, now))
    }

    fn affinity(&self, slot: Slot) -> Result<(CpuMask, CpuMask)> {
        let unit = self.unit(slot)?;
        let state = unit.state.lock();
        Ok((state.hard, state.soft))
    }

    fn cpu_online(&self, cpu: CpuId, now: Time) -> Option<CpuId> {
        if (cpu.0 as usize) < self.cpus.len() {
            self.bring_online(cpu.0 as usize, now);
        }
        self.next_kick()
    }

    fn cpu_offline(&self, cpu: CpuId, now: Time) -> Option<CpuId> {
        let index = cpu.0 as usize;
        let this = self.cpus.get(index)?;
        {
            let queue = this.queue.lock();
            self.offline.insert(cpu);
            if self.online.remove(cpu) {
                self.all.cpus.fetch_sub(1, Ordering::Relaxed);
            }
            self.idle.remove(cpu);
            self.alone.remove(cpu);
            if queue.current.is_some() {
                self.kicks.insert(cpu);
            }
        }
        self.evacuate(index, now);
        self.next_kick()
    }

    fn running(&self, slot: Slot) -> Option<CpuId> {
        let unit = self.table.get(slot)?;
        let queue = self.queue_of(&unit);
        let running = unit.state.lock().place == Place::Running;
        running.then_some(CpuId(queue.index as u32))
    }

    fn runtime(&self, slot: Slot, now: Time) -> u64 {
        let Some(unit) = self.table.get(slot) else {
            return 0;
        };
        let state = unit.state.lock();
        let since = if state.place == Place::Running {
            now.since(state.charged)
        } else {
            0
        };
        state.runtime + since
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (online, idle) = (self.online.load(), self.idle.load());
        writeln!(out, "fair scheduler: CPUs {online} online, {idle} idle")?;
        for cpu in &self.cpus {
            let queue = cpu.queue.lock();
            writeln!(
                out,
                "  CPU{}: weight {}, until {}",
                queue.index,
                queue.weight(),
                queue.until
            )?;
            let running = queue.current.iter().map(|unit| ("runs", unit));
            let waiting = queue
                .heap
                .as_slice()
                .iter()
                .map(|entry| ("waits", &entry.unit));
            let parked = queue
                .parked
                .as_slice()
                .iter()
                .map(|entry| ("parked", &entry.unit));
            for (what, unit) in running.chain(waiting).chain(parked) {
                let state = unit.state.lock();
                let ahead = state.vruntime.abs_diff(queue.vtime) >> 16;
                let sign = if state.vruntime < queue.vtime {
                    '-'
                } else {
                    '+'
                };
                let Params { weight, cap } = state.params;
                writeln!(
                    out,
                    "    unit {} {what}: weight {weight} cap {cap} at {sign}{ahead} ran {} ns, CPUs {} (rather {})",
                    unit.slot.0, state.runtime, state.hard, state.soft
                )?;
            }
        }
        Ok(())
    }
}
