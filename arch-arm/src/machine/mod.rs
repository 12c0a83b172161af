//! The machine: arm64 at EL2 as the core's [`Arch`].

mod domain;
mod exits;
mod firmware;
mod interrupts;
mod manage;
mod timers;
mod vcpu;
mod vmid;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayVec;
use spin::RwLock;
use xen_abi::features::Features as XenFeatures;
use xen_abi::xen::arm64::SHARED_INFO;
use xen_core::mem::Page;
use xen_core::{
    Arch, CpuId, Domain, DomainConfig, Error, Exit, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor,
    Mfn, Result, SharedLayout, Time, Vcpu, VcpuId,
};

use crate::decode::{Features, HostIdRegs, IdReg, SmcccCall, Workaround, spsr};
use crate::guest;
use crate::host::gic::{Gic, GicVersion};
use crate::host::psci::Psci;
use crate::host::ranges::PhysRange;
use crate::host::{cache, cpu, percpu, timer};
use crate::stage2::{Geometry, Stage2};

pub use domain::{ArmDomain, GicLayout};
pub use interrupts::{HALT, KICK, Line};
pub use vcpu::{ArmContext, ArmVcpu};
use vmid::{Vmid, Vmids};

/// Functions of the firmware (DEN 0022, DEN 0028).
const PSCI_FEATURES: u32 = 0x8400_000a;
const SMCCC_VERSION: u32 = 0x8000_0000;

/// Numbers of the private interrupts that the hypervisor uses, from the device tree.
#[derive(Clone, Copy, Debug)]
pub struct PrivateInterrupts {
    /// EL2 physical timer.
    pub hyp_timer: u32,
    /// EL1 virtual timer.
    pub virt_timer: u32,
    /// EL1 physical timer, as guests see it.
    pub phys_timer: u32,
    /// GIC maintenance.
    pub maintenance: u32,
}

/// Hands over, byte by byte, what was typed on the console.
pub type ReadConsole = fn(&mut dyn FnMut(u8));

/// What start-up found out about the machine.
pub struct Description {
    /// The interrupt controller, initialised.
    pub gic: &'static Gic,
    /// Where the interrupt controller lies, for a domain that sees the machine's own addresses.
    pub gic_layout: GicLayout,
    /// Numbers of private interrupts.
    pub private: PrivateInterrupts,
    /// The firmware's power control.
    pub psci: Psci,
    /// Number of CPUs in use.
    pub cpus: u32,
    /// Identification registers of the boot CPU.
    pub ids: HostIdRegs,
    /// Devices that the hypervisor keeps for itself.
    pub claimed: Vec<PhysRange>,
    /// The console's interrupt: its number, and what reads the bytes.
    pub console_line: Option<(u32, ReadConsole)>,
}

/// The machine.
pub struct Arm {
    gic: &'static Gic,
    gic_layout: GicLayout,
    private: PrivateInterrupts,
    psci: Psci,
    /// The firmware knows version 1.1 of the calling convention, and so can be asked for workarounds.
    workarounds: bool,
    cpus: u32,
    ids: HostIdRegs,
    features: Features,
    geometry: Geometry,
    levels: ArrayVec<u8, 3>,
    vmids: Arc<Vmids>,
    claimed: Vec<PhysRange>,
    console_line: Option<(u32, ReadConsole)>,
    routes: RwLock<Vec<Option<Line>>>,
    signals: Vec<interrupts::Signals>,
}

impl Arm {
    /// The machine, as start-up described it.
    pub fn new(description: Description) -> Self {
        let Description {
            gic,
            gic_layout,
            private,
            psci,
            cpus,
            ids,
            claimed,
            console_line,
        } = description;
        let features = Features::of(&ids);
        let pa_range = ids.get(IdReg::AA64MMFR0) & 0xf;
        // VMIDs of 16 bits are not used: 255 domains are enough, and 8 bits are there everywhere.
        let geometry = Geometry::new(cpu::physical_address_bits() as u8, pa_range, false);
        let lines = gic.max_spi() as usize;
        let signals = (0..cpus).map(|_| interrupts::Signals::default()).collect();
        Self {
            gic,
            gic_layout,
            private,
            workarounds: psci.smccc(PSCI_FEATURES, SMCCC_VERSION.into()) == 0
                && psci.smccc(SMCCC_VERSION, 0) >= SmcccCall::VERSION as i32,
            psci,
            cpus,
            ids,
            features,
            levels: geometry.levels.into_iter().collect(),
            geometry,
            vmids: Arc::new(Vmids::new()),
            claimed,
            console_line,
            routes: RwLock::new((0..lines).map(|_| None).collect()),
            signals,
        }
    }

