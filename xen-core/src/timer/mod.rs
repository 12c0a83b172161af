//! Timers: deadlines at which a CPU does something.
//!
//! Each CPU has a queue of its own, under its own lock. A timer is allocated once, armed and cancelled often; it is
//! in one queue at most, that of the CPU it was armed on last. What it means is a payload that is handed in when
//! it is armed and handed out once when the deadline has passed, without a lock held.
//!
//! # Locking
//! No two queues are locked at once. Which queue a timer is in changes only under that queue's lock: into it by
//! whoever finds the timer in no queue, out of it by whoever finds it there. Payloads and handles are dropped after the
//! lock is gone, as that may run anything.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use crate::heap::{Entry, Heap};
use crate::{CpuId, Error, Result, Time};

/// "In no queue" in [`Shared::queue`].
const NO_QUEUE: u32 = u32::MAX;

/// A timer's part that its handle and its queue know.
#[derive(Debug)]
struct Shared {
    /// Index of the queue it is in.
    queue: AtomicU32,
    /// Where in that queue; meaningful under the queue's lock.
    position: AtomicU32,
    /// How many timers there are.
    count: Arc<AtomicU32>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A timer. To drop it disarms it; its payload is kept until the deadline then.
#[derive(Debug)]
pub struct TimerHandle(Arc<Shared>);

impl TimerHandle {
    /// Whether the timer is armed and has not been handed out.
    pub fn is_armed(&self) -> bool {
        self.0.queue.load(Ordering::Acquire) != NO_QUEUE
    }
}

#[derive(Debug)]
struct Armed<P> {
    deadline: Time,
    timer: Arc<Shared>,
    payload: P,
}

impl<P> Entry for Armed<P> {
    type Key = Time;

    fn key(&self) -> Time {
        self.deadline
    }

    fn moved(&self, position: u32) {
        self.timer.position.store(position, Ordering::Relaxed);
    }
}

/// The armed timers of one CPU, soonest first.
#[derive(Debug)]
struct TimerQueue<P>(Heap<Armed<P>>);

impl<P> TimerQueue<P> {
    /// Takes out a timer that is in this queue.
    fn take(&mut self, timer: &Shared) -> Option<Armed<P>> {
        let armed = self.0.remove(timer.position.load(Ordering::Relaxed));
        timer.queue.store(NO_QUEUE, Ordering::Release);
        armed
    }
}

/// All timers of the machine.
#[derive(Debug)]
pub struct Timers<P> {
    queues: Box<[Mutex<TimerQueue<P>>]>,
    count: Arc<AtomicU32>,
}

impl<P> Timers<P> {
    /// Queues for `cpus` CPUs.
    pub fn new(cpus: u32) -> Self {
        let queues = (0..cpus)
            .map(|_| Mutex::new(TimerQueue(Heap::default())))
            .collect();
        Self {
            queues,
            count: Arc::default(),
        }
    }

    /// Makes a timer, disarmed. All memory that arming it can take is set aside now, so that arming cannot fail.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn allocate(&self) -> Result<TimerHandle> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let timer = TimerHandle(Arc::new(Shared {
            queue: AtomicU32::new(NO_QUEUE),
            position: AtomicU32::new(0),
            count: self.count.clone(),
        }));
        for queue in &self.queues {
            queue
                .lock()
                .0
                .reserve(count as usize)
                .map_err(|_| Error::NoMem)?;
        }
        Ok(timer)
    }

    /// Arms a timer on a CPU; an earlier deadline, on whichever CPU, no longer counts. [`Time::NEVER`] disarms.
    ///
    /// The caller has the CPU's clock programmed anew if this comes first now ([`Timers::next_deadline`]).
    pub fn arm(&self, cpu: CpuId, handle: &TimerHandle, deadline: Time, payload: P) {
        let Some(queue) = self.queues.get(cpu.0 as usize) else {
            debug_assert!(false, "there is no CPU {cpu}");
            return self.cancel(handle);
        };
        if deadline == Time::NEVER {
            return self.cancel(handle);
        }
        let timer = &handle.0;
        let mut payload = Some(payload);
        while payload.is_some() {
            let found = timer.queue.load(Ordering::Acquire);
            if found != NO_QUEUE && found != cpu.0 {
                self.cancel(handle);
                continue;
            }
            let mut locked = queue.lock();
            // While this lock is held a timer cannot leave this queue, but one in no queue can enter another.
            let old = (timer.queue.load(Ordering::Acquire) == cpu.0).then(|| locked.take(timer));
            let entered =
                timer
                    .queue
                    .compare_exchange(NO_QUEUE, cpu.0, Ordering::AcqRel, Ordering::Acquire);
            if entered.is_ok()
                && let Some(payload) = payload.take()
            {
                locked.0.push(Armed {
                    deadline,
                    timer: timer.clone(),
                    payload,
                });
            }
            drop(locked);
            drop(old);
        }
    }

    /// Disarms a timer. Harmless if it is not armed. Its payload may have been handed out a moment ago, and be in
    /// the hands of another CPU.
    pub fn cancel(&self, handle: &TimerHandle) {
        let timer = &handle.0;
        loop {
            // `NO_QUEUE` is no index.
            let found = timer.queue.load(Ordering::Acquire);
            let Some(queue) = self.queues.get(found as usize) else {
                return;
            };
            let mut locked = queue.lock();
            let old = (timer.queue.load(Ordering::Acquire) == found).then(|| locked.take(timer));
            drop(locked);
            if old.is_some() {
                return;
            }
        }
    }

    /// The payload of one timer of a CPU whose deadline is not after `now`, soonest first. The timer is disarmed.
    pub fn expired(&self, cpu: CpuId, now: Time) -> Option<P> {
        let queue = self.queues.get(cpu.0 as usize)?;
        loop {
            let mut locked = queue.lock();
            let first = locked
                .0
                .peek()
                .filter(|armed| armed.deadline <= now)?
                .timer
                .clone();
            let armed = locked.take(&first)?;
            drop(locked);
            drop(first);
            // Whether the handle still exists: nobody else holds what it shares with the queue.
            if Arc::strong_count(&armed.timer) > 1 {
                return Some(armed.payload);
            }
        }
    }

    /// When the next timer of a CPU expires; `None` without one.
    pub fn next_deadline(&self, cpu: CpuId) -> Option<Time> {
        self.queues
            .get(cpu.0 as usize)?
            .lock()
            .0
            .peek()
            .map(|armed| armed.deadline)
    }

    /// Number of timers that exist.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    /// Whether no timer exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
