//! Virtual local APICs at work: what vCPUs do to theirs, and what comes of it for others.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_core::timer::TimerHandle;
use xen_core::{Domain, GuestPhysAddr, Hypervisor, Result, Time, TimerEvent, Vcpu, VcpuId};

use super::tsc::{Ratio, RatioCell};
use super::{X86, devices, vcpu};
use crate::backend::HvmBackend;
use crate::emulate::Exception;
use crate::host::clock;
use crate::platform::lapic::{self as model, Arrival, Config, Deadline, Effect, Now, Shorthand};
use crate::platform::message::{Destination, Message, Trigger};
use crate::platform::upcall::{Callback, Upcall, UpcallVector};
use crate::policy::cpuid::Capabilities;
use crate::policy::topology;
use crate::policy::xen_leaves::HvmFeatures;

/// What it can, for CPUID.
pub(super) const CAPABILITIES: Capabilities =
    Capabilities::X2APIC.union(Capabilities::TSC_DEADLINE);
/// What of Xen's features hangs on it.
pub(super) const FEATURES: HvmFeatures =
    HvmFeatures::UPCALL_VECTOR.union(HvmFeatures::EXTENDED_DESTINATION);
/// vCPUs whose APIC IDs differ in the 8 bits that xAPIC mode compares.
const DISTINCT: u32 = 128;

/// A vCPU's local APIC.
#[derive(Debug)]
pub(super) struct Lapic {
    apic: model::Lapic,
    timer: TimerHandle,
    /// The vCPU's own vector for event channels.
    upcall: UpcallVector,
    /// What the host's time-stamp counter is multiplied with for the guest's, and what is added then.
    tsc_ratio: RatioCell,
    tsc_offset: AtomicU64,
}

impl Lapic {
    /// The APIC of vCPU `id`, as after power-up.
    pub(super) fn new(
        id: VcpuId,
        x2apic: bool,
        tsc_deadline: bool,
        tsc_ratio: Ratio,
        timer: TimerHandle,
    ) -> Self {
        Self {
            apic: model::Lapic::new(Config {
                id: topology::apic_id(id),
                boot_cpu: id.0 == 0,
                x2apic,
                tsc_deadline,
            }),
            timer,
            upcall: UpcallVector::default(),
            tsc_ratio: RatioCell::new(tsc_ratio),
            tsc_offset: AtomicU64::new(0),
        }
    }

    /// APIC_BASE.
    pub(super) fn base(&self) -> u64 {
        self.apic.base()
    }

    /// Whether it is switched on in APIC_BASE.
    pub(super) fn is_enabled(&self) -> bool {
        self.apic.mode() != model::Mode::Disabled
    }

    /// Whether it accepts interrupts.
    fn accepts(&self) -> bool {
        self.is_enabled() && self.apic.is_software_enabled()
    }

    /// The interrupt that it would deliver now.
    pub(super) fn pending(&self) -> Option<u8> {
        self.apic.pending()
    }

    /// The CPU takes the interrupt that is most urgent now: its vector.
    pub(super) fn acknowledge(&self) -> u8 {
        self.apic.acknowledge()
    }

    /// CR8.
    pub(super) fn task_priority(&self) -> u8 {
        self.apic.task_priority()
    }

    /// The guest wrote to CR8.
    pub(super) fn set_task_priority(&self, priority: u8) {
        self.apic.set_task_priority(priority);
    }

    /// Whether event channels reach the vCPU through this APIC, and so not by the domain's vector.
    pub(super) fn announces_events(&self) -> bool {
        matches!(self.upcall.way(Callback::None), Upcall::Lapic(_))
    }

    /// What is added to the host's time-stamp counter, once it is multiplied, for the guest's.
    pub(super) fn tsc_offset(&self) -> u64 {
        self.tsc_offset.load(Ordering::Relaxed)
    }

    /// Sets it; the vCPU is told of it by the caller, and its timer where that goes by the counter.
    pub(super) fn set_tsc_offset(&self, offset: u64) {
        self.tsc_offset.store(offset, Ordering::Relaxed);
    }

