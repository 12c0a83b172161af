//! What management asks of an architecture, beside [`Arch`].
//!
//! An operation that an architecture does not have answers [`Error::NoSys`], which is every method's default where there is
//! one. Nothing here sees the caller's memory: that is copied before and after, once.

use alloc::vec::Vec;

use xen_abi::domctl::{
    ArchConfig, CpuidLeaf, CreateDomain, Interface, MsrEntry, SendTrigger, TscInfo, VuartOp,
};
use xen_abi::sysctl::PhysCaps;
use xen_abi::versioned::Machine;

use crate::{
    Arch, Domain, DomainConfig, Error, Gfn, GuestPhysAddr, Hypervisor, Mfn, PAGE_SIZE, Result, Vcpu,
};

/// What the host's CPUs are, as `XEN_SYSCTL_physinfo` tells it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Threads of a core, at least 1.
    pub threads_per_core: u32,
    /// Cores of a socket, at least 1.
    pub cores_per_socket: u32,
    /// Frequency in kHz; 0 if nothing tells.
    pub cpu_khz: u32,
    /// What the hypervisor can do on it.
    pub capabilities: PhysCaps,
    /// The architecture's own bits.
    pub arch_capabilities: u32,
    /// Words of CPUID (x86).
    pub hw_cap: [u32; 8],
}

/// A CPU policy that cannot be had, and the first thing that is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The error.
    pub error: Error,
    /// The leaf and subleaf, or all ones.
    pub leaf: (u32, u32),
    /// The model-specific register, or all ones.
    pub msr: u32,
}

impl From<Error> for PolicyError {
    fn from(error: Error) -> Self {
        Self {
            error,
            leaf: (u32::MAX, u32::MAX),
            msr: u32::MAX,
        }
    }
}

/// An architecture's part of management.
pub trait Manage: Sized {
    /// Whose layouts callers use.
    const MACHINE: Machine;

    /// Checks what a toolstack wants of the architecture and puts it into `config`; what the caller reads back is changed in
    /// `wanted`.
    ///
    /// Errors: [`Error::Inval`] and others for what a domain cannot be.
    fn configure(
        hv: &Hypervisor<Self>,
        interface: Interface,
        wanted: &mut CreateDomain,
        config: &mut DomainConfig,
    ) -> Result<()>
    where
        Self: Arch;

    /// A domain was made by [`Manage::configure`]'s choice: puts into its address space what it is made with.
    ///
    /// Errors: [`Error::NoMem`].
    fn created(_hv: &Hypervisor<Self>, _domain: &Domain<Self>) -> Result<()>
    where
        Self: Arch,
    {
        Ok(())
    }

    /// The architecture's part of the configuration of a domain that exists.
    fn arch_config(domain: &Domain<Self>) -> ArchConfig
    where
        Self: Arch;

    /// Bits of a guest-physical address of the domain, at least 32.
    fn address_bits(domain: &Domain<Self>) -> u8
    where
        Self: Arch;

    /// What the CPUs are.
    fn host(hv: &Hypervisor<Self>) -> Host
    where
        Self: Arch;

    /// Bytes of `vcpu_guest_context` for callers of `interface`.
    fn vcpu_context_size(interface: Interface) -> usize;

    /// Gives a vCPU the registers that a caller of `interface` wrote, and turns it on or off as its flags there say. The vCPU
    /// does not run meanwhile.
    ///
    /// Errors: [`Error::Inval`] for registers that no vCPU can have.
    fn set_vcpu_context(
        _hv: &Hypervisor<Self>,
        _vcpu: &Vcpu<Self>,
        _bytes: &[u8],
        _interface: Interface,
    ) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Takes a vCPU, which does not run meanwhile, its registers: it has none to run from any more. The core turns it off.
    fn reset_vcpu(_hv: &Hypervisor<Self>, _vcpu: &Vcpu<Self>) -> Result<()>
    where
        Self: Arch,
    {
        Ok(())
    }

    /// Writes a vCPU's registers for a caller of `interface` over `bytes`. The vCPU does not run meanwhile.
    ///
    /// Errors: [`Error::OpNotSupp`] for a guest whose registers are told another way.
    fn vcpu_context(
        _hv: &Hypervisor<Self>,
        _vcpu: &Vcpu<Self>,
        _bytes: &mut [u8],
        _interface: Interface,
    ) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Sets the width of a guest's addresses: 32 or 64.
    ///
    /// Errors: [`Error::Inval`] for a width that it cannot have.
    fn set_address_size(_domain: &Domain<Self>, _bits: u32) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// The width of a guest's addresses.
    fn address_size(_domain: &Domain<Self>) -> Result<u32>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Fills a hypercall page.
    fn hypercall_page(_domain: &Domain<Self>, _page: &mut [u8; PAGE_SIZE as usize]) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// A domain's CPU policy: leaves, model-specific registers.
    fn cpu_policy(_domain: &Domain<Self>) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Changes the CPU policy of a domain that has not run yet; what is not named stays.
    ///
    /// Errors: in [`PolicyError::error`].
    fn set_cpu_policy(
        _hv: &Hypervisor<Self>,
        _domain: &Domain<Self>,
        _leaves: &[CpuidLeaf],
        _msrs: &[MsrEntry],
    ) -> Result<(), PolicyError>
    where
        Self: Arch,
    {
        Err(Error::NoSys.into())
    }

