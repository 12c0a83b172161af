//! Exits that are no hypercalls.
#![expect(unsafe_code, reason = "WBINVD, and the host's machine-check handler")]

use alloc::sync::Arc;
use core::arch::asm;
use core::fmt;

use x86_64::registers::control::Cr4Flags;
use x86_64::registers::rflags::RFlags;
use xen_abi::hvm_params::HvmParam;
use xen_abi::sched::ShutdownReason;
use xen_core::sched::Scheduler as _;
use xen_core::{Arch, Error, Hypervisor, Vcpu, softirq};

use super::bus::DomainBus;
use super::context::ShutDown;
use super::registers::Regs;
use super::{X86, X86Context, devices};
use crate::backend::{HvmBackend, Register};
use crate::emulate::{Exception, Found, Stop, identify};
use crate::event::Event;
use crate::exit::{Exit, PortAccess, Reason};
use crate::hypercall::gpr;
use crate::policy::cpuid::VcpuView;
use crate::policy::xen_leaves::{Identity, TscInfo};
use crate::policy::{Feature, cr};

/// Vector of the machine check.
const MACHINE_CHECK: u8 = 18;

/// What is needed to act on an exit.
pub(super) struct Trap<'a, B: HvmBackend> {
    pub(super) hv: &'a Hypervisor<X86<B>>,
    pub(super) vcpu: &'a Arc<Vcpu<X86<B>>>,
    pub(super) context: &'a mut X86Context<B>,
    /// Length of the instruction, if the hardware says it.
    length: Option<u8>,
}

/// Why nothing more is to be done at this exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The guest gets an exception.
    Raise(Exception),
    /// What was looked at changed meanwhile: the guest executes the instruction again.
    Again,
    /// The domain has ended.
    Ended,
}

impl From<Exception> for End {
    fn from(exception: Exception) -> Self {
        Self::Raise(exception)
    }
}

/// What an action at an exit comes to.
pub(super) type Result<T = ()> = core::result::Result<T, End>;

pub(super) fn handle<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    context: &mut X86Context<B>,
    exit: &Exit,
) {
    let mut trap = Trap {
        hv,
        vcpu,
        context,
        length: exit.instruction_len,
    };
    match trap.act(exit.reason) {
        Ok(()) | Err(End::Again | End::Ended) => {}
        Err(End::Raise(exception)) => trap.raise(exception),
    }
}

/// The length of the instruction at which the vCPU stopped, for one whose length the hardware does not say; `usual` if it
/// cannot be looked at.
pub(super) fn length<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    context: &mut X86Context<B>,
    usual: u8,
) -> u8 {
    let mut trap = Trap {
        hv,
        vcpu,
        context,
        length: None,
    };
    trap.find().map_or(usual, |found| found.length)
}

impl<'a, B: HvmBackend> Trap<'a, B> {
    fn act(&mut self, reason: Reason) -> Result {
        match reason {
            Reason::Interrupt | Reason::Nmi | Reason::Platform => {
                X86::poll_interrupts(self.hv);
                Ok(())
            }
            Reason::InterruptWindow => {
                let backend = self.backend();
                backend.set_interrupt_window(&mut self.context.vcpu, false);
                Ok(())
            }
            Reason::NmiWindow => {
                let backend = self.backend();
                backend.unblock_nmi(&mut self.context.vcpu);
                Ok(())
            }
            Reason::Hypercall => {
                // Only a kernel may. It is told so without an exception.
                self.context.gprs.0[gpr::RAX] = Error::Perm.to_result() as u64;
                self.skip()
            }
            Reason::Cpuid => self.cpuid(),
            Reason::Halt => self.halt(),
            Reason::Pause => self.pause(),
            Reason::ReadTsc | Reason::ReadTscp => self.read_tsc(),
            Reason::ReadCounter => Err(Exception::GP0.into()),
            Reason::SetExtendedControl => self.set_extended_control(),
            Reason::FlushCaches => self.flush_caches(),
            Reason::MonitorWait | Reason::Virtualisation | Reason::DebugRegister => {
                Err(Exception::InvalidOpcode.into())
            }
            Reason::ReadMsr => self.read_msr(),
            Reason::WriteMsr => self.write_msr(),
            Reason::Port(access) => self.port(access),
            Reason::ControlRegister(access) => self.control_register(access),
            Reason::SecondLevelFault(fault) => self.second_level_fault(&fault),
            Reason::Exception { vector, error_code } => self.exception(vector, error_code),
            Reason::TripleFault => {
                self.shut_down();
                Ok(())
            }
            Reason::TaskSwitch => Err(self.crash(format_args!("a hardware task switch"))),
            Reason::EntryRefused { code } => Err(self.crash(format_args!(
                "{} does not enter it in this state (code {code:#x})",
                B::NAME
            ))),
            Reason::Unknown { code } => {
                Err(self.crash(format_args!("an exit for no known reason ({code:#x})")))
            }
        }
    }

