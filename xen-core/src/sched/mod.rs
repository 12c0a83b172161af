//! Schedulers: which unit (a vCPU) runs on which physical CPU, and for how long.
//!
//! A scheduler knows units only as [`Schedulable`] payloads, so that host tests schedule integers on a virtual clock. It
//! has no thread and no timer of its own: the run loop of each CPU asks it what to run ([`Scheduler::pick`]) and comes
//! back when [`Choice::until`] says, or when it is kicked. Before a CPU goes to the length of saving a unit it asks whether
//! that would be chosen again ([`Scheduler::go_on`]).
//!
//! # Who may hold what
//! A unit that `pick` has given to a CPU is *running* there, and in no queue, until that CPU calls `pick` again. By then
//! the unit's state has been saved, so that another CPU may be given it.
//!
//! # No wake-up is lost
//! Whether a unit can run is known to its owner, who changes it and then calls [`Scheduler::update`]. The scheduler
//! reads [`Schedulable::runnable`] under its own lock both there and when a unit comes off a CPU. So either `pick` sees
//! the change, or the `update` that follows it finds the unit asleep and wakes it.
//!
//! # Features
//! `sched_fair` builds the [`fair`] scheduler. [`null`] is always built; `sched_null` says whether it can be chosen while
//! there is another. With neither feature it is the only one, so that every combination has a scheduler.

#[cfg(all(test, feature = "sched_fair", feature = "sched_null"))]
mod chaos;
#[cfg(feature = "sched_fair")]
pub mod fair;
pub mod null;
#[cfg(all(test, feature = "sched_fair", feature = "sched_null"))]
mod sim;
#[cfg(all(test, feature = "sched_fair", feature = "sched_null"))]
mod tests;

use core::fmt;

#[cfg(feature = "sched_fair")]
use fair::Fair;
use null::Null;

use crate::{CpuId, CpuMask, Error, Result, Time};

/// What a scheduler schedules.
pub trait Schedulable: Clone {
    /// Whether it can run now. Called with locks of the scheduler held: reads atomics and nothing else.
    fn runnable(&self) -> bool;
}

/// Names a unit in its scheduler. After [`Scheduler::remove`] the same number may name another unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What share of the machine a unit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Its share of CPU time in relation to others': at least 1.
    pub weight: u16,
    /// At most this many percent of one CPU; 0 for no limit.
    pub cap: u16,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            weight: 256,
            cap: 0,
        }
    }
}

impl Params {
    /// Errors: [`Error::Inval`] for a weight of 0.
    fn check(self) -> Result<()> {
        if self.weight == 0 {
            Err(Error::Inval)
        } else {
            Ok(())
        }
    }
}

/// What a CPU is to do next.
#[derive(Clone, Debug)]
#[must_use]
pub struct Choice<T> {
    /// The unit to run; `None` to idle.
    pub next: Option<(Slot, T)>,
    /// When to pick again at the latest: the end of a time slice, or a cap's refill. May have passed already.
    pub until: Time,
    /// Whether the unit ran on another CPU before.
    pub migrated: bool,
    /// Another CPU that must pick again.
    pub kick: Option<CpuId>,
}

impl<T> Choice<T> {
    const fn idle(until: Time) -> Self {
        Self {
            next: None,
            until,
            migrated: false,
            kick: None,
        }
    }
}

