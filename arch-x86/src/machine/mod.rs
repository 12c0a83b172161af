//! The machine: x86-64 with a virtualisation extension as the core's [`Arch`].
//!
//! Nothing here knows which extension that is: everything goes through [`HvmBackend`].
//!
//! | module | idea |
//! | --- | --- |
//! | `vcpu`, `context` | a vCPU: made, put on a CPU, entered, taken off |
//! | [`start`] | states in which vCPUs begin |
//! | `exits`, `control`, `msrs`, `memory` | what happens at an exit |
//! | `registers`, `bus`, `devices` | what emulation works on |
//! | [`inject`] | events that come up while others are delivered |
//! | [`flush`] | forgetting translations on all CPUs |
//! | [`xstate`] | FPU and vector registers |
//! | [`clock`], [`tsc`] | the paravirtual clock, and the counter that it goes by |
//! | `lapic` | the virtual local APIC |
//! | [`hardware`], `devices`, `passthrough`, `interrupts` | the machine's devices, for the hardware domain |
//! | [`calls`], `manage` | what hypercalls ask of the machine, and toolstacks |
//! | `saved`, `settings` | a vCPU's state as a whole, and what toolstacks change of all |
//! | `domain`, `hypercall_page` | what the names say |

mod bus;
pub mod calls;
pub mod clock;
mod context;
mod control;
mod devices;
mod domain;
mod exits;
pub mod flush;
pub mod hardware;
mod hypercall_page;
pub mod inject;
mod interrupts;
mod lapic;
mod manage;
mod memory;
mod msrs;
mod passthrough;
mod registers;
mod saved;
mod settings;
pub mod start;
pub mod tsc;
mod vcpu;
pub mod xstate;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::features::Features as XenFeatures;
use xen_abi::memory::E820Entry;
use xen_abi::xen::VcpuTimeInfo;
use xen_core::hardware::{ConfigRegion, PciEvent, PciFunction, PcpuIds, PcpuModel, TextScreen};
use xen_core::{
    Arch, CpuId, Domain, DomainConfig, Error, Exit, Gfn, GuestPhysAddr, GuestVirtAddr, HVM_PARAMS,
    Hypervisor, Mfn, Result, SharedLayout, Time, Vcpu, VcpuId,
};

use crate::backend::HvmBackend;
use crate::emulate::{Access, walk};
use crate::host::pending::Vector;
use crate::host::{clock as host_clock, cpu, interrupts as host_interrupts, lapic as host_lapic};
use crate::host::{percpu, power, timer};
use crate::policy::cpuid::{Capabilities, Machine};
use crate::policy::xstate::{self as xstate_policy, Component};
use crate::policy::{self, CpuidPolicy, Feature, GuestKind, Leaves};
use crate::select::CpuidResult;

pub use calls::Told;
pub use context::X86Context;
pub use domain::{Tsc, X86Domain};
pub use hardware::Hardware;
pub use vcpu::{X86Vcpu, init, startup};

/// Hands over, byte by byte, what was typed on the console.
pub type ReadConsole = fn(&mut dyn FnMut(u8));

/// What start-up found out about the machine.
pub struct Description<B> {
    /// The virtualisation extension.
    pub backend: B,
    /// Number of CPUs in use.
    pub cpus: u32,
    /// Frames of devices that the hypervisor keeps for itself.
    pub claimed: Vec<Range<Mfn>>,
    /// The console's interrupt, and what reads the bytes.
    pub console: Option<(Vector, ReadConsole)>,
    /// What the hardware domain drives through Oxen.
    pub hardware: Hardware,
    /// What it is told when it asks.
    pub told: Told,
}

/// Components of the extended state that guests get.
const COMPONENTS: u64 = Component::X87
    .union(Component::SSE)
    .union(Component::AVX)
    .union(Component::AVX512)
    .bits();
/// Width of guest-physical addresses that four levels translate.
const PHYSICAL_BITS: u8 = 48;

