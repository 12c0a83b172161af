//! The seam: what the hypervisor's core asks of an architecture.
//!
//! There is one implementation per architecture and one in software for tests (`crate::soft`). Dispatch is
//! static: the binary instantiates `run::<X86>` or `run::<Arm>` once.

use alloc::sync::Arc;

use xen_abi::features::Features;
use xen_abi::memory::E820Entry;
use xen_abi::platform::PlatformCmd;
use xen_abi::xen::VcpuTimeInfo;

use crate::hardware::{ConfigRegion, PciEvent, PciFunction, PcpuIds, PcpuModel, TextScreen};
use crate::p2m::PteFormat;
use crate::{
    CpuId, Domain, DomainConfig, Error, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, Mfn, Result,
    Time, Vcpu,
};

/// Why a vCPU stopped running guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit<E> {
    /// A physical interrupt is waiting, or the CPU was kicked.
    Interrupt,
    /// The guest made a hypercall; number and arguments are in its registers.
    Hypercall,
    /// Something that only the architecture knows how to handle.
    Other(E),
}

/// A vCPU's registers as the hypercall convention sees them.
///
/// Only `hypercalls::dispatch` applies results: a hypercall either ends ([`Registers::finish`]) or is
/// executed again with changed arguments ([`Registers::restart`]).
pub trait Registers {
    /// The hypercall's number.
    fn number(&self) -> u64;
    /// Argument `n`, 0 to 4 (5 exists in multicalls only and reads as 0).
    fn arg(&self, n: usize) -> u64;
    /// Sets the result and goes on behind the hypercall instruction.
    fn finish(&mut self, result: i64);
    /// Leaves the vCPU at the hypercall instruction, with these arguments.
    fn restart(&mut self, args: &[u64; 5]);
}

/// What an event-channel upcall needs to know of `shared_info` and `vcpu_info` (public header `arch-*/`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLayout {
    /// Number of `vcpu_info` structures at the start of the shared info page.
    pub legacy_vcpus: u32,
    /// Size in bytes of `vcpu_info`.
    pub vcpu_info_size: usize,
    /// `vcpu_info` has a byte with which the guest masks upcalls (x86); elsewhere it masks the interrupt.
    pub upcall_mask: bool,
    /// Byte offset of `evtchn_pending` in the shared info page.
    pub evtchn_pending: usize,
    /// Byte offset of `evtchn_mask`.
    pub evtchn_mask: usize,
    /// Byte offset of the wall clock: version, seconds, nanoseconds, each 32 bits.
    pub wallclock: usize,
    /// Byte offset of the upper 32 bits of the wall clock's seconds.
    pub wallclock_sec_hi: usize,
}

