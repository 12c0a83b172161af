//! vCPUs: made, put on a CPU, entered, taken off.
#![expect(unsafe_code, reason = "debug registers and TSC_AUX")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use x86_64::registers::rflags::RFlags;
use xen_core::{Domain, Error, Exit, Hypervisor, Result, Vcpu, VcpuId};

use super::context::{CallSite, Events};
use super::lapic::Lapic;
use super::settings::{self, Adopted};
use super::start::Start;
use super::xstate::Area;
use super::{X86, X86Context, clock, exits};
use crate::backend::{HvmBackend, Register};
use crate::event::Event;
use crate::exit::Reason;
use crate::host::{interrupts, msr as host_msr, percpu};
use crate::hypercall::{Gprs, Width};
use crate::policy::Feature;
use crate::policy::Msrs;
use crate::policy::msr::number;

/// DR6.BS: a single step.
const DR6_SINGLE_STEP: u64 = 1 << 14;
/// Vector of the debug exception.
const DEBUG: u8 = 1;

/// A vCPU's state that other CPUs touch.
pub struct X86Vcpu {
    /// A state to begin with, taken when the vCPU next runs.
    pub(super) start: Mutex<Option<Box<Start>>>,
    pub(super) start_waits: AtomicBool,
    /// It is after INIT and waits for a start-up interrupt.
    pub(super) waits_for_startup: AtomicBool,
    /// A non-maskable interrupt is pending.
    pub(super) nmi: AtomicBool,
    pub(super) lapic: Lapic,
}

impl X86Vcpu {
    /// Has the vCPU begin with `start` when it runs the next time.
    pub fn start_with(&self, start: Start) {
        *self.start.lock() = Some(Box::new(start));
        self.waits_for_startup.store(false, Ordering::SeqCst);
        self.start_waits.store(true, Ordering::Release);
    }

    /// Whether it has a state to run from: it was started once, and did not get INIT since.
    pub(super) fn is_initialised(&self) -> bool {
        !self.waits_for_startup.load(Ordering::SeqCst)
    }

    /// Whether it was started, and has not begun yet. It may have been on its way to turn itself off meanwhile.
    pub(super) fn is_to_begin(&self) -> bool {
        self.start_waits.load(Ordering::SeqCst) && self.is_initialised()
    }

    /// As [`Self::start_with`], for a vCPU that was not started yet.
    ///
    /// Errors: [`Error::Exist`].
    pub(super) fn initialise(&self, start: Start) -> Result<()> {
        if !self.waits_for_startup.swap(false, Ordering::SeqCst) {
            return Err(Error::Exist);
        }
        self.start_with(start);
        Ok(())
    }

    /// Makes a non-maskable interrupt pending. The caller kicks the vCPU.
    pub fn raise_nmi(&self) {
        self.nmi.store(true, Ordering::Release);
    }
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Its delivery was cut short once.
    Deferred(Event),
    /// The event-channel upcall, by the domain's vector.
    Upcall(u8),
    /// The local APIC.
    Lapic(u8),
}

/// An interrupt of a vCPU whose context is not at hand.
fn source<B: HvmBackend>(vcpu: &Vcpu<X86<B>>) -> Option<Source> {
    if let Some(vector) = vcpu.domain.arch.callback()
        && vcpu.info.upcall_pending(vcpu)
        && !vcpu.arch.lapic.announces_events()
    {
        return Some(Source::Upcall(vector));
    }
    vcpu.arch.lapic.pending().map(Source::Lapic)
}

/// Whether something would wake the vCPU from HLT.
pub(super) fn has_pending<B: HvmBackend>(vcpu: &Vcpu<X86<B>>) -> bool {
    source(vcpu).is_some()
        || vcpu.arch.nmi.load(Ordering::Acquire)
        || vcpu.arch.start_waits.load(Ordering::Acquire)
}

/// INIT: the vCPU stops, and waits for a start-up interrupt.
pub fn init<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Vcpu<X86<B>>) {
    vcpu.arch.waits_for_startup.store(true, Ordering::SeqCst);
    super::lapic::init(hv, vcpu);
    vcpu.down(hv);
}

/// A start-up interrupt: a vCPU that waits for one begins at page `vector`.
pub fn startup<B: HvmBackend>(hv: &Hypervisor<X86<B>>, vcpu: &Vcpu<X86<B>>, vector: u8) {
    if vcpu.arch.waits_for_startup.swap(false, Ordering::SeqCst) {
        let signature = vcpu.domain.arch.policy().leaves().basic[1].eax;
        vcpu.arch.start_with(Start::startup(vector, signature));
        vcpu.up(hv);
    }
}