    /// The backend.
    pub(super) fn backend(&self) -> &'a B {
        &self.hv.arch.backend
    }

    pub(super) fn register(&self, which: Register) -> u64 {
        self.backend().register(&self.context.vcpu, which)
    }

    pub(super) fn set_register(&mut self, which: Register, value: u64) {
        let backend = self.backend();
        backend.set_register(&mut self.context.vcpu, which, value);
    }

    /// Reads the registers that emulation works on, and the world that goes with them.
    pub(super) fn world(&mut self) -> (Regs<'_, B>, DomainBus<'_, B>) {
        let backend = self.backend();
        let policy = self.vcpu.domain.arch.policy();
        let paging = self.context.paging(
            backend,
            policy.physical_bits(),
            policy.has(Feature::Page1gb),
        );
        let bus = DomainBus {
            hv: self.hv,
            vcpu: self.vcpu,
            paging,
        };
        let regs = Regs {
            backend,
            context: self.context,
        };
        (regs, bus)
    }

    /// Bytes of the instruction that the hardware fetched.
    pub(super) fn fetched(&self) -> ([u8; 15], usize) {
        let mut bytes = [0; 15];
        let fetched = self.backend().instruction_bytes(&self.context.vcpu);
        let n = fetched.len().min(bytes.len());
        bytes[..n].copy_from_slice(&fetched[..n]);
        (bytes, n)
    }

    /// Looks at the instruction at which the guest stopped.
    pub(super) fn find(&mut self) -> Result<Found> {
        let (bytes, n) = self.fetched();
        let (regs, mut bus) = self.world();
        identify(&regs, &mut bus, &bytes[..n]).map_err(|stop| self.stopped(stop))
    }

    /// What a stop of emulation comes to.
    pub(super) fn stopped(&mut self, stop: Stop) -> End {
        match stop {
            Stop::Exception(exception) => End::Raise(exception),
            Stop::Retry => End::Again,
            Stop::Unsupported(opcode) => self.crash(format_args!(
                "an instruction that is not emulated: {:02x?}",
                opcode.bytes()
            )),
            Stop::Failed(error) => {
                self.crash(format_args!("an access that cannot be made: {error:?}"))
            }
        }
    }

    /// Goes on behind the instruction.
    pub(super) fn skip(&mut self) -> Result {
        let next = match self.length {
            Some(length) => {
                let next = self.register(Register::Rip).wrapping_add(length.into());
                match self.context.width(self.backend()) {
                    crate::hypercall::Width::Bits64 => next,
                    crate::hypercall::Width::Bits32 => next & 0xffff_ffff,
                }
            }
            None => self.find()?.next_rip,
        };
        let backend = self.backend();
        self.context.complete(backend, next);
        Ok(())
    }

    /// The guest gets an exception.
    pub(super) fn raise(&mut self, exception: Exception) {
        let backend = self.backend();
        if self.context.raise(backend, exception) == Err(ShutDown) {
            self.shut_down();
        }
    }

    /// An exception that exits: it is the guest's all the same.
    fn exception(&mut self, vector: u8, error_code: Option<u32>) -> Result {
        if vector == MACHINE_CHECK {
            // It is the host's: its handler reads the banks.
            #[cfg(target_os = "none")]
            // SAFETY: the host's handler for this vector works as if the CPU had called it.
            unsafe {
                asm!("int 18", options(nostack));
            }
            return Ok(());
        }
        let event = Event::Exception { vector, error_code };
        if self.context.events.raise(event) == Err(ShutDown) {
            self.shut_down();
        }
        Ok(())
    }

    /// The guest's CPU shuts down, which on a PC is a reset. The domain ends, for the reason that its toolstack chose.
    fn shut_down(&mut self) {
        let params = self.vcpu.domain.params.lock();
        let reason = params
            .get(HvmParam::TRIPLE_FAULT_REASON.0 as usize)
            .copied();
        drop(params);
        let reason = match reason.unwrap_or(0) {
            // Nobody chose.
            0 => ShutdownReason::REBOOT,
            reason => ShutdownReason(reason as u32 & 0xff),
        };
        log::error!("d{}v{}: triple fault", self.vcpu.domain.id(), self.vcpu.id);
        self.report();
        self.vcpu.domain.shutdown(self.hv, reason);
    }

    /// The domain cannot go on.
    pub(super) fn crash(&mut self, why: fmt::Arguments<'_>) -> End {
        // First, because the machine may end with the domain.
        self.report();
        self.vcpu.crash(self.hv, why);
        End::Ended
    }

    fn report(&self) {
        struct Registers<'a, B: HvmBackend>(&'a X86Context<B>, &'a B);
        impl<B: HvmBackend> fmt::Display for Registers<'_, B> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.dump_all(self.1, f)
            }
        }
        log::error!("{}", Registers(self.context, self.backend()));
    }

    fn cpuid(&mut self) -> Result {
        let [eax, _, ecx] = [gpr::RAX, gpr::RBX, gpr::RCX].map(|r| self.context.gprs.0[r] as u32);
        let domain = &self.vcpu.domain;
        let rate = self.hv.arch.rate(self.vcpu);
        let khz = |hz: u64| (hz / 1000) as u32;
        let tsc = domain.arch.tsc();
        let view = VcpuView {
            vcpus: domain.max_vcpus(),
            cr4: self.context.control(self.backend()).cr4,
            xcr0: self.context.xcr0,
            xss: 0,
            apic_enabled: self.vcpu.arch.lapic.is_enabled(),
            identity: Identity {
                version: self.hv.settings.version,
                domain: domain.id(),
                vcpu: self.vcpu.id,
                features: super::lapic::FEATURES,
                tsc: TscInfo {
                    host_reliable: rate.stable,
                    emulated: tsc.emulated,
                    mode: tsc.mode.0,
                    incarnation: tsc.incarnation,
                    rdtscp: domain.arch.policy().has(Feature::Rdtscp),
                    khz: khz(tsc.hz),
                    host_khz: khz(crate::host::clock::frequency()),
                    offset: self.vcpu.arch.lapic.tsc_offset(),
                    multiplier: rate.multiplier,
                    shift: rate.shift,
                },
            },
        };
        let answer = domain.arch.policy().cpuid(eax, ecx, &view);
        for (register, value) in [
            (gpr::RAX, answer.eax),
            (gpr::RBX, answer.ebx),
            (gpr::RCX, answer.ecx),
            (gpr::RDX, answer.edx),
        ] {
            self.context.gprs.0[register] = value.into();
        }
        self.skip()
    }

    fn halt(&mut self) -> Result {
        self.skip()?;
        let rflags = RFlags::from_bits_retain(self.register(Register::Rflags));
        if self.context.events.next.is_some() {
            return Ok(());
        }
        if rflags.contains(RFlags::INTERRUPT_FLAG) {
            self.vcpu.block(self.hv);
            return Ok(());
        }
        // Only INIT and non-maskable interrupts end it now: the vCPU takes itself down. The last one takes the domain
        // with it.
        self.vcpu.down(self.hv);
        let is_off = |vcpu: &Arc<Vcpu<X86<B>>>| !vcpu.is_up() && !vcpu.arch.is_to_begin();
        if self.vcpu.domain.vcpus().iter().all(is_off) {
            self.vcpu.domain.shutdown(self.hv, ShutdownReason::POWEROFF);
        }
        Ok(())
    }

    fn pause(&mut self) -> Result {
        self.skip()?;
        if let Some(slot) = self.vcpu.slot() {
            self.hv.sched.yield_now(slot, self.hv.arch.now());
            self.hv.raise(softirq::SCHEDULE);
        }
        Ok(())
    }

    /// RDTSC and RDTSCP exit where the counter is emulated. The instruction says which it is.
    fn read_tsc(&mut self) -> Result {
        let found = self.find()?;
        let backend = self.backend();
        let cr4 = self.context.control(backend).cr4;
        if cr4.contains(Cr4Flags::TIMESTAMP_DISABLE)
            && backend.privilege_level(&self.context.vcpu) != 0
        {
            return Err(Exception::GP0.into());
        }
        self.set_pair(self.vcpu.arch.lapic.tsc());
        if found.kind == crate::emulate::Intercepted::Rdtscp {
            self.context.gprs.0[gpr::RCX] = self.context.tsc_aux.into();
        }
        self.length = Some(found.length);
        self.skip()
    }

    /// Puts a value into EDX:EAX.
    pub(super) fn set_pair(&mut self, value: u64) {
        self.context.gprs.0[gpr::RAX] = value & 0xffff_ffff;
        self.context.gprs.0[gpr::RDX] = value >> 32;
    }

    /// The value in EDX:EAX.
    pub(super) fn pair(&self) -> u64 {
        let [low, high] = [gpr::RAX, gpr::RDX].map(|r| self.context.gprs.0[r] & 0xffff_ffff);
        high << 32 | low
    }

    fn set_extended_control(&mut self) -> Result {
        let index = self.context.gprs.0[gpr::RCX] as u32;
        let backend = self.backend();
        let control = self.context.control(backend);
        let cpl = backend.privilege_level(&self.context.vcpu);
        let policy = self.vcpu.domain.arch.policy();
        let value = cr::write_xcr(index, self.pair(), cpl, &control, policy)?;
        super::xstate::set_xcr0(value);
        self.context.xcr0 = value;
        self.skip()
    }

    /// INVD and WBINVD. A guest without devices has memory that is coherent; it may not slow the others down.
    fn flush_caches(&mut self) -> Result {
        if self.vcpu.domain.arch.is_hardware() {
            // INVD would throw away what others wrote.
            // SAFETY: writes caches back, nothing else.
            unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
        }
        self.skip()
    }

    fn port(&mut self, access: PortAccess) -> Result {
        if access.string {
            return self.emulate();
        }
        let rax = &mut self.context.gprs.0[gpr::RAX];
        if access.input {
            let value = devices::port_in(self.hv, self.vcpu, access.port, access.size);
            *rax = match access.size {
                1 => *rax & !0xff | u64::from(value) & 0xff,
                2 => *rax & !0xffff | u64::from(value) & 0xffff,
                _ => value.into(),
            };
        } else {
            let value = *rax as u32;
            devices::port_out(self.hv, self.vcpu, access.port, access.size, value);
        }
        self.skip()
    }
}