    /// One of the host's CPU policies (`XEN_SYSCTL_cpu_policy_*`), and the greatest numbers of leaves and of registers any has.
    ///
    /// Errors: [`Error::Inval`] for an index that is none's.
    fn system_cpu_policy(
        _hv: &Hypervisor<Self>,
        _index: u32,
    ) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// One of the host's feature sets (`XEN_SYSCTL_cpu_featureset_*`).
    ///
    /// Errors: [`Error::Inval`] for an index that is none's.
    fn featureset(_hv: &Hypervisor<Self>, _index: u32) -> Result<Vec<u32>>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// A domain's HVM context, as records (public/arch-x86/hvm/save.h). The domain does not run meanwhile.
    fn hvm_context(_hv: &Hypervisor<Self>, _domain: &Domain<Self>) -> Result<Vec<u8>>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// One record of a domain's HVM context, without its descriptor.
    ///
    /// Errors: [`Error::NoEnt`] for an instance that is not there; [`Error::Inval`] for a kind that is none.
    fn hvm_record(
        _hv: &Hypervisor<Self>,
        _domain: &Domain<Self>,
        _kind: u16,
        _instance: u16,
    ) -> Result<Vec<u8>>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Sets a domain's HVM context. The domain does not run meanwhile.
    ///
    /// Errors: [`Error::Inval`] for records that are malformed.
    fn set_hvm_context(_hv: &Hypervisor<Self>, _domain: &Domain<Self>, _bytes: &[u8]) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// A domain's time-stamp counter.
    fn tsc_info(_hv: &Hypervisor<Self>, _domain: &Domain<Self>) -> Result<TscInfo>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Sets a domain's time-stamp counter.
    ///
    /// Errors: [`Error::Inval`] for a mode or rate that it cannot have.
    fn set_tsc_info(_hv: &Hypervisor<Self>, _domain: &Domain<Self>, _info: &TscInfo) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Lets a domain reach `count` ports from `first` on, or no longer; the range was checked, and that the caller owns it.
    fn permit_ports(_domain: &Domain<Self>, _first: u16, _count: u32, _allow: bool) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Whether a domain may reach all of `count` ports from `first` on.
    fn has_ports(_domain: &Domain<Self>, _first: u16, _count: u32) -> bool
    where
        Self: Arch,
    {
        false
    }

    /// Maps `count` ports of the machine, which was checked to be the caller's, as the guest's own, or takes them away.
    ///
    /// Errors: [`Error::OpNotSupp`] for a guest whose ports are not mapped.
    fn map_ports(
        _domain: &Domain<Self>,
        _guest: u16,
        _machine: u16,
        _count: u32,
        _add: bool,
    ) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Whether a domain may have `count` frames of devices from `mfn` on mapped, by what it was given or owns.
    fn has_frames(hv: &Hypervisor<Self>, domain: &Domain<Self>, mfn: Mfn, count: u64) -> bool
    where
        Self: Arch,
    {
        // One by one takes too long for more; who can tell of a range as a whole does so instead.
        const MOST: u64 = 1 << 18;
        let Some(end) = mfn.0.checked_add(count) else {
            return false;
        };
        domain.control.may_map(mfn..Mfn(end))
            || domain.config.hardware
                && count <= MOST
                && (mfn.0..end).all(|at| hv.arch.is_guest_device(Mfn(at)))
    }

    /// Whether an interrupt of the machine is one that domains may be given.
    ///
    /// Errors: [`Error::Inval`] for a number that is none; [`Error::NoSys`] where interrupts are not passed on.
    fn guest_interrupt(_hv: &Hypervisor<Self>, _number: u32) -> Result<bool>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Presses a button, or sends an interrupt that is not maskable.
    ///
    /// Errors: [`Error::Inval`] for a trigger that is none; [`Error::Srch`] for a vCPU that is not there.
    fn send_trigger(
        _hv: &Hypervisor<Self>,
        _domain: &Domain<Self>,
        _trigger: &SendTrigger,
    ) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Gives a domain an emulated serial port with its ring in frame `op.gfn`; the port of the console's domain is left in `op`.
    ///
    /// Errors: [`Error::OpNotSupp`] for one that it was not made with; [`Error::Perm`] once it has run.
    fn vuart(_hv: &Hypervisor<Self>, _domain: &Domain<Self>, _op: &mut VuartOp) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Makes what was written to frames of a domain visible to it with its caches off.
    fn clean_frames(_domain: &Domain<Self>, _first: Gfn, _count: u64) -> Result<()>
    where
        Self: Arch,
    {
        Err(Error::NoSys)
    }

    /// Sets where the identity-mapped page tables are that a guest without paging runs on (`HVM_PARAM_IDENT_PT`).
    fn set_identity_map(
        _hv: &Hypervisor<Self>,
        _domain: &Domain<Self>,
        _at: GuestPhysAddr,
    ) -> Result<()>
    where
        Self: Arch,
    {
        Ok(())
    }
}
