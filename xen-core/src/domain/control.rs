//! What toolstacks told the hypervisor of a domain, and how they hold it.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use spin::{Mutex, RwLock};

use super::{Domain, Dying, RangeSet};
use crate::sched::{Params, Scheduler as _};
use crate::timer::TimerHandle;
use crate::{Arch, Error, Hypervisor, Mfn, Port, Result, Time, TimerEvent};

/// How often a toolstack can pause a domain.
const MAX_PAUSES: u32 = 255;
/// How long a domain is held for a caller that wanted it stopped and does not come back, in nanoseconds.
const HOLD: u64 = 1_000_000_000;

/// A toolstack's side of a domain.
#[derive(Debug)]
pub struct Control {
    /// A number that no other domain ever has.
    pub unique: u64,
    /// The toolstack's identifier.
    handle: Mutex<[u8; 16]>,
    pauses: AtomicU32,
    /// A toolstack has not let it go yet.
    new: AtomicBool,
    debugged: AtomicBool,
    stays: AtomicBool,
    /// The port that tells of its suspension, 0 for none.
    pub(super) suspend_port: AtomicU32,
    /// Its wall clock less the machine's, in seconds.
    pub(crate) time_offset: AtomicI64,
    /// Its share of the CPUs, all its vCPUs together.
    share: Mutex<Params>,
    frames: RwLock<RangeSet>,
    interrupts: RwLock<RangeSet>,
    /// Until when it is held for an operation that needs it to stand still.
    held: Mutex<Option<Time>>,
    hold_timer: TimerHandle,
}

impl Control {
    /// Nothing was told.
    ///
    /// Errors: [`Error::NoMem`].
    pub(super) fn new<A: Arch>(hv: &Hypervisor<A>, handle: [u8; 16]) -> Result<Self> {
        Ok(Self {
            unique: hv.domains.unique(),
            handle: Mutex::new(handle),
            pauses: AtomicU32::new(0),
            new: AtomicBool::new(false),
            debugged: AtomicBool::new(false),
            stays: AtomicBool::new(false),
            suspend_port: AtomicU32::new(0),
            time_offset: AtomicI64::new(0),
            share: Mutex::new(Params::default()),
            frames: RwLock::new(RangeSet::EMPTY),
            interrupts: RwLock::new(RangeSet::EMPTY),
            held: Mutex::new(None),
            hold_timer: hv.timers.allocate()?,
        })
    }

    /// The toolstack's identifier of the domain.
    pub fn handle(&self) -> [u8; 16] {
        *self.handle.lock()
    }

    /// Changes the toolstack's identifier of the domain.
    pub fn set_handle(&self, handle: [u8; 16]) {
        *self.handle.lock() = handle;
    }

    /// Whether a toolstack has paused the domain.
    pub fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::SeqCst) > 0
    }

    /// Whether the domain may have run: its toolstack let it go at least once, or none made it.
    pub fn has_started(&self) -> bool {
        !self.new.load(Ordering::SeqCst)
    }

    /// Whether a debugger is attached.
    pub fn is_debugged(&self) -> bool {
        self.debugged.load(Ordering::SeqCst)
    }

    /// Attaches or detaches a debugger.
    pub fn set_debugged(&self, attached: bool) {
        self.debugged.store(attached, Ordering::SeqCst);
    }

    /// Whether the domain is not to be moved to another machine.
    pub fn stays(&self) -> bool {
        self.stays.load(Ordering::SeqCst)
    }

    /// Says whether the domain is not to be moved to another machine.
    pub fn set_stays(&self, stays: bool) {
        self.stays.store(stays, Ordering::SeqCst);
    }

    /// Sets the port of the domain's own that tells of its suspension, in place of the event that tells of shutdowns; 0 is
    /// none.
    pub fn set_suspend_port(&self, port: Port) {
        self.suspend_port.store(port.0, Ordering::SeqCst);
    }

    /// Gives the domain frames that are no memory, or takes them away; what is mapped stays.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn permit_frames(&self, frames: Range<Mfn>, allow: bool) -> Result<()> {
        change(&self.frames, frames.start.0..frames.end.0, allow)
    }

    /// Whether the domain was given all of these frames.
    pub fn may_map(&self, frames: Range<Mfn>) -> bool {
        let frames = frames.start.0..frames.end.0;
        self.frames.read().contains(&frames)
    }

    /// Gives the domain an interrupt of the machine, or takes it away.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn permit_interrupt(&self, number: u32, allow: bool) -> Result<()> {
        let number = u64::from(number);
        change(&self.interrupts, number..number + 1, allow)
    }

    /// Whether the domain was given an interrupt of the machine.
    pub fn may_use_interrupt(&self, number: u32) -> bool {
        let number = u64::from(number);
        self.interrupts.read().contains(&(number..number + 1))
    }

    /// The share of the CPUs that all its vCPUs have together.
    pub fn share(&self) -> Params {
        *self.share.lock()
    }
}

