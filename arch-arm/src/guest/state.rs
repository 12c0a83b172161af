//! Moving a vCPU's other state into the CPU and out of it.
#![expect(
    unsafe_code,
    reason = "EL1's system registers, and floating point in assembly"
)]

use core::arch::{asm, global_asm};

use super::context::{Context, FpState, offset};
use super::residence;
use super::sysregs::{isb, read, write};

global_asm!(include_str!("fp.S"), FPCR = const offset::FPCR);

unsafe extern "C" {
    fn oxen_fp_save(to: *mut FpState);
    fn oxen_fp_load(from: *const FpState);
}

/// Each of EL1's and EL0's registers once, with its field, for both directions.
macro_rules! for_each_register {
    ($do:ident) => {
        $do! {
            "sp_el0" sp_el0, "sp_el1" sp_el1, "elr_el1" elr_el1, "spsr_el1" spsr_el1, "esr_el1" esr_el1,
            "far_el1" far_el1, "afsr0_el1" afsr0, "afsr1_el1" afsr1, "vbar_el1" vbar, "sctlr_el1" sctlr,
            "cpacr_el1" cpacr, "ttbr0_el1" ttbr0, "ttbr1_el1" ttbr1, "tcr_el1" tcr, "mair_el1" mair,
            "amair_el1" amair, "contextidr_el1" contextidr, "tpidr_el0" tpidr_el0, "tpidrro_el0" tpidrro_el0,
            "tpidr_el1" tpidr_el1, "par_el1" par, "csselr_el1" csselr, "cntkctl_el1" cntkctl
        }
    };
}

/// Puts the vCPU's system registers, floating point and timer into the CPU, and its domain's stage 2 (`VTTBR_EL2`)
/// with them.
///
/// If another vCPU of the domain ran on this CPU last, stage-1 translations of the domain cached here are dropped: the
/// two may use one ASID for different tables.
pub fn load_state(ctx: &Context, vttbr: u64) {
    // SAFETY: these registers act on EL1 and EL0 only, where nothing runs until `enter`, whose contract covers them.
    unsafe {
        write!("vttbr_el2", vttbr);
        write!("vmpidr_el2", ctx.vmpidr);
        macro_rules! load {
            ($($name:literal $field:ident),*) => { $( write!($name, ctx.$field); )* };
        }
        for_each_register!(load);
        write!("cntvoff_el2", ctx.cntvoff);
        write!("cntv_cval_el0", ctx.cntv_cval);
        // The timer is on only after it has its own compare value and offset.
        isb!();
        write!("cntv_ctl_el0", ctx.cntv_ctl);
        if residence::arrive(vttbr, ctx.vmpidr) {
            asm!(
                "dsb nshst",
                "tlbi vmalle1",
                "dsb nsh",
                options(nostack, preserves_flags)
            );
        }
        oxen_fp_load(&raw const ctx.fp);
        isb!();
    }
}

/// Takes the vCPU's system registers, floating point and timer out of the CPU, and turns the CPU's virtual timer
/// off; whoever waits for it sets a timer of the hypervisor's.
///
/// `ctx` is to be the context that [`load_state`] last loaded on this CPU.
pub fn save_state(ctx: &mut Context) {
    // SAFETY: reads have no effect beyond their value, the virtual timer is this vCPU's alone, and `ctx` is borrowed
    // exclusively.
    unsafe {
        ctx.cntv_ctl = read!("cntv_ctl_el0");
        write!("cntv_ctl_el0", 0);
        ctx.cntv_cval = read!("cntv_cval_el0");
        macro_rules! save {
            ($($name:literal $field:ident),*) => { $( ctx.$field = read!($name); )* };
        }
        for_each_register!(save);
        oxen_fp_save(&raw mut ctx.fp);
        isb!();
    }
}

/// `VBAR_EL1` and `SCTLR_EL1` of the vCPU whose state is in the CPU: what taking an exception depends on.
pub fn exception_state() -> (u64, u64) {
    // SAFETY: reading these registers has no effect.
    unsafe { (read!("vbar_el1"), read!("sctlr_el1")) }
}

/// Sets the registers in which EL1 finds its exception, of the vCPU whose state is in the CPU. Without `far` its
/// `FAR_EL1` stays.
pub fn set_exception(esr: u64, elr: u64, spsr: u64, far: Option<u64>) {
    // SAFETY: EL1's registers, which mean nothing to EL2.
    unsafe {
        write!("esr_el1", esr);
        write!("elr_el1", elr);
        write!("spsr_el1", spsr);
        if let Some(far) = far {
            write!("far_el1", far);
        }
    }
}

/// Runs `f` with another `VTTBR_EL2`, for TLB maintenance of a domain that is not the loaded one. `f` must not enter a
/// guest or translate a guest's address.
pub fn with_vttbr<R>(vttbr: u64, f: impl FnOnce() -> R) -> R {
    // SAFETY: the register acts on EL1 and EL0 only, where nothing runs meanwhile; the loaded value comes back.
    unsafe {
        let loaded = read!("vttbr_el2");
        if loaded == vttbr {
            return f();
        }
        write!("vttbr_el2", vttbr);
        isb!();
        let result = f();
        write!("vttbr_el2", loaded);
        isb!();
        result
    }
}
