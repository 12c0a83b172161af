//! A machine of CPUs and units on a virtual clock, which checks what must hold at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000 * US;
pub(super) const SECOND: u64 = 1_000 * MS;

pub(super) fn fair(cpus: usize) -> AnyScheduler<Item> {
    AnyScheduler::new(SchedulerKind::by_name("credit2").unwrap(), cpus as u32)
}

pub(super) fn null(cpus: usize) -> AnyScheduler<Item> {
    AnyScheduler::new(SchedulerKind::by_name("null").unwrap(), cpus as u32)
}

pub(super) fn mask(cpus: &[u32]) -> CpuMask {
    cpus.iter().copied().map(CpuId).collect()
}

/// The payload: a flag that others can change.
pub(super) struct Owner {
    pub(super) id: usize,
    pub(super) runnable: AtomicBool,
}

impl Schedulable for Arc<Owner> {
    fn runnable(&self) -> bool {
        self.runnable.load(SeqCst)
    }
}

pub(super) type Item = Arc<Owner>;

/// What a unit does with its CPU time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Habit {
    /// Runs for ever.
    Hog,
    /// Runs for so long, then sleeps for so long.
    Bursts(u64, u64),
    /// Yields after each time it has run for so long.
    Yields(u64),
    /// Never runs.
    Off,
}

pub(super) struct SimUnit {
    pub(super) slot: Slot,
    pub(super) item: Item,
    pub(super) habit: Habit,
    pub(super) hard: CpuMask,
    capped: bool,
    /// CPU time left before it sleeps or yields.
    left: u64,
    wakes: Option<Time>,
    woken: Option<Time>,
    pub(super) ran: u64,
    /// Longest time from a wake-up to running.
    pub(super) latency: u64,
    pub(super) picked: u64,
    /// Since when it waits although a CPU idles that it may use.
    wronged: Option<Time>,
}

#[derive(Clone)]
struct SimCpu {
    current: Option<usize>,
    until: Time,
    kicked: Option<Time>,
    online: bool,
}

pub(super) struct Sim<'a> {
    pub(super) sched: &'a AnyScheduler<Item>,
    pub(super) now: Time,
    cpus: Vec<SimCpu>,
    pub(super) units: Vec<Option<SimUnit>>,
    /// How long a kick takes to arrive.
    pub(super) kick_delay: u64,
    /// How long a CPU may idle while a unit waits that could use it.
    pub(super) patience: u64,
    pub(super) migrations: u64,
    pub(super) picks: u64,
}

impl<'a> Sim<'a> {
    pub(super) fn new(sched: &'a AnyScheduler<Item>, cpus: usize) -> Self {
        let cpu = SimCpu {
            current: None,
            until: Time::NEVER,
            kicked: Some(Time(0)),
            online: true,
        };
        Self {
            sched,
            now: Time(0),
            cpus: vec![cpu; cpus],
            units: Vec::new(),
            kick_delay: 0,
            patience: 12 * MS,
            migrations: 0,
            picks: 0,
        }
    }

    pub(super) fn all(&self) -> CpuMask {
        CpuMask::first(self.cpus.len() as u32)
    }

    /// Adds a unit and starts it.
    pub(super) fn add(&mut self, habit: Habit, params: Params, hard: CpuMask) -> usize {
        let id = self.units.len();
        let item = Arc::new(Owner {
            id,
            runnable: AtomicBool::new(false),
        });
        let slot = self
            .sched
            .insert(item.clone(), params, &hard, &hard, self.now)
            .unwrap();
        let unit = SimUnit {
            slot,
            item,
            habit,
            hard,
            capped: params.cap != 0,
            left: 0,
            wakes: None,
            woken: None,
            ran: 0,
            latency: 0,
            picked: 0,
            wronged: None,
        };
        self.units.push(Some(unit));
        self.refill(id);
        if !matches!(habit, Habit::Off) {
            self.set_runnable(id, true);
        }
        id
    }

    pub(super) fn hog(&mut self, weight: u16) -> usize {
        self.add(Habit::Hog, Params { weight, cap: 0 }, self.all())
    }

    pub(super) fn unit(&self, id: usize) -> &SimUnit {
        self.units[id].as_ref().unwrap()
    }

    fn unit_mut(&mut self, id: usize) -> &mut SimUnit {
        self.units[id].as_mut().unwrap()
    }

