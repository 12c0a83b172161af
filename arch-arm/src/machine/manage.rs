//! What toolstacks ask of this architecture.

use xen_abi::domctl::{ArchConfig, ArmVcpuContext, CreateDomain, GicVersion as Told, Interface};
use xen_abi::sysctl::PhysCaps;
use xen_abi::versioned::{Machine, Wire};
use xen_core::manage::{Host, Manage};
use xen_core::p2m::P2mType;
use xen_core::{
    Domain, DomainConfig, Error, Gfn, Hypervisor, Mfn, PAGE_SHIFT, PAGE_SIZE, Result, Vcpu,
};

use super::{Arm, GicLayout};
use crate::host::cache;
use crate::host::gic::GicVersion;
use crate::manage::{self, HostAbilities};

/// Page-table pages that a domain has before its toolstack says how many: enough for what it is made with.
const FIRST_POOL: u64 = 16;
/// Width of a guest's addresses.
const BITS: u32 = 64;

const fn told(version: GicVersion) -> Told {
    match version {
        GicVersion::V2 => Told::V2,
        GicVersion::V3 => Told::V3,
    }
}

impl Manage for Arm {
    const MACHINE: Machine = Machine::Arm64;

    fn configure(
        hv: &Hypervisor<Self>,
        interface: Interface,
        wanted: &mut CreateDomain,
        config: &mut DomainConfig,
    ) -> Result<()> {
        let gic = told(hv.arch.gic_version());
        manage::check(wanted, interface, HostAbilities { gic })?;
        let arm = &wanted.arch.arm;
        config.gic_version = match arm.gic_version {
            Told::V2 => 2,
            _ => 3,
        };
        config.interrupts = arm.nr_spis;
        config.paging_pool = Some(FIRST_POOL);
        Ok(())
    }

    fn created(hv: &Hypervisor<Self>, domain: &Domain<Self>) -> Result<()> {
        // The CPU interface that a GICv2's guest sees is the hardware's virtual one.
        if let (GicLayout::V2 { cpu, .. }, Some(gicv)) = (&domain.arch.gic, hv.arch.gic.gicv()) {
            let mfn = Mfn::containing(gicv.base);
            domain
                .p2m
                .map(Gfn::containing(*cpu), mfn, 2, P2mType::Mmio)?;
        }
        Ok(())
    }

    fn arch_config(_: &Domain<Self>) -> ArchConfig {
        // Xen tells nothing here.
        ArchConfig::absent()
    }

    fn address_bits(domain: &Domain<Self>) -> u8 {
        (domain.p2m.gfn_bits() + PAGE_SHIFT) as u8
    }

    fn host(_: &Hypervisor<Self>) -> Host {
        Host {
            threads_per_core: 1,
            cores_per_socket: 1,
            cpu_khz: (crate::host::timer::frequency() / 1000) as u32,
            capabilities: PhysCaps::HVM | PhysCaps::HAP,
            arch_capabilities: 0,
            hw_cap: [0; 8],
        }
    }

    fn vcpu_context_size(interface: Interface) -> usize {
        ArmVcpuContext::size(interface, Machine::Arm64)
    }

    fn set_vcpu_context(
        hv: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &[u8],
        interface: Interface,
    ) -> Result<()> {
        let wanted = ArmVcpuContext::read(bytes, interface, Machine::Arm64)?;
        manage::apply(&wanted, &mut vcpu.context().regs)?;
        if wanted.flags.contains(xen_abi::domctl::ArmVcpuFlags::ONLINE) {
            vcpu.up(hv);
        } else {
            vcpu.down(hv);
        }
        Ok(())
    }

    fn vcpu_context(
        _: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &mut [u8],
        interface: Interface,
    ) -> Result<()> {
        let now = manage::read(&vcpu.context().regs, vcpu.is_up());
        let written = now.write(bytes, interface, Machine::Arm64);
        written.map(drop).ok_or(Error::Inval)
    }

    fn set_address_size(_: &Domain<Self>, bits: u32) -> Result<()> {
        // EL1 in AArch32 is not offered to guests.
        if bits == BITS {
            Ok(())
        } else {
            Err(Error::Inval)
        }
    }

    fn clean_frames(domain: &Domain<Self>, first: Gfn, count: u64) -> Result<()> {
        for n in 0..count {
            let gfn = Gfn(first.0.checked_add(n).ok_or(Error::Inval)?);
            // What is no memory of the domain's is in no cache.
            if let Ok((frame, _)) = domain.p2m.frame(gfn, false) {
                let page = frame.page();
                cache::clean_invalidate_range(page.address() as u64, PAGE_SIZE);
            }
        }
        Ok(())
    }
}