/// The machine.
pub struct X86<B: HvmBackend> {
    /// The virtualisation extension.
    pub(crate) backend: B,
    cpus: u32,
    claimed: Vec<Range<Mfn>>,
    console: Option<(Vector, ReadConsole)>,
    pub(crate) hardware: Hardware,
    told: Told,
    /// What the machine's vectors come to.
    bindings: passthrough::Bindings,
    /// The host's policies: the hardware domain has the most that there is.
    policies: policy::system::System,
    xstate: xstate::Format,
    inside: Box<[flush::Inside]>,
    /// Number of the next p2m.
    next_tag: AtomicU64,
}

/// CPUID of the CPU this runs on.
fn host_cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let raw = cpu::cpuid(leaf, subleaf);
    CpuidResult {
        eax: raw.eax,
        ebx: raw.ebx,
        ecx: raw.ecx,
        edx: raw.edx,
    }
}

impl<B: HvmBackend> X86<B> {
    /// The machine, as start-up described it. The clock runs already.
    pub fn new(description: Description<B>) -> Self {
        let leaves = Leaves::read(host_cpuid);
        let features = cpu::features();
        let xcr0 = if features.xsave {
            let leaf = leaves.xstate.first().copied().unwrap_or_default();
            (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & COMPONENTS
        } else {
            0
        };
        let mut capabilities = Capabilities::TSC_AUX
            | Capabilities::TSC_ADJUST
            | Capabilities::XSAVES
            | Capabilities::PCID
            | lapic::CAPABILITIES;
        capabilities.set(Capabilities::INVARIANT_TSC, features.invariant_tsc);
        let machine = Machine {
            capabilities,
            xcr0,
            arch_capabilities: 0,
            physical_bits: features.physical_bits.min(PHYSICAL_BITS),
        };
        let format = xstate::Format {
            components: xcr0,
            size: xstate_policy::standard_size(xcr0, &leaves.xstate),
            ymm: (xcr0 & Component::AVX.bits() != 0)
                .then(|| leaves.xstate.get(2).map_or(0, |leaf| leaf.ebx)),
        };
        let Description {
            backend,
            cpus,
            claimed,
            console,
            hardware,
            told,
        } = description;
        Self {
            backend,
            cpus,
            claimed,
            console,
            hardware,
            told,
            bindings: passthrough::Bindings::default(),
            policies: policy::system::System {
                most: CpuidPolicy::new(&leaves, &machine, GuestKind::Hardware),
                default: CpuidPolicy::new(&leaves, &machine, GuestKind::Ordinary),
                raw: leaves,
            },
            xstate: format,
            inside: (0..cpus).map(|_| flush::Inside::default()).collect(),
            next_tag: AtomicU64::new(1),
        }
    }

    /// Prepares this CPU for guests; once on each CPU.
    ///
    /// Errors: what [`HvmBackend::enable_cpu`] says.
    pub fn init_cpu(&self, frames: &'static xen_core::mem::Frames) -> Result<()> {
        self.backend.enable_cpu(percpu::cpu_id(), frames)
    }

    /// The virtualisation extension.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    fn policy(&self, config: &DomainConfig) -> &CpuidPolicy {
        if config.hardware {
            &self.policies.most
        } else {
            &self.policies.default
        }
    }

    /// What the host's time-stamp counter is multiplied with by the hardware for one of `hz`; `None` if it cannot.
    fn native_ratio(&self, hz: u64) -> Option<tsc::Ratio> {
        let host = host_clock::frequency();
        if hz == host {
            return Some(tsc::Ratio::ONE);
        }
        let (fraction, bits) = self.backend.tsc_ratio()?;
        tsc::Ratio::new(hz, host, fraction, bits)
    }

    /// How a vCPU's guest turns its time-stamp counter into system time.
    fn rate(&self, vcpu: &Vcpu<Self>) -> clock::Rate {
        let tsc = vcpu.domain.arch.tsc();
        let (multiplier, shift) = host_clock::time_info_ratio(tsc.hz);
        let start = tsc.ratio.guest(host_clock::tsc_at(Time(0)));
        clock::Rate {
            origin: start.wrapping_add(vcpu.arch.lapic.tsc_offset()),
            multiplier,
            shift,
            stable: cpu::features().invariant_tsc,
        }
    }
}

