//! vCPUs: their state, and the way in and out of the guest.
#![expect(unsafe_code, reason = "entering a guest has conditions")]

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use xen_core::{Domain, Exit, GuestPhysAddr, Hypervisor, Registers, Result, Vcpu, VcpuId};

use super::Arm;
use super::interrupts::{MAINTENANCE, Signals, VIRT_TIMER, kick_all};
use super::timers::{self, PhysTimer, StandIns};
use crate::decode::{self, mpidr_of};
use crate::guest::{self, Context};
use crate::host::gic::{Aprs, GicVersion};
use crate::host::timer;
use crate::vgic::{CpuInterface, LrImage};

/// The immediate of HVC that makes a hypercall (`XEN_HYPERCALL_TAG`).
const HYPERCALL_TAG: u16 = 0xea1;
/// Enable bit of GICH_HCR and ICH_HCR_EL2.
const ENABLE: u32 = 1;
/// EOIcount in the same.
const EOI_COUNT: u32 = 0x1f << 27;
/// Register of a hypercall's number.
const NUMBER: usize = 16;

/// A vCPU's state that other CPUs touch.
pub struct ArmVcpu {
    timers: StandIns,
    /// The interrupt state must be looked at before the guest runs on.
    attention: AtomicBool,
    /// The guest's CPU interface when it last waited: what it would be woken for.
    vmcr: AtomicU32,
    version: GicVersion,
}

impl ArmVcpu {
    pub(super) const fn timers(&self) -> &StandIns {
        &self.timers
    }

    /// What the guest's CPU interface lets through while it waits.
    pub(super) fn interface(&self) -> CpuInterface {
        CpuInterface::decode(self.version, self.vmcr.load(Ordering::Relaxed), &[])
    }

    /// Called on the CPU that runs the vCPU.
    pub(super) fn request_attention(&self) {
        self.attention.store(true, Ordering::Relaxed);
    }
}

/// A vCPU's state.
pub struct ArmContext {
    /// Registers.
    pub regs: Context,
    /// List registers, as last written to or read from the hardware.
    lrs: LrImage,
    /// How many list registers of the hardware may hold something; none while the vCPU is off the CPU.
    lrs_written: u32,
    /// What the guest's CPU interface holds beside them.
    vmcr: u32,
    aprs: Aprs,
    pub(super) phys_timer: PhysTimer,
    /// A timer of the core stands in for the virtual timer.
    pub(super) timer_parked: bool,
}

impl Registers for ArmContext {
    fn number(&self) -> u64 {
        self.regs.x[NUMBER]
    }
    fn arg(&self, n: usize) -> u64 {
        if n < 5 { self.regs.x[n] } else { 0 }
    }
    fn finish(&mut self, result: i64) {
        // HVC returns behind itself: nothing is to be skipped.
        self.regs.x[0] = result as u64;
    }
    fn restart(&mut self, args: &[u64; 5]) {
        self.regs.x[..5].copy_from_slice(args);
        self.regs.pc = self.regs.pc.wrapping_sub(4);
    }
}

impl ArmContext {
    /// Makes the vCPU start at `entry` with `x0`, as PSCI and the Linux boot protocol have it: EL1, MMU off,
    /// interrupts masked.
    pub fn start_at(&mut self, entry: GuestPhysAddr, x0: u64) {
        let (vmpidr, cntvoff) = (self.regs.vmpidr, self.regs.cntvoff);
        self.regs = Context::reset(vmpidr, cntvoff);
        self.regs.pc = entry.0;
        self.regs.x[0] = x0;
    }
}

pub(super) fn new(
    hv: &Hypervisor<Arm>,
    domain: &Domain<Arm>,
    id: VcpuId,
) -> Result<(ArmVcpu, ArmContext)> {
    let timers = StandIns::new(hv.timers.allocate()?, hv.timers.allocate()?);
    let vcpu = ArmVcpu {
        timers,
        attention: AtomicBool::new(true),
        vmcr: AtomicU32::new(0),
        version: domain.arch.vgic.config().version,
    };
    // The guest's counter starts with the hypervisor's.
    let regs = Context::reset(mpidr_of(id), timer::epoch());
    let context = ArmContext {
        regs,
        lrs: LrImage::new(),
        lrs_written: 0,
        vmcr: 0,
        aprs: Aprs::default(),
        phys_timer: PhysTimer::default(),
        timer_parked: false,
    };
    Ok((vcpu, context))
}

pub(super) fn load(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    timers::unpark(hv, vcpu, context);
    guest::load_state(&context.regs, vcpu.domain.p2m.tag().vttbr);
    let gic = &hv.arch.gic;
    gic.set_vmcr(context.vmcr);
    gic.set_aprs(&context.aprs);
    // Every vCPU leaves the list registers free.
    gic.set_hcr(ENABLE);
}

pub(super) fn save(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    take_signals(hv, vcpu);
    read_lrs(hv, vcpu, context);
    let gic = &hv.arch.gic;
    gic.set_hcr(0);
    for n in 0..core::mem::take(&mut context.lrs_written) {
        gic.clear_lr(n);
    }
    context.vmcr = gic.vmcr();
    gic.read_aprs(&mut context.aprs);
    guest::save_state(&mut context.regs);
    timers::park(hv, vcpu, context);
}

