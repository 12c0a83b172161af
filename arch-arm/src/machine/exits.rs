//! Exits that are no hypercalls: traps and aborts of the guest.

use alloc::sync::Arc;

use xen_core::{Arch, Gfn, GuestPhysAddr, Hypervisor, Vcpu};

use super::interrupts::kick_all;
use super::vcpu::{read_lrs, show_interrupts};
use super::{Arm, ArmContext, firmware, timers};
use crate::decode::{
    Access, Condition, DataAbort, El1Entry, Endian, Exit, FaultStatus, Injection, SysRegAction,
    SysRegView, UnsupportedState, Vector, condition_passes, emulate_cp15, emulate_cp15_pair,
    skip_instruction, spsr,
};
use crate::guest;

/// The immediate that reaches the firmware's services.
const FIRMWARE_IMM: u16 = 0;

/// What is needed to act on an exit.
pub(super) struct Trap<'a> {
    pub(super) hv: &'a Hypervisor<Arm>,
    pub(super) vcpu: &'a Arc<Vcpu<Arm>>,
    pub(super) context: &'a mut ArmContext,
    /// Bytes of the instruction that trapped.
    length: u64,
}

pub(super) fn handle(
    hv: &Hypervisor<Arm>,
    vcpu: &Arc<Vcpu<Arm>>,
    context: &mut ArmContext,
    exit: Exit,
) {
    let length = context.regs.raw_exit(Vector::Sync).instruction_len();
    let mut trap = Trap {
        hv,
        vcpu,
        context,
        length,
    };
    match exit {
        Exit::Irq | Exit::Fiq => Arm::poll_interrupts(hv),
        Exit::Wfx { condition, .. } => trap.wait(condition),
        Exit::Hvc { imm: FIRMWARE_IMM } if !trap.is_user() => firmware::call(&mut trap),
        // Other immediates are undefined, as by HVC; AArch32's SMC reports none, which decodes as 0.
        Exit::Smc {
            imm: FIRMWARE_IMM,
            condition,
        } if !trap.is_user() => {
            if trap.executes(condition) {
                firmware::call(&mut trap);
                trap.skip();
            }
        }
        Exit::SysReg(access) => {
            let view = SysRegView {
                ids: &vcpu.domain.arch.ids,
                from_el0: trap.is_user(),
            };
            let action = view.access(&access);
            trap.system_register(action, access.rt, None);
        }
        Exit::Cp15(access) => {
            if trap.executes(access.condition) {
                let view = SysRegView {
                    ids: &vcpu.domain.arch.ids,
                    from_el0: trap.is_user(),
                };
                let action = emulate_cp15(&view, &access);
                trap.system_register(action, access.rt, None);
            }
        }
        Exit::Cp15Pair(access) => {
            if trap.executes(access.condition) {
                let view = SysRegView {
                    ids: &vcpu.domain.arch.ids,
                    from_el0: trap.is_user(),
                };
                let action = emulate_cp15_pair(&view, &access);
                trap.system_register(action, access.rt, Some(access.rt2));
            }
        }
        Exit::DataAbort(abort) => trap.data_abort(&abort),
        Exit::InsnAbort(abort) => {
            let fault = &abort.fault;
            if !fault.ipa().is_some_and(|ipa| trap.settled(ipa, false)) {
                trap.inject(Injection::InsnAbort { far: fault.far });
            }
        }
        Exit::SError(info) => {
            vcpu.crash(hv, format_args!("system error, syndrome {:#x}", info.iss));
        }
        Exit::Hvc { .. } => {
            // HVC returns behind itself; one that is undefined has to be found where it stands.
            trap.context.regs.pc = trap.context.regs.pc.wrapping_sub(4);
            trap.inject(Injection::Undefined);
        }
        Exit::Smc { .. }
        | Exit::Svc { .. }
        | Exit::Cp14(_)
        | Exit::Cp14Pair(_)
        | Exit::Cp14Memory(_)
        | Exit::Cp10Id(_)
        | Exit::FpAccess
        | Exit::SveAccess
        | Exit::SmeAccess
        | Exit::PointerAuth
        | Exit::Ls64
        | Exit::MemoryCopy
        | Exit::Eret
        | Exit::IllegalState
        | Exit::PcAlignment
        | Exit::SpAlignment
        | Exit::Brk { .. }
        | Exit::Breakpoint
        | Exit::SoftStep
        | Exit::Watchpoint
        | Exit::Undefined
        | Exit::Unknown(_) => trap.inject(Injection::Undefined),
    }
}

