//! A vCPU's state as a whole, while the vCPU is on no CPU.
//!
//! What a control structure holds can only be changed where the vCPU is loaded: a new state waits in the context until then.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use xen_core::{Error, Result, Vcpu};

use super::context::Events;
use super::start::Start;
use super::vcpu::X86Vcpu;
use super::{X86, X86Context};
use crate::backend::{HvmBackend, Register};
use crate::hypercall::gpr;
use crate::save::CpuState;

impl From<&Start> for CpuState {
    fn from(start: &Start) -> Self {
        Self {
            gprs: start.gprs,
            state: start.state,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            breakpoints: [0; 4],
            tsc_aux: 0,
            event: None,
        }
    }
}

impl X86Vcpu {
    /// The state to begin with that the vCPU has not taken over yet.
    pub(super) fn start_to_come(&self) -> Option<Start> {
        let waits = self.start_waits.load(Ordering::Acquire);
        self.start.lock().as_deref().copied().filter(|_| waits)
    }

    /// The vCPU, which is on no CPU, is given a state otherwise than by being started.
    pub(super) fn given_state(&self) {
        *self.start.lock() = None;
        self.start_waits.store(false, Ordering::SeqCst);
        self.waits_for_startup.store(false, Ordering::SeqCst);
    }

    /// The vCPU, which is on no CPU, has no state to run from any more.
    pub(super) fn take_state(&self) {
        self.given_state();
        self.waits_for_startup.store(true, Ordering::SeqCst);
        self.nmi.store(false, Ordering::SeqCst);
    }
}

impl<B: HvmBackend> X86Context<B> {
    /// The registers of the vCPU, which is on no CPU.
    pub(super) fn capture(&self, backend: &B, vcpu: &X86Vcpu) -> CpuState {
        if let Some(start) = vcpu.start_to_come() {
            return CpuState::from(&start);
        }
        if let Some(state) = &self.restore {
            return **state;
        }
        let get = |which| backend.register(&self.vcpu, which);
        let mut state = backend.state(&self.vcpu);
        if let Some(rip) = self.resume {
            // The instruction that exited is complete.
            state.rip = rip;
            state.interrupt_shadow = false;
            state.rflags &= !RESUME_FLAG;
        }
        let mut gprs = self.gprs;
        gprs.0[gpr::RSP] = 0;
        CpuState {
            gprs,
            state,
            star: get(Register::Star),
            lstar: get(Register::Lstar),
            cstar: get(Register::Cstar),
            sfmask: get(Register::Sfmask),
            kernel_gs_base: get(Register::KernelGsBase),
            breakpoints: self.breakpoints,
            tsc_aux: self.tsc_aux,
            event: self.events.next.or(self.events.deferred),
        }
    }

    /// Has the vCPU, which is on no CPU, go on with these registers.
    pub(super) fn give(&mut self, vcpu: &X86Vcpu, state: CpuState) {
        vcpu.given_state();
        self.restore = Some(Box::new(state));
    }

    /// Takes over registers that were given; the vCPU is loaded.
    ///
    /// Errors: [`Error::Inval`] for a state that the hardware refuses to enter.
    pub(super) fn take_given(&mut self, backend: &B, vcpu: &Vcpu<X86<B>>) -> Result<()> {
        let Some(given) = self.restore.take() else {
            return Ok(());
        };
        let control = &mut self.vcpu;
        let written = backend.set_state(control, &given.state);
        for (register, value) in [
            (Register::Star, given.star),
            (Register::Lstar, given.lstar),
            (Register::Cstar, given.cstar),
            (Register::Sfmask, given.sfmask),
            (Register::KernelGsBase, given.kernel_gs_base),
        ] {
            backend.set_register(control, register, value);
        }
        backend.set_task_priority(control, vcpu.arch.lapic.task_priority());
        backend.set_tsc_offset(control, vcpu.arch.lapic.tsc_offset());
        self.gprs = given.gprs;
        self.resume = None;
        self.events = Events {
            next: given.event,
            deferred: None,
        };
        self.breakpoints = given.breakpoints;
        self.tsc_aux = given.tsc_aux;
        written.map_err(|_| Error::Inval)
    }
}

/// RFLAGS: resume flag.
const RESUME_FLAG: u64 = 1 << 16;
