//! What toolstacks ask of this architecture.

mod configure;
mod context;

use alloc::vec::Vec;

use xen_abi::domctl::{
    ArchConfig, CpuidLeaf, CreateDomain, Interface, MsrEntry, SendTrigger, Trigger, TscInfo,
    TscMode,
};
use xen_abi::sysctl::PhysCaps;
use xen_abi::versioned::{Machine, Wire};
use xen_core::manage::{Host, Manage, PolicyError};
use xen_core::{
    Arch, Domain, DomainConfig, Error, Hypervisor, PAGE_SIZE, Result, Time, Vcpu, VcpuId,
};

use super::domain::Tsc;
use super::{X86, hypercall_page, lapic, tsc};
use crate::backend::HvmBackend;
use crate::host::{clock, percpu};

/// Nanoseconds that a toolstack's clock says have passed, as it starts counting.
fn started(now: Time, elapsed: u64) -> Time {
    Time(now.0.wrapping_sub(elapsed))
}

/// Gives a domain, none of whose vCPUs is on a CPU, its time-stamp counters.
pub(super) fn set_tsc<B: HvmBackend>(hv: &Hypervisor<X86<B>>, domain: &Domain<X86<B>>, tsc: Tsc) {
    domain.arch.set_tsc(tsc);
    for vcpu in domain.vcpus() {
        vcpu.arch.lapic.set_tsc_ratio(tsc.ratio);
        lapic::tsc_was_set(hv, &vcpu);
    }
}

impl<B: HvmBackend> Manage for X86<B> {
    const MACHINE: Machine = Machine::X86_64;

    fn configure(
        _: &Hypervisor<Self>,
        interface: Interface,
        wanted: &mut CreateDomain,
        config: &mut DomainConfig,
    ) -> Result<()> {
        configure::check(wanted, interface)?;
        config.relaxed_msrs = configure::relaxed_msrs(wanted);
        Ok(())
    }

    fn arch_config(domain: &Domain<Self>) -> ArchConfig {
        let mut told = <ArchConfig as Wire>::absent();
        // Xen tells no further properties.
        told.x86.emulation_flags = match domain.arch.is_hardware() {
            true => configure::HARDWARE_DEVICES,
            false => configure::DEVICES,
        };
        told
    }

    fn address_bits(domain: &Domain<Self>) -> u8 {
        domain.arch.current_policy().physical_bits()
    }

    fn host(hv: &Hypervisor<Self>) -> Host {
        let cpus = percpu::online_cpus();
        let ids: Vec<u32> = cpus.filter_map(percpu::apic_id).collect();
        let (threads_per_core, cores_per_socket) = hv.arch.policies.shape(&ids);
        let features = hv.arch.policies.raw.features().0;
        Host {
            threads_per_core,
            cores_per_socket,
            cpu_khz: (clock::frequency() / 1000) as u32,
            capabilities: PhysCaps::HVM | PhysCaps::HAP,
            // No part of local APICs is the hardware's.
            arch_capabilities: 0,
            hw_cap: core::array::from_fn(|n| features[n]),
        }
    }

    fn vcpu_context_size(_: Interface) -> usize {
        xen_abi::domctl::X86_VCPU_CONTEXT_SIZE
    }

    fn set_vcpu_context(
        hv: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &[u8],
        _: Interface,
    ) -> Result<()> {
        context::set_registers(hv, vcpu, bytes)
    }

    fn reset_vcpu(hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) -> Result<()> {
        let mut context = vcpu.try_context().ok_or(Error::Restart)?;
        context.restore = None;
        vcpu.arch.take_state();
        lapic::init(hv, vcpu);
        Ok(())
    }

    fn vcpu_context(
        hv: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &mut [u8],
        _: Interface,
    ) -> Result<()> {
        context::registers(hv, vcpu, bytes)
    }

    // A guest that is not paravirtualised changes its width as it runs.
    fn set_address_size(_: &Domain<Self>, _: u32) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    fn address_size(_: &Domain<Self>) -> Result<u32> {
        Err(Error::OpNotSupp)
    }

    fn hypercall_page(_: &Domain<Self>, page: &mut [u8; PAGE_SIZE as usize]) -> Result<()> {
        *page = hypercall_page::fill(B::HYPERCALL);
        Ok(())
    }