impl Trap<'_> {
    fn is_user(&self) -> bool {
        spsr::is_el0(self.context.regs.cpsr)
    }

    /// Goes on behind the trapped instruction.
    pub(super) fn skip(&mut self) {
        let regs = &mut self.context.regs;
        (regs.pc, regs.cpsr) = skip_instruction(regs.pc, regs.cpsr, self.length);
    }

    /// Whether a trapped AArch32 instruction has effect; one that has none is skipped.
    fn executes(&mut self, condition: Condition) -> bool {
        let passes = condition_passes(condition, self.context.regs.cpsr);
        if !passes {
            self.skip();
        }
        passes
    }

    pub(super) fn register(&self, n: u8) -> u64 {
        // Number 31 is the zero register.
        let value = self
            .context
            .regs
            .x
            .get(usize::from(n))
            .copied()
            .unwrap_or(0);
        if self.context.regs.cpsr & spsr::AARCH32 == 0 {
            value
        } else {
            value & 0xffff_ffff
        }
    }

    pub(super) fn set_register(&mut self, n: u8, value: u64) {
        let narrow = self.context.regs.cpsr & spsr::AARCH32 != 0;
        if let Some(register) = self.context.regs.x.get_mut(usize::from(n)) {
            *register = if narrow { value & 0xffff_ffff } else { value };
        }
    }

    fn wait(&mut self, condition: Condition) {
        if self.executes(condition) {
            self.skip();
            self.block();
        }
    }

    /// Blocks until an interrupt is pending.
    pub(super) fn block(&mut self) {
        show_interrupts(self.hv, self.vcpu, self.context);
        self.vcpu.block(self.hv);
    }

    fn inject(&mut self, what: Injection) {
        let regs = &mut self.context.regs;
        let (vbar_el1, sctlr_el1) = guest::exception_state();
        let entry = El1Entry {
            pc: regs.pc,
            cpsr: regs.cpsr,
            vbar_el1,
            sctlr_el1,
        };
        match entry.inject(what, &self.hv.arch.features) {
            Ok(taken) => {
                guest::set_exception(taken.esr_el1, taken.elr_el1, taken.spsr_el1, taken.far_el1);
                (regs.pc, regs.cpsr) = (taken.pc, taken.cpsr);
            }
            Err(UnsupportedState) => {
                let pc = regs.pc;
                self.vcpu.crash(
                    self.hv,
                    format_args!("{what:?} at {pc:#x} cannot be delivered"),
                );
            }
        }
    }

    fn system_register(&mut self, action: SysRegAction, rt: u8, rt2: Option<u8>) {
        let value = match rt2 {
            Some(high) => self.register(high) << 32 | self.register(rt) & 0xffff_ffff,
            None => self.register(rt),
        };
        let mut result = None;
        match action {
            SysRegAction::Read(value) => result = Some(value),
            SysRegAction::WriteIgnored => {}
            SysRegAction::Undefined => return self.inject(Injection::Undefined),
            SysRegAction::PhysTimer { reg, write: true } => {
                timers::write_physical(self.hv, self.vcpu, self.context, reg, value);
            }
            SysRegAction::PhysTimer { reg, write: false } => {
                result = Some(timers::read_physical(self.context, reg));
            }
            SysRegAction::Sgi(reg) => {
                match self.vcpu.domain.arch.vgic.sgi1r(self.vcpu.id, value, reg) {
                    Ok(set) => kick_all(self.hv, &self.vcpu.domain, set),
                    Err(_) => return self.inject(Injection::Undefined),
                }
            }
        }
        if let Some(result) = result {
            match rt2 {
                Some(high) => {
                    self.set_register(rt, result & 0xffff_ffff);
                    self.set_register(high, result >> 32);
                }
                None => self.set_register(rt, result),
            }
        }
        self.skip();
    }

    /// Whether the access can simply be made again: another CPU has changed the entry in the meantime.
    fn settled(&self, ipa: GuestPhysAddr, write: bool) -> bool {
        let entry = self.vcpu.domain.p2m.lookup(Gfn::containing(ipa));
        entry.is_some_and(|e| !write || e.kind.writable())
    }

    fn data_abort(&mut self, abort: &DataAbort) {
        let fault = &abort.fault;
        let ipa = fault.ipa().or_else(|| {
            // A permission fault of the access itself does not report the guest-physical address.
            let address = xen_core::GuestVirtAddr(fault.far?);
            self.hv.arch.translate(self.context, address, false).ok()
        });
        if fault.status.is_stage2()
            && let Some(ipa) = ipa
        {
            // First, as the most frequent: there is no memory to be looked up where these registers are.
            if !fault.s1ptw
                && let Some((region, offset)) = self.vcpu.domain.arch.gic_region(ipa)
                && let Some(access) = abort.access
                && self.interrupt_controller(region, offset, access)
            {
                return self.skip();
            }
            let permission = matches!(fault.status, FaultStatus::Permission { .. });
            if self.settled(ipa, abort.write) && !permission {
                return;
            }
        }
        self.inject(Injection::DataAbort {
            far: fault.far,
            write: abort.write,
        });
    }

    /// A load or store to the interrupt controller; false if it has no answer.
    fn interrupt_controller(
        &mut self,
        region: crate::vgic::Region,
        offset: u64,
        access: Access,
    ) -> bool {
        let vgic = &self.vcpu.domain.arch.vgic;
        let (id, size) = (self.vcpu.id, access.size);
        let endian = Endian::of(self.context.regs.cpsr, guest::exception_state().1);
        // The virtual controller answers for what the list registers hold, too.
        read_lrs(self.hv, self.vcpu, self.context);
        if access.write {
            let value = access.store_value(self.register(access.rt), endian);
            match vgic.mmio_write(id, region, offset, size, value, &*self.hv.arch) {
                Ok(set) => kick_all(self.hv, &self.vcpu.domain, set),
                Err(_) => return false,
            }
        } else {
            match vgic.mmio_read(id, region, offset, size) {
                Ok(value) => self.set_register(access.rt, access.load_result(value, endian)),
                Err(_) => return false,
            }
        }
        true
    }
}