/// A scheduler. All operations may be called on any CPU at any time, `pick` for a CPU only by that CPU.
///
/// Where an operation returns a [`CpuId`], that CPU must `pick` again soon: the caller kicks it (it may be the caller's
/// own). An operation on a slot without a unit fails with [`Error::Srch`] or does nothing.
pub trait Scheduler<T: Schedulable> {
    /// Takes a unit in, asleep: it runs only after an [`Scheduler::update`].
    ///
    /// It runs only on CPUs in `hard`, and rather on those also in `soft`.
    ///
    /// Errors: [`Error::Inval`] for a weight of 0 or if `hard` names no CPU of this machine; [`Error::NoMem`];
    /// [`Error::NoSpc`] for too many units.
    fn insert(
        &self,
        item: T,
        params: Params,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Slot>;

    /// Gives a unit back; it must not be running. The CPU, if any, can run another unit now.
    ///
    /// Errors: [`Error::Srch`]; [`Error::Busy`] if it is running.
    fn remove(&self, slot: Slot, now: Time) -> Result<(T, Option<CpuId>)>;

    /// Looks again whether a unit can run, and wakes it or puts it to sleep accordingly.
    fn update(&self, slot: Slot, now: Time) -> Option<CpuId>;

    /// Lets others run before a unit that runs, once; the caller has its CPU pick.
    fn yield_now(&self, slot: Slot, now: Time);

    /// Lets the unit that runs on a CPU go on without being saved, if it is plain that `pick` would choose it again; the
    /// answer is when the CPU must pick at the latest.
    ///
    /// With `None` the unit still runs there: the CPU saves it and picks.
    fn go_on(&self, cpu: CpuId, now: Time) -> Option<Time>;

    /// Chooses what a CPU runs. The unit that ran there before has been saved completely.
    ///
    /// The first call makes the CPU known as one that can run units.
    fn pick(&self, cpu: CpuId, now: Time) -> Choice<T>;

    /// Changes a unit's share.
    ///
    /// Errors: [`Error::Srch`]; [`Error::Inval`] for a weight of 0.
    fn set_params(&self, slot: Slot, params: Params, now: Time) -> Result<Option<CpuId>>;

    /// A unit's share.
    ///
    /// Errors: [`Error::Srch`].
    fn params(&self, slot: Slot) -> Result<Params>;

    /// Changes where a unit may run. If it runs where it no longer may, it goes on until the returned CPU picks.
    ///
    /// Errors: [`Error::Srch`]; [`Error::Inval`] if `hard` names no CPU of this machine.
    fn set_affinity(
        &self,
        slot: Slot,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Option<CpuId>>;

    /// Where a unit may run, and where it had rather run.
    ///
    /// Errors: [`Error::Srch`].
    fn affinity(&self, slot: Slot) -> Result<(CpuMask, CpuMask)>;

    /// A CPU can run units from now on.
    fn cpu_online(&self, cpu: CpuId, now: Time) -> Option<CpuId>;

    /// A CPU can run no units any more: those that wait for it go elsewhere, unless they may run nowhere else. A unit
    /// that runs there goes when the CPU picks, which then chooses nothing.
    fn cpu_offline(&self, cpu: CpuId, now: Time) -> Option<CpuId>;

    /// The CPU a unit is running on.
    fn running(&self, slot: Slot) -> Option<CpuId>;

    /// Nanoseconds a unit has run so far; 0 without a unit.
    fn runtime(&self, slot: Slot, now: Time) -> u64;

    /// Writes the state of all queues, for people.
    ///
    /// Errors: what `out` says.
    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// The schedulers to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerKind {
    /// Proportional share.
    #[cfg(feature = "sched_fair")]
    Fair,
    /// A CPU for each unit.
    Null,
}

/// Proportional share where it is built, else the null scheduler.
#[allow(
    clippy::derivable_impls,
    reason = "which variant it is depends on a feature"
)]
impl Default for SchedulerKind {
    fn default() -> Self {
        #[cfg(feature = "sched_fair")]
        return Self::Fair;
        #[cfg(not(feature = "sched_fair"))]
        Self::Null
    }
}

impl SchedulerKind {
    /// The scheduler with this name on the command line, if it can be chosen: `fair` (also by the name of the scheduler it
    /// stands in for, `credit2`) or `null`.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            #[cfg(feature = "sched_fair")]
            "fair" | "credit2" => Some(Self::Fair),
            #[cfg(any(feature = "sched_null", not(feature = "sched_fair")))]
            "null" => Some(Self::Null),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "sched_fair")]
            Self::Fair => "fair",
            Self::Null => "null",
        }
    }

    /// Its number in the management interface (`XEN_SCHEDULER_*` in public/domctl.h). The proportional-share scheduler
    /// goes by `XEN_SCHEDULER_CREDIT2`, whose parameters it has.
    pub const fn id(self) -> u32 {
        match self {
            #[cfg(feature = "sched_fair")]
            Self::Fair => 6,
            Self::Null => 9,
        }
    }
}