    /// Programs this CPU for guests; once on each CPU.
    pub fn init_cpu(&self) -> Result<()> {
        guest::init_cpu(&self.features, self.geometry.vtcr);
        self.gic.enable(self.private.hyp_timer)?;
        self.gic.enable(self.private.virt_timer)?;
        self.gic.enable(self.private.maintenance)?;
        if let Some((line, _)) = self.console_line
            && percpu::this_cpu() == CpuId(0)
        {
            self.gic.set_target(line, CpuId(0))?;
            self.gic.enable(line)?;
        }
        Ok(())
    }

    /// Whether the machine's firmware has a workaround, in the words of `SMCCC_ARCH_FEATURES`.
    fn firmware_feature(&self, function: u32) -> u64 {
        if self.workarounds {
            self.psci.smccc(SmcccCall::ARCH_FEATURES, function.into()) as i64 as u64
        } else {
            SmcccCall::NOT_SUPPORTED
        }
    }

    /// Has the machine's firmware apply a workaround, if it has it.
    fn firmware_workaround(&self, which: Workaround, argument: u32) {
        let function = match which {
            Workaround::One => SmcccCall::WORKAROUND_1,
            Workaround::Two => SmcccCall::WORKAROUND_2,
            Workaround::Three => SmcccCall::WORKAROUND_3,
        };
        if self.firmware_feature(function) == 0 {
            self.psci.smccc(function, argument.into());
        }
    }

    /// Numbers of the private interrupts in use.
    pub const fn private_interrupts(&self) -> &PrivateInterrupts {
        &self.private
    }

    /// One past the last interrupt line of the machine.
    pub fn lines(&self) -> u32 {
        self.gic.max_spi()
    }

    /// Version of the interrupt controller.
    pub fn gic_version(&self) -> GicVersion {
        self.gic.version()
    }

    /// Bits of a guest-physical address.
    pub const fn ipa_bits(&self) -> u8 {
        self.geometry.ipa_bits
    }
}

impl Arch for Arm {
    type Pte = Stage2;
    type P2mTag = Vmid;
    type Context = ArmContext;
    type Vcpu = ArmVcpu;
    type Domain = ArmDomain;
    type Exit = crate::decode::Exit;

    const LAYOUT: SharedLayout = SharedLayout {
        legacy_vcpus: SHARED_INFO.vcpu_info_count as u32,
        vcpu_info_size: SHARED_INFO.vcpu_info_size,
        upcall_mask: SHARED_INFO.vcpu_upcall_mask.is_some(),
        evtchn_pending: SHARED_INFO.evtchn_pending,
        evtchn_mask: SHARED_INFO.evtchn_mask,
        wallclock: SHARED_INFO.wc_version,
        wallclock_sec_hi: SHARED_INFO.wc_sec_hi,
    };
    const FEATURES: XenFeatures = XenFeatures::WRITABLE_PAGE_TABLES
        .union(XenFeatures::MEMORY_OP_VNODE_SUPPORTED)
        .union(XenFeatures::ARM_SMCCC_SUPPORTED);
    const CAPABILITIES: &'static str = "xen-3.0-aarch64 ";
    /// Those that Xen serves on Arm, and registering the run state by physical address, which Xen announces.
    const VCPU_OPS: &'static [u32] = &[5, 10, 14];
    const HVM_OPS: &'static [u64] = &[24];
    const MAP_SPACES: &'static [u32] = &[0, 1, 4, 5];
    const RUNSTATE_TRANSLATED_AT_REGISTRATION: bool = true;

    fn now(&self) -> Time {
        timer::now()
    }
    fn this_cpu(&self) -> CpuId {
        percpu::this_cpu()
    }
    fn cpu_count(&self) -> u32 {
        self.cpus
    }
    fn set_timer(&self, deadline: Time) {
        timer::set_deadline((deadline != Time::NEVER).then_some(deadline));
    }
    fn kick(&self, cpu: CpuId) {
        if let Err(error) = self.gic.send_sgi(cpu, KICK) {
            log::error!("cannot interrupt CPU{cpu}: {error:?}");
        }
    }
    fn wait_for_interrupt(&self) {
        cpu::wait_for_interrupt();
    }
    fn interrupt_pending(&self) -> bool {
        cpu::interrupt_pending()
    }
    fn poll_interrupts(hv: &Hypervisor<Self>) {
        interrupts::poll(hv);
    }
    fn power(&self, reboot: bool) {
        let error = if reboot {
            self.psci.system_reset()
        } else {
            self.psci.system_off()
        };
        log::error!(
            "the firmware does not {}: {error:?}",
            if reboot { "reset" } else { "power off" }
        );
        cpu::stop();
    }

