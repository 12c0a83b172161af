//! The null scheduler: each unit has a CPU for itself.
//!
//! For machines that are partitioned: no time slices, no overhead, no choice. A unit is given a free CPU of its affinity
//! and keeps it, asleep or not, until it is removed or may no longer run there. Units in excess wait, in the order they
//! came, and get a CPU when one they may use is free. Weights and caps mean nothing.
//!
//! One lock guards all: a CPU picks here only when its unit falls asleep or wakes up, and no work depends on the
//! number of units except giving away a CPU that became free.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use spin::Mutex;

use super::{Choice, Params, Schedulable, Scheduler, Slot};
use crate::{CpuId, CpuMask, Error, Result, Time};

/// Most units there can be.
const MAX_UNITS: usize = 1 << 16;

struct Unit<T> {
    item: T,
    params: Params,
    hard: CpuMask,
    soft: CpuMask,
    /// The CPU that is its own.
    home: Option<u32>,
    /// It could run when it was looked at last.
    awake: bool,
    /// The CPU it is on, and since when.
    on: Option<(u32, Time)>,
    last: Option<u32>,
    runtime: u64,
    /// Order of arrival.
    age: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Power {
    /// Has never picked.
    #[default]
    New,
    Online,
    Offline,
}

#[derive(Default)]
struct Cpu {
    power: Power,
    /// The unit whose home it is.
    tenant: Option<u32>,
    /// The unit it runs; not its tenant while that is still to move in.
    running: Option<u32>,
}

struct State<T> {
    units: Vec<Option<Unit<T>>>,
    cpus: Box<[Cpu]>,
    arrivals: u64,
    /// CPUs that must pick again and have not been kicked yet.
    kicks: CpuMask,
}

/// The null scheduler.
pub struct Null<T>(Mutex<State<T>>);

impl<T: Schedulable> Null<T> {
    /// A scheduler for a machine with `cpus` CPUs.
    pub fn new(cpus: u32) -> Self {
        let cpus = (0..cpus.min(CpuMask::MAX_CPUS))
            .map(|_| Cpu::default())
            .collect();
        Self(Mutex::new(State {
            units: Vec::new(),
            cpus,
            arrivals: 0,
            kicks: CpuMask::EMPTY,
        }))
    }
}

impl<T: Schedulable> State<T> {
    fn unit(&self, slot: Slot) -> Result<&Unit<T>> {
        self.units
            .get(slot.0 as usize)
            .and_then(Option::as_ref)
            .ok_or(Error::Srch)
    }

    fn unit_mut(&mut self, slot: Slot) -> Result<&mut Unit<T>> {
        self.units
            .get_mut(slot.0 as usize)
            .and_then(Option::as_mut)
            .ok_or(Error::Srch)
    }

    fn allowed(&self, hard: &CpuMask) -> Result<()> {
        let all = CpuMask::first(self.cpus.len() as u32);
        if hard.intersects(&all) {
            Ok(())
        } else {
            Err(Error::Inval)
        }
    }

    /// One CPU to kick. It finds the next one when it picks, and so on.
    fn next_kick(&mut self, but: Option<CpuId>) -> Option<CpuId> {
        if let Some(but) = but {
            self.kicks.remove(but);
        }
        // A CPU that has not come yet picks when it comes.
        let cpus = &self.cpus;
        let here = self.kicks.iter().find(|c| {
            cpus.get(c.0 as usize)
                .is_some_and(|c| c.power != Power::New)
        });
        self.kicks.remove(here?);
        here
    }

    /// Gives a unit without a home a free CPU, if there is one.
    fn settle(&mut self, slot: u32) {
        let Ok(unit) = self.unit(Slot(slot)) else {
            return;
        };
        if unit.home.is_some() {
            return;
        }
        let free: CpuMask = (0u32..)
            .zip(&self.cpus)
            .filter(|(_, cpu)| cpu.tenant.is_none() && cpu.power != Power::Offline)
            .map(|(n, _)| CpuId(n))
            .collect();
        let free = free.and(&unit.hard);
        // CPUs that do not run yet may never do.
        let online: CpuMask = free
            .iter()
            .filter(|c| self.cpus[c.0 as usize].power == Power::Online)
            .collect();
        let wishes = [online.and(&unit.soft), online, free.and(&unit.soft), free];
        let Some(home) = wishes.iter().find_map(CpuMask::lowest) else {
            return;
        };
        if let Some(cpu) = self.cpus.get_mut(home.0 as usize) {
            cpu.tenant = Some(slot);
        }
        if let Ok(unit) = self.unit_mut(Slot(slot)) {
            unit.home = Some(home.0);
            if unit.awake {
                self.kicks.insert(home);
            }
        }
    }