/// Identifies a p2m.
#[derive(Debug)]
pub struct P2mTag {
    root: Mfn,
    flush: flush::Tag,
}

impl<B: HvmBackend> Arch for X86<B> {
    type Pte = B::Pte;
    type P2mTag = P2mTag;
    type Context = X86Context<B>;
    type Vcpu = X86Vcpu;
    type Domain = X86Domain;
    type Exit = crate::exit::Exit;

    const LAYOUT: SharedLayout = crate::layout::LAYOUT;
    const FEATURES: XenFeatures = XenFeatures::HVM_CALLBACK_VECTOR
        .union(XenFeatures::HVM_SAFE_PVCLOCK)
        .union(XenFeatures::MEMORY_OP_VNODE_SUPPORTED)
        .union(XenFeatures::VCPU_TIME_PHYS_AREA)
        .union(XenFeatures::WRITABLE_PAGE_TABLES);
    const CAPABILITIES: &'static str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
    const VCPU_OPS: &'static [u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const ABSENT_VCPU_OP: Error = Error::NoSys;
    const HVM_OPS: &'static [u64] = &[5, 9, 10, 15, 23, 24, 25];
    const PHYSDEV_OPS: &'static [u32] = &[24, 25, 26, 29, 32];
    const PLATFORM_OPS: &'static [u32] = &[17, 48, 50, 54, 55, 56, 57, 62, 64];
    const MAP_SPACES: &'static [u32] = &[0, 1, 2, 3, 4];
    const ABSENT_MAP_SPACE: Error = Error::Inval;
    const HAS_MEMORY_MAPS: bool = true;
    const RUNSTATE_TRANSLATED_AT_REGISTRATION: bool = false;

    fn now(&self) -> Time {
        host_clock::now()
    }
    fn this_cpu(&self) -> CpuId {
        percpu::cpu_id()
    }
    fn cpu_count(&self) -> u32 {
        self.cpus
    }
    fn set_timer(&self, deadline: Time) {
        timer::set_time(deadline);
    }
    fn kick(&self, cpu: CpuId) {
        host_lapic::send_ipi(cpu, host_interrupts::KICK);
    }
    fn wait_for_interrupt(&self) {
        host_interrupts::wait_for_interrupt();
    }
    fn interrupt_pending(&self) -> bool {
        host_interrupts::pending()
    }
    fn poll_interrupts(hv: &Hypervisor<Self>) {
        interrupts::poll(hv);
    }
    fn power(&self, reboot: bool) {
        if !reboot {
            power::power_off();
            log::error!("the firmware does not power off: resetting");
        }
        power::reset();
    }

    fn p2m_levels(&self) -> &[u8] {
        &crate::second_level::LEVELS
    }
    fn p2m_max_leaf_order(&self) -> u8 {
        self.backend.max_leaf_order()
    }
    fn new_p2m_tag(&self, root: Mfn) -> Result<P2mTag> {
        let number = self.next_tag.fetch_add(1, Ordering::Relaxed);
        Ok(P2mTag {
            root,
            flush: flush::Tag::new(number),
        })
    }
    fn flush_p2m(&self, tag: &P2mTag, _: Gfn, _: u64) {
        flush::everywhere(&tag.flush, &self.inside, |cpu| self.kick(CpuId(cpu)));
    }

    fn new_domain(&self, config: &DomainConfig) -> Result<X86Domain> {
        let hardware = config.hardware.then_some(&self.hardware);
        X86Domain::new(config, self.policy(config), hardware)
    }
    fn new_vcpu(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        id: VcpuId,
    ) -> Result<(X86Vcpu, X86Context<B>)> {
        vcpu::new(hv, domain, id)
    }

    fn load(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut X86Context<B>) {
        vcpu::load(hv, vcpu, context);
    }
    fn save(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut X86Context<B>) {
        vcpu::save(hv, vcpu, context);
    }
    fn enter(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut X86Context<B>,
    ) -> Exit<Self::Exit> {
        vcpu::enter(hv, vcpu, context)
    }
    fn handle_exit(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut X86Context<B>,
        exit: Self::Exit,
    ) {
        exits::handle(hv, vcpu, context, &exit);
    }

