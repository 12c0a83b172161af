//! Domains.

mod control;
mod rangeset;
mod table;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use spin::{Mutex, RwLock};

use xen_abi::memory::E820Entry;
use xen_abi::sched::ShutdownReason;

use crate::evtchn::EventChannels;
use crate::grant::GrantTable;
use crate::mem::{Claim, FrameRef};
use crate::p2m::P2m;
use crate::sched::Params;
use crate::timer::TimerHandle;
use crate::{Arch, DomainId, Error, Hypervisor, Port, Result, Vcpu, VcpuId};

pub use control::Control;
pub use rangeset::RangeSet;
pub use table::Domains;

/// Leaves taken out of a dying domain's p2m between two looks for more urgent work.
const KILL_STRIDE: usize = 32;
/// Watchdogs a domain can have at a time.
const WATCHDOGS: usize = 2;
/// Number of HVM parameters (`HVM_NR_PARAMS`).
pub const HVM_PARAMS: usize = 39;

/// Most entries of a domain's memory map.
pub const MEMORY_MAP_ENTRIES: usize = 1024;

/// What a new domain is to be.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// Its identifier.
    pub id: DomainId,
    /// May use the control interfaces.
    pub privileged: bool,
    /// Owns the machine's devices.
    pub hardware: bool,
    /// Runs xenstore for the others, and may look at them for that.
    pub xenstore: bool,
    /// Guest frames are machine frames.
    pub direct_mapped: bool,
    /// Number of vCPUs it can have, at least 1.
    pub max_vcpus: u32,
    /// Frames of memory it may have.
    pub max_pages: u64,
    /// Largest event-channel port it may use.
    pub max_port: u32,
    /// Grant-table frames it may have.
    pub max_grant_frames: u32,
    /// Frames of grant mappings it may hold ("maptrack" frames).
    pub max_maptrack_frames: u32,
    /// Highest grant-table version: 1 or 2.
    pub max_grant_version: u32,
    /// Page-table pages it may use; `None` is no bound.
    pub paging_pool: Option<u64>,
    /// Identifier of the toolstack's choice.
    pub handle: [u8; 16],
    /// Interrupt lines (Arm: SPIs) of the virtual interrupt controller.
    pub interrupts: u32,
    /// Version of the virtual interrupt controller where there are several (Arm: 2 or 3); 0 is the machine's.
    pub gic_version: u32,
    /// Model-specific registers that nobody knows read as 0 rather than fault, and writes to them are lost (x86).
    pub relaxed_msrs: bool,
    /// Whether run-state areas registered by virtual address are translated at registration (or else walked at each
    /// update); `None` is the administrator's choice in [`crate::Settings`], or else the architecture's.
    pub runstate_translated: Option<bool>,
}

impl DomainConfig {
    /// An ordinary domain without memory and with one vCPU, limited as little as its own needs allow. The rest is for
    /// whoever makes it to choose.
    pub const fn guest(id: DomainId) -> Self {
        Self {
            id,
            privileged: false,
            hardware: false,
            xenstore: false,
            direct_mapped: false,
            max_vcpus: 1,
            max_pages: 0,
            max_port: 0,
            max_grant_frames: 1,
            max_maptrack_frames: 0,
            max_grant_version: 1,
            paging_pool: None,
            handle: [0; 16],
            interrupts: 0,
            gic_version: 0,
            relaxed_msrs: false,
            runstate_translated: None,
        }
    }
}

/// Life of a domain. Only [`Domain::kill`] and its continuation move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Dying {
    /// It lives.
    Alive = 0,
    /// Its resources are being taken.
    Dying = 1,
    /// All are gone but the structure itself.
    Dead = 2,
}

#[derive(Debug, Default)]
struct Lifecycle {
    shutting_down: bool,
    /// None of its vCPUs is on a CPU any more, and whoever wanted to know was told.
    shut_down: bool,
    shutdown_code: Option<ShutdownReason>,
}

