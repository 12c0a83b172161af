//! What a CPU runs next.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::queue::Queue;
use super::unit::{Place, Unit, virtual_ns};
use super::{BALANCE_INTERVAL, CREDIT, Fair, GIFT_LIMIT, GRANULARITY, IMBALANCE, SEARCH, SLACK};
use crate::sched::{Choice, Schedulable};
use crate::{CpuId, Time};

/// What became of the unit that ran until now.
enum Previous<T> {
    /// It sleeps or is parked, or there was none.
    Off,
    /// It can go on here.
    Stays(Arc<Unit<T>>),
    /// It can go on, but not here; it sleeps until it is woken elsewhere.
    Leaves(Arc<Unit<T>>),
}

impl<T: Schedulable> Fair<T> {
    /// Lets the unit that runs go on where no other waits: neither here nor, to be taken over, elsewhere.
    pub(super) fn continue_here(&self, cpu: usize, now: Time) -> Option<Time> {
        let here = CpuId(cpu as u32);
        let mut guard = self.cpus.get(cpu)?.queue.lock();
        let queue = &mut *guard;
        if self.all.waiting.load(Ordering::SeqCst) != 0
            || queue.next_refill() <= now
            || !self.kicks.is_empty()
            || !self.online.contains(here)
        {
            return None;
        }
        queue.charge(&self.books(cpu), now);
        let (unit, refill) = (queue.current.as_ref()?, queue.next_refill());
        let mut state = unit.state.lock();
        state.budget.top_up(now);
        if !unit.item.runnable() || !state.hard.contains(here) || state.budget.exhausted() {
            return None;
        }
        // It gives way to nobody, and its time slice begins anew once it is over.
        state.yielded = false;
        if state.ran + SLACK >= queue.slice(state.weight()) {
            state.ran = 0;
        }
        let until = self.until_alone(here, now);
        let until = until.min(state.budget.ends(now)).min(refill);
        drop(state);
        queue.until = until;
        Some(until)
    }

    /// Chooses for a CPU.
    pub(super) fn choose(&self, cpu: usize, now: Time) -> Choice<T> {
        let here = CpuId(cpu as u32);
        self.kicks.remove(here);
        let books = self.books(cpu);
        let mut queue = self.cpus[cpu].queue.lock();
        queue.charge(&books, now);
        let old = queue.current.clone();
        let (stays, leaves) = match self.take_back(&mut queue, now) {
            Previous::Off => (None, None),
            Previous::Stays(unit) => (Some(unit), None),
            Previous::Leaves(unit) => (None, Some(unit)),
        };
        queue.unpark(&books, now);
        let mut choice = if self.online.contains(here) {
            match self.choose_here(&mut queue, stays) {
                Some(unit) => {
                    let unit = self.compare(&mut queue, unit, now);
                    let mut choice = self.start(&mut queue, unit, now);
                    choice.kick = self.helper(&mut queue);
                    drop(queue);
                    choice
                }
                None => {
                    self.alone.remove(here);
                    // First known as idle, then the search: see the parent module.
                    self.idle.insert(here);
                    queue.until = queue.next_refill();
                    drop(queue);
                    self.take_from_others(cpu, now)
                }
            }
        } else {
            queue.until = Time::NEVER;
            drop(queue);
            Choice::idle(Time::NEVER)
        };
        if let Some(unit) = leaves
            && let Some(kick) = self.wake(&unit, now)
        {
            self.kicks.insert(kick);
        }
        // The unit that ran may have been removed meanwhile, so this may be the last that knows it.
        drop(old);
        if choice.kick.is_none() {
            choice.kick = self.next_kick();
        }
        choice
    }

    /// Takes the unit that ran off the CPU.
    fn take_back(&self, queue: &mut Queue<T>, now: Time) -> Previous<T> {
        let Some(unit) = queue.current.take() else {
            return Previous::Off;
        };
        let here = CpuId(queue.index as u32);
        let books = self.books(queue.index);
        let shared = unit.clone();
        let mut state = shared.state.lock();
        state.budget.top_up(now);
        if !unit.item.runnable() {
            queue.leave(&books, &mut state);
            state.place = Place::Asleep;
            Previous::Off
        } else if !state.hard.contains(here) || !self.online.contains(here) {
            queue.leave(&books, &mut state);
            state.place = Place::Asleep;
            Previous::Leaves(unit)
        } else if state.budget.exhausted() {
            queue.leave(&books, &mut state);
            queue.park(unit, &mut state);
            Previous::Off
        } else {
            Previous::Stays(unit)
        }
    }

