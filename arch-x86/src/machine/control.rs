//! Writes of control registers.

use xen_core::GuestPhysAddr;

use super::exits::{End, Result, Trap};
use crate::backend::{HvmBackend, Register};
use crate::emulate::walk::{EntrySize, PhysicalMemory, pdpte_is_legal};
use crate::emulate::{Cpu, Exception, Intercepted};
use crate::exit::{ControlRegisterAccess, ControlRegisterKind};
use crate::policy::{Change, cr};

/// Page-directory-pointer entries, and bits of CR3 that say where they are.
const PDPTES: u64 = 4;
const PDPT: u64 = 0xffff_ffe0;

impl<B: HvmBackend> Trap<'_, B> {
    pub(super) fn control_register(&mut self, access: ControlRegisterAccess) -> Result {
        let (number, gpr) = match access.kind {
            ControlRegisterKind::Write(gpr) => (access.number, gpr),
            ControlRegisterKind::ClearTaskSwitched => return self.clear_task_switched(),
            ControlRegisterKind::LoadMachineStatus(value) => {
                return self.load_machine_status(value);
            }
            // CLTS and LMSW are writes of CR0, too.
            ControlRegisterKind::Unknown => match self.find()?.kind {
                Intercepted::WriteControl { number, gpr } => (number, gpr),
                Intercepted::Clts => return self.clear_task_switched(),
                Intercepted::Lmsw(value) => return self.load_machine_status(value),
                // Other code than the CPU executed: it was changed in between.
                _ => return Err(End::Again),
            },
        };
        let (regs, _) = self.world();
        let wide = regs.gpr(gpr.into());
        // Outside 64-bit mode the operand has 32 bits.
        let value = match self.context.width(self.backend()) {
            crate::hypercall::Width::Bits64 => wide,
            crate::hypercall::Width::Bits32 => wide & 0xffff_ffff,
        };
        let control = self.context.control(self.backend());
        let policy = self.vcpu.domain.arch.policy();
        match number {
            0 => self.apply(control.write_cr0(value)?)?,
            3 => self.apply(control.write_cr3(value, policy)?)?,
            4 => self.apply(control.write_cr4(value, policy)?)?,
            8 => {
                let priority = cr::check_cr8(value)?;
                let backend = self.backend();
                backend.set_task_priority(&mut self.context.vcpu, priority);
                self.vcpu.arch.lapic.set_task_priority(priority);
            }
            _ => return Err(Exception::InvalidOpcode.into()),
        }
        self.skip()
    }

    fn clear_task_switched(&mut self) -> Result {
        let change = self.context.control(self.backend()).clear_task_switched();
        self.apply(change)?;
        self.skip()
    }

    fn load_machine_status(&mut self, value: u16) -> Result {
        let control = self.context.control(self.backend());
        self.apply(control.load_machine_status(value)?)?;
        self.skip()
    }

    /// Makes a change of control registers.
    pub(super) fn apply(&mut self, change: Change) -> Result {
        let control = change.control;
        if change.load_pdptes {
            let bits = self.vcpu.domain.arch.policy().physical_bits();
            for n in 0..PDPTES {
                let at = GuestPhysAddr((control.cr3 & PDPT) + 8 * n);
                // Where there is no memory, all bits are read as set.
                let entry = self.vcpu.domain.load(at, EntrySize::Eight);
                if !pdpte_is_legal(entry.unwrap_or(u64::MAX), bits) {
                    return Err(Exception::GP0.into());
                }
            }
        }
        self.set_register(Register::Cr0, control.cr0.bits());
        self.set_register(Register::Cr3, control.cr3);
        self.set_register(Register::Cr4, control.cr4.bits());
        self.set_register(Register::Efer, control.efer.bits());
        if change.flush {
            let backend = self.backend();
            backend.flush(&mut self.context.vcpu);
        }
        Ok(())
    }
}
