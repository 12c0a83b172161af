//! vCPUs: what can run, what keeps them from running, and the structures they share with the guest.

mod info;
mod runstate;
mod time_area;
mod timers;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use spin::{Mutex, MutexGuard, Once};

use crate::sched::{Schedulable, Scheduler as _, Slot};
use crate::timer::TimerHandle;
use crate::{Arch, CpuId, Domain, Error, Hypervisor, Port, Result, Time, VcpuId};

pub use info::InfoArea;
pub use runstate::{RUNSTATE_SIZE, RunState, RunStateArea, RunStateInfo, State};
pub use time_area::TimeArea;
pub use timers::{GuestTimers, MAX_PERIOD, MIN_PERIOD};

bitflags! {
    /// Why a vCPU does not run by its own or its guest's doing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Wait: u32 {
        /// It waits for an event or interrupt.
        const BLOCKED = 1;
        /// It was never started, or was turned off.
        const DOWN = 2;
    }
}

/// "On no CPU" in [`Vcpu::cpu`].
const NOWHERE: u32 = u32::MAX;
/// "Not polling" in [`Vcpu::polling`].
const NOT_POLLING: u32 = u32::MAX;
/// Polling more than one port.
const POLLING_SEVERAL: u32 = 0;

/// A virtual CPU.
pub struct Vcpu<A: Arch> {
    /// Its index.
    pub id: VcpuId,
    /// Its domain.
    pub domain: Arc<Domain<A>>,
    /// The architecture's part that other CPUs may touch.
    pub arch: A::Vcpu,
    /// Registers; locked by the CPU that runs it for as long as it does.
    context: Mutex<A::Context>,
    /// Where event-channel state is announced to the guest.
    pub info: InfoArea,
    /// Run-state accounting.
    pub runstate: RunState,
    timers: GuestTimers,
    time_area: TimeArea,
    waits: AtomicU32,
    pauses: AtomicU32,
    cpu: AtomicU32,
    /// The CPU it was put on last.
    last_cpu: AtomicU32,
    polling: AtomicU32,
    poll_timer: TimerHandle,
    slot: Once<Slot>,
    retired: AtomicBool,
    /// Number of times it was put on a CPU.
    pub switches: AtomicU64,
}

impl<A: Arch> Vcpu<A> {
    /// Makes a vCPU, down, and gives it to the scheduler.
    ///
    /// Errors: what the architecture and the scheduler say.
    pub fn new(hv: &Hypervisor<A>, domain: Arc<Domain<A>>, id: VcpuId) -> Result<Arc<Self>> {
        let (arch, context) = A::new_vcpu(hv, &domain, id)?;
        let vcpu = Arc::new(Self {
            id,
            info: InfoArea::new::<A>(&domain, id),
            domain,
            arch,
            context: Mutex::new(context),
            runstate: RunState::new(hv.arch.now()),
            timers: GuestTimers::new(hv)?,
            time_area: TimeArea::default(),
            waits: AtomicU32::new(Wait::DOWN.bits()),
            pauses: AtomicU32::new(0),
            cpu: AtomicU32::new(NOWHERE),
            last_cpu: AtomicU32::new(0),
            polling: AtomicU32::new(NOT_POLLING),
            poll_timer: hv.timers.allocate()?,
            slot: Once::new(),
            retired: AtomicBool::new(false),
            switches: AtomicU64::new(0),
        });
        let slot = hv.sched_insert(vcpu.clone())?;
        vcpu.slot.call_once(|| slot);
        Ok(vcpu)
    }

    /// Its place in the scheduler.
    pub fn slot(&self) -> Option<Slot> {
        self.slot.get().copied()
    }

