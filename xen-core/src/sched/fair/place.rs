//! Where a unit goes that wakes up or has to leave its CPU.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::queue::Queue;
use super::unit::{Place, State, Unit, virtual_ns};
use super::{CREDIT, Fair, GRANULARITY, LATENCY};
use crate::sched::Schedulable;
use crate::{CpuId, CpuMask, Time};

/// How many CPUs are compared for a unit that finds none idle.
const COMPARED: usize = 8;
/// How often a unit that was to go to an idle CPU looks for another because somebody was faster.
const ATTEMPTS: u32 = 3;

enum Woken {
    Done(Option<CpuId>),
    Again,
}

impl<T: Schedulable> Fair<T> {
    /// Puts a unit that sleeps and can run into a queue; the CPU to kick, if it has to learn of it.
    pub(super) fn wake(&self, unit: &Arc<Unit<T>>, now: Time) -> Option<CpuId> {
        let mut attempt = 0;
        loop {
            let from = unit.cpu();
            let (hard, soft) = {
                let state = unit.state.lock();
                (state.hard, state.soft)
            };
            let (target, idle) = self.place(from, &hard, &soft);
            let only_idle = idle && attempt < ATTEMPTS;
            let woken = self.with_both(from, target, |home, other| {
                self.wake_on(unit, home, other, only_idle, now)
            });
            match woken {
                Woken::Done(kick) => return kick,
                Woken::Again => attempt += 1,
            }
        }
    }

    /// The same, from the queue it belonged to into that queue or another.
    fn wake_on(
        &self,
        unit: &Arc<Unit<T>>,
        home: &mut Queue<T>,
        other: Option<&mut Queue<T>>,
        only_idle: bool,
        now: Time,
    ) -> Woken {
        if unit.cpu() != home.index {
            return Woken::Again;
        }
        home.charge(&self.books(home.index), now);
        let home_vtime = home.vtime;
        let queue = other.unwrap_or(home);
        let books = self.books(queue.index);
        queue.charge(&books, now);
        let cpu = CpuId(queue.index as u32);

        let mut state = unit.state.lock();
        if state.place != Place::Asleep || !unit.item.runnable() {
            return Woken::Done(None);
        }
        let taken = queue.current.is_some() || !queue.heap.is_empty();
        // A CPU goes offline under its queue's lock, and then sends away what waits there: nothing may come after.
        let deserted = !self.online.contains(cpu) && state.hard.intersects(&self.online.load());
        if (only_idle && taken) || deserted || !state.hard.contains(cpu) {
            return Woken::Again;
        }
        state.rebase(home_vtime, queue.vtime, CREDIT);
        state.budget.top_up(now);
        if state.budget.exhausted() {
            queue.park(unit.clone(), &mut state);
            return Woken::Done((queue.until > state.budget.refill).then_some(cpu));
        }
        queue.join(&books, &mut state, now);
        queue.enqueue(&books, unit.clone(), &mut state);
        let reach = state
            .vruntime
            .saturating_add(virtual_ns(GRANULARITY, state.params.weight));
        let hard = state.hard;
        drop(state);

        if !self.online.contains(cpu) {
            // It picks when it comes.
            return Woken::Done(None);
        }
        let kick = match &queue.current {
            None => {
                self.idle.remove(cpu);
                true
            }
            // It takes the CPU, or the CPU does not expect to come back soon, or one that fell idle just now can help.
            Some(current) => {
                self.gives_way(&mut current.state.lock(), reach)
                    || queue.until > now.after(LATENCY)
                    || hard.intersects(&self.idle.load())
            }
        };
        Woken::Done(kick.then_some(cpu))
    }

    /// Whether the unit that runs gives way to one that wakes up and would take over at the virtual time `reach`.
    fn gives_way(&self, current: &mut State, reach: u128) -> bool {
        let given = virtual_ns(current.given, current.params.weight);
        let behind = current.vruntime.saturating_add(given) <= reach;
        if !behind && current.given != 0 {
            // By its virtual time alone, it would go on.
            current.gift = 0;
            current.yielded = true;
        }
        !behind
    }

    /// The CPU for a unit that was on `from`, and whether that CPU seems idle.
    fn place(&self, from: usize, hard: &CpuMask, soft: &CpuMask) -> (usize, bool) {
        let last = CpuId(from as u32);
        let idle = self.idle.load().and(hard);
        for wanted in [idle.and(soft), idle] {
            // The last CPU if it is one of them, else the next.
            if let Some(cpu) = wanted.iter_from(last).next() {
                return (cpu.0 as usize, true);
            }
        }
        let online = self.online.load().and(hard);
        let present = hard.and(&self.present());
        let wanted = [online.and(soft), online, present]
            .into_iter()
            .find(|set| !set.is_empty());
        let least = wanted
            .unwrap_or(present)
            .iter_from(last)
            .take(COMPARED)
            .min_by_key(|cpu| self.cpus[cpu.0 as usize].hints.load.load(Ordering::Relaxed));
        (least.map_or(from, |cpu| cpu.0 as usize), false)
    }

    /// A CPU to kick because it could run, or should compare itself with, a unit that waits in this queue.
    pub(super) fn helper(&self, queue: &mut Queue<T>) -> Option<CpuId> {
        if queue.heap.is_empty() {
            return None;
        }
        for mask in [&self.idle, &self.alone] {
            let candidates = mask.load();
            if candidates.is_empty() {
                continue;
            }
            let len = queue.heap.len();
            for n in 0..len.min(super::SEARCH) {
                let entry = &queue.heap.as_slice()[(queue.cursor + n) % len];
                let allowed = candidates.and(&entry.unit.state.lock().hard);
                let next = CpuId(queue.index as u32 + 1);
                if let Some(cpu) = allowed.iter_from(next).find(|cpu| mask.remove(*cpu)) {
                    return Some(cpu);
                }
            }
        }
        queue.cursor = queue.cursor.wrapping_add(super::SEARCH) % queue.heap.len();
        None
    }

    /// A CPU comes online: units that wait for CPUs that are not can come.
    pub(super) fn bring_online(&self, cpu: usize, now: Time) {
        self.offline.remove(CpuId(cpu as u32));
        if self.online.insert(CpuId(cpu as u32)) {
            self.all.cpus.fetch_add(1, Ordering::Relaxed);
        }
        let online = self.online.load();
        for index in (0..self.cpus.len()).filter(|n| !online.contains(CpuId(*n as u32))) {
            self.evacuate(index, now);
        }
    }

    /// Sends the units that wait for a CPU that is not online elsewhere, as far as they may go.
    pub(super) fn evacuate(&self, cpu: usize, now: Time) {
        let units: Vec<Arc<Unit<T>>> = {
            let mut queue = self.cpus[cpu].queue.lock();
            let online = self.online.load();
            let waiting = queue.heap.as_slice().iter().map(|entry| &entry.unit);
            let parked = queue.parked.as_slice().iter().map(|entry| &entry.unit);
            let movable = waiting
                .chain(parked)
                .filter(|unit| unit.state.lock().hard.intersects(&online));
            let units: Vec<_> = movable.cloned().collect();
            for unit in &units {
                self.withdraw(&mut queue, unit, &mut unit.state.lock());
            }
            units
        };
        for unit in &units {
            if let Some(kick) = self.wake(unit, now) {
                self.kicks.insert(kick);
            }
        }
    }
}