    /// Takes a unit's home away and gives it to the one that has waited longest.
    fn evict(&mut self, slot: u32) {
        let Some(home) = self
            .unit_mut(Slot(slot))
            .ok()
            .and_then(|unit| unit.home.take())
        else {
            return;
        };
        let Some(cpu) = self.cpus.get_mut(home as usize) else {
            return;
        };
        cpu.tenant = None;
        if cpu.running.is_some() {
            self.kicks.insert(CpuId(home));
        }
        self.fill(home, Some(slot));
    }

    /// Gives a CPU that is free to the unit that has waited longest for it, other than `but`.
    fn fill(&mut self, home: u32, but: Option<u32>) {
        let waiting = (0u32..)
            .zip(&self.units)
            .filter_map(|(n, unit)| Some((n, unit.as_ref()?)))
            .filter(|(n, unit)| {
                Some(*n) != but && unit.home.is_none() && unit.hard.contains(CpuId(home))
            });
        if let Some((next, _)) = waiting.min_by_key(|(_, unit)| unit.age) {
            self.settle(next);
        }
    }

    fn online(&mut self, cpu: CpuId) {
        let Some(this) = self.cpus.get_mut(cpu.0 as usize) else {
            return;
        };
        let before = core::mem::replace(&mut this.power, Power::Online);
        if before == Power::Online {
            return;
        }
        if let Some(tenant) = this.tenant {
            if self.unit(Slot(tenant)).is_ok_and(|unit| unit.awake) {
                self.kicks.insert(cpu);
            }
        } else {
            self.fill(cpu.0, None);
        }
        // Units that were given CPUs which have not come yet are better off here.
        let cold = self
            .cpus
            .iter()
            .filter(|c| c.power == Power::New)
            .find_map(|c| {
                c.tenant.filter(|t| {
                    self.unit(Slot(*t))
                        .is_ok_and(|unit| unit.hard.contains(cpu))
                })
            });
        if let Some(cold) = cold
            && self
                .cpus
                .get(cpu.0 as usize)
                .is_some_and(|c| c.tenant.is_none())
        {
            self.evict(cold);
            self.settle(cold);
        }
    }
}

impl<T: Schedulable> Scheduler<T> for Null<T> {
    fn insert(
        &self,
        item: T,
        params: Params,
        hard: &CpuMask,
        soft: &CpuMask,
        _now: Time,
    ) -> Result<Slot> {
        params.check()?;
        let mut s = self.0.lock();
        s.allowed(hard)?;
        let slot = match s.units.iter().position(Option::is_none) {
            Some(free) => free,
            None if s.units.len() == MAX_UNITS => return Err(Error::NoSpc),
            None => {
                s.units.try_reserve(1).map_err(|_| Error::NoMem)?;
                s.units.push(None);
                s.units.len() - 1
            }
        };
        let age = s.arrivals;
        s.arrivals += 1;
        if let Some(place) = s.units.get_mut(slot) {
            let (hard, soft) = (*hard, *soft);
            *place = Some(Unit {
                item,
                params,
                hard,
                soft,
                home: None,
                awake: false,
                on: None,
                last: None,
                runtime: 0,
                age,
            });
        }
        s.settle(slot as u32);
        // It is asleep: whoever updates it kicks its CPU.
        Ok(Slot(slot as u32))
    }

    fn remove(&self, slot: Slot, _now: Time) -> Result<(T, Option<CpuId>)> {
        let mut s = self.0.lock();
        if s.unit(slot)?.on.is_some() {
            return Err(Error::Busy);
        }
        s.evict(slot.0);
        let unit = s
            .units
            .get_mut(slot.0 as usize)
            .and_then(Option::take)
            .ok_or(Error::Srch)?;
        Ok((unit.item, s.next_kick(None)))
    }

    fn update(&self, slot: Slot, _now: Time) -> Option<CpuId> {
        let mut s = self.0.lock();
        let unit = s.unit_mut(slot).ok()?;
        unit.awake = unit.item.runnable();
        let (runnable, on, home) = (unit.awake, unit.on, unit.home);
        match (on, home) {
            (Some((cpu, _)), _) if !runnable => s.kicks.insert(CpuId(cpu)),
            (None, Some(home)) if runnable => s.kicks.insert(CpuId(home)),
            _ => {}
        }
        s.next_kick(None)
    }

    fn yield_now(&self, _slot: Slot, _now: Time) {
        // There is nobody to yield to.
    }

    fn go_on(&self, cpu: CpuId, _now: Time) -> Option<Time> {
        let s = self.0.lock();
        let this = s.cpus.get(cpu.0 as usize)?;
        let running = this.running?;
        let stays = this.power == Power::Online && this.tenant == Some(running);
        let runnable = s.unit(Slot(running)).ok()?.item.runnable();
        (stays && runnable && s.kicks.is_empty()).then_some(Time::NEVER)
    }