/// A domain: an address space, vCPUs, and the channels to other domains.
pub struct Domain<A: Arch> {
    /// What it was made as.
    pub config: DomainConfig,
    /// Its physical address space.
    pub p2m: P2m<A>,
    /// Its event channels.
    pub evtchn: EventChannels<A>,
    /// Its grant table.
    pub grants: GrantTable<A>,
    /// The architecture's part.
    pub arch: A::Domain,
    /// The page that it and the hypervisor share.
    pub shared_info: FrameRef,
    /// HVM parameters by index.
    pub params: Mutex<[u64; HVM_PARAMS]>,
    /// Whether run-state areas registered by virtual address are translated at registration.
    pub runstate_translated: bool,
    /// Bits set by `vm_assist`.
    pub vm_assist: AtomicU64,
    /// What toolstacks told of it.
    pub control: Control,
    /// Memory set aside for it.
    pub claim: Claim,
    /// The memory map that it is shown (`XENMEM_memory_map`), at most [`MEMORY_MAP_ENTRIES`]; none if empty.
    pub memory_map: RwLock<Vec<E820Entry>>,
    vcpus: RwLock<Vec<Option<Arc<Vcpu<A>>>>>,
    pages: AtomicU64,
    max_pages: AtomicU64,
    pauses: AtomicU32,
    dying: AtomicU32,
    lifecycle: Mutex<Lifecycle>,
    crashed: AtomicBool,
    watchdogs: Mutex<[Option<TimerHandle>; WATCHDOGS]>,
    /// Identifier of the domain whose device model it is; `DOMID_INVALID` for none.
    serves: AtomicU16,
}

impl<A: Arch> Domain<A> {
    /// Makes a domain without memory and vCPUs; it is not in the table yet.
    ///
    /// Errors: [`Error::Inval`] for a configuration that makes no sense; [`Error::NoMem`].
    pub fn new(hv: &Hypervisor<A>, config: DomainConfig) -> Result<Arc<Self>> {
        if config.max_vcpus == 0 || config.id.0 >= DomainId::FIRST_RESERVED {
            return Err(Error::Inval);
        }
        let arch = hv.arch.new_domain(&config)?;
        let shared_info = hv.frames.alloc_page(DomainId::XEN)?;
        let events_in = shared_info.try_clone().ok_or(Error::NoMem)?;
        Ok(Arc::new(Self {
            p2m: P2m::new(hv.arch.clone(), hv.frames, config.paging_pool)?,
            evtchn: EventChannels::new(&config, events_in)?,
            grants: GrantTable::new(hv.frames, &config)?,
            arch,
            shared_info,
            params: Mutex::new([0; HVM_PARAMS]),
            runstate_translated: config
                .runstate_translated
                .or(hv.settings.runstate_translated)
                .unwrap_or(A::RUNSTATE_TRANSLATED_AT_REGISTRATION),
            vm_assist: AtomicU64::new(0),
            control: Control::new(hv, config.handle)?,
            claim: Claim::new(hv.frames),
            memory_map: RwLock::new(Vec::new()),
            vcpus: RwLock::new((0..config.max_vcpus).map(|_| None).collect()),
            pages: AtomicU64::new(0),
            max_pages: AtomicU64::new(config.max_pages),
            pauses: AtomicU32::new(0),
            dying: AtomicU32::new(Dying::Alive as u32),
            lifecycle: Mutex::new(Lifecycle::default()),
            crashed: AtomicBool::new(false),
            watchdogs: Mutex::new([const { None }; WATCHDOGS]),
            serves: AtomicU16::new(DomainId::INVALID.0),
            config,
        }))
    }

    /// Its identifier.
    pub const fn id(&self) -> DomainId {
        self.config.id
    }

    /// Whether it may use the control interfaces.
    pub const fn privileged(&self) -> bool {
        self.config.privileged
    }

    /// Whether `other` is its device model.
    pub fn is_served_by(&self, other: &Self) -> bool {
        other.serves.load(Ordering::Acquire) == self.id().0
    }

    /// Makes it the device model of another domain, of none with `DOMID_INVALID`.
    pub fn serve(&self, other: DomainId) {
        self.serves.store(other.0, Ordering::Release);
    }

