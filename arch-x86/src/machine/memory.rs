//! Accesses that the second level stops, and instructions that are carried out for the guest.

use xen_core::Gfn;

use super::exits::{Result, Trap};
use super::{devices, lapic};
use crate::backend::HvmBackend;
use crate::emulate::{Exception, Outcome, execute};
use crate::exit::SecondLevelFault;

impl<B: HvmBackend> Trap<'_, B> {
    /// An access to what is not mapped, or not so.
    pub(super) fn second_level_fault(&mut self, fault: &SecondLevelFault) -> Result {
        let entry = self.vcpu.domain.p2m.lookup(Gfn::containing(fault.address));
        let settled = entry.is_some_and(|e| {
            (!fault.write || e.kind.writable()) && (!fault.fetch || e.kind.is_ram())
        });
        if settled {
            // Another CPU changed the entry meanwhile, or the guest's own walk found an old one.
            return Ok(());
        }
        if entry.is_none()
            && !lapic::covers(&self.vcpu.arch.lapic, fault.address)
            && devices::map_touched(self.hv, &self.vcpu.domain, fault.address)
        {
            return Ok(());
        }
        if fault.walk && self.backend().lost_guest_state(&self.context.vcpu) {
            return Err(self.crash(format_args!(
                "the CPU has put the hypervisor's own registers in place of its own; an emulator's defect"
            )));
        }
        if fault.walk {
            return Err(self.crash(format_args!(
                "its page tables are at {}, where it has no memory of its own",
                fault.address
            )));
        }
        if fault.fetch {
            return Err(self.crash(format_args!(
                "it executes at {}, where it has no memory of its own",
                fault.address
            )));
        }
        // What may only be read: for pages of others, and of the hypervisor's, that is the guest's mistake.
        if entry.is_some_and(|e| !e.kind.is_ram()) {
            return Err(Exception::GP0.into());
        }
        self.emulate()?;
        if lapic::covers(&self.vcpu.arch.lapic, fault.address) {
            self.load_task_priority();
        }
        Ok(())
    }

    /// Carries out the instruction at which the guest stopped.
    pub(super) fn emulate(&mut self) -> Result {
        let (bytes, n) = self.fetched();
        let (mut regs, mut bus) = self.world();
        match execute(&mut regs, &mut bus, &bytes[..n]) {
            Ok(Outcome::Done { single_step } | Outcome::Partial { single_step }) => {
                if single_step {
                    let backend = self.backend();
                    self.context.single_step(backend);
                }
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }
}
