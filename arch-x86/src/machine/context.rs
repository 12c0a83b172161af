//! A vCPU's state that only the CPU that runs it touches.

use alloc::boxed::Box;
use alloc::sync::Arc;

use xen_core::{Domain, Registers};

use super::X86;
use super::inject::{self, Merged};
use super::settings::Adopted;
use super::start::Start;
use super::xstate::Area;
use crate::backend::{HvmBackend, Register};
use crate::emulate::Exception;
use crate::event::Event;
use crate::hypercall::{Frame, Gprs, Width};
use crate::policy::Msrs;
use crate::save::CpuState;

/// The hypercall that a vCPU makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSite {
    /// Where the instruction is.
    pub(super) rip: u64,
    /// Its length in bytes.
    pub(super) length: u8,
    /// The caller's mode.
    pub(super) width: Width,
}

/// Events that wait for the next entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    /// What is delivered at the next entry: an exception, or an event whose delivery an exit cut short.
    pub(super) next: Option<Event>,
    /// An interrupt that was being delivered when an exception came up, due as soon as the guest takes interrupts.
    pub(super) deferred: Option<Event>,
}

/// The guest's exceptions piled up: its CPU shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShutDown;

impl Events {
    /// An event whose delivery was cut short is to be delivered again.
    pub(super) fn again(&mut self, event: Event) {
        self.next = Some(event);
    }

    /// An exception comes up.
    ///
    /// Errors: [`ShutDown`] if it is one too many.
    pub(super) fn raise(&mut self, exception: Event) -> Result<(), ShutDown> {
        let Event::Exception { vector, .. } = exception else {
            self.next = Some(exception);
            return Ok(());
        };
        let Some(first) = self.next else {
            self.next = Some(exception);
            return Ok(());
        };
        match inject::merge(first, vector) {
            Merged::Defer(interrupt) => {
                self.deferred = Some(interrupt);
                self.next = Some(exception);
            }
            Merged::Second => self.next = Some(exception),
            Merged::DoubleFault => self.next = Some(inject::double_fault()),
            Merged::TripleFault => return Err(ShutDown),
        }
        Ok(())
    }
}

/// A vCPU's state.
pub struct X86Context<B: HvmBackend> {
    /// General-purpose registers but for RSP, current while the guest does not run.
    pub(super) gprs: Gprs,
    /// The control structure.
    pub(super) vcpu: B::Vcpu,
    /// The hypercall being made.
    pub(super) call: CallSite,
    /// Where the guest goes on, if not where it stopped.
    pub(super) resume: Option<u64>,
    pub(super) events: Events,
    /// FPU and vector registers, current while the vCPU is on no CPU.
    pub(super) fpu: Area,
    pub(super) xcr0: u64,
    /// DR0 to DR3, current while the vCPU is on no CPU.
    pub(super) breakpoints: [u64; 4],
    pub(super) tsc_aux: u32,
    /// IA32_TSC_ADJUST.
    pub(super) tsc_adjust: u64,
    pub(super) msrs: Msrs,
    /// A page attribute table that was given to a vCPU without a state.
    pub(super) pat: Option<u64>,
    /// Registers that the vCPU takes over when it is next put on a CPU; its FPU's are above.
    pub(super) restore: Option<Box<CpuState>>,
    /// What it has taken over of what toolstacks change.
    pub(super) adopted: Adopted,
    /// The epoch of the p2m at the last entry.
    pub(super) epoch: u64,
    /// The domain, once the vCPU was on a CPU: what its page tables are walked in.
    pub(super) domain: Option<Arc<Domain<X86<B>>>>,
}

impl<B: HvmBackend> X86Context<B> {
    /// Makes the vCPU, which is loaded nowhere, begin as `start` says.
    ///
    /// Errors: [`xen_core::Error::Inval`] for a state that the hardware would refuse.
    pub fn begin(&mut self, backend: &B, start: &Start) -> xen_core::Result<()> {
        backend.set_state(&mut self.vcpu, &start.state)?;
        for register in [
            Register::Star,
            Register::Lstar,
            Register::Cstar,
            Register::Sfmask,
            Register::KernelGsBase,
        ] {
            backend.set_register(&mut self.vcpu, register, 0);
        }
        backend.set_task_priority(&mut self.vcpu, 0);
        self.gprs = start.gprs;
        self.resume = None;
        self.events = Events::default();
        self.breakpoints = [0; 4];
        self.fpu.reset();
        self.xcr0 = 1;
        Ok(())
    }

    /// The mode that decides where a hypercall's arguments are: 64-bit mode is long mode with CS.L.
    pub(super) fn width(&self, backend: &B) -> Width {
        const LMA: u64 = 1 << 10;
        const LONG: u16 = 1 << 9;
        let cs = backend.segment(&self.vcpu, crate::backend::SegmentRegister::Cs);
        if backend.register(&self.vcpu, Register::Efer) & LMA != 0 && cs.attributes & LONG != 0 {
            Width::Bits64
        } else {
            Width::Bits32
        }
    }

    /// An exception comes up.
    ///
    /// Errors: [`ShutDown`].
    pub(super) fn raise(&mut self, backend: &B, exception: Exception) -> Result<(), ShutDown> {
        use x86_64::registers::control::Cr0Flags;
        if let Some(address) = exception.cr2() {
            backend.set_register(&mut self.vcpu, Register::Cr2, address);
        }
        let cr0 = backend.register(&self.vcpu, Register::Cr0);
        self.events
            .raise(exception.event(Cr0Flags::from_bits_retain(cr0)))
    }

    fn frame<'a>(&'a mut self, rip: &'a mut u64) -> Frame<'a> {
        Frame {
            gprs: &mut self.gprs,
            rip,
            width: self.call.width,
            instruction_len: self.call.length,
        }
    }
}

impl<B: HvmBackend> Registers for X86Context<B> {
    fn number(&self) -> u64 {
        self.call.width.number(&self.gprs)
    }
    fn arg(&self, n: usize) -> u64 {
        self.call.width.argument(&self.gprs, n)
    }
    fn finish(&mut self, result: i64) {
        let mut rip = self.call.rip;
        self.frame(&mut rip).finish(result);
        self.resume = Some(rip);
    }
    fn restart(&mut self, args: &[u64; 5]) {
        let mut rip = self.call.rip;
        self.frame(&mut rip).restart(args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exception(vector: u8) -> Event {
        Event::Exception {
            vector,
            error_code: None,
        }
    }

    #[test]
    fn an_interrupt_that_a_fault_cut_short_comes_later() {
        let mut events = Events::default();
        events.again(Event::Interrupt(0x40));
        assert_eq!(events.raise(exception(14)), Ok(()));
        assert_eq!(events.next, Some(exception(14)));
        assert_eq!(events.deferred, Some(Event::Interrupt(0x40)));
    }

    #[test]
    fn faults_pile_up_to_a_shutdown() {
        let mut events = Events::default();
        assert_eq!(events.raise(exception(13)), Ok(()));
        assert_eq!(events.raise(exception(11)), Ok(()));
        assert_eq!(events.next, Some(inject::double_fault()));
        assert_eq!(events.raise(exception(14)), Err(ShutDown));
    }
}