    /// Makes it the device model of another domain, if it is none's yet; whether it was none's.
    pub fn try_serve(&self, other: DomainId) -> bool {
        let none = DomainId::INVALID.0;
        let serves = &self.serves;
        serves
            .compare_exchange(none, other.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The domain with this identifier is gone.
    fn serves_no_longer(&self, other: DomainId) {
        let _ = self.serves.compare_exchange(
            other.0,
            DomainId::INVALID.0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Number of vCPUs it can have.
    pub const fn max_vcpus(&self) -> u32 {
        self.config.max_vcpus
    }

    /// A vCPU, if it exists.
    pub fn vcpu(&self, id: VcpuId) -> Option<Arc<Vcpu<A>>> {
        self.vcpus.read().get(id.0 as usize)?.clone()
    }

    /// All vCPUs that exist.
    pub fn vcpus(&self) -> Vec<Arc<Vcpu<A>>> {
        self.vcpus.read().iter().flatten().cloned().collect()
    }

    /// Makes vCPU `id`, down until something starts it.
    ///
    /// Errors: [`Error::Inval`] beyond the domain's maximum, or for a domain that is being destroyed; [`Error::Exist`];
    /// [`Error::NoMem`].
    pub fn add_vcpu(self: &Arc<Self>, hv: &Hypervisor<A>, id: VcpuId) -> Result<Arc<Vcpu<A>>> {
        if id.0 >= self.max_vcpus() || !self.is_alive() {
            return Err(Error::Inval);
        }
        if self.vcpu(id).is_some() {
            return Err(Error::Exist);
        }
        let vcpu = Vcpu::new(hv, self.clone(), id)?;
        if let Some(place) = self.vcpus.write().get_mut(id.0 as usize) {
            *place = Some(vcpu.clone());
        }
        let share = self.control.share();
        if share != Params::default() {
            self.share_out(hv, &vcpu, share)?;
        }
        Ok(vcpu)
    }

    /// Frames of its own memory that it has.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Frames that it may have.
    pub fn max_pages(&self) -> u64 {
        self.max_pages.load(Ordering::Relaxed)
    }

    /// Changes how many frames it may have; it may have more at the moment.
    pub fn set_max_pages(&self, pages: u64) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    /// Accounts for `count` frames that it is about to get.
    ///
    /// Errors: [`Error::NoMem`] beyond its maximum.
    pub fn charge_pages(&self, count: u64) -> Result<()> {
        let max = self.max_pages();
        self.pages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| {
                p.checked_add(count).filter(|n| *n <= max)
            })
            .map_or(Err(Error::NoMem), |_| Ok(()))
    }

    /// Accounts for `count` frames that it lost.
    pub fn uncharge_pages(&self, count: u64) {
        self.pages.fetch_sub(count, Ordering::Relaxed);
    }

    /// Whether none of its vCPUs may run: paused, shut down or dying.
    pub fn stopped(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Stops all vCPUs, without waiting for those that run right now; counted.
    pub fn pause_nosync(&self, hv: &Hypervisor<A>) {
        self.pauses.fetch_add(1, Ordering::AcqRel);
        for vcpu in self.vcpus() {
            vcpu.update(hv);
        }
    }

    /// Undoes one [`Domain::pause_nosync`].
    pub fn unpause(&self, hv: &Hypervisor<A>) {
        self.pauses.fetch_sub(1, Ordering::AcqRel);
        for vcpu in self.vcpus() {
            vcpu.update(hv);
        }
    }

    /// Where it stands in its life.
    pub fn dying(&self) -> Dying {
        match self.dying.load(Ordering::Acquire) {
            0 => Dying::Alive,
            1 => Dying::Dying,
            _ => Dying::Dead,
        }
    }

    /// Why it shut down, if it did.
    pub fn shutdown_code(&self) -> Option<ShutdownReason> {
        let life = self.lifecycle.lock();
        if life.shutting_down {
            life.shutdown_code
        } else {
            None
        }
    }

    /// Records the code that a later crash will report (`SCHEDOP_shutdown_code`).
    pub fn set_shutdown_code(&self, code: ShutdownReason) {
        self.lifecycle.lock().shutdown_code = Some(code);
    }

    /// Why it shut down, if it did and its vCPUs are off the CPUs.
    pub fn shut_down(&self) -> Option<ShutdownReason> {
        let life = self.lifecycle.lock();
        life.shutdown_code.filter(|_| life.shut_down)
    }

    /// Shuts the domain down: its vCPUs stop for good. The hardware domain takes the machine with it. A second
    /// call changes nothing.
    pub fn shutdown(self: &Arc<Self>, hv: &Hypervisor<A>, code: ShutdownReason) {
        {
            let mut life = self.lifecycle.lock();
            if life.shutting_down {
                return;
            }
            life.shutting_down = true;
            life.shutdown_code.get_or_insert(code);
        }
        self.pause_nosync(hv);
        if self.config.hardware {
            hv.hardware_domain_shutdown(code);
        }
        hv.domains.await_end(hv, self.clone());
    }

    /// The vCPUs of a domain that shuts down are off the CPUs: whoever wants to know is told, unless it was resumed
    /// meanwhile.
    fn finish_shutdown(&self, hv: &Hypervisor<A>) {
        let code = {
            let mut life = self.lifecycle.lock();
            if !life.shutting_down || life.shut_down {
                return;
            }
            life.shut_down = true;
            life.shutdown_code
        };
        let port = self.control.suspend_port.load(Ordering::SeqCst);
        if code == Some(ShutdownReason::SUSPEND) && port != 0 {
            // The toolstack chose the port; one through which nothing can be sent tells nobody.
            let _ = self.evtchn.send(hv, self, Port(port));
        } else {
            hv.domains.note_change(hv, self.id());
        }
    }

    /// Lets a domain that shut down, but is still there, run on. Nothing happens to one that did not.
    pub fn resume(&self, hv: &Hypervisor<A>) {
        {
            let mut life = self.lifecycle.lock();
            if !life.shutting_down {
                return;
            }
            *life = Lifecycle::default();
        }
        self.crashed.store(false, Ordering::Release);
        self.unpause(hv);
    }

    /// Ends a domain that did something no correct guest does: says why on the console and shuts it down.
    pub fn crash(self: &Arc<Self>, hv: &Hypervisor<A>, why: core::fmt::Arguments<'_>) {
        if !self.crashed.swap(true, Ordering::AcqRel) {
            log::error!("d{} crashed: {why}", self.id());
            self.shutdown(hv, xen_abi::sched::ShutdownReason::CRASH);
        }
    }

    /// Makes (`id` 0), re-arms, or with `seconds` 0 ends a watchdog; returns the number of a new one.
    ///
    /// Errors: [`Error::Inval`] for a watchdog that is not there; [`Error::NoSpc`] when all are taken.
    pub fn watchdog(self: &Arc<Self>, hv: &Hypervisor<A>, id: u32, seconds: u32) -> Result<u32> {
        let mut dogs = self.watchdogs.lock();
        let index = match id.checked_sub(1) {
            None if seconds == 0 => return Err(Error::Inval),
            None => dogs.iter().position(Option::is_none).ok_or(Error::NoSpc)?,
            Some(index) => index as usize,
        };
        let dog = dogs.get_mut(index).ok_or(Error::Inval)?;
        if id == 0 {
            *dog = Some(hv.timers.allocate()?);
        }
        let handle = dog.as_ref().ok_or(Error::Inval)?;
        if seconds == 0 {
            hv.timers.cancel(handle);
            *dog = None;
            return Ok(0);
        }
        let deadline = hv.arch.now().after(u64::from(seconds) * 1_000_000_000);
        hv.arm_timer(handle, deadline, crate::TimerEvent::Watchdog(self.clone()));
        Ok(if id == 0 { index as u32 + 1 } else { 0 })
    }

    /// Takes all that the domain holds, in steps: [`Error::Restart`] asks to be called again. At the end it is
    /// [`Dying::Dead`], with no vCPU, channel, grant or memory; the caller takes it out of the table.
    ///
    /// Errors: [`Error::Restart`]; [`Error::Busy`] while one of its vCPUs is still on a CPU.
    pub fn kill(&self, hv: &Hypervisor<A>) -> Result<()> {
        let life = &self.dying;
        if life
            .compare_exchange(0, Dying::Dying as u32, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.pause_nosync(hv);
            hv.domains.note_change(hv, self.id());
        }
        // Paused for good, whatever held it.
        self.release(hv);
        self.claim.release();
        for vcpu in self.vcpus() {
            vcpu.retire(hv)?;
        }
        for dog in self.watchdogs.lock().iter_mut() {
            if let Some(handle) = dog.take() {
                hv.timers.cancel(&handle);
            }
        }
        self.evtchn.destroy(hv, self)?;
        self.grants.destroy(hv, self)?;
        loop {
            let (done, dropped) = self.p2m.relinquish(KILL_STRIDE);
            self.uncharge_pages(dropped.ram);
            if done {
                break;
            }
            if hv.should_yield() {
                return Err(Error::Restart);
            }
        }
        // The vCPUs refer to the domain, which could not be freed else.
        self.vcpus.write().iter_mut().for_each(|v| *v = None);
        life.store(Dying::Dead as u32, Ordering::Release);
        hv.domains.settle(hv);
        Ok(())
    }
}