    fn translate(
        &self,
        context: &mut X86Context<B>,
        address: GuestVirtAddr,
        write: bool,
    ) -> Result<GuestPhysAddr> {
        let domain = context.domain.as_ref().ok_or(Error::Fault)?;
        let policy = domain.arch.policy();
        let paging = context.paging(
            &self.backend,
            policy.physical_bits(),
            policy.has(Feature::Page1gb),
        );
        let access = Access {
            write,
            ..Access::default()
        };
        let found = walk(&paging, &**domain, address, access).map_err(Error::from)?;
        Ok(found.address)
    }

    fn raise_upcall(_: &Hypervisor<Self>, vcpu: &Vcpu<Self>) {
        lapic::raise_upcall(vcpu);
    }
    fn has_pending_interrupt(vcpu: &Vcpu<Self>) -> bool {
        vcpu::has_pending(vcpu)
    }
    fn timer_fired(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, _: u32) {
        lapic::timer_fired(hv, vcpu);
    }
    fn retire_vcpu(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) {
        lapic::retire(hv, vcpu);
    }
    fn is_initialised(vcpu: &Vcpu<Self>) -> bool {
        vcpu.arch.is_initialised()
    }
    fn initialise_vcpu(
        vcpu: &Vcpu<Self>,
        read: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut context = [0; start::HVM_CONTEXT_SIZE];
        read(&mut context)?;
        if vcpu.arch.is_initialised() {
            return Err(Error::Exist);
        }
        let start = start::Start::from_context(&context, vcpu.domain.arch.policy())?;
        vcpu.arch.initialise(start)
    }
    fn raise_nmi(vcpu: &Vcpu<Self>) -> Result<()> {
        vcpu.arch.raise_nmi();
        Ok(())
    }
    fn set_upcall_vector(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>, vector: u8) -> Result<()> {
        lapic::set_upcall_vector(hv, vcpu, vector.into())
    }
    fn flush_guest_tlbs(&self, domain: &Domain<Self>) -> Result<()> {
        // Entries that guest tables made are tagged like those of the p2m.
        self.flush_p2m(domain.p2m.tag(), Gfn(0), u64::MAX);
        Ok(())
    }
    fn time_info(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) -> Option<VcpuTimeInfo> {
        Some(calls::time_info(&hv.arch.rate(vcpu)))
    }
    fn machine_memory_map(&self) -> &[E820Entry] {
        &self.told.memory_map
    }
    fn pcpu_ids(&self, cpu: CpuId) -> Option<PcpuIds> {
        calls::pcpu_ids(&self.told, cpu)
    }
    fn pcpu_model(&self, cpu: CpuId) -> Option<PcpuModel> {
        calls::pcpu_model(cpu)
    }
    fn text_screen(&self) -> Option<TextScreen> {
        self.told.screen
    }
    fn pci_event(
        hv: &Hypervisor<Self>,
        domain: &Arc<Domain<Self>>,
        function: PciFunction,
        event: PciEvent,
    ) -> Result<()> {
        calls::pci_event(hv, domain, function, event)
    }
    fn pci_config_region(&self, region: &ConfigRegion) -> Result<()> {
        calls::config_region(&self.hardware.mcfg, region)
    }
    fn set_param(params: &mut [u64; HVM_PARAMS], index: u32, value: u64) -> Result<()> {
        calls::set_param(params, index, value)
    }
    fn is_guest_device(&self, mfn: Mfn) -> bool {
        !self.claimed.iter().any(|range| range.contains(&mfn))
    }
    fn set_callback(&self, domain: &Domain<Self>, value: u64) -> Result<()> {
        domain.arch.set_callback(value)
    }
    fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
        domain::check_param(index, own, set)
    }
    fn dump_context(context: &X86Context<B>, out: &mut dyn fmt::Write) -> fmt::Result {
        context.dump(out)
    }
}
