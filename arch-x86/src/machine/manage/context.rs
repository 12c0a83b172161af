//! vCPUs' states, read and written by toolstacks. None of the vCPUs is on a CPU meanwhile.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_abi::domctl::X86_VCPU_CONTEXT_SIZE;
use xen_core::{Domain, Error, Hypervisor, Result, Vcpu, VcpuId};
use zerocopy::IntoBytes;

use super::super::domain::Tsc;
use super::super::{X86, X86Context, lapic, tsc};
use super::set_tsc;
use crate::backend::HvmBackend;
use crate::host::clock;
use crate::policy::msr::number;
use crate::policy::state::PAT_RESET;
use crate::policy::{CpuidPolicy, MsrRead, Msrs, topology};
use crate::save::context::msr_context;
use crate::save::fpu::Extended;
use crate::save::guest_context;
use crate::save::memory_types::MemoryTypes;
use crate::save::record::{self, FPU_INITIALISED, MAGIC, VERSION};
use crate::save::{Context, Kind, VcpuRecords, Writer, lapic as lapic_records};

/// The kinds of records that a vCPU has, in their order.
const KINDS: [Kind; 8] = [
    Kind::CPU,
    Kind::LAPIC,
    Kind::LAPIC_REGS,
    Kind::MTRR,
    Kind::CPU_XSAVE,
    Kind::VMCE_VCPU,
    Kind::TSC_ADJUST,
    Kind::CPU_MSR,
];
/// Model-specific registers of a vCPU that are in no other record.
const MSRS: [u32; 3] = [number::MCG_STATUS, number::MISC_ENABLE, number::HWCR];

/// A vCPU that is being saved.
struct Saver<'a, B: HvmBackend> {
    hv: &'a Hypervisor<X86<B>>,
    vcpu: &'a Vcpu<X86<B>>,
    context: &'a X86Context<B>,
    policy: &'a CpuidPolicy,
    /// The host's time-stamp counter, the same for all vCPUs.
    host: u64,
}

impl<B: HvmBackend> Saver<'_, B> {
    fn put(&self, kind: Kind, to: &mut Writer) -> Result<()> {
        let instance = u16::try_from(self.vcpu.id.0).map_err(|_| Error::NoMem)?;
        let (backend, context, vcpu) = (&self.hv.arch.backend, self.context, &self.vcpu.arch);
        let saved = || {
            let saved = lapic::save(self.vcpu, self.host);
            lapic_records::to_records(&saved, topology::apic_id(self.vcpu.id))
        };
        match kind {
            // One that is down is left down by whoever restores it.
            Kind::CPU if !self.vcpu.is_up() => Ok(()),
            Kind::CPU => {
                let mut cpu = context.capture(backend, vcpu).to_record();
                cpu.fpu_regs = match vcpu.start_to_come() {
                    Some(_) => super::super::xstate::Area::new(self.hv.arch.xstate)?.legacy(),
                    None => context.fpu.legacy(),
                };
                cpu.flags = FPU_INITIALISED;
                cpu.tsc = vcpu.lapic.tsc_at(self.host);
                to.put(kind, instance, &[cpu.as_bytes()])
            }
            Kind::LAPIC => to.put(kind, instance, &[saved().0.as_bytes()]),
            Kind::LAPIC_REGS => to.put(kind, instance, &[&saved().1]),
            Kind::MTRR => {
                let types = MemoryTypes {
                    pat: context.pat(backend, self.vcpu),
                    ranges: context.msrs.mtrr,
                };
                to.put(kind, instance, &[types.to_record().as_bytes()])
            }
            Kind::CPU_XSAVE => match Extended::head(context.xcr0, self.policy) {
                None => Ok(()),
                Some((head, size)) => {
                    to.put(kind, instance, &[head.as_bytes(), &context.fpu.bytes(size)])
                }
            },
            Kind::VMCE_VCPU => to.put(kind, instance, &[record::Vmce::default().as_bytes()]),
            Kind::TSC_ADJUST => {
                let tsc_adjust = context.tsc_adjust;
                let adjust = record::TscAdjust { tsc_adjust };
                to.put(kind, instance, &[adjust.as_bytes()])
            }
            Kind::CPU_MSR => {
                let changed: Vec<record::Msr> = MSRS
                    .into_iter()
                    .filter_map(|index| self.changed_msr(index))
                    .collect();
                if changed.is_empty() {
                    return Ok(());
                }
                let head = record::MsrHead {
                    count: changed.len() as u32,
                    pad: 0,
                };
                to.put(kind, instance, &[head.as_bytes(), changed.as_bytes()])
            }
            _ => Ok(()),
        }
    }

    /// A register, if it is not as after reset.
    fn changed_msr(&self, index: u32) -> Option<record::Msr> {
        let read = |msrs: &Msrs| match msrs.read(index, &msr_context(self.policy)) {
            Ok(MsrRead::Value(value)) => Some(value),
            _ => None,
        };
        let value = read(&self.context.msrs)?;
        (read(&Msrs::default()) != Some(value)).then_some(record::Msr {
            index,
            reserved: 0,
            value,
        })
    }
}