/// MSRs that guests reach without exits: the hardware switches them and checks what is written.
const DIRECT_MSRS: [u32; 10] = [
    number::STAR,
    number::LSTAR,
    number::CSTAR,
    number::SF_MASK,
    number::FS_BASE,
    number::GS_BASE,
    number::KERNEL_GS_BASE,
    number::SYSENTER_CS,
    number::SYSENTER_ESP,
    number::SYSENTER_EIP,
];

pub(super) fn new<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    domain: &Domain<X86<B>>,
    id: VcpuId,
) -> Result<(X86Vcpu, X86Context<B>)> {
    let backend = &hv.arch.backend;
    let mut control = backend.new_vcpu(hv.frames)?;
    backend.set_second_level(&mut control, domain.p2m.tag().root);
    for msr in DIRECT_MSRS {
        backend.set_msr_exits(&mut control, msr, false, false)?;
    }
    // What the toolstack may still change is taken over when the vCPU is first put on a CPU. A local APIC can what guests have
    // by default: what is hidden later is not reached.
    let policy = domain.arch.current_policy();
    let tsc = domain.arch.tsc();
    let vcpu = X86Vcpu {
        start: Mutex::new(None),
        start_waits: AtomicBool::new(false),
        waits_for_startup: AtomicBool::new(true),
        nmi: AtomicBool::new(false),
        lapic: Lapic::new(
            id,
            policy.has(Feature::X2apic),
            policy.has(Feature::TscDeadline),
            tsc.ratio,
            hv.timers.allocate()?,
        ),
    };
    let context = X86Context {
        gprs: Gprs::default(),
        vcpu: control,
        call: CallSite {
            rip: 0,
            length: 3,
            width: Width::Bits64,
        },
        resume: None,
        events: Events::default(),
        fpu: Area::new(hv.arch.xstate)?,
        xcr0: 1,
        breakpoints: [0; 4],
        tsc_aux: 0,
        tsc_adjust: 0,
        msrs: Msrs::default(),
        pat: None,
        restore: None,
        adopted: Adopted::default(),
        epoch: 0,
        domain: None,
    };
    Ok((vcpu, context))
}

pub(super) fn load<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    context: &mut X86Context<B>,
) {
    let backend = &hv.arch.backend;
    let stale = settings::is_stale(vcpu, context);
    if stale {
        settings::before_load(backend, vcpu, context);
    }
    backend.load(percpu::cpu_id(), &mut context.vcpu);
    if context.domain.is_none() {
        context.domain = Some(vcpu.domain.clone());
    }
    if stale {
        settings::adopt(backend, vcpu, context);
    }
    if context.take_given(backend, vcpu).is_err() {
        vcpu.crash(hv, format_args!("it cannot go on with what it was given"));
    }
    take_start(hv, vcpu, context);
    load_registers(vcpu, context);
    if let Some((page, info)) = vcpu.info.arch_place(vcpu) {
        clock::publish(page, info, &hv.arch.rate(vcpu));
    }
}

pub(super) fn save<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Vcpu<X86<B>>,
    context: &mut X86Context<B>,
) {
    context.fpu.save(context.xcr0);
    context.breakpoints = read_breakpoints();
    hv.arch.backend.unload(&mut context.vcpu);
    // Started by another one while it turned itself off: what it did before is over, and so is that.
    if vcpu.arch.is_to_begin() {
        vcpu.up(hv);
    }
}

/// Takes over a state to begin with, if one waits; the vCPU is loaded. True if so.
fn take_start<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    context: &mut X86Context<B>,
) -> bool {
    if !vcpu.arch.start_waits.swap(false, Ordering::AcqRel) {
        return false;
    }
    let Some(start) = vcpu.arch.start.lock().take() else {
        return false;
    };
    // The domain's counters are in step, but for what the guest itself wrote.
    let offset = vcpu.domain.arch.tsc_base().wrapping_add(context.tsc_adjust);
    vcpu.arch.lapic.set_tsc_offset(offset);
    hv.arch.backend.set_tsc_offset(&mut context.vcpu, offset);
    if context.begin(&hv.arch.backend, &start) == Err(Error::Inval) {
        vcpu.crash(hv, format_args!("it cannot begin with {:?}", start.state));
    }
    true
}

/// Puts what the hardware does not switch into the CPU.
fn load_registers<B: HvmBackend>(vcpu: &Vcpu<X86<B>>, context: &X86Context<B>) {
    context.fpu.load(context.xcr0);
    write_breakpoints(&context.breakpoints);
    if vcpu.domain.arch.policy().has(Feature::Rdtscp) {
        write_tsc_aux(context.tsc_aux);
    }
}