    fn cpu_policy(domain: &Domain<Self>) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        let listed = domain.arch.current_policy().listed();
        Ok((listed.leaf_list(), listed.msr_list()))
    }

    fn set_cpu_policy(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        leaves: &[CpuidLeaf],
        msrs: &[MsrEntry],
    ) -> Result<(), PolicyError> {
        let mut wanted = domain.arch.current_policy().listed();
        wanted.merge(leaves, msrs)?;
        let chosen = hv.arch.policies.most.chosen(&wanted)?;
        Ok(domain.arch.set_policy(chosen)?)
    }

    fn system_cpu_policy(
        hv: &Hypervisor<Self>,
        index: u32,
    ) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        let listed = hv.arch.policies.policy(index)?;
        Ok((listed.leaf_list(), listed.msr_list()))
    }

    fn featureset(hv: &Hypervisor<Self>, index: u32) -> Result<Vec<u32>> {
        Ok(hv.arch.policies.featureset(index)?.0.to_vec())
    }

    fn hvm_context(hv: &Hypervisor<Self>, domain: &Domain<Self>) -> Result<Vec<u8>> {
        context::save(hv, domain)
    }

    fn hvm_record(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        kind: u16,
        instance: u16,
    ) -> Result<Vec<u8>> {
        context::save_one(hv, domain, kind, instance)
    }

    fn set_hvm_context(hv: &Hypervisor<Self>, domain: &Domain<Self>, bytes: &[u8]) -> Result<()> {
        context::restore(hv, domain, bytes)
    }

    fn tsc_info(hv: &Hypervisor<Self>, domain: &Domain<Self>) -> Result<TscInfo> {
        let tsc = domain.arch.tsc();
        let mut told = <TscInfo as Wire>::absent();
        told.tsc_mode = tsc.mode;
        told.incarnation = tsc.incarnation;
        if tsc.mode != TscMode::NEVER_EMULATE {
            told.gtsc_khz = (tsc.hz / 1000) as u32;
            let elapsed = hv.arch.now().0.wrapping_sub(tsc.started.0);
            // A clock that is still to start has not run.
            told.elapsed_nsec = if elapsed >> 63 == 0 { elapsed } else { 0 };
        }
        Ok(told)
    }

    fn set_tsc_info(hv: &Hypervisor<Self>, domain: &Domain<Self>, info: &TscInfo) -> Result<()> {
        let native = |hz| hv.arch.native_ratio(hz);
        let host = clock::frequency();
        let choice = tsc::choose(info.tsc_mode, info.gtsc_khz, host, native)?;
        let tsc = Tsc {
            hz: choice.hz,
            ratio: choice.ratio,
            emulated: choice.emulated,
            mode: info.tsc_mode,
            incarnation: info.incarnation,
            started: started(hv.arch.now(), info.elapsed_nsec),
        };
        set_tsc(hv, domain, tsc);
        Ok(())
    }

    fn permit_ports(domain: &Domain<Self>, first: u16, count: u32, allow: bool) -> Result<()> {
        let last = count
            .checked_sub(1)
            .and_then(|more| more.checked_add(first.into()))
            .and_then(|last| u16::try_from(last).ok())
            .ok_or(Error::Inval)?;
        domain.arch.permit_ports(first..=last, allow)
    }

    fn has_ports(domain: &Domain<Self>, first: u16, count: u32) -> bool {
        domain.arch.has_ports(first, count)
    }

    // Ports are where they are on the machine.
    fn map_ports(_: &Domain<Self>, _: u16, _: u16, _: u32, _: bool) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    fn send_trigger(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        trigger: &SendTrigger,
    ) -> Result<()> {
        let vcpu = domain.vcpu(VcpuId(trigger.vcpu)).ok_or(Error::Srch)?;
        match trigger.trigger {
            Trigger::NMI => {
                vcpu.arch.raise_nmi();
                vcpu.kick(hv);
                Ok(())
            }
            // There are no buttons: that would take ACPI's registers.
            Trigger::POWER | Trigger::SLEEP => Err(Error::OpNotSupp),
            _ => Err(Error::NoSys),
        }
    }
}
