//! What toolstacks ask of this architecture.

extern crate std;

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

use crate::manage::{Host, Manage, PolicyError};
use crate::{
    Domain, DomainConfig, Error, Gfn, GuestPhysAddr, Hypervisor, Mfn, PAGE_SIZE, RangeSet, Result,
    Vcpu, VcpuId,
};
use xen_abi::domctl::{
    ArchConfig, CdFlags, CpuidLeaf, CreateDomain, EmulationFlags, Interface, MiscFlags, MsrEntry,
    SendTrigger, TscInfo, TscMode, X86_VCPU_CONTEXT_SIZE,
};
use xen_abi::sysctl::PhysCaps;
use xen_abi::versioned::{Machine, Wire};

use super::{Call, Soft};

/// Machine frames that are devices.
pub const DEVICES: Range<u64> = 0x9_0000..0x9_1000;
/// One of them that the hypervisor keeps for itself.
pub const HIDDEN_DEVICE: Mfn = Mfn(0x9_0800);
/// A port that the hypervisor keeps for itself.
const HIDDEN_PORT: u32 = 0x3f8;
/// Interrupts there are, and the one that the hypervisor keeps for itself.
const INTERRUPTS: u32 = 64;
const HIDDEN_INTERRUPT: u32 = 7;
/// Most vCPUs of a domain.
const MAX_VCPUS: u32 = 128;
/// Where a vCPU's flags are among its registers, and the one that says that it is on.
const FLAGS: usize = 512;
const ONLINE: u8 = 1 << 5;
/// What a domain's context begins with.
const MAGIC: &[u8; 4] = b"SOFT";
/// Kinds of records, and their sizes.
const HEADER: u16 = 1;
const CPU: u16 = 2;
const RECORD: usize = 16;
/// Highest leaf of a CPU policy.
const MAX_LEAF: u32 = 0xd;

/// What toolstacks told of a domain.
#[derive(Debug)]
pub struct SoftDomain {
    ports: Mutex<RangeSet>,
    leaves: Mutex<Vec<CpuidLeaf>>,
    context: Mutex<Vec<u8>>,
    tsc: Mutex<TscInfo>,
}

