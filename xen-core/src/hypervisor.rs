//! The hypervisor itself: what all CPUs share.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use xen_abi::sched::ShutdownReason;

use crate::console::Console;
use crate::manage::ManagementLock;
use crate::mem::Frames;
use crate::sched::{AnyScheduler, Params, Scheduler as _, SchedulerKind, Slot};
use crate::timer::{TimerHandle, Timers};
use crate::vcpu::SchedUnit;
use crate::{Arch, CpuId, CpuMask, Domain, Domains, Error, Result, Time, Vcpu};

/// What a timer does when it fires.
pub enum TimerEvent<A: Arch> {
    /// A poll's time is over.
    Poll(Arc<Vcpu<A>>),
    /// A timer of the architecture, by its own number.
    Arch(Arc<Vcpu<A>>, u32),
    /// The one-shot timer that the interface gives a vCPU.
    Single(Arc<Vcpu<A>>),
    /// The periodic timer that the interface gives a vCPU.
    Periodic(Arc<Vcpu<A>>),
    /// A domain's watchdog was not kicked in time.
    Watchdog(Arc<Domain<A>>),
    /// Whoever wanted a domain to stand still has not come back.
    Release(Arc<Domain<A>>),
}

/// Work for a CPU to do before it runs guest code again.
pub mod softirq {
    /// The scheduler must choose again.
    pub const SCHEDULE: u32 = 1;
    /// Timers have expired, or the next deadline changed.
    pub const TIMER: u32 = 2;
    /// The console has input.
    pub const CONSOLE: u32 = 4;
}

/// One CPU's part of the shared state.
#[derive(Debug)]
pub struct Pcpu {
    pending: AtomicU32,
    /// When the scheduler wants the CPU back, in nanoseconds.
    pub(crate) slice_end: AtomicU64,
    /// Nanoseconds spent without a vCPU.
    pub(crate) idle_time: AtomicU64,
    /// Since when it has been idle, in nanoseconds; all ones while it is not.
    pub(crate) idle_since: AtomicU64,
}

/// Choices made at boot.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which scheduler.
    pub scheduler: SchedulerKind,
    /// Stay halted when the hardware domain ends, instead of powering off or resetting.
    pub no_reboot: bool,
    /// The command line, as `XENVER_commandline` shows it.
    pub command_line: alloc::string::String,
    /// The release of Xen whose interface guests are told of: major, minor.
    pub version: (u16, u16),
    /// Highest grant-table version that domains get.
    pub max_grant_version: u32,
    /// Grant-table frames that domains may have at most, and have by default.
    pub max_grant_frames: u32,
    /// Frames of grant mappings that domains may have at most, and have by default.
    pub max_maptrack_frames: u32,
    /// Copies may follow a version 2 grant entry of one domain to a grant of another (`gnttab=transitive`).
    pub transitive_grants: bool,
    /// Whether run-state areas registered by virtual address are translated at registration, for domains whose
    /// configuration does not say; `None` is the architecture's choice.
    pub runstate_translated: Option<bool>,
    /// Wall-clock time of system time 0, in nanoseconds since 1970, until dom0 sets it.
    pub boot_wallclock: u64,
}

/// All state of the hypervisor.
pub struct Hypervisor<A: Arch> {
    /// The machine.
    pub arch: Arc<A>,
    /// Physical memory.
    pub frames: &'static Frames,
    /// All domains.
    pub domains: Domains<A>,
    /// Who runs where.
    pub sched: AnyScheduler<SchedUnit<A>>,
    /// Timers.
    pub timers: Timers<TimerEvent<A>>,
    /// The console.
    pub console: &'static Console,
    /// Choices made at boot.
    pub settings: Settings,
    /// Held by whoever changes what domains there are, or what they are.
    pub management: ManagementLock,
    /// Wall-clock time of system time 0, in nanoseconds since 1970.
    pub wallclock: Mutex<u64>,
    cpus: Box<[Pcpu]>,
    ended: AtomicBool,
}

impl<A: Arch> Hypervisor<A> {
    /// Puts the hypervisor together.
    ///
    /// Errors: [`Error::Inval`] for a machine without CPUs; [`Error::NoMem`].
    pub fn new(
        arch: A,
        frames: &'static Frames,
        console: &'static Console,
        settings: Settings,
    ) -> Result<Self> {
        let count = arch.cpu_count();
        if count == 0 {
            return Err(Error::Inval);
        }
        let cpus = (0..count)
            .map(|_| Pcpu {
                pending: AtomicU32::new(softirq::SCHEDULE),
                slice_end: AtomicU64::new(u64::MAX),
                idle_time: AtomicU64::new(0),
                idle_since: AtomicU64::new(u64::MAX),
            })
            .collect();
        console.set_wallclock(settings.boot_wallclock);
        Ok(Self {
            arch: Arc::new(arch),
            frames,
            domains: Domains::default(),
            sched: AnyScheduler::new(settings.scheduler, count),
            timers: Timers::new(count),
            console,
            management: ManagementLock::default(),
            wallclock: Mutex::new(settings.boot_wallclock),
            settings,
            cpus,
            ended: AtomicBool::new(false),
        })
    }

    /// Number of CPUs.
    pub fn cpu_count(&self) -> u32 {
        self.cpus.len() as u32
    }