    /// Its registers, for the CPU that runs it and, while it does not run, for others.
    pub fn context(&self) -> MutexGuard<'_, A::Context> {
        self.context.lock()
    }

    /// Its registers, if it is not running.
    pub fn try_context(&self) -> Option<MutexGuard<'_, A::Context>> {
        self.context.try_lock()
    }

    /// The CPU it is on.
    pub fn cpu(&self) -> Option<CpuId> {
        match self.cpu.load(Ordering::SeqCst) {
            NOWHERE => None,
            cpu => Some(CpuId(cpu)),
        }
    }

    /// The CPU it is on or was on last; the first one if it never was on any.
    pub fn last_cpu(&self) -> CpuId {
        CpuId(self.last_cpu.load(Ordering::Relaxed))
    }

    /// Whether no CPU runs it or is about to: its state is saved.
    pub fn is_off(&self, hv: &Hypervisor<A>) -> bool {
        self.slot()
            .is_none_or(|slot| hv.sched.running(slot).is_none())
    }

    /// CPU time that it has used, in nanoseconds.
    pub fn cpu_time(&self, now: Time) -> u64 {
        self.state().time_in(State::Running, now)
    }

    /// Notes which CPU it is on; for the run loop.
    pub(crate) fn set_cpu(&self, cpu: Option<CpuId>) {
        if let Some(CpuId(cpu)) = cpu {
            self.last_cpu.store(cpu, Ordering::Relaxed);
        }
        self.cpu
            .store(cpu.map_or(NOWHERE, |c| c.0), Ordering::SeqCst);
    }

    /// Why it waits.
    pub fn waits(&self) -> Wait {
        Wait::from_bits_truncate(self.waits.load(Ordering::SeqCst))
    }

    /// Whether it is turned on.
    pub fn is_up(&self) -> bool {
        !self.waits().contains(Wait::DOWN)
    }

    /// Lets the scheduler look at it again after something that decides whether it can run has changed.
    pub fn update(&self, hv: &Hypervisor<A>) {
        if self.cpu().is_none() {
            self.account(hv.arch.now());
        }
        if let Some(slot) = self.slot()
            && let Some(cpu) = hv.sched.update(slot, hv.arch.now())
        {
            hv.reschedule(cpu);
        }
    }

    /// Enters the run state that fits a vCPU on no CPU.
    pub(crate) fn account(&self, now: Time) {
        let waits = self.waits();
        let state = if waits.contains(Wait::DOWN)
            || self.pauses.load(Ordering::SeqCst) > 0
            || self.domain.stopped()
        {
            State::Offline
        } else if waits.contains(Wait::BLOCKED) {
            State::Blocked
        } else {
            State::Runnable
        };
        self.runstate.enter(state, now);
    }

    /// Turns it on; true if it was off.
    pub fn up(&self, hv: &Hypervisor<A>) -> bool {
        let was = self.waits.fetch_and(!Wait::DOWN.bits(), Ordering::SeqCst);
        self.update(hv);
        was & Wait::DOWN.bits() != 0
    }

    /// Turns it off; true if it was on.
    pub fn down(&self, hv: &Hypervisor<A>) -> bool {
        let was = self.waits.fetch_or(Wait::DOWN.bits(), Ordering::SeqCst);
        self.update(hv);
        was & Wait::DOWN.bits() == 0
    }

    /// Turns it off, waiting for nothing: as it was made.
    pub fn reset(&self, hv: &Hypervisor<A>) {
        self.end_poll(hv);
        self.waits.store(Wait::DOWN.bits(), Ordering::SeqCst);
        self.update(hv);
    }

    /// Stops it, without waiting if it runs right now; counted.
    pub fn pause_nosync(&self, hv: &Hypervisor<A>) {
        self.pauses.fetch_add(1, Ordering::SeqCst);
        self.update(hv);
    }

    /// Undoes one [`Vcpu::pause_nosync`].
    pub fn unpause(&self, hv: &Hypervisor<A>) {
        self.pauses.fetch_sub(1, Ordering::SeqCst);
        self.update(hv);
    }

    /// Puts it to sleep until an event or interrupt comes, unless one is there already. Called by the vCPU
    /// itself. Its event mask is not looked at or changed here.
    pub fn block(&self, hv: &Hypervisor<A>) {
        self.waits.fetch_or(Wait::BLOCKED.bits(), Ordering::SeqCst);
        // Whoever makes something pending does so before it looks at BLOCKED, so one of the two sees the other.
        if self.info.upcall_deliverable(self) || A::has_pending_interrupt(self) {
            self.waits
                .fetch_and(!Wait::BLOCKED.bits(), Ordering::SeqCst);
        } else {
            self.update(hv);
        }
    }

    /// Wakes it if it sleeps; makes it leave the guest and look for pending interrupts if it runs elsewhere.
    pub fn kick(&self, hv: &Hypervisor<A>) {
        // A poll ends with the block that it is.
        if self.waits.load(Ordering::SeqCst) & Wait::BLOCKED.bits() != 0 && !self.end_poll(hv) {
            self.waits
                .fetch_and(!Wait::BLOCKED.bits(), Ordering::SeqCst);
            self.update(hv);
        }
        if let Some(cpu) = self.cpu()
            && cpu != hv.arch.this_cpu()
        {
            hv.arch.kick(cpu);
        }
    }

    /// Blocks until one of `ports` is pending, an event or interrupt can be delivered, or `deadline` comes
    /// (`SCHEDOP_poll`); not at all if one of these is so already. Called by the vCPU itself.
    pub fn poll(self: &Arc<Self>, hv: &Hypervisor<A>, ports: &[Port], deadline: Time) {
        let word = match ports {
            [only] => only.0,
            _ => POLLING_SEVERAL,
        };
        self.waits.fetch_or(Wait::BLOCKED.bits(), Ordering::SeqCst);
        if self.polling.swap(word, Ordering::SeqCst) == NOT_POLLING {
            self.domain.evtchn.poll_started(self);
        }
        if deadline != Time::NEVER {
            hv.arm_timer(
                &self.poll_timer,
                deadline,
                crate::TimerEvent::Poll(self.clone()),
            );
        }
        // Who wakes it may have found it blocked but not polling yet; and whatever became pending before it was
        // known to poll wakes nobody.
        if !self.waits().contains(Wait::BLOCKED)
            || self.info.upcall_deliverable(self)
            || A::has_pending_interrupt(self)
            || ports
                .iter()
                .any(|port| self.domain.evtchn.is_pending(*port))
        {
            self.end_poll(hv);
        } else {
            self.update(hv);
        }
    }

    /// A port became pending: ends a poll that waits for it. True if it did.
    pub fn poll_wake(&self, hv: &Hypervisor<A>, port: Port) -> bool {
        let polling = self.polling.load(Ordering::SeqCst);
        if polling == NOT_POLLING || (polling != POLLING_SEVERAL && polling != port.0) {
            return false;
        }
        self.end_poll(hv)
    }

    /// Ends a poll, if there is one.
    pub fn end_poll(&self, hv: &Hypervisor<A>) -> bool {
        if self.polling.swap(NOT_POLLING, Ordering::SeqCst) == NOT_POLLING {
            return false;
        }
        self.domain.evtchn.poll_ended();
        hv.timers.cancel(&self.poll_timer);
        self.waits
            .fetch_and(!Wait::BLOCKED.bits(), Ordering::SeqCst);
        self.update(hv);
        true
    }

    /// Registers the page area that replaces the slot in the shared info page.
    ///
    /// Errors: [`Error::Nxio`] for an area that is misaligned or leaves its page; [`Error::Busy`] if one is
    /// registered already; [`Error::Inval`] if the guest frame is not its memory.
    pub fn register_info(&self, hv: &Hypervisor<A>, gfn: crate::Gfn, offset: u32) -> Result<()> {
        self.info.register(hv, self, gfn, offset)
    }

    /// Takes it from the scheduler and its timers, at the end of its domain's life.
    ///
    /// Errors: [`Error::Restart`] while it is on a CPU.
    pub(crate) fn retire(&self, hv: &Hypervisor<A>) -> Result<()> {
        self.update(hv);
        if self.cpu().is_some() {
            return Err(Error::Restart);
        }
        hv.timers.cancel(&self.poll_timer);
        self.timers.retire(hv);
        self.runstate.unregister();
        self.retire_time_area();
        A::retire_vcpu(hv, self);
        if let Some(slot) = self.slot()
            && !self.retired.load(Ordering::Acquire)
        {
            match hv.sched.remove(slot, hv.arch.now()) {
                Ok((_, kick)) => {
                    self.retired.store(true, Ordering::Release);
                    if let Some(cpu) = kick {
                        hv.reschedule(cpu);
                    }
                }
                // Its CPU has let go of it, but has not chosen another one yet.
                Err(Error::Busy) => return Err(Error::Restart),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// For an error that only this vCPU's domain is to blame for.
    pub fn crash(&self, hv: &Hypervisor<A>, why: core::fmt::Arguments<'_>) {
        self.domain
            .crash(hv, format_args!("vCPU {}: {why}", self.id));
    }

    /// What it does right now, in the terms of run-state accounting.
    pub fn state(&self) -> RunStateInfo {
        self.runstate.snapshot()
    }

    /// `Err` when a vCPU of another domain is meant.
    pub fn same_domain(&self, other: &Self) -> Result<()> {
        if Arc::ptr_eq(&self.domain, &other.domain) {
            Ok(())
        } else {
            Err(Error::Perm)
        }
    }
}

/// A vCPU as the scheduler sees it.
pub struct SchedUnit<A: Arch>(pub Arc<Vcpu<A>>);

impl<A: Arch> Clone for SchedUnit<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Arch> Schedulable for SchedUnit<A> {
    fn runnable(&self) -> bool {
        self.0.waits.load(Ordering::SeqCst) == 0
            && self.0.pauses.load(Ordering::SeqCst) == 0
            && !self.0.domain.stopped()
    }
}