/// The scheduler chosen at boot.
pub struct AnyScheduler<T>(Kind<T>);

enum Kind<T> {
    #[cfg(feature = "sched_fair")]
    Fair(Fair<T>),
    Null(Null<T>),
}

impl<T: Schedulable> AnyScheduler<T> {
    /// A scheduler for a machine with `cpus` CPUs, at most [`CpuMask::MAX_CPUS`] of which it uses.
    pub fn new(kind: SchedulerKind, cpus: u32) -> Self {
        Self(match kind {
            #[cfg(feature = "sched_fair")]
            SchedulerKind::Fair => Kind::Fair(Fair::new(cpus)),
            SchedulerKind::Null => Kind::Null(Null::new(cpus)),
        })
    }

    /// Which one it is.
    pub const fn kind(&self) -> SchedulerKind {
        match &self.0 {
            #[cfg(feature = "sched_fair")]
            Kind::Fair(_) => SchedulerKind::Fair,
            Kind::Null(_) => SchedulerKind::Null,
        }
    }
}

macro_rules! either {
    ($self:ident, $sched:ident => $call:expr) => {
        match &$self.0 {
            #[cfg(feature = "sched_fair")]
            Kind::Fair($sched) => $call,
            Kind::Null($sched) => $call,
        }
    };
}

impl<T: Schedulable> Scheduler<T> for AnyScheduler<T> {
    fn insert(
        &self,
        item: T,
        params: Params,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Slot> {
        either!(self, s => s.insert(item, params, hard, soft, now))
    }
    fn remove(&self, slot: Slot, now: Time) -> Result<(T, Option<CpuId>)> {
        either!(self, s => s.remove(slot, now))
    }
    fn update(&self, slot: Slot, now: Time) -> Option<CpuId> {
        either!(self, s => s.update(slot, now))
    }
    fn yield_now(&self, slot: Slot, now: Time) {
        either!(self, s => s.yield_now(slot, now));
    }
    fn go_on(&self, cpu: CpuId, now: Time) -> Option<Time> {
        either!(self, s => s.go_on(cpu, now))
    }
    fn pick(&self, cpu: CpuId, now: Time) -> Choice<T> {
        either!(self, s => s.pick(cpu, now))
    }
    fn set_params(&self, slot: Slot, params: Params, now: Time) -> Result<Option<CpuId>> {
        either!(self, s => s.set_params(slot, params, now))
    }
    fn params(&self, slot: Slot) -> Result<Params> {
        either!(self, s => s.params(slot))
    }
    fn set_affinity(
        &self,
        slot: Slot,
        hard: &CpuMask,
        soft: &CpuMask,
        now: Time,
    ) -> Result<Option<CpuId>> {
        either!(self, s => s.set_affinity(slot, hard, soft, now))
    }
    fn affinity(&self, slot: Slot) -> Result<(CpuMask, CpuMask)> {
        either!(self, s => s.affinity(slot))
    }
    fn cpu_online(&self, cpu: CpuId, now: Time) -> Option<CpuId> {
        either!(self, s => s.cpu_online(cpu, now))
    }
    fn cpu_offline(&self, cpu: CpuId, now: Time) -> Option<CpuId> {
        either!(self, s => s.cpu_offline(cpu, now))
    }
    fn running(&self, slot: Slot) -> Option<CpuId> {
        either!(self, s => s.running(slot))
    }
    fn runtime(&self, slot: Slot, now: Time) -> u64 {
        either!(self, s => s.runtime(slot, now))
    }
    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        either!(self, s => s.dump(out))
    }
}
