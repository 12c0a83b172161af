//! A whole stream, looked at before anything of it counts.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xen_core::{Error, Result, VcpuId};
use zerocopy::FromBytes;

use super::cpu::CpuState;
use super::fpu::{self, Extended, LEGACY_SIZE};
use super::lapic::Registers as LapicRegisters;
use super::memory_types::MemoryTypes;
use super::record::{
    Cpu, FPU_INITIALISED, Header, Kind, Lapic, MAGIC, Msr, MsrHead, Mtrr, OLD_CPU_SIZE,
    OLD_CPU_SPLIT, TscAdjust, VERSION, Vmce,
};
use super::stream::{Raw, Reader};
use crate::policy::msr::MsrContext;
use crate::policy::{Control, CpuidPolicy, MsrWrite, Msrs};

/// A vCPU's registers, and what its record has beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuRecord {
    /// The registers.
    pub state: CpuState,
    /// Its time-stamp counter at the moment that it is restored.
    pub tsc: u64,
    /// The FPU's legacy region; `None` for the state after reset.
    pub fpu: Option<Box<[u8; LEGACY_SIZE]>>,
}

/// What a stream has of a vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuRecords {
    /// Registers.
    pub cpu: Option<CpuRecord>,
    /// The local APIC, beside its registers.
    pub lapic: Option<Lapic>,
    /// The local APIC's registers.
    pub lapic_registers: Option<Box<LapicRegisters>>,
    /// Memory types.
    pub memory_types: Option<MemoryTypes>,
    /// Extended state.
    pub extended: Option<Extended>,
    /// TSC_ADJUST.
    pub tsc_adjust: Option<u64>,
    /// Model-specific registers: number and value.
    pub msrs: Vec<(u32, u64)>,
}

/// What a stream has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The guest's time-stamp counter, in kHz; 0 for what it is already.
    pub tsc_khz: u32,
    /// Its vCPUs, in ascending order.
    pub vcpus: Vec<(VcpuId, VcpuRecords)>,
}

/// Control registers that a vCPU is thought to have while its model-specific registers are looked at.
pub fn msr_context(policy: &CpuidPolicy) -> MsrContext<'_> {
    MsrContext {
        policy,
        control: Control::of(&crate::backend::GuestState::default()),
        apic_base: 0,
        microcode_revision: 0,
        debug_control: 0,
        relaxed: false,
    }
}

/// Whether writing a register is all that there is to it.
fn keeps(msrs: &mut Msrs, index: u32, value: u64, policy: &CpuidPolicy) -> bool {
    msrs.write(index, value, &msr_context(policy)) == Ok(MsrWrite::Done)
}

impl Context {
    /// Looks at a stream for a domain whose vCPUs have this policy. `exists` says which there are.
    ///
    /// # Errors
    /// [`Error::NoData`] for a stream without a beginning or an end; [`Error::NoDev`] for devices that a domain does not have;
    /// [`Error::Inval`] for anything else that is malformed, and for state that the domain cannot be in;
    /// [`Error::Perm`], [`Error::OpNotSupp`] and [`Error::Nxio`] where Xen has them.
    pub fn parse(
        bytes: &[u8],
        policy: &CpuidPolicy,
        exists: impl Fn(VcpuId) -> bool,
    ) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let first = reader
            .record()?
            .filter(|record| record.kind == Kind::HEADER);
        let header: Header = first.ok_or(Error::NoData)?.decode()?;
        if (header.magic, header.version) != (MAGIC, VERSION) {
            return Err(Error::Inval);
        }
        let mut vcpus = BTreeMap::<u16, VcpuRecords>::new();
        while let Some(record) = reader.record()? {
            match record.kind {
                Kind::CPU
                | Kind::LAPIC
                | Kind::LAPIC_REGS
                | Kind::MTRR
                | Kind::CPU_XSAVE
                | Kind::VMCE_VCPU
                | Kind::TSC_ADJUST
                | Kind::CPU_MSR => {
                    if !exists(VcpuId(record.instance.into())) {
                        return Err(Error::Inval);
                    }
                    let vcpu = vcpus.entry(record.instance).or_default();
                    vcpu.take(&record, policy)?;
                }
                // Lines that nothing is connected with.
                Kind::PCI_IRQ | Kind::ISA_IRQ | Kind::PCI_LINK
                    if record.bytes.iter().all(|byte| *byte == 0) => {}
                Kind::PIC
                | Kind::IOAPIC
                | Kind::PCI_IRQ
                | Kind::ISA_IRQ
                | Kind::PCI_LINK
                | Kind::PIT
                | Kind::RTC
                | Kind::HPET
                | Kind::PMTIMER => return Err(Error::NoDev),
                _ => return Err(Error::Inval),
            }
        }
        let vcpus = vcpus.into_iter();
        Ok(Self {
            tsc_khz: header.gtsc_khz,
            vcpus: vcpus.map(|(id, vcpu)| (VcpuId(id.into()), vcpu)).collect(),
        })
    }
}