impl Default for SoftDomain {
    fn default() -> Self {
        Self {
            ports: Mutex::default(),
            leaves: Mutex::default(),
            context: Mutex::new(MAGIC.to_vec()),
            tsc: Mutex::new(TscInfo::absent()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// A policy's one register.
const MSR: MsrEntry = MsrEntry {
    idx: 0xce,
    flags: 0,
    val: 0,
};

impl Manage for Soft {
    const MACHINE: Machine = Machine::X86_64;

    /// As a PVH guest on x86.
    fn configure(
        _hv: &Hypervisor<Self>,
        _interface: Interface,
        wanted: &mut CreateDomain,
        config: &mut DomainConfig,
    ) -> Result<()> {
        let x86 = wanted.arch.x86;
        if !EmulationFlags::all().contains(x86.emulation_flags)
            || !MiscFlags::all().contains(x86.misc_flags)
            || wanted.flags.contains(CdFlags::TRAP_UNMAPPED_ACCESSES)
            || wanted.max_vcpus > MAX_VCPUS
        {
            return Err(Error::Inval);
        }
        if x86.emulation_flags != EmulationFlags::LAPIC {
            return Err(Error::OpNotSupp);
        }
        config.relaxed_msrs = x86.misc_flags.contains(MiscFlags::MSR_RELAXED);
        Ok(())
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

    /// Four policies, of which the one with index 2 is not there.
    fn system_cpu_policy(
        _hv: &Hypervisor<Self>,
        index: u32,
    ) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        match index {
            2 => return Err(Error::OpNotSupp),
            0..=4 => {}
            _ => return Err(Error::Inval),
        }
        let leaf = |leaf| CpuidLeaf {
            leaf,
            subleaf: u32::MAX,
            a: index,
            b: 1,
            c: 2,
            d: 3,
        };
        let msr = MsrEntry {
            idx: 0xce,
            flags: 0,
            val: u64::from(index),
        };
        Ok(((0..=index).map(leaf).collect(), alloc::vec![msr]))
    }

    fn featureset(_hv: &Hypervisor<Self>, index: u32) -> Result<Vec<u32>> {
        match index {
            0..=3 => Ok(alloc::vec![index, 0x5555_5555, !index]),
            _ => Err(Error::Inval),
        }
    }

    fn set_identity_map(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        at: GuestPhysAddr,
    ) -> Result<()> {
        hv.arch.record(super::Call::IdentityMap(domain.id(), at));
        Ok(())
    }

    fn reset_vcpu(_hv: &Hypervisor<Self>, vcpu: &Vcpu<Self>) -> Result<()> {
        vcpu.arch.reset.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn set_vcpu_context(
        hv: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &[u8],
        _interface: Interface,
    ) -> Result<()> {
        assert_eq!(bytes.len(), X86_VCPU_CONTEXT_SIZE);
        // The vCPU is not running: nobody holds its registers.
        drop(vcpu.try_context().ok_or(Error::Busy)?);
        if bytes.first() == Some(&0xff) {
            return Err(Error::Inval);
        }
        *lock(&vcpu.arch.registers) = bytes.to_vec();
        vcpu.arch.reset.store(false, Ordering::SeqCst);
        match bytes.get(FLAGS).is_some_and(|flags| flags & ONLINE != 0) {
            true => vcpu.up(hv),
            false => vcpu.down(hv),
        };
        Ok(())
    }

    fn vcpu_context(
        _hv: &Hypervisor<Self>,
        vcpu: &Vcpu<Self>,
        bytes: &mut [u8],
        _interface: Interface,
    ) -> Result<()> {
        drop(vcpu.try_context().ok_or(Error::Busy)?);
        for (to, from) in bytes.iter_mut().zip(lock(&vcpu.arch.registers).iter()) {
            *to = *from;
        }
        let flags = bytes.get_mut(FLAGS).ok_or(Error::Inval)?;
        *flags = if vcpu.is_up() { ONLINE } else { 0 };
        Ok(())
    }

    fn set_address_size(_domain: &Domain<Self>, bits: u32) -> Result<()> {
        match bits {
            64 => Ok(()),
            _ => Err(Error::Inval),
        }
    }

    fn address_size(_domain: &Domain<Self>) -> Result<u32> {
        Ok(64)
    }

    fn hypercall_page(_domain: &Domain<Self>, page: &mut [u8; PAGE_SIZE as usize]) -> Result<()> {
        page.fill(0xc3);
        Ok(())
    }

    fn cpu_policy(domain: &Domain<Self>) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        Ok((lock(&domain.arch.leaves).clone(), alloc::vec![MSR]))
    }

    /// Leaves up to [`MAX_LEAF`], and the one register as it is.
    fn set_cpu_policy(
        _hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        leaves: &[CpuidLeaf],
        msrs: &[MsrEntry],
    ) -> Result<(), PolicyError> {
        if let Some(bad) = leaves.iter().find(|leaf| leaf.leaf > MAX_LEAF) {
            return Err(PolicyError {
                error: Error::Range,
                leaf: (bad.leaf, bad.subleaf),
                msr: u32::MAX,
            });
        }
        if let Some(bad) = msrs.iter().find(|msr| **msr != MSR) {
            return Err(PolicyError {
                error: Error::Inval,
                leaf: (u32::MAX, u32::MAX),
                msr: bad.idx,
            });
        }
        let mut own = lock(&domain.arch.leaves);
        for leaf in leaves {
            own.retain(|old| (old.leaf, old.subleaf) != (leaf.leaf, leaf.subleaf));
            own.push(*leaf);
        }
        Ok(())
    }

    fn hvm_context(_hv: &Hypervisor<Self>, domain: &Domain<Self>) -> Result<Vec<u8>> {
        Ok(lock(&domain.arch.context).clone())
    }

    fn hvm_record(
        _hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        kind: u16,
        instance: u16,
    ) -> Result<Vec<u8>> {
        match kind {
            HEADER => Ok(MAGIC.to_vec()),
            CPU if domain.vcpu(VcpuId(instance.into())).is_none() => Err(Error::NoEnt),
            CPU => Ok(alloc::vec![instance as u8; RECORD]),
            _ => Err(Error::Inval),
        }
    }

    fn set_hvm_context(_hv: &Hypervisor<Self>, domain: &Domain<Self>, bytes: &[u8]) -> Result<()> {
        if !bytes.starts_with(MAGIC) {
            return Err(Error::Inval);
        }
        *lock(&domain.arch.context) = bytes.to_vec();
        Ok(())
    }

    fn tsc_info(_hv: &Hypervisor<Self>, domain: &Domain<Self>) -> Result<TscInfo> {
        Ok(*lock(&domain.arch.tsc))
    }

    fn set_tsc_info(_hv: &Hypervisor<Self>, domain: &Domain<Self>, info: &TscInfo) -> Result<()> {
        if info.tsc_mode.0 >= TscMode::PVRDTSCP.0 {
            return Err(Error::Inval);
        }
        *lock(&domain.arch.tsc) = *info;
        Ok(())
    }

    fn permit_ports(domain: &Domain<Self>, first: u16, count: u32, allow: bool) -> Result<()> {
        let range = u64::from(first)..u64::from(first) + u64::from(count);
        let mut ports = lock(&domain.arch.ports);
        match allow {
            true => ports.insert(range),
            false => ports.remove(&range),
        }
    }

    fn has_ports(domain: &Domain<Self>, first: u16, count: u32) -> bool {
        let ports = u32::from(first)..u32::from(first) + count;
        let given = u64::from(ports.start)..u64::from(ports.end);
        domain.config.hardware && !ports.contains(&HIDDEN_PORT)
            || lock(&domain.arch.ports).contains(&given)
    }

    fn map_ports(
        domain: &Domain<Self>,
        guest: u16,
        machine: u16,
        count: u32,
        add: bool,
    ) -> Result<()> {
        Self::permit_ports(domain, machine, count, add)?;
        let _ = guest;
        Ok(())
    }

    fn guest_interrupt(_hv: &Hypervisor<Self>, number: u32) -> Result<bool> {
        match number {
            0..INTERRUPTS => Ok(number != HIDDEN_INTERRUPT),
            _ => Err(Error::Inval),
        }
    }

    fn send_trigger(
        hv: &Hypervisor<Self>,
        domain: &Domain<Self>,
        trigger: &SendTrigger,
    ) -> Result<()> {
        let SendTrigger { trigger, vcpu } = *trigger;
        domain.vcpu(VcpuId(vcpu)).ok_or(Error::Srch)?;
        if trigger.0 > 4 {
            return Err(Error::Inval);
        }
        hv.arch.record(Call::Trigger(domain.id(), trigger.0, vcpu));
        Ok(())
    }

    /// Nothing to do: this machine's caches are coherent. Only what is asked for is checked.
    fn clean_frames(_domain: &Domain<Self>, first: Gfn, count: u64) -> Result<()> {
        first.checked_add(count).map(drop).ok_or(Error::Inval)
    }
}