fn change(set: &RwLock<RangeSet>, range: Range<u64>, add: bool) -> Result<()> {
    let mut set = set.write();
    match add {
        true => set.insert(range),
        false => set.remove(&range),
    }
}

impl<A: Arch> Domain<A> {
    /// Holds a domain that a toolstack makes until that lets it go: it has one pause to take back.
    pub fn await_toolstack(&self, hv: &Hypervisor<A>) {
        self.control.new.store(true, Ordering::SeqCst);
        self.control.pauses.fetch_add(1, Ordering::SeqCst);
        self.pause_nosync(hv);
    }

    /// Pauses it for a toolstack; counted.
    ///
    /// Errors: [`Error::Overflow`] if it was paused too often.
    pub fn pause_for_toolstack(&self, hv: &Hypervisor<A>) -> Result<()> {
        let more = |n: u32| (n < MAX_PAUSES).then_some(n + 1);
        let pauses = &self.control.pauses;
        pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .map_err(|_| Error::Overflow)?;
        self.pause_nosync(hv);
        Ok(())
    }

    /// Takes a pause of a toolstack's back.
    ///
    /// Errors: [`Error::Inval`] without one.
    pub fn unpause_for_toolstack(&self, hv: &Hypervisor<A>) -> Result<()> {
        let less = |n: u32| n.checked_sub(1);
        let pauses = &self.control.pauses;
        pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .map_err(|_| Error::Inval)?;
        self.control.new.store(false, Ordering::SeqCst);
        self.unpause(hv);
        Ok(())
    }

    /// Whether all its vCPUs are off the CPUs, their state saved. That they stay so is up to whoever stopped them.
    pub fn is_off(&self, hv: &Hypervisor<A>) -> bool {
        self.vcpus().iter().all(|vcpu| vcpu.is_off(hv))
    }

    /// Stops the domain for an operation that needs it to stand still, until [`Domain::release`]. Not for the domain that
    /// runs on this CPU.
    ///
    /// Errors: [`Error::Restart`] while its vCPUs are on their way off the CPUs; it is held meanwhile. If nobody comes back
    /// it goes on after a second.
    pub fn hold(self: &Arc<Self>, hv: &Hypervisor<A>) -> Result<()> {
        let deadline = hv.arch.now().after(HOLD);
        if self.control.held.lock().replace(deadline).is_none() {
            self.pause_nosync(hv);
        }
        // Fires on this CPU, so not while the operation is going on here.
        let event = TimerEvent::Release(self.clone());
        hv.arm_timer(&self.control.hold_timer, deadline, event);
        match self.is_off(hv) {
            true => Ok(()),
            false => Err(Error::Restart),
        }
    }

    /// Lets a domain that was held go on; nothing happens if it was not.
    pub fn release(&self, hv: &Hypervisor<A>) {
        let held = self.control.held.lock().take();
        if held.is_some() {
            hv.timers.cancel(&self.control.hold_timer);
            self.unpause(hv);
        }
    }

    /// Lets a domain go on that was held for too long. The time may have been set anew since the timer fired.
    pub(crate) fn release_expired(&self, hv: &Hypervisor<A>) {
        let now = hv.arch.now();
        let expired = self.control.held.lock().take_if(|until| *until <= now);
        if expired.is_some() {
            self.unpause(hv);
        }
    }

    /// Sets the share of the CPUs that all its vCPUs have together: each has the weight, and its part of the limit.
    ///
    /// Errors: [`Error::Inval`] for a weight of 0.
    pub fn set_share(&self, hv: &Hypervisor<A>, share: Params) -> Result<()> {
        if share.weight == 0 {
            return Err(Error::Inval);
        }
        // Held while the vCPUs are told, so that they agree.
        let mut place = self.control.share.lock();
        *place = share;
        for vcpu in self.vcpus() {
            self.share_out(hv, &vcpu, share)?;
        }
        Ok(())
    }

    pub(super) fn share_out(
        &self,
        hv: &Hypervisor<A>,
        vcpu: &crate::Vcpu<A>,
        share: Params,
    ) -> Result<()> {
        let parts = u16::try_from(self.max_vcpus()).unwrap_or(u16::MAX).max(1);
        let part = Params {
            weight: share.weight,
            cap: share.cap.div_ceil(parts),
        };
        let Some(slot) = vcpu.slot() else {
            return Ok(());
        };
        if let Some(cpu) = hv.sched.set_params(slot, part, hv.arch.now())? {
            hv.reschedule(cpu);
        }
        Ok(())
    }

    /// Sets its wall clock: `seconds` ahead of the machine's.
    pub fn set_time_offset(&self, hv: &Hypervisor<A>, seconds: i64) {
        self.control.time_offset.store(seconds, Ordering::SeqCst);
        hv.publish_wallclock(self);
    }

    /// Whether it is alive: nobody has begun to destroy it.
    pub fn is_alive(&self) -> bool {
        self.dying() == Dying::Alive
    }
}