impl<B: HvmBackend> X86Context<B> {
    /// The page attribute table of the vCPU, which is on no CPU.
    fn pat(&self, backend: &B, vcpu: &Vcpu<X86<B>>) -> u64 {
        match self.pat {
            Some(pat) if !vcpu.arch.is_initialised() => pat,
            _ => self.capture(backend, &vcpu.arch).state.pat,
        }
    }

    /// Takes over what was checked of a vCPU, which is on no CPU, except for its local APIC and its counter.
    fn take_records(&mut self, backend: &B, vcpu: &Vcpu<X86<B>>, records: &VcpuRecords) {
        let policy = vcpu.domain.arch.current_policy();
        if let Some(cpu) = &records.cpu {
            let mut state = cpu.state;
            state.state.pat = self.pat.unwrap_or(PAT_RESET);
            match &cpu.fpu {
                Some(region) => self.fpu.set_legacy(region),
                None => self.fpu.reset(),
            }
            self.xcr0 = 1;
            self.give(&vcpu.arch, state);
        }
        if let Some(types) = &records.memory_types {
            self.msrs.mtrr = types.ranges;
            self.pat = Some(types.pat);
            if vcpu.arch.is_initialised() {
                let mut state = self.capture(backend, &vcpu.arch);
                state.state.pat = types.pat;
                self.give(&vcpu.arch, state);
            }
        }
        if let Some(extended) = &records.extended {
            self.fpu.set_bytes(&extended.area);
            self.xcr0 = extended.xcr0;
        }
        if let Some(adjust) = records.tsc_adjust {
            self.tsc_adjust = adjust;
        }
        for (index, value) in &records.msrs {
            let kept = self.msrs.write(*index, *value, &msr_context(&policy));
            debug_assert!(kept.is_ok());
        }
    }
}

/// Everything of a domain.
pub(super) fn save<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
) -> Result<Vec<u8>> {
    let policy = domain.arch.current_policy();
    let header = record::Header {
        magic: MAGIC,
        version: VERSION,
        changeset: 0,
        cpuid: hv.arch.policies.raw.basic[1].eax,
        gtsc_khz: (domain.arch.tsc().hz / 1000) as u32,
    };
    let mut to = Writer::default();
    to.put(Kind::HEADER, 0, &[header.as_bytes()])?;
    let host = clock::tsc();
    let vcpus = domain.vcpus();
    for kind in KINDS {
        for vcpu in &vcpus {
            let context = vcpu.try_context().ok_or(Error::Restart)?;
            let saver = Saver {
                hv,
                vcpu,
                context: &context,
                policy: &policy,
                host,
            };
            saver.put(kind, &mut to)?;
        }
    }
    to.finish()
}

/// One record, without its descriptor.
///
/// Errors: [`Error::Inval`] for a kind that is none; [`Error::NoEnt`] for one that the domain does not have.
pub(super) fn save_one<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    kind: u16,
    instance: u16,
) -> Result<Vec<u8>> {
    let kind = Kind(kind);
    if kind.0 <= Kind::HEADER.0 || kind.0 > Kind::LAST.0 {
        return Err(Error::Inval);
    }
    let vcpu = domain.vcpu(VcpuId(instance.into())).ok_or(Error::NoEnt)?;
    let context = vcpu.try_context().ok_or(Error::Restart)?;
    let saver = Saver {
        hv,
        vcpu: &vcpu,
        context: &context,
        policy: &domain.arch.current_policy(),
        host: clock::tsc(),
    };
    let mut to = Writer::default();
    saver.put(kind, &mut to)?;
    let bytes = to.finish()?;
    let record = crate::save::Reader::new(&bytes).record()?;
    Ok(record.ok_or(Error::NoEnt)?.bytes.to_vec())
}