/// Turns what this CPU's private interrupts left behind into what the vCPU sees.
fn take_signals(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>) {
    let Some(signals) = hv.arch.my_signals().filter(|s| s.any()) else {
        return;
    };
    let what = signals.take();
    if what & VIRT_TIMER != 0 {
        timers::pulse(hv, vcpu, hv.arch.private.virt_timer);
    }
    if what & (VIRT_TIMER | MAINTENANCE) != 0 {
        vcpu.arch.request_attention();
    }
}

pub(super) fn enter(
    hv: &Hypervisor<Arm>,
    vcpu: &Arc<Vcpu<Arm>>,
    context: &mut ArmContext,
) -> Exit<decode::Exit> {
    take_signals(hv, vcpu);
    let vgic = &vcpu.domain.arch.vgic;
    // The common case, nothing changed, touches no list register.
    if vgic.is_dirty(vcpu.id) || vcpu.arch.attention.load(Ordering::Relaxed) {
        read_lrs(hv, vcpu, context);
        vcpu.arch.attention.store(false, Ordering::Relaxed);
        vgic.flush(vcpu.id, hv.arch.gic.lr_count() as usize, &mut context.lrs);
        write_lrs(hv, context);
    }
    // SAFETY: this vCPU's state was loaded on this CPU by `load`, interrupts are masked at EL2 at all times, and the
    // vectors are `host`'s, which branch to the guest's exit.
    let vector = unsafe { guest::enter(&mut context.regs) };
    match context.regs.raw_exit(vector).decode() {
        decode::Exit::Irq | decode::Exit::Fiq => Exit::Interrupt,
        decode::Exit::Hvc { imm: HYPERCALL_TAG } if !decode::spsr::is_el0(context.regs.cpsr) => {
            Exit::Hypercall
        }
        other => Exit::Other(other),
    }
}

/// Reads the list registers back and tells the virtual controller what the guest did.
#[inline]
pub(super) fn read_lrs(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    // The common case: nothing was given, and the guest has ended nothing else.
    let counted = || hv.arch.my_signals().is_some_and(Signals::ended_any);
    if !context.lrs.used().is_empty() || hv.arch.gic.eoi_count() != 0 || counted() {
        take_lrs(hv, vcpu, context);
    }
}

fn take_lrs(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    let gic = &hv.arch.gic;
    if !context.lrs.used().is_empty() {
        // What is taken out must be put in again.
        vcpu.arch.request_attention();
    }
    for n in 0..context.lrs.used().len() {
        context.lrs.read_back(n, gic.read_lr(n as u32));
    }
    // Counted once: the counter goes on from 0.
    let counted = gic.eoi_count();
    if counted != 0 {
        gic.set_hcr(gic.hcr() & !EOI_COUNT);
    }
    let eoi_count = counted + hv.arch.my_signals().map_or(0, |s| s.take_eoi_count());
    let set = vcpu
        .domain
        .arch
        .vgic
        .sync(vcpu.id, &mut context.lrs, eoi_count, &*hv.arch);
    kick_all(hv, &vcpu.domain, set);
}

/// The guest is about to wait: what its list registers and its CPU interface hold decides whether there is something
/// to wake up for.
pub(super) fn show_interrupts(
    hv: &Hypervisor<Arm>,
    vcpu: &Arc<Vcpu<Arm>>,
    context: &mut ArmContext,
) {
    read_lrs(hv, vcpu, context);
    vcpu.arch.vmcr.store(hv.arch.gic.vmcr(), Ordering::Relaxed);
}

/// Writes the list registers; those that are not in use must be free.
fn write_lrs(hv: &Hypervisor<Arm>, context: &mut ArmContext) {
    let gic = &hv.arch.gic;
    for (n, lr) in (0..).zip(context.lrs.used()) {
        if let Err(error) = gic.write_lr(n, *lr) {
            log::error!("list register {n} is refused: {error:?}");
        }
    }
    let used = context.lrs.used().len() as u32;
    for n in used..context.lrs_written {
        gic.clear_lr(n);
    }
    context.lrs_written = used;
    gic.set_hcr(context.lrs.hcr() | ENABLE);
}

pub(super) fn dump(context: &ArmContext, out: &mut dyn fmt::Write) -> fmt::Result {
    let regs = &context.regs;
    writeln!(
        out,
        "  pc {:016x} cpsr {:08x} sp_el1 {:016x}",
        regs.pc, regs.cpsr, regs.sp_el1
    )?;
    for (n, pair) in regs.x.chunks(4).enumerate() {
        write!(out, " ")?;
        for (m, x) in pair.iter().enumerate() {
            write!(out, " x{:<2} {x:016x}", n * 4 + m)?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "  sctlr {:016x} ttbr0 {:016x} ttbr1 {:016x}",
        regs.sctlr, regs.ttbr0, regs.ttbr1
    )?;
    writeln!(
        out,
        "  esr_el1 {:08x} far_el1 {:016x} elr_el1 {:016x}",
        regs.esr_el1, regs.far_el1, regs.elr_el1
    )
}