    /// Chooses between the unit that ran and those that wait here.
    fn choose_here(
        &self,
        queue: &mut Queue<T>,
        stays: Option<Arc<Unit<T>>>,
    ) -> Option<Arc<Unit<T>>> {
        let books = self.books(queue.index);
        let first = queue.heap.peek().map(|first| first.vruntime);
        if let Some(unit) = stays {
            let shared = unit.clone();
            let mut state = shared.state.lock();
            let yields = core::mem::take(&mut state.yielded);
            let slice_over = state.ran + SLACK >= queue.slice(state.weight());
            let goes_on = match first {
                None => true,
                Some(_) if yields => false,
                Some(first) => {
                    let reach = first.saturating_add(virtual_ns(GRANULARITY, state.params.weight));
                    state.vruntime < first || (!slice_over && state.vruntime <= reach)
                }
            };
            if goes_on {
                if slice_over {
                    state.ran = 0;
                }
                return Some(unit);
            }
            if yields && let Some(first) = first {
                state.vruntime = state.vruntime.max(first);
            }
            // It may be the first among equals now, but not before who waited.
            let next = queue.dequeue(&books, 0);
            queue.enqueue(&books, unit, &mut state);
            return next;
        }
        queue.dequeue(&books, 0)
    }

    /// Puts a unit on the CPU; its weight counts here already.
    fn start(&self, queue: &mut Queue<T>, unit: Arc<Unit<T>>, now: Time) -> Choice<T> {
        let here = CpuId(queue.index as u32);
        let mut state = unit.state.lock();
        if state.place != Place::Running {
            state.place = Place::Running;
            (state.ran, state.given, state.yielded) = (0, 0, false);
        }
        unit.set_cpu(queue.index);
        state.charged = now;
        let migrated = state
            .last
            .replace(here.0)
            .is_some_and(|last| last != here.0);
        let turn = if queue.heap.is_empty() {
            self.until_alone(here, now)
        } else {
            self.alone.remove(here);
            now.after(queue.slice(state.weight()).saturating_sub(state.ran))
        };
        let until = turn.min(state.budget.ends(now)).min(queue.next_refill());
        drop(state);
        self.idle.remove(here);
        queue.until = until;
        let next = Some((unit.slot, unit.item.clone()));
        queue.current = Some(unit);
        Choice {
            next,
            until,
            migrated,
            kick: None,
        }
    }

    /// When a CPU comes back by itself that has one unit only: to compare, if others have units that wait.
    fn until_alone(&self, here: CpuId, now: Time) -> Time {
        if self.cpus.len() == 1 {
            return Time::NEVER;
        }
        if self.all.waiting.load(Ordering::SeqCst) == 0 {
            self.alone.insert(here);
            // Looked at again, as who lets a unit wait looks at the mask after it is counted.
            if self.all.waiting.load(Ordering::SeqCst) == 0 {
                return Time::NEVER;
            }
        }
        self.alone.remove(here);
        now.after(BALANCE_INTERVAL)
    }

    /// Compares the unit that is to run with those that wait elsewhere; the one to run.
    fn compare(&self, queue: &mut Queue<T>, unit: Arc<Unit<T>>, now: Time) -> Arc<Unit<T>> {
        let waiting = self.all.waiting.load(Ordering::Relaxed) as usize;
        if now < queue.balance || waiting <= queue.heap.len() {
            return unit;
        }
        let owed = {
            let mut state = unit.state.lock();
            let reach = state
                .vruntime
                .saturating_add(virtual_ns(GRANULARITY, state.params.weight));
            let weight = state.weight();
            // One that has just woken up has the CPU whatever others are owed.
            (reach > queue.vtime).then(|| state.lag.settle(&self.all, weight, 0, now))
        };
        let Some(owed) = owed else { return unit };
        queue.balance = now.after(BALANCE_INTERVAL);
        let count = self.cpus.len();
        let crowded = |n: &usize| {
            *n != queue.index && self.cpus[*n].hints.waiting.load(Ordering::Relaxed) != 0
        };
        let load = |n: &usize| self.cpus[*n].hints.load.load(Ordering::Relaxed);
        let busiest = (0..count).filter(crowded).max_by_key(load);
        // The busiest may have units only that must stay there: another each time as well.
        queue.turn = (queue.turn + 1) % count;
        let another = (0..count).map(|n| (queue.turn + n) % count).find(crowded);
        for victim in busiest
            .into_iter()
            .chain(another.filter(|n| Some(*n) != busiest))
        {
            if let Some(other) = self.pull(queue, victim, owed, now) {
                let shared = unit.clone();
                let books = self.books(queue.index);
                queue.enqueue(&books, unit, &mut shared.state.lock());
                return other;
            }
        }
        unit
    }