    /// Sets what the host's time-stamp counter is multiplied with. The vCPU is on no CPU.
    pub(super) fn set_tsc_ratio(&self, ratio: Ratio) {
        self.tsc_ratio.set(ratio);
    }

    /// The guest's time-stamp counter.
    pub(super) fn tsc(&self) -> u64 {
        self.tsc_at(clock::tsc())
    }

    /// The guest's time-stamp counter at a value of the host's.
    pub(super) fn tsc_at(&self, host: u64) -> u64 {
        self.tsc_ratio
            .get()
            .guest(host)
            .wrapping_add(self.tsc_offset())
    }

    fn now(&self) -> Now {
        let host = clock::tsc();
        Now {
            time: clock::time_at(host),
            tsc: self.tsc_at(host),
        }
    }

    /// When the guest's time-stamp counter comes to `tsc`, rounded up.
    fn due(&self, tsc: u64) -> Time {
        let host = clock::tsc();
        let ticks = tsc.saturating_sub(self.tsc_at(host));
        clock::time_at(host.saturating_add(self.tsc_ratio.get().host(ticks))).after(1)
    }

    /// Where a register is in its page, if it has this address.
    fn register_at(&self, at: GuestPhysAddr) -> Option<u16> {
        self.apic.register_at(at)
    }
}

/// Whether its registers are at an address.
pub(super) fn covers(lapic: &Lapic, address: GuestPhysAddr) -> bool {
    lapic.register_at(address).is_some()
}

/// Reads the page of registers. False if it is not at this address.
pub(super) fn read_memory<B: HvmBackend>(
    vcpu: &Vcpu<X86<B>>,
    at: GuestPhysAddr,
    to: &mut [u8],
) -> bool {
    let lapic = &vcpu.arch.lapic;
    let Some(offset) = lapic.register_at(at) else {
        return false;
    };
    lapic.apic.read_memory(offset, to, &lapic.now());
    true
}

/// Writes to the page of registers. False if it is not at this address.
pub(super) fn write_memory<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    at: GuestPhysAddr,
    from: &[u8],
) -> bool {
    let lapic = &vcpu.arch.lapic;
    let Some(offset) = lapic.register_at(at) else {
        return false;
    };
    let change = || Ok(lapic.apic.write_memory(offset, from, &lapic.now()));
    write(hv, vcpu, change).is_ok()
}

/// RDMSR of an x2APIC register.
///
/// Errors: #GP(0).
pub(super) fn read_msr<B: HvmBackend>(
    vcpu: &Vcpu<X86<B>>,
    register: u8,
) -> core::result::Result<u64, Exception> {
    let lapic = &vcpu.arch.lapic;
    lapic.apic.read_msr(register, &lapic.now())
}

/// WRMSR of an x2APIC register.
///
/// Errors: #GP(0).
pub(super) fn write_msr<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    register: u8,
    value: u64,
) -> core::result::Result<(), Exception> {
    let lapic = &vcpu.arch.lapic;
    write(hv, vcpu, || {
        lapic.apic.write_msr(register, value, &lapic.now())
    })
}

/// WRMSR of APIC_BASE.
///
/// Errors: #GP(0).
pub(super) fn set_base<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    value: u64,
) -> core::result::Result<(), Exception> {
    write(hv, vcpu, || vcpu.arch.lapic.apic.set_base(value))
}

/// Writes to a vCPU's APIC, with all that comes of it.
fn write<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    change: impl FnOnce() -> core::result::Result<Effect, Exception>,
) -> core::result::Result<(), Exception> {
    let lapic = &vcpu.arch.lapic;
    let refused = !lapic.accepts();
    let effect = change()?;
    bring_about(hv, vcpu, effect);
    if refused && lapic.accepts() {
        // An upcall that came up meanwhile was refused, and does not come up again while it is pending.
        if vcpu.info.upcall_pending(vcpu) {
            raise_upcall(vcpu);
        }
        devices::retry(hv, &vcpu.domain);
    }
    Ok(())
}

