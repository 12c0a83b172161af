//! What toolstacks ask of this architecture.

use xen_abi::domctl::{ArchConfig, CreateDomain, Interface};
use xen_abi::sysctl::PhysCaps;
use xen_abi::versioned::{Machine, Wire};
use xen_core::manage::{Host, Manage};
use xen_core::{Domain, DomainConfig, Error, Hypervisor, Result};

use super::X86;
use crate::backend::HvmBackend;

impl<B: HvmBackend> Manage for X86<B> {
    const MACHINE: Machine = Machine::X86_64;

    fn configure(
        _hv: &Hypervisor<Self>,
        _interface: Interface,
        _wanted: &mut CreateDomain,
        _config: &mut DomainConfig,
    ) -> Result<()> {
        Err(Error::NoSys)
    }

    fn arch_config(_domain: &Domain<Self>) -> ArchConfig {
        <ArchConfig as Wire>::absent()
    }

    fn address_bits(_domain: &Domain<Self>) -> u8 {
        48
    }

    fn host(_hv: &Hypervisor<Self>) -> Host {
        Host {
            threads_per_core: 1,
            cores_per_socket: 1,
            cpu_khz: 0,
            capabilities: PhysCaps::HVM | PhysCaps::HAP,
            arch_capabilities: 0,
            hw_cap: [0; 8],
        }
    }

    fn vcpu_context_size(_: Interface) -> usize {
        xen_abi::domctl::X86_VCPU_CONTEXT_SIZE
    }
}