    fn refill(&mut self, id: usize) {
        let unit = self.unit_mut(id);
        unit.left = match unit.habit {
            Habit::Hog | Habit::Off => u64::MAX,
            Habit::Bursts(run, _) => run,
            Habit::Yields(every) => every,
        };
    }

    pub(super) fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(cpu) = cpu {
            let cpu = &mut self.cpus[cpu.0 as usize];
            let at = self.now.after(self.kick_delay);
            cpu.kicked = Some(cpu.kicked.map_or(at, |t| t.min(at)));
        }
    }

    pub(super) fn set_runnable(&mut self, id: usize, runnable: bool) {
        let now = self.now;
        let unit = self.unit_mut(id);
        unit.item.runnable.store(runnable, SeqCst);
        unit.woken = runnable.then_some(now);
        unit.wakes = None;
        let slot = unit.slot;
        let kick = self.sched.update(slot, now);
        self.kick(kick);
    }

    pub(super) fn set_affinity(&mut self, id: usize, hard: CpuMask) {
        self.unit_mut(id).hard = hard;
        let kick = self
            .sched
            .set_affinity(self.unit(id).slot, &hard, &hard, self.now)
            .unwrap();
        self.kick(kick);
    }

    pub(super) fn set_params(&mut self, id: usize, params: Params) {
        self.unit_mut(id).capped = params.cap != 0;
        let kick = self
            .sched
            .set_params(self.unit(id).slot, params, self.now)
            .unwrap();
        self.kick(kick);
    }

    pub(super) fn set_online(&mut self, cpu: usize, online: bool) {
        self.cpus[cpu].online = online;
        let id = CpuId(cpu as u32);
        let kick = if online {
            self.sched.cpu_online(id, self.now)
        } else {
            self.sched.cpu_offline(id, self.now)
        };
        self.kick(kick);
        if online {
            self.kick(Some(id));
        }
    }

    /// Takes a unit away; waits until it is off its CPU.
    pub(super) fn remove(&mut self, id: usize) -> Item {
        self.set_runnable(id, false);
        if self.running_on(id).is_some() {
            let busy = self.sched.remove(self.unit(id).slot, self.now).err();
            assert_eq!(busy, Some(Error::Busy));
            self.run_for(self.kick_delay);
        }
        let (item, kick) = self.sched.remove(self.unit(id).slot, self.now).unwrap();
        self.units[id] = None;
        self.kick(kick);
        item
    }

    pub(super) fn running_on(&self, id: usize) -> Option<usize> {
        self.cpus.iter().position(|cpu| cpu.current == Some(id))
    }

    /// What a CPU's loop does when it comes back: the unit that runs goes on, or is saved, and another chosen.
    fn pick(&mut self, cpu: usize) {
        self.cpus[cpu].kicked = None;
        self.picks += 1;
        if let Some(until) = self.sched.go_on(CpuId(cpu as u32), self.now) {
            let id = self.cpus[cpu]
                .current
                .expect("nothing runs that could go on");
            let unit = self.unit(id);
            assert!(unit.item.runnable(), "unit {id} cannot run");
            assert!(unit.hard.contains(CpuId(cpu as u32)) && self.cpus[cpu].online);
            assert!(until > self.now, "it would come back at once");
            self.cpus[cpu].until = until;
            return self.arrived(id);
        }
        self.cpus[cpu].current = None;
        let id = CpuId(cpu as u32);
        let choice = self.sched.pick(id, self.now);
        self.kick(choice.kick);
        self.cpus[cpu].until = choice.until;
        self.migrations += u64::from(choice.migrated);
        let Some((slot, item)) = choice.next else {
            return;
        };
        assert!(
            self.running_on(item.id).is_none(),
            "unit {} runs on two CPUs",
            item.id
        );
        assert_eq!(self.sched.running(slot), Some(id));
        assert!(self.cpus[cpu].online, "CPU {cpu} is offline");
        let unit = self.unit_mut(item.id);
        assert!(
            unit.hard.contains(id),
            "unit {} must not run on CPU {cpu}",
            item.id
        );
        assert!(unit.item.runnable(), "unit {} cannot run", item.id);
        assert_eq!(unit.slot, slot);
        unit.picked += 1;
        self.arrived(item.id);
        self.cpus[cpu].current = Some(item.id);
    }

    /// A unit has a CPU: it waits no more.
    fn arrived(&mut self, id: usize) {
        let now = self.now;
        let unit = self.unit_mut(id);
        if let Some(woken) = unit.woken.take() {
            unit.latency = unit.latency.max(now.since(woken));
        }
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, ns: u64) {
        let end = self.now.after(ns);
        let mut at_once = 0;
        loop {
            if self.step_now() {
                at_once += 1;
                assert!(at_once < 10_000, "no progress at {}", self.now);
                continue;
            }
            self.check();
            if self.now >= end {
                return;
            }
            at_once = 0;
            let next = self.next_event().min(end);
            let passed = next.since(self.now);
            for cpu in 0..self.cpus.len() {
                if let Some(id) = self.cpus[cpu].current {
                    let unit = self.unit_mut(id);
                    unit.ran += passed;
                    unit.left = unit.left.saturating_sub(passed);
                }
            }
            self.now = next;
        }
    }

    fn next_event(&self) -> Time {
        let cpus = self.cpus.iter().flat_map(|cpu| {
            let left = cpu
                .current
                .map_or(Time::NEVER, |id| self.now.after(self.unit(id).left));
            [cpu.until, cpu.kicked.unwrap_or(Time::NEVER), left]
        });
        let wakes = self.units.iter().flatten().filter_map(|unit| unit.wakes);
        cpus.chain(wakes).min().unwrap_or(Time::NEVER).max(self.now)
    }

    /// Does one thing that is due; false if nothing is.
    fn step_now(&mut self) -> bool {
        let now = self.now;
        for id in 0..self.units.len() {
            let Some(unit) = &self.units[id] else {
                continue;
            };
            if unit.wakes.is_some_and(|at| at <= now) {
                self.refill(id);
                self.set_runnable(id, true);
                return true;
            }
        }
        for cpu in 0..self.cpus.len() {
            if let Some(id) = self.cpus[cpu].current
                && self.unit(id).left == 0
            {
                self.refill(id);
                match self.unit(id).habit {
                    Habit::Bursts(_, sleep) => {
                        self.set_runnable(id, false);
                        self.unit_mut(id).wakes = Some(now.after(sleep));
                    }
                    _ => self.sched.yield_now(self.unit(id).slot, now),
                }
                self.pick(cpu);
                return true;
            }
            let state = &self.cpus[cpu];
            if state.until <= now || state.kicked.is_some_and(|at| at <= now) {
                self.pick(cpu);
                return true;
            }
        }
        false
    }

    /// No CPU idles for long while a unit waits that may run there. (A capped one may have to.)
    fn check(&mut self) {
        let idle: CpuMask = (0u32..)
            .zip(&self.cpus)
            .filter(|(_, cpu)| cpu.online && cpu.current.is_none())
            .map(|(n, _)| CpuId(n))
            .collect();
        let running: Vec<usize> = self.cpus.iter().filter_map(|cpu| cpu.current).collect();
        for (id, unit) in self.units.iter_mut().enumerate() {
            let Some(unit) = unit else { continue };
            let waits = unit.item.runnable() && !running.contains(&id) && !unit.capped;
            if !waits || !unit.hard.intersects(&idle) {
                unit.wronged = None;
                continue;
            }
            let since = *unit.wronged.get_or_insert(self.now);
            if self.now.since(since) > self.patience {
                let mut text = String::new();
                self.sched.dump(&mut text).unwrap();
                panic!(
                    "unit {id} waits since {since}, CPUs {idle} idle at {}\n{text}",
                    self.now
                );
            }
        }
    }

    /// What each unit has run since the last call.
    pub(super) fn take_ran(&mut self) -> Vec<u64> {
        self.units
            .iter_mut()
            .map(|unit| unit.as_mut().map_or(0, |u| core::mem::take(&mut u.ran)))
            .collect()
    }
}

/// Shares of `cpus` CPUs in proportion to weights, where none gets more than one: thousandths of a CPU.
pub(super) fn ideal_shares(weights: &[u16], cpus: usize) -> Vec<f64> {
    let mut shares = vec![0.0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    open.sort_by_key(|n| core::cmp::Reverse(weights[*n]));
    let (mut left, mut sum) = (
        cpus as f64,
        weights.iter().map(|w| f64::from(*w)).sum::<f64>(),
    );
    for n in open {
        let share = (left * f64::from(weights[n]) / sum).min(1.0);
        shares[n] = share;
        left -= share;
        sum -= f64::from(weights[n]);
    }
    shares
}