/// RDMSR of TSC_DEADLINE.
pub(super) fn tsc_deadline<B: HvmBackend>(vcpu: &Vcpu<X86<B>>) -> u64 {
    let lapic = &vcpu.arch.lapic;
    lapic.apic.tsc_deadline(&lapic.now())
}

/// WRMSR of TSC_DEADLINE.
pub(super) fn set_tsc_deadline<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    value: u64,
) {
    let lapic = &vcpu.arch.lapic;
    let effect = lapic.apic.set_tsc_deadline(value, &lapic.now());
    bring_about(hv, vcpu, effect);
}

/// Adds to what is added to the host's time-stamp counter; returns the sum. The timer may go by the counter.
pub(super) fn move_tsc<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    by: u64,
) -> u64 {
    let lapic = &vcpu.arch.lapic;
    let offset = lapic.tsc_offset().wrapping_add(by);
    lapic.set_tsc_offset(offset);
    tsc_was_set(hv, vcpu);
    offset
}

/// Makes happen what an access asks for.
fn bring_about<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Arc<Vcpu<X86<B>>>, effect: Effect) {
    match effect {
        Effect::None => {}
        Effect::Timer(deadline) => arm(hv, vcpu, deadline),
        Effect::EndOfInterrupt(vector) => devices::end_of_interrupt(hv, vcpu, vector),
        Effect::Ipi(ipi) => {
            let candidates = match ipi.shorthand {
                Shorthand::None => Candidates::of(&vcpu.domain, ipi.message.destination),
                Shorthand::Own => Candidates::One(vcpu.clone()),
                Shorthand::All | Shorthand::Others => Candidates::All(vcpu.domain.vcpus()),
            };
            let vcpus = candidates.as_slice();
            ipi.deliver(vcpu.id, apics(vcpus), |id, arrival| {
                arrive(hv, vcpus, id, arrival);
            });
        }
    }
}

/// Arms the timer on this CPU, or disarms it.
fn arm<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    deadline: Option<Deadline>,
) {
    let lapic = &vcpu.arch.lapic;
    let time = match deadline {
        None => return hv.timers.cancel(&lapic.timer),
        Some(Deadline::Time(time)) => time,
        Some(Deadline::Tsc(tsc)) => lapic.due(tsc),
    };
    hv.arm_timer(&lapic.timer, time, TimerEvent::Arch(vcpu.clone(), 0));
}

/// Its timer has fired.
pub(super) fn timer_fired<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Arc<Vcpu<X86<B>>>) {
    let lapic = &vcpu.arch.lapic;
    let next = lapic.apic.tick(&lapic.now());
    if next.is_some() {
        arm(hv, vcpu, next);
    }
    if lapic.pending().is_some() {
        vcpu.kick(hv);
    }
}

/// The state at a value of the host's time-stamp counter.
pub(super) fn save<B: HvmBackend>(vcpu: &Vcpu<X86<B>>, host: u64) -> model::Saved {
    let lapic = &vcpu.arch.lapic;
    lapic.apic.save(&Now {
        time: clock::time_at(host),
        tsc: lapic.tsc_at(host),
    })
}

/// Takes over a state; the vCPU is on no CPU, and its time-stamp counter is set.
///
/// Errors: [`xen_core::Error::Inval`] for one that it cannot be in; nothing has changed then.
pub(super) fn restore<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    saved: &model::Saved,
    host: u64,
) -> Result<()> {
    let lapic = &vcpu.arch.lapic;
    let now = Now {
        time: clock::time_at(host),
        tsc: lapic.tsc_at(host),
    };
    lapic.apic.restore(saved, &now)?;
    arm(hv, vcpu, lapic.apic.deadline());
    Ok(())
}

/// The time-stamp counter that the timer may go by was set.
pub(super) fn tsc_was_set<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Arc<Vcpu<X86<B>>>) {
    if let deadline @ Some(Deadline::Tsc(_)) = vcpu.arch.lapic.apic.deadline() {
        arm(hv, vcpu, deadline);
    }
}