impl VcpuRecords {
    fn take(&mut self, record: &Raw<'_>, policy: &CpuidPolicy) -> Result<()> {
        match record.kind {
            Kind::CPU => self.cpu = Some(cpu(record, policy)?),
            Kind::LAPIC => self.lapic = Some(record.decode()?),
            Kind::LAPIC_REGS => self.lapic_registers = Some(Box::new(record.decode()?)),
            Kind::MTRR => {
                let from: Mtrr = record.decode()?;
                let types = MemoryTypes::from_record(&from, policy.physical_bits())?;
                self.memory_types = Some(types);
            }
            Kind::CPU_XSAVE => self.extended = Some(Extended::from_record(record, policy)?),
            Kind::VMCE_VCPU => {
                /// MCG_CAP: number of banks, MCG_CTL exists. There are none, whatever the guest saw before.
                const HARMLESS: u64 = 0x1ff;
                let vmce: Vmce = record.decode()?;
                if vmce.caps & !HARMLESS != 0 {
                    return Err(Error::Perm);
                }
            }
            Kind::TSC_ADJUST => {
                let TscAdjust { tsc_adjust } = record.decode()?;
                self.tsc_adjust = Some(tsc_adjust);
            }
            _ => self.msrs = msrs(record, policy)?,
        }
        Ok(())
    }
}

fn cpu(record: &Raw<'_>, policy: &CpuidPolicy) -> Result<CpuRecord> {
    let (from, fpu) = match record.bytes.len() {
        OLD_CPU_SIZE => {
            let (low, high) = record.bytes.split_at(OLD_CPU_SPLIT);
            let new = [low, &[0; 8], high].concat();
            let record = Raw {
                bytes: &new,
                ..*record
            };
            (record.decode::<Cpu>()?, true)
        }
        _ => {
            let cpu: Cpu = record.decode()?;
            (cpu, cpu.flags & FPU_INITIALISED != 0)
        }
    };
    if from.flags & !FPU_INITIALISED != 0 {
        return Err(Error::Inval);
    }
    if fpu {
        fpu::check_legacy(&from.fpu_regs, policy)?;
    }
    Ok(CpuRecord {
        state: CpuState::from_record(&from, policy)?,
        tsc: from.tsc,
        fpu: fpu.then(|| Box::new(from.fpu_regs)),
    })
}

fn msrs(record: &Raw<'_>, policy: &CpuidPolicy) -> Result<Vec<(u32, u64)>> {
    let (MsrHead { count, .. }, rest) = record.split()?;
    let (elements, []) = rest.as_chunks::<{ size_of::<Msr>() }>() else {
        return Err(Error::Inval);
    };
    if elements.len() != count as usize {
        return Err(Error::Inval);
    }
    let mut found = Vec::new();
    let mut scratch = Msrs::default();
    for bytes in elements {
        let msr = Msr::read_from_bytes(bytes).map_err(|_| Error::Inval)?;
        if msr.reserved != 0 {
            return Err(Error::OpNotSupp);
        }
        if keeps(&mut scratch, msr.index, msr.value, policy) {
            found.push((msr.index, msr.value));
        } else if msr.value != 0 {
            return Err(Error::Nxio);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
