//! The guests' timers.
//!
//! The virtual timer is the CPU's own while the vCPU runs, offset to the guest's time. When it fires, Oxen masks
//! it and makes the guest's interrupt pending; the guest's handler programs it anew. While the vCPU is off the
//! CPU, a timer of the core stands in and wakes it. The physical timer is emulated throughout.

use alloc::sync::Arc;

use aarch64_cpu::registers::{CNTV_CTL_EL0, Readable, Writeable};
use xen_core::timer::TimerHandle;
use xen_core::{Hypervisor, TimerEvent, Vcpu};

use super::interrupts::kick_all;
use super::{Arm, ArmContext};
use crate::decode::PhysTimerReg;
use crate::host::timer;

/// Timers by the numbers the core knows them by.
pub(super) const VIRTUAL: u32 = 0;
pub(super) const PHYSICAL: u32 = 1;

/// Bits of a timer's control register (Arm ARM D19.12.16).
const ENABLE: u64 = 1;
const MASKED: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;

/// The core's timers that stand in for a vCPU's.
pub(super) struct StandIns {
    virt: TimerHandle,
    phys: TimerHandle,
}

impl StandIns {
    pub(super) const fn new(virt: TimerHandle, phys: TimerHandle) -> Self {
        Self { virt, phys }
    }
}

/// The emulated physical timer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PhysTimer {
    control: u64,
    compare: u64,
}

/// Masks the virtual timer that has just fired on this CPU.
pub(super) fn mask_virtual() {
    CNTV_CTL_EL0.set(CNTV_CTL_EL0.get() | MASKED);
}

/// The vCPU goes off the CPU with its virtual timer saved in `control` and `compare`: have it woken in time.
pub(super) fn park(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    let regs = &context.regs;
    if regs.cntv_ctl & (ENABLE | MASKED) == ENABLE {
        let deadline = timer::time_at(regs.cntv_cval.wrapping_add(regs.cntvoff));
        hv.arm_timer(
            &vcpu.arch.timers().virt,
            deadline,
            TimerEvent::Arch(vcpu.clone(), VIRTUAL),
        );
        context.timer_parked = true;
    }
}

/// The vCPU comes back; what its virtual timer missed is made up for.
pub(super) fn unpark(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, context: &mut ArmContext) {
    if !core::mem::take(&mut context.timer_parked) {
        return;
    }
    hv.timers.cancel(&vcpu.arch.timers().virt);
    let regs = &mut context.regs;
    if timer::counter().wrapping_sub(regs.cntvoff) >= regs.cntv_cval {
        regs.cntv_ctl |= MASKED;
        pulse(hv, vcpu, hv.arch.private.virt_timer);
    }
}

/// A stand-in has fired.
pub(super) fn fired(hv: &Hypervisor<Arm>, vcpu: &Arc<Vcpu<Arm>>, which: u32) {
    match which {
        // What is due is found when the vCPU is loaded.
        VIRTUAL => vcpu.kick(hv),
        _ => pulse(hv, vcpu, hv.arch.private.phys_timer),
    }
}

/// Makes a private interrupt of the vCPU pending.
pub(super) fn pulse(hv: &Hypervisor<Arm>, vcpu: &Vcpu<Arm>, ppi: u32) {
    match vcpu.domain.arch.vgic.pulse(Some(vcpu.id), ppi) {
        Ok(set) => kick_all(hv, &vcpu.domain, set),
        Err(error) => log::error!("private interrupt {ppi} cannot be delivered: {error:?}"),
    }
}

/// The vCPU ends.
pub(super) fn retire(hv: &Hypervisor<Arm>, vcpu: &Vcpu<Arm>) {
    hv.timers.cancel(&vcpu.arch.timers().virt);
    hv.timers.cancel(&vcpu.arch.timers().phys);
}

/// Reads a register of the emulated physical timer.
pub(super) fn read_physical(context: &ArmContext, reg: PhysTimerReg) -> u64 {
    let PhysTimer { control, compare } = context.phys_timer;
    let now = timer::counter();
    match reg {
        PhysTimerReg::Control => {
            let fired = control & ENABLE != 0 && now >= compare;
            control & (ENABLE | MASKED) | if fired { STATUS } else { 0 }
        }
        PhysTimerReg::Compare => compare,
        PhysTimerReg::Timer => compare.wrapping_sub(now) & 0xffff_ffff,
    }
}

/// Writes a register of the emulated physical timer.
pub(super) fn write_physical(
    hv: &Hypervisor<Arm>,
    vcpu: &Arc<Vcpu<Arm>>,
    context: &mut ArmContext,
    reg: PhysTimerReg,
    value: u64,
) {
    let phys = &mut context.phys_timer;
    match reg {
        PhysTimerReg::Control => phys.control = value & (ENABLE | MASKED),
        PhysTimerReg::Compare => phys.compare = value,
        PhysTimerReg::Timer => {
            phys.compare = timer::counter().wrapping_add(value as u32 as i32 as i64 as u64)
        }
    }
    if phys.control & (ENABLE | MASKED) == ENABLE {
        let deadline = timer::time_at(phys.compare);
        hv.arm_timer(
            &vcpu.arch.timers().phys,
            deadline,
            TimerEvent::Arch(vcpu.clone(), PHYSICAL),
        );
    } else {
        hv.timers.cancel(&vcpu.arch.timers().phys);
    }
}