/// After INIT.
pub(super) fn init<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Vcpu<X86<B>>) {
    let lapic = &vcpu.arch.lapic;
    // The vector for upcalls stays: kernels set it before they start the vCPU.
    lapic.apic.init();
    hv.timers.cancel(&lapic.timer);
}

/// The vCPU ends.
pub(super) fn retire<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Vcpu<X86<B>>) {
    hv.timers.cancel(&vcpu.arch.lapic.timer);
}

/// An event is to be announced to the vCPU, which is kicked afterwards.
pub(super) fn raise_upcall<B: HvmBackend>(vcpu: &Vcpu<X86<B>>) {
    // The domain's vector follows `evtchn_upcall_pending`, like an interrupt line: there is nothing to be noted.
    if let Upcall::Lapic(vector) = vcpu.arch.lapic.upcall.way(Callback::None) {
        vcpu.arch.lapic.apic.accept(vector, Trigger::Edge);
    }
}

/// Gives the vCPU a vector of its own for event channels (`HVMOP_set_evtchn_upcall_vector`).
///
/// Errors: [`xen_core::Error::Inval`] for a vector that an APIC cannot deliver.
pub(super) fn set_upcall_vector<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Vcpu<X86<B>>,
    vector: u32,
) -> Result<()> {
    vcpu.arch.lapic.upcall.set(vector)?;
    if vcpu.info.upcall_pending(vcpu) {
        raise_upcall(vcpu);
        vcpu.kick(hv);
    }
    Ok(())
}

/// Sends a message to a domain's local APICs, from any CPU. True if one has accepted it.
pub(super) fn send<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    message: &Message,
) -> bool {
    let candidates = Candidates::of(domain, message.destination);
    let vcpus = candidates.as_slice();
    model::deliver(message, apics(vcpus), |id, arrival| {
        arrive(hv, vcpus, id, arrival);
    })
}

/// vCPUs among which a message finds its receivers.
enum Candidates<B: HvmBackend> {
    One(Arc<Vcpu<X86<B>>>),
    All(Vec<Arc<Vcpu<X86<B>>>>),
}

impl<B: HvmBackend> Candidates<B> {
    /// Those that a destination can name: the one that has an APIC ID where IDs tell vCPUs apart in all modes, or else all.
    fn of(domain: &Domain<X86<B>>, destination: Destination) -> Self {
        if let Destination::Physical(id) = destination
            && domain.max_vcpus() <= DISTINCT
            && let Some(vcpu) = topology::vcpu_of(id).and_then(|id| domain.vcpu(id))
        {
            return Self::One(vcpu);
        }
        Self::All(domain.vcpus())
    }

    fn as_slice(&self) -> &[Arc<Vcpu<X86<B>>>] {
        match self {
            Self::One(vcpu) => core::slice::from_ref(vcpu),
            Self::All(vcpus) => vcpus,
        }
    }
}

fn apics<B: HvmBackend>(
    vcpus: &[Arc<Vcpu<X86<B>>>],
) -> impl Iterator<Item = (VcpuId, &model::Lapic)> + Clone {
    vcpus.iter().map(|vcpu| (vcpu.id, &vcpu.arch.lapic.apic))
}

/// Tells a vCPU what has reached its APIC.
fn arrive<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpus: &[Arc<Vcpu<X86<B>>>],
    id: VcpuId,
    arrival: Arrival,
) {
    let Some(vcpu) = vcpus.iter().find(|vcpu| vcpu.id == id) else {
        return;
    };
    match arrival {
        Arrival::Interrupt => vcpu.kick(hv),
        Arrival::Nmi => {
            vcpu.arch.raise_nmi();
            vcpu.kick(hv);
        }
        Arrival::Init => vcpu::init(hv, vcpu),
        Arrival::Startup(page) => vcpu::startup(hv, vcpu, page),
    }
}
