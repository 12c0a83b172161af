//! The two timers that the interface gives each vCPU; what they raise is the vCPU's `VIRQ_TIMER`.
//!
//! The one-shot timer fires whatever the vCPU does. The periodic timer ticks while the vCPU is on a CPU; ticks that it
//! misses meanwhile become one, at the moment when it is on a CPU again.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use xen_abi::xen::Virq;

use super::Vcpu;
use crate::evtchn::raise_virq;
use crate::timer::TimerHandle;
use crate::{Arch, Dying, Error, Hypervisor, Result, Time, TimerEvent};

/// Shortest period in nanoseconds.
pub const MIN_PERIOD: u64 = 1_000_000;
/// Longest period in nanoseconds.
pub const MAX_PERIOD: u64 = u64::MAX >> 2;

/// A periodic timer that runs.
#[derive(Clone, Copy, Debug)]
struct Ticking {
    /// Nanoseconds between ticks.
    period: u64,
    /// When the last tick was due, or the timer was set.
    last: Time,
}

/// A vCPU's timers.
#[derive(Debug)]
pub struct GuestTimers {
    single: TimerHandle,
    periodic: TimerHandle,
    ticking: Mutex<Option<Ticking>>,
    /// The periodic timer runs: spares vCPUs without one the lock.
    wanted: AtomicBool,
}

impl GuestTimers {
    pub(super) fn new<A: Arch>(hv: &Hypervisor<A>) -> Result<Self> {
        Ok(Self {
            single: hv.timers.allocate()?,
            periodic: hv.timers.allocate()?,
            ticking: Mutex::new(None),
            wanted: AtomicBool::new(false),
        })
    }

    /// Stops both, at the end of the vCPU's life.
    pub(super) fn retire<A: Arch>(&self, hv: &Hypervisor<A>) {
        hv.timers.cancel(&self.single);
        hv.timers.cancel(&self.periodic);
    }
}

impl<A: Arch> Vcpu<A> {
    /// Sets the one-shot timer (`VCPUOP_set_singleshot_timer`, `set_timer_op`). A time that has passed fires at once; so
    /// does one from 2^63 ns on, which is negative in the interface. Called by the vCPU itself.
    pub fn set_single_timer(self: &Arc<Self>, hv: &Hypervisor<A>, deadline: Time) {
        let deadline = if deadline.0 > i64::MAX as u64 {
            Time(0)
        } else {
            deadline
        };
        let event = TimerEvent::Single(self.clone());
        hv.arm_timer(&self.timers.single, deadline, event);
    }

    /// Stops the one-shot timer.
    pub fn stop_single_timer(&self, hv: &Hypervisor<A>) {
        hv.timers.cancel(&self.timers.single);
    }

    /// The one-shot timer has fired.
    pub(crate) fn single_timer_fired(&self, hv: &Hypervisor<A>) {
        raise_virq(hv, self, Virq::TIMER.0);
    }

    /// Sets the periodic timer, from any vCPU of the domain: the first tick is a period from now.
    ///
    /// Errors: [`Error::Inval`] for a period below [`MIN_PERIOD`] or above [`MAX_PERIOD`].
    pub fn set_periodic_timer(self: &Arc<Self>, hv: &Hypervisor<A>, period: u64) -> Result<()> {
        if !(MIN_PERIOD..=MAX_PERIOD).contains(&period) {
            return Err(Error::Inval);
        }
        let last = hv.arch.now();
        *self.timers.ticking.lock() = Some(Ticking { period, last });
        // Whoever puts it on a CPU notes that before it looks here: one of the two sees the other.
        self.timers.wanted.store(true, Ordering::SeqCst);
        if self.cpu().is_some() {
            self.tick(hv);
        }
        Ok(())
    }

    /// Stops the periodic timer, from any vCPU of the domain.
    pub fn stop_periodic_timer(&self, hv: &Hypervisor<A>) {
        let mut ticking = self.timers.ticking.lock();
        *ticking = None;
        self.timers.wanted.store(false, Ordering::SeqCst);
        hv.timers.cancel(&self.timers.periodic);
    }

    /// The vCPU, now on a CPU, goes on ticking.
    #[inline]
    pub(crate) fn resume_ticks(self: &Arc<Self>, hv: &Hypervisor<A>) {
        if self.timers.wanted.load(Ordering::SeqCst) {
            self.tick(hv);
        }
    }

    /// The vCPU is about to leave its CPU.
    #[inline]
    pub(crate) fn suspend_ticks(&self, hv: &Hypervisor<A>) {
        if self.timers.wanted.load(Ordering::Relaxed) {
            hv.timers.cancel(&self.timers.periodic);
        }
    }

    /// The periodic timer has fired.
    pub(crate) fn periodic_timer_fired(self: &Arc<Self>, hv: &Hypervisor<A>) {
        if self.cpu().is_some() {
            self.tick(hv);
        }
    }

    /// Raises a tick that is due, and arms the timer for the next one.
    fn tick(self: &Arc<Self>, hv: &Hypervisor<A>) {
        let due = {
            let mut ticking = self.timers.ticking.lock();
            // A vCPU of a domain that ends may have been stopped for good meanwhile.
            let Some(ticking) = ticking
                .as_mut()
                .filter(|_| self.domain.dying() == Dying::Alive)
            else {
                return;
            };
            let now = hv.arch.now();
            let due = now.since(ticking.last) >= ticking.period;
            if due {
                ticking.last = now;
            }
            let next = ticking.last.after(ticking.period);
            let event = TimerEvent::Periodic(self.clone());
            hv.arm_timer(&self.timers.periodic, next, event);
            due
        };
        if self.domain.dying() != Dying::Alive {
            hv.timers.cancel(&self.timers.periodic);
        } else if due {
            raise_virq(hv, self, Virq::TIMER.0);
        }
    }
}
