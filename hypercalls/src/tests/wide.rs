//! A machine that is all memory, whose domains can see as much of it as there is: the software machine's guest
//! address space is too small for guest frames to be machine frames.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use xen_abi::domctl::{ArchConfig, CreateDomain, Interface};
use xen_abi::features::Features;
use xen_abi::versioned::{Machine, Wire};
use xen_core::console::Console;
use xen_core::manage::{Host, Manage};
use xen_core::mem::SoftFrames;
use xen_core::soft::{OddPte, Soft, SoftContext};
use xen_core::{
    Arch, CpuId, Domain, DomainConfig, Error, Exit, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor,
    Mfn, Result, Settings, SharedLayout, Time, Vcpu, VcpuId,
};

pub(super) struct Wide;

impl Wide {
    pub(super) fn machine(memory: &SoftFrames) -> Hypervisor<Self> {
        let console = Box::leak(Box::new(Console::default()));
        let settings = Settings {
            scheduler: xen_core::sched::SchedulerKind::default(),
            no_reboot: false,
            command_line: "".into(),
            version: (4, 17),
            max_grant_version: 1,
            max_grant_frames: 64,
            max_maptrack_frames: 1024,
            transitive_grants: true,
            runstate_translated: None,
            boot_wallclock: 0,
        };
        Hypervisor::new(Self, memory.frames(), console, settings).expect("a machine")
    }
}

impl Arch for Wide {
    type Pte = OddPte;
    type P2mTag = ();
    type Context = SoftContext;
    type Vcpu = ();
    type Domain = ();
    type Exit = ();

    const LAYOUT: SharedLayout = Soft::LAYOUT;
    const FEATURES: Features = Soft::FEATURES;
    const CAPABILITIES: &'static str = Soft::CAPABILITIES;
    const VCPU_OPS: &'static [u32] = Soft::VCPU_OPS;
    const HVM_OPS: &'static [u64] = Soft::HVM_OPS;
    const MAP_SPACES: &'static [u32] = &[0, 1, 4, 5];
    const RUNSTATE_TRANSLATED_AT_REGISTRATION: bool = true;

    fn now(&self) -> Time {
        Time(1)
    }
    fn this_cpu(&self) -> CpuId {
        CpuId(0)
    }
    fn cpu_count(&self) -> u32 {
        1
    }
    fn set_timer(&self, _: Time) {}
    fn kick(&self, _: CpuId) {}
    fn wait_for_interrupt(&self) {}
    /// Each hypercall that can be interrupted is.
    fn interrupt_pending(&self) -> bool {
        true
    }
    fn poll_interrupts(_: &Hypervisor<Self>) {}
    fn power(&self, _: bool) {}

    fn p2m_levels(&self) -> &[u8] {
        &[6, 9, 9]
    }
    fn p2m_max_leaf_order(&self) -> u8 {
        18
    }
    fn new_p2m_tag(&self, _: Mfn) -> Result<()> {
        Ok(())
    }
    fn flush_p2m(&self, (): &(), _: Gfn, _: u64) {}

    fn new_domain(&self, _: &DomainConfig) -> Result<()> {
        Ok(())
    }
    fn new_vcpu(_: &Hypervisor<Self>, _: &Domain<Self>, _: VcpuId) -> Result<((), SoftContext)> {
        Ok(((), SoftContext::default()))
    }
    fn load(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: &mut SoftContext) {}
    fn save(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: &mut SoftContext) {}
    fn enter(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: &mut SoftContext) -> Exit<()> {
        Exit::Other(())
    }
    fn handle_exit(hv: &Hypervisor<Self>, vcpu: &Arc<Vcpu<Self>>, _: &mut SoftContext, (): ()) {
        vcpu.block(hv);
    }

    fn translate(
        &self,
        _: &mut SoftContext,
        address: GuestVirtAddr,
        _: bool,
    ) -> Result<GuestPhysAddr> {
        Ok(GuestPhysAddr(address.0))
    }
    fn raise_upcall(_: &Hypervisor<Self>, _: &Vcpu<Self>) {}
    fn has_pending_interrupt(_: &Vcpu<Self>) -> bool {
        false
    }
    fn timer_fired(_: &Hypervisor<Self>, _: &Arc<Vcpu<Self>>, _: u32) {}
    fn is_guest_device(&self, mfn: Mfn) -> bool {
        mfn.0.is_multiple_of(2)
    }
    fn check_param(_: u32, _: bool, _: bool) -> Result<()> {
        Ok(())
    }
    fn dump_context(_: &SoftContext, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl Manage for Wide {
    const MACHINE: Machine = Soft::MACHINE;

    fn configure(
        _: &Hypervisor<Self>,
        _: Interface,
        _: &mut CreateDomain,
        _: &mut DomainConfig,
    ) -> Result<()> {
        Err(Error::NoSys)
    }
    fn arch_config(_: &Domain<Self>) -> ArchConfig {
        <ArchConfig as Wire>::absent()
    }
    fn address_bits(_: &Domain<Self>) -> u8 {
        48
    }
    fn host(_: &Hypervisor<Self>) -> Host {
        unreachable!("no test asks this machine")
    }
    fn vcpu_context_size(_: Interface) -> usize {
        0
    }
}