    fn pick(&self, cpu: CpuId, now: Time) -> Choice<T> {
        let mut s = self.0.lock();
        let Some(this) = s.cpus.get_mut(cpu.0 as usize) else {
            return Choice::idle(Time::NEVER);
        };
        let previous = this.running.take();
        if this.power == Power::New {
            s.online(cpu);
        }
        if let Some(previous) = previous {
            let mut moved = None;
            if let Ok(unit) = s.unit_mut(Slot(previous)) {
                if let Some((_, since)) = unit.on.take() {
                    unit.runtime += now.since(since);
                }
                unit.awake &= unit.item.runnable();
                moved = unit.home.filter(|home| *home != cpu.0 && unit.awake);
            }
            // Its new home has waited for it to leave.
            if let Some(home) = moved {
                s.kicks.insert(CpuId(home));
            }
        }
        let mut choice = Choice::idle(Time::NEVER);
        let tenant = s
            .cpus
            .get(cpu.0 as usize)
            .filter(|this| this.power == Power::Online)
            .and_then(|this| this.tenant);
        if let Some(tenant) = tenant
            && let Ok(unit) = s.unit_mut(Slot(tenant))
            && unit.on.is_none()
            && unit.awake
            && unit.item.runnable()
        {
            unit.on = Some((cpu.0, now));
            choice.migrated = unit.last.replace(cpu.0).is_some_and(|last| last != cpu.0);
            choice.next = Some((Slot(tenant), unit.item.clone()));
            if let Some(this) = s.cpus.get_mut(cpu.0 as usize) {
                this.running = Some(tenant);
            }
        }
        choice.kick = s.next_kick(Some(cpu));
        choice
    }

    fn set_params(&self, slot: Slot, params: Params, _now: Time) -> Result<Option<CpuId>> {
        params.check()?;
        self.0.lock().unit_mut(slot)?.params = params;
        Ok(None)
    }

    fn params(&self, slot: Slot) -> Result<Params> {
        Ok(self.0.lock().unit(slot)?.params)
    }

    fn set_affinity(
        &self,
        slot: Slot,
        hard: &CpuMask,
        soft: &CpuMask,
        _now: Time,
    ) -> Result<Option<CpuId>> {
        let mut s = self.0.lock();
        s.allowed(hard)?;
        let unit = s.unit_mut(slot)?;
        (unit.hard, unit.soft) = (*hard, *soft);
        if unit.home.is_some_and(|home| !hard.contains(CpuId(home))) {
            s.evict(slot.0);
        }
        s.settle(slot.0);
        Ok(s.next_kick(None))
    }

    fn affinity(&self, slot: Slot) -> Result<(CpuMask, CpuMask)> {
        let s = self.0.lock();
        let unit = s.unit(slot)?;
        Ok((unit.hard, unit.soft))
    }

    fn cpu_online(&self, cpu: CpuId, _now: Time) -> Option<CpuId> {
        let mut s = self.0.lock();
        s.online(cpu);
        s.next_kick(None)
    }

    fn cpu_offline(&self, cpu: CpuId, _now: Time) -> Option<CpuId> {
        let mut s = self.0.lock();
        let this = s.cpus.get_mut(cpu.0 as usize)?;
        this.power = Power::Offline;
        let tenant = this.tenant.take();
        if this.running.is_some() {
            s.kicks.insert(cpu);
        }
        if let Some(tenant) = tenant {
            if let Ok(unit) = s.unit_mut(Slot(tenant)) {
                unit.home = None;
            }
            s.settle(tenant);
        }
        s.next_kick(None)
    }

    fn running(&self, slot: Slot) -> Option<CpuId> {
        self.0.lock().unit(slot).ok()?.on.map(|(cpu, _)| CpuId(cpu))
    }

    fn runtime(&self, slot: Slot, now: Time) -> u64 {
        let s = self.0.lock();
        let Ok(unit) = s.unit(slot) else { return 0 };
        unit.runtime + unit.on.map_or(0, |(_, since)| now.since(since))
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let s = self.0.lock();
        writeln!(out, "null scheduler")?;
        for (n, cpu) in s.cpus.iter().enumerate() {
            writeln!(
                out,
                "  CPU{n}: unit {:?}, runs {:?}",
                cpu.tenant, cpu.running
            )?;
        }
        let waiting = s
            .units
            .iter()
            .enumerate()
            .filter(|(_, unit)| unit.as_ref().is_some_and(|u| u.home.is_none()));
        for (n, _) in waiting {
            writeln!(out, "  unit {n} waits for a CPU")?;
        }
        Ok(())
    }
}