/// Writes TSC_AUX, on a CPU that has RDTSCP.
pub(super) fn write_tsc_aux(value: u32) {
    // SAFETY: Oxen does not use the register.
    unsafe { host_msr::write(number::TSC_AUX, value.into()) };
}

fn read_breakpoints() -> [u64; 4] {
    let mut dr = [0; 4];
    let [a, b, c, d] = &mut dr;
    // SAFETY: reading them changes nothing.
    unsafe {
        asm!(
            "mov {}, dr0",
            out(reg) * a,
            options(nostack, nomem, preserves_flags)
        );
        asm!(
            "mov {}, dr1",
            out(reg) * b,
            options(nostack, nomem, preserves_flags)
        );
        asm!(
            "mov {}, dr2",
            out(reg) * c,
            options(nostack, nomem, preserves_flags)
        );
        asm!(
            "mov {}, dr3",
            out(reg) * d,
            options(nostack, nomem, preserves_flags)
        );
    }
    dr
}

fn write_breakpoints([a, b, c, d]: &[u64; 4]) {
    // SAFETY: addresses of breakpoints, all of which DR7 has switched off while Oxen runs.
    unsafe {
        asm!("mov dr0, {}", in(reg) *a, options(nostack, nomem, preserves_flags));
        asm!("mov dr1, {}", in(reg) *b, options(nostack, nomem, preserves_flags));
        asm!("mov dr2, {}", in(reg) *c, options(nostack, nomem, preserves_flags));
        asm!("mov dr3, {}", in(reg) *d, options(nostack, nomem, preserves_flags));
    }
}

impl<B: HvmBackend> X86Context<B> {
    /// The instruction that exited is complete: the guest goes on at `rip`.
    pub(super) fn complete(&mut self, backend: &B, rip: u64) {
        backend.set_register(&mut self.vcpu, Register::Rip, rip);
        backend.set_interrupt_shadow(&mut self.vcpu, false);
        let rflags = RFlags::from_bits_retain(backend.register(&self.vcpu, Register::Rflags));
        if rflags.contains(RFlags::RESUME_FLAG) {
            let rflags = rflags - RFlags::RESUME_FLAG;
            backend.set_register(&mut self.vcpu, Register::Rflags, rflags.bits());
        }
        if rflags.contains(RFlags::TRAP_FLAG) {
            self.single_step(backend);
        }
    }

    /// A single step is complete.
    pub(super) fn single_step(&mut self, backend: &B) {
        let dr6 = backend.register(&self.vcpu, Register::Dr6);
        backend.set_register(&mut self.vcpu, Register::Dr6, dr6 | DR6_SINGLE_STEP);
        // A trap after an instruction; nothing is being delivered.
        self.events.again(Event::Exception {
            vector: DEBUG,
            error_code: None,
        });
    }
}

pub(super) fn enter<B: HvmBackend>(
    hv: &Hypervisor<X86<B>>,
    vcpu: &Arc<Vcpu<X86<B>>>,
    context: &mut X86Context<B>,
) -> Exit<crate::exit::Exit> {
    let arch = &*hv.arch;
    let backend = &arch.backend;
    if vcpu.arch.start_waits.load(Ordering::Acquire) && take_start(hv, vcpu, context) {
        load_registers(vcpu, context);
        return Exit::Interrupt;
    }
    if let Some(rip) = context.resume.take() {
        context.complete(backend, rip);
    }
    if settings::is_stale(vcpu, context) {
        settings::adopt(backend, vcpu, context);
    }
    // One that was recorded is acknowledged, and would not end the guest. What comes from here on does.
    if interrupts::pending() {
        return Exit::Interrupt;
    }
    deliver(backend, vcpu, context);
    let Some(inside) = arch.inside.get(percpu::cpu_id().0 as usize) else {
        return Exit::Interrupt;
    };
    if inside.enter(&vcpu.domain.p2m.tag().flush, &mut context.epoch) {
        backend.flush(&mut context.vcpu);
    }
    let raw = backend.enter(&mut context.vcpu, &mut context.gprs);
    inside.leave();
    let exit = backend.decode(&context.vcpu, raw);
    if let Some(event) = exit.interrupted {
        context.events.again(event);
    }
    match exit.reason {
        Reason::Interrupt | Reason::Nmi | Reason::Platform => Exit::Interrupt,
        Reason::Hypercall if backend.privilege_level(&context.vcpu) == 0 => {
            context.call = CallSite {
                rip: backend.register(&context.vcpu, Register::Rip),
                length: match exit.instruction_len {
                    Some(length) => length,
                    None => exits::length(hv, vcpu, context, B::HYPERCALL.len() as u8),
                },
                width: context.width(backend),
            };
            Exit::Hypercall
        }
        _ => Exit::Other(exit),
    }
}