    /// Takes over a unit that waits elsewhere and is owed clearly more than `owed`.
    fn pull(
        &self,
        queue: &mut Queue<T>,
        victim: usize,
        owed: i64,
        now: Time,
    ) -> Option<Arc<Unit<T>>> {
        let here = CpuId(queue.index as u32);
        // Out of order, so without waiting; there is a next time.
        let mut victim = self.cpus[victim].queue.try_lock()?;
        let len = victim.heap.len();
        let mut best = None;
        let mut most = owed.saturating_add(IMBALANCE as i64);
        for n in 0..len.min(SEARCH) {
            let entry = &victim.heap.as_slice()[(victim.cursor + n) % len];
            let mut state = entry.unit.state.lock();
            let settled =
                state.soft.contains(CpuId(victim.index as u32)) && !state.soft.contains(here);
            if !state.hard.contains(here) || settled {
                continue;
            }
            let weight = state.weight();
            let lag = state.lag.settle(&self.all, weight, 0, now);
            if lag > most {
                most = lag;
                best = Some(entry.unit.position());
            }
        }
        if len > 0 {
            victim.cursor = (victim.cursor + SEARCH) % len;
        }
        let unit = self.transfer(&mut victim, queue, best?)?;
        // Here it goes first, and for longer than its turn, but not before units that wake up. Without that, and with bad
        // luck, it would be taken to and fro between queues and have its turn in none.
        let mut state = unit.state.lock();
        state.gift = u64::try_from(most.saturating_sub(owed) / 2)
            .unwrap_or(0)
            .min(GIFT_LIMIT);
        state.vruntime = queue
            .vtime
            .saturating_sub(virtual_ns(GRANULARITY, state.params.weight));
        drop(state);
        Some(unit)
    }

    /// Takes a waiting unit out of one queue for another's CPU, where it neither waits nor runs yet.
    fn transfer(
        &self,
        from: &mut Queue<T>,
        to: &mut Queue<T>,
        position: u32,
    ) -> Option<Arc<Unit<T>>> {
        let unit = from.dequeue(&self.books(from.index), position)?;
        let mut state = unit.state.lock();
        from.take_weight(&self.books(from.index), state.weight());
        to.add_weight(&self.books(to.index), state.weight());
        state.rebase(from.vtime, to.vtime, CREDIT);
        unit.set_cpu(to.index);
        drop(state);
        Some(unit)
    }

    /// A CPU without work looks for some in all other queues.
    fn take_from_others(&self, cpu: usize, now: Time) -> Choice<T> {
        let count = self.cpus.len();
        for victim in (1..count).map(|n| (cpu + n) % count) {
            if self.cpus[victim].hints.waiting.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let choice = self.with_both(cpu, victim, |queue, victim| {
                let victim = victim.filter(|_| self.online.contains(CpuId(cpu as u32)))?;
                // Somebody may have brought work meanwhile.
                if let Some(unit) = queue.dequeue(&self.books(cpu), 0) {
                    return Some(self.start(queue, unit, now));
                }
                let unit = self.steal(queue, victim)?;
                let mut choice = self.start(queue, unit, now);
                // Where one waited, more may, and more CPUs idle.
                choice.kick = self.helper(victim);
                Some(choice)
            });
            if let Some(choice) = choice {
                return choice;
            }
        }
        let mut queue = self.cpus[cpu].queue.lock();
        let online = self.online.contains(CpuId(cpu as u32));
        let unit = if online {
            queue.dequeue(&self.books(cpu), 0)
        } else {
            None
        };
        match unit {
            Some(unit) => self.start(&mut queue, unit, now),
            None => {
                queue.until = queue.next_refill();
                Choice::idle(queue.until)
            }
        }
    }

    /// Takes a unit that waits elsewhere and may run here: rather one that likes to, rather one that has had least.
    ///
    /// This looks at all that wait there, since the CPU has nothing better to do.
    fn steal(&self, queue: &mut Queue<T>, victim: &mut Queue<T>) -> Option<Arc<Unit<T>>> {
        let here = CpuId(queue.index as u32);
        let allowed = victim.heap.as_slice().iter().filter_map(|entry| {
            let state = entry.unit.state.lock();
            let rank = (!state.soft.contains(here), state.vruntime);
            state
                .hard
                .contains(here)
                .then(|| (rank, entry.unit.position()))
        });
        let (_, position) = allowed.min()?;
        self.transfer(victim, queue, position)
    }
}
