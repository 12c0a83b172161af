//! One CPU's queue: the unit that runs, those that wait in order of virtual time, and those parked by their cap.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Mutex;

use super::entitlement::Entitlement;
use super::unit::{Parked, Place, State, Unit, Waiting, virtual_ns};
use super::{CREDIT, LATENCY, MIN_SLICE};
use crate::Time;
use crate::heap::Heap;
use crate::sched::Schedulable;

/// A CPU: its queue, and what others look at without its lock.
pub(super) struct Cpu<T> {
    pub(super) queue: Mutex<Queue<T>>,
    pub(super) hints: Hints,
}

impl<T> Cpu<T> {
    pub(super) fn new(index: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::new(index)),
            hints: Hints::default(),
        }
    }
}

/// Copies of what is in the queue, written under its lock.
#[derive(Default)]
pub(super) struct Hints {
    /// Number of units that wait.
    pub(super) waiting: AtomicU32,
    /// Weight of the units that wait and the one that runs.
    pub(super) load: AtomicU64,
}

pub(super) struct Queue<T> {
    /// Its CPU.
    pub(super) index: usize,
    pub(super) current: Option<Arc<Unit<T>>>,
    pub(super) heap: Heap<Waiting<T>>,
    pub(super) parked: Heap<Parked<T>>,
    /// Weight of `current` and of all in `heap`.
    weight: u64,
    /// Virtual time: the least of those that run or wait here; never goes back.
    pub(super) vtime: u128,
    /// When the CPU picks again at the latest.
    pub(super) until: Time,
    /// When it next compares with other CPUs.
    pub(super) balance: Time,
    /// Where the next search among those that wait begins.
    pub(super) cursor: usize,
    /// Which CPU it compares with next, besides the busiest.
    pub(super) turn: usize,
}

impl<T> Queue<T> {
    fn new(index: usize) -> Self {
        Self {
            index,
            current: None,
            heap: Heap::default(),
            parked: Heap::default(),
            weight: 0,
            vtime: 0,
            until: Time::NEVER,
            balance: Time(0),
            cursor: 0,
            turn: 0,
        }
    }
}

/// What a queue's changes have to be told to.
pub(super) struct Books<'a> {
    pub(super) hints: &'a Hints,
    pub(super) all: &'a Entitlement,
}

impl<T: Schedulable> Queue<T> {
    /// Charges the running unit for the time since it was charged last.
    pub(super) fn charge(&mut self, books: &Books<'_>, now: Time) {
        let Some(current) = &self.current else { return };
        let mut state = current.state.lock();
        let ran = now.since(state.charged);
        state.charged = state.charged.max(now);
        state.runtime += ran;
        state.ran += ran;
        let given = ran.min(state.gift);
        state.gift -= given;
        state.given += given;
        state.vruntime += virtual_ns(ran - given, state.params.weight);
        state.budget.charge(ran);
        books.all.advance(ran);
        let weight = state.weight();
        state.lag.settle(books.all, weight, ran, now);
        let least = self
            .heap
            .peek()
            .map_or(state.vruntime, |first| first.vruntime.min(state.vruntime));
        self.vtime = self.vtime.max(least);
    }

    /// A unit that could not run can: its weight counts here, as one that waits or runs.
    pub(super) fn join(&mut self, books: &Books<'_>, state: &mut State, now: Time) {
        let weight = state.weight();
        state.gift = 0;
        state.lag.join(books.all, weight, now);
        self.add_weight(books, state.weight());
    }

    /// A unit that waited or ran here cannot run any more.
    pub(super) fn leave(&mut self, books: &Books<'_>, state: &mut State) {
        state.lag.leave(books.all);
        self.take_weight(books, state.weight());
    }

    pub(super) fn add_weight(&mut self, books: &Books<'_>, weight: u64) {
        self.weight += weight;
        books.hints.load.store(self.weight, Ordering::Relaxed);
    }

    pub(super) fn take_weight(&mut self, books: &Books<'_>, weight: u64) {
        self.weight -= weight;
        books.hints.load.store(self.weight, Ordering::Relaxed);
    }

    /// Lets a unit wait here; its weight counts already.
    pub(super) fn enqueue(&mut self, books: &Books<'_>, unit: Arc<Unit<T>>, state: &mut State) {
        state.place = Place::Queued;
        unit.set_cpu(self.index);
        self.heap.push(Waiting {
            vruntime: state.vruntime,
            unit,
        });
        self.count(books);
        books.all.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes out a unit that waits here; its weight still counts.
    pub(super) fn dequeue(&mut self, books: &Books<'_>, position: u32) -> Option<Arc<Unit<T>>> {
        let entry = self.heap.remove(position)?;
        self.count(books);
        books.all.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(entry.unit)
    }

    fn count(&self, books: &Books<'_>) {
        // Ordered with the mask of idle CPUs: see the head of the parent module.
        books
            .hints
            .waiting
            .store(self.heap.len() as u32, Ordering::SeqCst);
    }

    /// Parks a unit here until its refill; its weight does not count.
    pub(super) fn park(&mut self, unit: Arc<Unit<T>>, state: &mut State) {
        state.place = Place::Parked;
        unit.set_cpu(self.index);
        self.parked.push(Parked {
            refill: state.budget.refill,
            unit,
        });
    }

    /// Parked units whose refill has come wait again.
    pub(super) fn unpark(&mut self, books: &Books<'_>, now: Time) {
        while self.parked.peek().is_some_and(|first| first.refill <= now) {
            let Some(Parked { unit, .. }) = self.parked.pop() else {
                return;
            };
            let shared = unit.clone();
            let mut state = shared.state.lock();
            state.budget.top_up(now);
            if state.budget.exhausted() {
                self.park(unit, &mut state);
            } else {
                self.join(books, &mut state, now);
                state.rebase(self.vtime, self.vtime, CREDIT);
                self.enqueue(books, unit, &mut state);
            }
        }
    }

    /// Length of a time slice of a unit that runs or waits here.
    pub(super) fn slice(&self, weight: u64) -> u64 {
        (LATENCY * weight / self.weight.max(1)).clamp(MIN_SLICE, LATENCY)
    }

    /// When the next parked unit is due.
    pub(super) fn next_refill(&self) -> Time {
        self.parked.peek().map_or(Time::NEVER, |first| first.refill)
    }

    /// Weight of what runs and waits here.
    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }
}
