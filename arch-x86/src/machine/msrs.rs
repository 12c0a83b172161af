//! RDMSR and WRMSR.

use super::exits::{Result, Trap};
use super::{hypercall_page, lapic};
use crate::backend::{HvmBackend, Register};
use crate::emulate::Exception;
use crate::hypercall::gpr;
use crate::policy::{Held, MsrContext, MsrRead, MsrWrite};
use xen_core::Gfn;

/// The microcode's revision that guests see: one that is newer than any.
const MICROCODE_REVISION: u32 = 0xffff_ffff;

impl<B: HvmBackend> Trap<'_, B> {
    fn msr_context(&self) -> MsrContext<'_> {
        MsrContext {
            policy: self.vcpu.domain.arch.policy(),
            control: self.context.control(self.backend()),
            apic_base: self.vcpu.arch.lapic.base(),
            microcode_revision: MICROCODE_REVISION,
            // No bits of DEBUGCTL: branch records are not switched.
            debug_control: 0,
            relaxed: self.vcpu.domain.config.relaxed_msrs,
        }
    }

    pub(super) fn read_msr(&mut self) -> Result {
        let msr = self.context.gprs.0[gpr::RCX] as u32;
        let value = match self.context.msrs.read(msr, &self.msr_context())? {
            MsrRead::Value(value) => value,
            MsrRead::Held(held) => self.held(held)?,
            MsrRead::X2apic(register) => lapic::read_msr(self.vcpu, register)?,
        };
        self.set_pair(value);
        self.skip()
    }

    pub(super) fn write_msr(&mut self) -> Result {
        let msr = self.context.gprs.0[gpr::RCX] as u32;
        let value = self.pair();
        let mut msrs = self.context.msrs;
        let decision = msrs.write(msr, value, &self.msr_context())?;
        match decision {
            MsrWrite::Done | MsrWrite::MemoryTypes => {}
            MsrWrite::Held(held, value) => self.set_held(held, value)?,
            MsrWrite::Efer(change) => self.apply(change)?,
            MsrWrite::X2apic(register, value) => {
                lapic::write_msr(self.hv, self.vcpu, register, value)?;
                self.load_task_priority();
            }
            MsrWrite::HypercallPage(gfn) => {
                let frame = self.vcpu.domain.own_frame(Gfn(gfn));
                let frame = frame.map_err(|_| Exception::GP0)?;
                frame.page().write(0, &hypercall_page::fill(B::HYPERCALL));
            }
            // Neither is offered to guests: they are told that they have none of the commands.
            MsrWrite::PredictionCommand(_) | MsrWrite::FlushCommand(_) => {
                return Err(Exception::GP0.into());
            }
        }
        self.context.msrs = msrs;
        self.skip()
    }

    /// The register of the control structure that holds an MSR.
    const fn place(held: Held) -> Option<Register> {
        Some(match held {
            Held::SysenterCs => Register::SysenterCs,
            Held::SysenterEsp => Register::SysenterEsp,
            Held::SysenterEip => Register::SysenterEip,
            Held::Pat => Register::Pat,
            Held::Star => Register::Star,
            Held::LStar => Register::Lstar,
            Held::CStar => Register::Cstar,
            Held::SfMask => Register::Sfmask,
            Held::FsBase => Register::FsBase,
            Held::GsBase => Register::GsBase,
            Held::KernelGsBase => Register::KernelGsBase,
            _ => return None,
        })
    }

    fn held(&self, held: Held) -> Result<u64> {
        if let Some(register) = Self::place(held) {
            return Ok(self.register(register));
        }
        Ok(match held {
            Held::Tsc => self.vcpu.arch.lapic.tsc(),
            Held::TscDeadline => lapic::tsc_deadline(self.vcpu),
            Held::TscAdjust => self.context.tsc_adjust,
            Held::TscAux => self.context.tsc_aux.into(),
            Held::ApicBase => self.vcpu.arch.lapic.base(),
            Held::DebugCtl => 0,
            // Not offered.
            _ => return Err(Exception::GP0.into()),
        })
    }

    fn set_held(&mut self, held: Held, value: u64) -> Result {
        if let Some(register) = Self::place(held) {
            self.set_register(register, value);
            return Ok(());
        }
        match held {
            Held::Tsc => {
                let now = self.vcpu.arch.lapic.tsc();
                self.move_tsc(value.wrapping_sub(now));
            }
            Held::TscAdjust => self.move_tsc(value.wrapping_sub(self.context.tsc_adjust)),
            Held::TscAux => {
                self.context.tsc_aux = value as u32;
                super::vcpu::write_tsc_aux(value as u32);
            }
            Held::TscDeadline => lapic::set_tsc_deadline(self.hv, self.vcpu, value),
            Held::ApicBase => {
                lapic::set_base(self.hv, self.vcpu, value)?;
                self.load_task_priority();
            }
            Held::DebugCtl => {}
            _ => return Err(Exception::GP0.into()),
        }
        Ok(())
    }

    /// The local APIC's task priority, which may have been changed there, becomes CR8.
    pub(super) fn load_task_priority(&mut self) {
        let backend = self.backend();
        let priority = self.vcpu.arch.lapic.task_priority();
        backend.set_task_priority(&mut self.context.vcpu, priority);
    }

    /// Adds to the time-stamp counter and to TSC_ADJUST, as a CPU does with both.
    fn move_tsc(&mut self, by: u64) {
        let backend = self.backend();
        let context = &mut *self.context;
        context.tsc_adjust = context.tsc_adjust.wrapping_add(by);
        let offset = lapic::move_tsc(self.hv, self.vcpu, by);
        backend.set_tsc_offset(&mut context.vcpu, offset);
        // The clock that the guest shares with Oxen goes by the counter.
        if let Some((page, info)) = self.vcpu.info.arch_place(self.vcpu) {
            super::clock::publish(page, info, &self.hv.arch.rate(self.vcpu));
        }
        self.vcpu.publish_time(self.hv, self.context);
    }
}