    fn p2m_levels(&self) -> &[u8] {
        &self.levels
    }
    fn p2m_max_leaf_order(&self) -> u8 {
        18
    }
    fn new_p2m_tag(&self, root: Mfn) -> Result<Vmid> {
        Vmids::allocate(&self.vmids, root)
    }
    fn flush_p2m(&self, tag: &Vmid, gfn: Gfn, count: u64) {
        tag.flush(gfn, count);
    }

    fn new_domain(&self, config: &DomainConfig) -> Result<ArmDomain> {
        ArmDomain::new(self, config)
    }
    fn new_vcpu(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        id: VcpuId,
    ) -> Result<(ArmVcpu, ArmContext)> {
        vcpu::new(hv, domain, id)
    }

    fn load(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut ArmContext) {
        vcpu::load(hv, vcpu, context);
    }
    fn save(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, context: &mut ArmContext) {
        vcpu::save(hv, vcpu, context);
    }
    fn enter(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut ArmContext,
    ) -> Exit<Self::Exit> {
        vcpu::enter(hv, vcpu, context)
    }
    fn handle_exit(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut ArmContext,
        exit: crate::decode::Exit,
    ) {
        exits::handle(hv, vcpu, context, exit);
    }

    fn translate(
        &self,
        _: &mut ArmContext,
        address: GuestVirtAddr,
        write: bool,
    ) -> Result<GuestPhysAddr> {
        guest::translate(address, write).map_err(|_| Error::Fault)
    }

    fn raise_upcall(_: &Hypervisor<Self>, vcpu: &Vcpu<Self>) {
        let domain = &vcpu.domain.arch;
        // The core kicks the vCPU, whatever else there is for it.
        let _ = domain.vgic.pulse(Some(vcpu.id), domain.event_ppi());
    }
    fn has_pending_interrupt(vcpu: &Vcpu<Self>) -> bool {
        vcpu.domain
            .arch
            .vgic
            .has_pending(vcpu.id, &vcpu.arch.interface())
    }
    fn prepare_to_wait(
        hv: &Hypervisor<Self>,
        vcpu: &Arc<Vcpu<Self>>,
        context: &mut ArmContext,
        unmask: bool,
    ) {
        if unmask {
            context.regs.cpsr &= !spsr::IRQ_MASKED;
        }
        vcpu::show_interrupts(hv, vcpu, context);
    }
    fn timer_fired(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, which: u32) {
        timers::fired(hv, vcpu, which);
    }
    fn retire_vcpu(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) {
        timers::retire(hv, vcpu);
    }
    fn is_guest_device(&self, mfn: Mfn) -> bool {
        let page = PhysRange::new(mfn.base().0, xen_core::PAGE_SIZE);
        !self.claimed.iter().any(|range| range.overlaps(&page))
    }
    fn cache_flush(
        &self,
        page: Page<'_>,
        offset: usize,
        length: usize,
        invalidate: bool,
    ) -> Result<()> {
        let start = page.address() as u64 + offset as u64;
        if invalidate {
            cache::clean_invalidate_range(start, length as u64);
        } else {
            cache::clean_range(start, length as u64);
        }
        Ok(())
    }
    fn set_callback(&self, _: &Domain<Self>, _: u64) -> Result<()> {
        // The toolstack notes the interrupt that the guest is told of by its device tree; it is the same for all guests.
        Ok(())
    }
    fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
        // CALLBACK_IRQ, STORE_PFN, STORE_EVTCHN, CONSOLE_PFN, CONSOLE_EVTCHN, and MONITOR_RING_PFN for the toolstack.
        match index {
            0..=2 | 17 | 18 | 28 if set && own => Err(Error::Perm),
            0..=2 | 17 | 18 | 28 if set => Ok(()),
            0..=2 | 17 | 18 => Ok(()),
            28 if !own => Ok(()),
            _ => Err(Error::Inval),
        }
    }
    fn dump_context(context: &ArmContext, out: &mut dyn fmt::Write) -> fmt::Result {
        vcpu::dump(context, out)
    }
}