    /// Nanoseconds that a CPU has been without a vCPU so far; `None` for one that is not there.
    pub fn idle_time(&self, cpu: CpuId) -> Option<u64> {
        let pcpu = self.pcpu(cpu)?;
        let before = pcpu.idle_time.load(Ordering::Relaxed);
        let since = Time(pcpu.idle_since.load(Ordering::Relaxed));
        // Of a CPU that is not idle, nothing has passed since the end of time.
        Some(before.saturating_add(self.arch.now().since(since)))
    }

    pub(crate) fn pcpu(&self, cpu: CpuId) -> Option<&Pcpu> {
        self.cpus.get(cpu.0 as usize)
    }

    /// Asks this CPU to do `work` (bits of [`softirq`]) before it runs guest code again.
    pub fn raise(&self, work: u32) {
        self.raise_on(self.arch.this_cpu(), work);
    }

    /// Asks a CPU to do `work`; it is kicked if it is another one.
    pub fn raise_on(&self, cpu: CpuId, work: u32) {
        if let Some(pcpu) = self.pcpu(cpu) {
            let before = pcpu.pending.fetch_or(work, Ordering::SeqCst);
            if before & work != work && cpu != self.arch.this_cpu() {
                self.arch.kick(cpu);
            }
        }
    }

    /// Makes a CPU choose again what to run.
    pub fn reschedule(&self, cpu: CpuId) {
        self.raise_on(cpu, softirq::SCHEDULE);
    }

    /// Work that waits on a CPU.
    pub fn pending(&self, cpu: CpuId) -> u32 {
        self.pcpu(cpu)
            .map_or(0, |p| p.pending.load(Ordering::SeqCst))
    }

    /// Takes all work that waits on a CPU.
    pub(crate) fn take_pending(&self, cpu: CpuId) -> u32 {
        match self.pcpu(cpu) {
            // The common case, nothing to do, costs one load.
            Some(p) if p.pending.load(Ordering::SeqCst) != 0 => p.pending.swap(0, Ordering::SeqCst),
            _ => 0,
        }
    }

    /// Whether long work on this CPU should come to a stop soon: an interrupt or softirq waits.
    pub fn should_yield(&self) -> bool {
        self.pending(self.arch.this_cpu()) != 0 || self.arch.interrupt_pending()
    }

    /// Gives a vCPU to the scheduler, with default parameters and free to run on every CPU.
    ///
    /// Errors: what the scheduler says.
    pub fn sched_insert(&self, vcpu: Arc<Vcpu<A>>) -> Result<Slot> {
        let all = CpuMask::first(self.cpu_count());
        self.sched.insert(
            SchedUnit(vcpu),
            Params::default(),
            &all,
            &all,
            self.arch.now(),
        )
    }

    /// Arms a timer on this CPU; it replaces an earlier deadline of the same timer.
    pub fn arm_timer(&self, handle: &TimerHandle, deadline: Time, event: TimerEvent<A>) {
        self.timers
            .arm(self.arch.this_cpu(), handle, deadline, event);
        self.raise(softirq::TIMER);
    }

    /// Sets the wall clock: nanoseconds since 1970 at system time 0. All domains see it.
    pub fn set_wallclock(&self, base: u64) {
        *self.wallclock.lock() = base;
        self.console.set_wallclock(base);
        for domain in self.domains.all() {
            self.publish_wallclock(&domain);
        }
    }

    /// Shows a domain the wall clock, in its shared info page: odd versions mark an update.
    pub fn publish_wallclock(&self, domain: &Domain<A>) {
        const SECOND: u64 = 1_000_000_000;
        // Held throughout, so that two updates do not mix.
        let machine = self.wallclock.lock();
        let offset = domain.control.time_offset.load(Ordering::SeqCst);
        let seconds = (*machine / SECOND).wrapping_add_signed(offset);
        let page = domain.shared_info.page();
        let at = A::LAYOUT.wallclock;
        let version = page.load_u32(at, Ordering::Relaxed) | 1;
        page.store_u32(at, version, Ordering::SeqCst);
        page.store_u32(at + 4, seconds as u32, Ordering::SeqCst);
        page.store_u32(at + 8, (*machine % SECOND) as u32, Ordering::SeqCst);
        page.store_u32(
            A::LAYOUT.wallclock_sec_hi,
            (seconds >> 32) as u32,
            Ordering::SeqCst,
        );
        page.store_u32(at, version.wrapping_add(1), Ordering::SeqCst);
    }

    /// The hardware domain has shut down: so does the machine.
    pub fn hardware_domain_shutdown(&self, code: ShutdownReason) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let (what, reboot) = match code {
            ShutdownReason::POWEROFF => ("halted: powering off", false),
            ShutdownReason::REBOOT => ("shut down: rebooting machine", true),
            ShutdownReason::WATCHDOG => ("watchdog expired: rebooting machine", true),
            ShutdownReason::CRASH => ("crashed: rebooting machine", true),
            _ => ("shut down for an unknown reason: rebooting machine", true),
        };
        log::warn!("Hardware domain {what}");
        // Only what nobody asked for: a crash is to stay readable.
        if code != ShutdownReason::REBOOT && reboot && self.settings.no_reboot {
            log::warn!("'noreboot' set: not rebooting");
            return;
        }
        self.arch.power(reboot);
    }

    /// Whether the hardware domain has ended.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}