/// Takes over records. vCPUs without registers among them are down afterwards.
///
/// Errors: what [`Context::parse`] says; [`Error::Inval`] for a local APIC that cannot be so.
pub(super) fn restore<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    bytes: &[u8],
) -> Result<()> {
    let policy = domain.arch.current_policy();
    let parsed = Context::parse(bytes, &policy, |id| domain.vcpu(id).is_some())?;
    let vcpus: Vec<(Arc<Vcpu<X86<B>>>, &VcpuRecords)> = parsed
        .vcpus
        .iter()
        .filter_map(|(id, records)| Some((domain.vcpu(*id)?, records)))
        .collect();
    let contexts: Option<Vec<_>> = vcpus.iter().map(|(vcpu, _)| vcpu.try_context()).collect();
    let contexts = contexts.ok_or(Error::Restart)?;
    set_frequency(hv, domain, parsed.tsc_khz)?;
    let host = clock::tsc();
    // The one thing that can still be refused comes first.
    for (vcpu, records) in &vcpus {
        let lapic = &vcpu.arch.lapic;
        let before = lapic.tsc_offset();
        if let Some(cpu) = &records.cpu {
            lapic.set_tsc_offset(before.wrapping_add(cpu.tsc.wrapping_sub(lapic.tsc_at(host))));
        }
        if let Err(error) = restore_lapic(hv, vcpu, records, host) {
            lapic.set_tsc_offset(before);
            return Err(error);
        }
    }
    for vcpu in domain.vcpus() {
        vcpu.down(hv);
    }
    for ((vcpu, records), mut context) in vcpus.iter().zip(contexts) {
        context.take_records(&hv.arch.backend, vcpu, records);
        if records.cpu.is_some() && vcpu.id == VcpuId(0) {
            let offset = vcpu.arch.lapic.tsc_offset();
            domain
                .arch
                .set_tsc_base(offset.wrapping_sub(context.tsc_adjust));
        }
        drop(context);
        if records.cpu.is_some() {
            vcpu.up(hv);
        }
    }
    Ok(())
}

/// The frequency of the time-stamp counters that were saved, in kHz; 0 for what it is.
fn set_frequency<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    khz: u32,
) -> Result<()> {
    let old = domain.arch.tsc();
    if khz == 0 || u64::from(khz) == old.hz / 1000 {
        return Ok(());
    }
    let native = |hz| hv.arch.native_ratio(hz);
    let choice = tsc::choose(old.mode, khz, clock::frequency(), native)?;
    let new = Tsc {
        hz: choice.hz,
        ratio: choice.ratio,
        emulated: choice.emulated,
        ..old
    };
    set_tsc(hv, domain, new);
    Ok(())
}

fn restore_lapic<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    records: &VcpuRecords,
    host: u64,
) -> Result<()> {
    if records.lapic.is_none() && records.lapic_registers.is_none() {
        return Ok(());
    }
    let mut saved = lapic::save(vcpu, host);
    if let Some(hidden) = &records.lapic {
        lapic_records::set_hidden(&mut saved, hidden)?;
    }
    if let Some(page) = &records.lapic_registers {
        lapic_records::set_registers(&mut saved, page);
    }
    lapic::restore(hv, vcpu, &saved, host)
}

/// Writes a vCPU's registers as `getvcpucontext` has them.
pub(super) fn registers<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Vcpu<X86<B>>,
    bytes: &mut [u8],
) -> Result<()> {
    let to: &mut [u8; X86_VCPU_CONTEXT_SIZE] = bytes.try_into().map_err(|_| Error::Inval)?;
    let context = vcpu.try_context().ok_or(Error::Restart)?;
    let state = context.capture(&hv.arch.backend, &vcpu.arch);
    guest_context::write(to, &state, &context.fpu.legacy(), vcpu.is_up());
    Ok(())
}

/// Takes over a vCPU's registers as `setvcpucontext` has them, and turns it on or off.
///
/// Errors: [`Error::Inval`] for registers that it cannot have.
pub(super) fn set_registers<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Vcpu<X86<B>>,
    bytes: &[u8],
) -> Result<()> {
    let from: &[u8; X86_VCPU_CONTEXT_SIZE] = bytes.try_into().map_err(|_| Error::Inval)?;
    let mut context = vcpu.try_context().ok_or(Error::Restart)?;
    let policy = vcpu.domain.arch.current_policy();
    let mut state = context.capture(&hv.arch.backend, &vcpu.arch);
    let said = guest_context::read(from, &mut state, &policy)?;
    if said.fpu
        && let Some(region) = from.first_chunk()
    {
        context.fpu.set_legacy(region);
    }
    context.give(&vcpu.arch, state);
    drop(context);
    match said.online {
        true => vcpu.up(hv),
        false => vcpu.down(hv),
    };
    Ok(())
}