/// An architecture: the machine and how to run guests on it.
///
/// Methods are called with interrupts masked: the hypervisor never takes an interrupt while its own code
/// runs. It asks [`Arch::interrupt_pending`] in long work and handles interrupts in [`Arch::poll_interrupts`].
pub trait Arch: crate::manage::Manage + Sized + Send + Sync + 'static {
    /// The bits of p2m entries.
    type Pte: PteFormat;
    /// Identifies a p2m to the CPU's translation caches (VMID, ASID); given back when dropped. It is also the place of an
    /// IOMMU's side: whoever drives one keeps the domain's context here, which shares the p2m's tables (`root`) where the
    /// IOMMU walks the CPU's format, and forgets what it cached in [`Arch::flush_p2m`].
    type P2mTag: Send + Sync;
    /// A vCPU's state while it is not on a CPU, and its registers while it is: owned by who runs it.
    type Context: Registers + Send;
    /// A vCPU's state that other CPUs may touch at any time.
    type Vcpu: Send + Sync;
    /// A domain's state: interrupt controller, platform devices.
    type Domain: Send + Sync;
    /// Decoded reasons to leave a guest that only the architecture handles.
    type Exit;

    /// Where shared structures lie in their pages.
    const LAYOUT: SharedLayout;
    /// What guests are told they can rely on, beyond what is the same everywhere (`XENFEAT_*`).
    const FEATURES: Features;
    /// What `XENVER_capabilities` lists.
    const CAPABILITIES: &'static str;
    /// The `vcpu_op` operations that guests of this architecture have, by number.
    const VCPU_OPS: &'static [u32];
    /// What the others answer.
    const ABSENT_VCPU_OP: Error = Error::Inval;
    /// The `hvm_op` operations, beside those on parameters, that guests of this architecture have, by number.
    const HVM_OPS: &'static [u64];
    /// The `physdev_op` operations that the hardware domain of this architecture has, by number.
    const PHYSDEV_OPS: &'static [u32] = &[];
    /// The `platform_op` operations of this architecture, by number.
    const PLATFORM_OPS: &'static [u32] = &[PlatformCmd::SETTIME64.0];
    /// The spaces of `add_to_physmap` (`XENMAPSPACE_*`) that this architecture has, by number.
    const MAP_SPACES: &'static [u32];
    /// What the others answer.
    const ABSENT_MAP_SPACE: Error = Error::NoSys;
    /// Whether domains and the machine have memory maps that hypercalls show.
    const HAS_MEMORY_MAPS: bool = false;
    /// Whether runstate areas registered by virtual address are translated at registration by default.
    const RUNSTATE_TRANSLATED_AT_REGISTRATION: bool;

    /// System time.
    fn now(&self) -> Time;
    /// The CPU this runs on.
    fn this_cpu(&self) -> CpuId;
    /// Number of CPUs in use.
    fn cpu_count(&self) -> u32;
    /// Sets this CPU's timer; [`Time::NEVER`] stops it. A time that has passed interrupts at once.
    fn set_timer(&self, deadline: Time);
    /// Makes another CPU leave its guest or its idling, soon.
    fn kick(&self, cpu: CpuId);
    /// Waits until an interrupt is pending; it stays pending.
    fn wait_for_interrupt(&self);
    /// Whether an interrupt is pending on this CPU: long work should come to a stop.
    fn interrupt_pending(&self) -> bool;
    /// Acknowledges and handles all pending interrupts of this CPU.
    fn poll_interrupts(hv: &Hypervisor<Self>);
    /// Ends the machine: powers off, or resets when `reboot`. Does not return on hardware.
    fn power(&self, reboot: bool);

    /// Frame-number bits each level of the p2m resolves, root first; each but the root at most 9.
    fn p2m_levels(&self) -> &[u8];
    /// log2 of the largest number of frames one p2m entry may map.
    fn p2m_max_leaf_order(&self) -> u8;
    /// Makes an identifier for a new p2m with this root.
    ///
    /// Errors: [`Error::Busy`] when none is left.
    fn new_p2m_tag(&self, root: Mfn) -> Result<Self::P2mTag>;
    /// Forgets cached translations of `count` frames from `gfn` on, on all CPUs, before it returns.
    fn flush_p2m(&self, tag: &Self::P2mTag, gfn: Gfn, count: u64);

    /// Makes the architecture's part of a domain.
    ///
    /// Errors: [`Error::Inval`] for a configuration it cannot have; [`Error::NoMem`].
    fn new_domain(&self, config: &DomainConfig) -> Result<Self::Domain>;
    /// Makes the architecture's part of a vCPU, in its reset state.
    ///
    /// Errors: [`Error::Inval`]; [`Error::NoMem`].
    fn new_vcpu(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        id: crate::VcpuId,
    ) -> Result<(Self::Vcpu, Self::Context)>;

    /// Puts the vCPU's state on this CPU.
    fn load(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut Self::Context);
    /// Takes the vCPU's state off this CPU.
    fn save(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut Self::Context);
    /// Runs guest code until something stops it, pending virtual interrupts delivered.
    fn enter(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut Self::Context,
    ) -> Exit<Self::Exit>;
    /// Handles an exit of the architecture's own.
    fn handle_exit(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut Self::Context,
        exit: Self::Exit,
    );

    /// Translates an address of the vCPU, whose state is loaded on this CPU, for an access with its kernel's
    /// rights.
    ///
    /// Errors: [`Error::Fault`].
    fn translate(
        &self,
        context: &mut Self::Context,
        address: GuestVirtAddr,
        write: bool,
    ) -> Result<GuestPhysAddr>;

    /// The vCPU's event-channel upcall became pending: makes the interrupt that announces it pending. Callable
    /// from any CPU; the core wakes or kicks the vCPU afterwards.
    fn raise_upcall(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>);
    /// Whether an interrupt other than the upcall would be taken by the vCPU now. Keeps it from blocking.
    fn has_pending_interrupt(vcpu: &Vcpu<Self>) -> bool;
    /// The vCPU, whose state is loaded on this CPU, is about to block or to poll by hypercall: shows to
    /// [`Arch::has_pending_interrupt`] what only its registers hold. `unmask` lets interrupts in, as `SCHEDOP_block` does,
    /// where the upcall is one of them and no mask of its own.
    fn prepare_to_wait(
        _hv: &Hypervisor<Self>,
        _vcpu: &Arc<Vcpu<Self>>,
        _context: &mut Self::Context,
        _unmask: bool,
    ) {
    }
    /// One of the vCPU's timers, as the architecture numbered it, has fired.
    fn timer_fired(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, timer: u32);
    /// The vCPU ends: cancels its timers and whatever else refers to it.
    fn retire_vcpu(_hv: &Hypervisor<Self>, _vcpu: &Vcpu<Self>) {}
    /// Whether the vCPU has a state to run from, so that `VCPUOP_up` may start it.
    fn is_initialised(_vcpu: &Vcpu<Self>) -> bool {
        true
    }
    /// Gives a vCPU that is down and has no state yet the one that `VCPUOP_initialise` names; `read` copies the
    /// first bytes of the caller's structure.
    ///
    /// Errors: [`Error::Exist`] for one that has a state; [`Error::Inval`] for a state that no CPU can have; what `read`
    /// says.
    fn initialise_vcpu(
        _vcpu: &Vcpu<Self>,
        _read: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Makes a non-maskable interrupt pending (`VCPUOP_send_nmi`). The core wakes or kicks the vCPU afterwards.
    ///
    /// Errors: [`Error::NoSys`] where there is no such thing.
    fn raise_nmi(_vcpu: &Vcpu<Self>) -> Result<()> {
        Err(Error::NoSys)
    }
    /// A virtual or pass-through interrupt of a domain: what `PHYSDEVOP_eoi` and friends act upon.
    ///
    /// Errors: [`Error::NoSys`] where interrupts are not routed through event channels.
    fn bind_pirq(&self, _domain: &Domain<Self>, _pirq: u32, _share: bool) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Whether a frame that is not memory may be mapped by the domain that owns the hardware: no device that the
    /// hypervisor keeps for itself.
    fn is_guest_device(&self, _mfn: Mfn) -> bool {
        false
    }
    /// A physical interrupt that [`Arch::bind_pirq`] bound has no event channel any more.
    fn unbind_pirq(&self, _domain: &Domain<Self>, _pirq: u32) {}
    /// The way the event-channel upcall reaches the guest changed (`HVM_PARAM_CALLBACK_IRQ`).
    ///
    /// Errors: [`Error::Inval`] for a way the architecture does not have.
    fn set_callback(&self, _domain: &Domain<Self>, _value: u64) -> Result<()> {
        Err(Error::Inval)
    }
    /// Cleans, and with `invalidate` invalidates too, the data caches for `length` bytes of a page from `offset`
    /// on (`GNTTABOP_cache_flush`).
    ///
    /// Errors: [`Error::NoSys`] where caches are always coherent.
    fn cache_flush(
        &self,
        _page: crate::mem::Page<'_>,
        _offset: usize,
        _length: usize,
        _invalidate: bool,
    ) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Sets the vector that announces events to the vCPU (`HVMOP_set_evtchn_upcall_vector`).
    ///
    /// Errors: [`Error::Inval`] for a vector that cannot; [`Error::NoSys`] where interrupts have none.
    fn set_upcall_vector(_hv: &Hypervisor<Self>, _vcpu: &Vcpu<Self>, _vector: u8) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Forgets the translations that the domain's own page tables made, on all CPUs (`HVMOP_flush_tlbs`).
    ///
    /// Errors: [`Error::NoSys`] where a guest always can do that itself.
    fn flush_guest_tlbs(&self, _domain: &Domain<Self>) -> Result<()> {
        Err(Error::NoSys)
    }
    /// What the vCPU's clock is made of; the version does not matter. `None` where there is no such clock.
    fn time_info(_hv: &Hypervisor<Self>, _vcpu: &Vcpu<Self>) -> Option<VcpuTimeInfo> {
        None
    }
    /// The machine's memory map, in ascending order, as the hardware domain is shown it.
    fn machine_memory_map(&self) -> &[E820Entry] {
        &[]
    }
    /// The names of a physical CPU; `None` for one that is not there.
    fn pcpu_ids(&self, _cpu: CpuId) -> Option<PcpuIds> {
        None
    }
    /// What a physical CPU is; `None` for one that is not there.
    fn pcpu_model(&self, _cpu: CpuId) -> Option<PcpuModel> {
        None
    }
    /// The screen that the hardware domain can go on using after the hypervisor; `None` without one.
    fn text_screen(&self) -> Option<TextScreen> {
        None
    }
    /// The hardware domain tells what happened to a function of a PCI device.
    ///
    /// Errors: [`Error::NoDev`] for one that is not there or, unless it is a new one, not known; [`Error::NoSys`] where
    /// the hypervisor has nothing to do with such devices.
    fn pci_event(
        _hv: &Hypervisor<Self>,
        _domain: &Arc<Domain<Self>>,
        _function: PciFunction,
        _event: PciEvent,
    ) -> Result<()> {
        Err(Error::NoSys)
    }
    /// The hardware domain tells where PCI configuration space is.
    ///
    /// Errors: [`Error::NoDev`] for a segment or buses that the hypervisor does not know; [`Error::Io`] if it knows them
    /// elsewhere; [`Error::NoSys`] where the hypervisor has nothing to do with it.
    fn pci_config_region(&self, _region: &ConfigRegion) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Sets parameter `index`, which exists and which the caller may set, to what `value` makes of it. `params` are locked:
    /// no more than stores.
    ///
    /// Errors: [`Error::Inval`] for a value it cannot have; [`Error::Exist`] if it cannot be changed any more; others that
    /// the interface names.
    fn set_param(params: &mut [u64; crate::HVM_PARAMS], index: u32, value: u64) -> Result<()> {
        *params.get_mut(index as usize).ok_or(Error::Inval)? = value;
        Ok(())
    }
    /// Whether HVM parameter `index` may be set or read: by the domain itself (`own`) or by one that manages it.
    ///
    /// Errors: [`Error::Perm`]; [`Error::Inval`] for one that does not exist.
    fn check_param(index: u32, own: bool, set: bool) -> Result<()>;
    /// A human-readable dump of a vCPU's registers.
    fn dump_context(context: &Self::Context, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
}
