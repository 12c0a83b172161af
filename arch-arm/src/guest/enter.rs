//! Running a guest until it exits.
#![expect(unsafe_code, reason = "the world switch")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use super::context::{Context, ILLEGAL, enterable, modes, offset};
use crate::decode::{Features, Vector};

global_asm!(
    include_str!("entry.S"),
    X = const offset::X,
    PC = const offset::PC,
    CPSR = const offset::CPSR,
    FAR = const offset::FAR,
);

unsafe extern "C" {
    fn oxen_guest_enter(context: *mut Context) -> u32;
}

/// Modes all CPUs of the machine can be entered in.
static MODES: AtomicU32 = AtomicU32::new(modes::AARCH64 | modes::AARCH32_EL0);

/// Takes a CPU's abilities into account.
pub(super) fn note_modes(host: &Features) {
    if !host.aarch32_el0 {
        MODES.fetch_and(!modes::AARCH32_EL0, Ordering::Relaxed);
    }
}

/// Runs the guest until it exits, and says by which vector; [`Context::raw_exit`] has the rest.
///
/// A physical interrupt that is pending, or becomes so, ends the call: look for work (softirqs, the scheduler) with
/// interrupts masked, then call this, and no wake-up is lost. On return all of `PSTATE.DAIF` is masked.
///
/// A `cpsr` that does not belong to EL0 or EL1 is replaced by one that makes EL1 take an illegal-state exception.
///
/// # Safety
/// - [`super::init_cpu`] has run on this CPU, and [`super::load_state`] last loaded `ctx` here, with a `VTTBR_EL2`
///   whose tables give access to nothing but what the domain may use. They stay so while the guest runs.
/// - IRQ and FIQ are masked: an exception between loading `ELR_EL2` and leaving would corrupt it.
/// - The vectors of EL2 are those of [`crate::host`].
#[inline]
pub unsafe fn enter(ctx: &mut Context) -> Vector {
    if !enterable(ctx.cpsr, MODES.load(Ordering::Relaxed)) {
        ctx.cpsr = ILLEGAL;
    }
    // SAFETY: ERET goes to EL1 or EL0, as was just made sure; what code there can reach is the caller's contract. The
    // assembly keeps the callee-saved registers, returns on the same stack, and touches of `ctx` only fields that the
    // exclusive borrow covers.
    Vector::from_raw(unsafe { oxen_guest_enter(ctx) })
}