/// Has the next entry deliver what is due, or the guest exit when it can take what waits.
fn deliver<B: HvmBackend>(backend: &B, vcpu: &Vcpu<X86<B>>, context: &mut X86Context<B>) {
    let control = &mut context.vcpu;
    let next = |deferred: Option<Event>| match deferred {
        Some(event) => Some(Source::Deferred(event)),
        None => source(vcpu),
    };
    if let Some(event) = context.events.next.take() {
        backend.inject(control, event);
        let waits = next(context.events.deferred).is_some();
        return backend.set_interrupt_window(control, waits);
    }
    let nmi = context.events.deferred == Some(Event::Nmi) || vcpu.arch.nmi.load(Ordering::Acquire);
    if nmi && !backend.nmi_blocked(control) && !backend.interrupt_shadow(control) {
        if context.events.deferred == Some(Event::Nmi) {
            context.events.deferred = None;
        } else {
            vcpu.arch.nmi.store(false, Ordering::Release);
        }
        backend.inject(control, Event::Nmi);
        let waits = next(context.events.deferred).is_some();
        return backend.set_interrupt_window(control, waits);
    }
    let Some(source) = next(context.events.deferred) else {
        return backend.set_interrupt_window(control, nmi && !backend.nmi_blocked(control));
    };
    if !backend.can_take_interrupt(control) {
        return backend.set_interrupt_window(control, true);
    }
    let event = match source {
        Source::Deferred(event) => {
            context.events.deferred = None;
            event
        }
        Source::Upcall(vector) => Event::Interrupt(vector),
        Source::Lapic(_) => Event::Interrupt(vcpu.arch.lapic.acknowledge()),
    };
    backend.inject(control, event);
    // The upcall stays pending until the guest's handler says otherwise, which it does before it enables interrupts
    // again: a window for it would only cost an exit. What comes up later makes the guest exit by itself.
    backend.set_interrupt_window(control, vcpu.arch.lapic.pending().is_some());
}

impl<B: HvmBackend> X86Context<B> {
    /// Registers, for people. Those in the control structure are not at hand without the backend.
    pub(super) fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        for (n, (name, value)) in NAMES.iter().zip(self.gprs.0).enumerate() {
            let end = if n % 4 == 3 { "\n" } else { "" };
            // RSP is with the others.
            if *name == "rsp" {
                write!(out, "  {:3} {:16}{end}", "", "")?;
            } else {
                write!(out, "  {name:3} {value:016x}{end}")?;
            }
        }
        writeln!(out, "  xcr0 {:x} events {:?}", self.xcr0, self.events)
    }

    /// All registers, for people.
    pub(super) fn dump_all(&self, backend: &B, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = backend.state(&self.vcpu);
        writeln!(
            out,
            "  cs:rip {:04x}:{:016x} ss:rsp {:04x}:{:016x} rflags {:08x}",
            state.cs.selector, state.rip, state.ss.selector, state.rsp, state.rflags
        )?;
        writeln!(
            out,
            "  cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} efer {:04x}",
            state.cr0, state.cr2, state.cr3, state.cr4, state.efer
        )?;
        self.dump(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_taken_once() {
        let timers = xen_core::timer::Timers::<()>::new(1);
        let vcpu = X86Vcpu {
            start: Mutex::new(None),
            start_waits: AtomicBool::new(false),
            waits_for_startup: AtomicBool::new(true),
            nmi: AtomicBool::new(false),
            lapic: Lapic::new(
                VcpuId(1),
                true,
                true,
                super::super::tsc::Ratio::ONE,
                timers.allocate().unwrap(),
            ),
        };
        vcpu.start_with(Start::startup(0x9a, 0));
        assert!(vcpu.is_to_begin());
        assert!(vcpu.is_initialised());
        // Another INIT, after which it waits for the next start.
        vcpu.waits_for_startup.store(true, Ordering::Relaxed);
        assert!(!vcpu.is_to_begin());
        vcpu.start_with(Start::startup(0x9a, 0));
        assert!(vcpu.is_to_begin());
        // Nothing takes another one in its place.
        let other = Start::pvh(0, 0);
        assert_eq!(vcpu.initialise(other), Err(Error::Exist));
        let start = vcpu.start.lock().take().unwrap();
        assert_eq!(
            (start.state.cs.base, start.state.cs.selector),
            (0x9a000, 0x9a00)
        );
    }
}
