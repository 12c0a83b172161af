//! The system counter as Oxen's clock, and the EL2 physical timer (CNTHP) of each CPU.
#![expect(unsafe_code, reason = "timer registers that aarch64-cpu does not have")]

use super::clock::Scale;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use core::arch::asm;
use spin::Once;
use tock_registers::interfaces::Readable;
use xen_core::{Error, Result, Time};

#[derive(Debug)]
struct Clock {
    scale: Scale,
    /// Counter value at time 0.
    epoch: u64,
}

static CLOCK: Once<Clock> = Once::new();

const CTL_ENABLE: u64 = 1;
const CTL_ISTATUS: u64 = 1 << 2;

/// Starts the clock; time 0 is the first call. `frequency`: what the device tree says, if it overrides CNTFRQ_EL0.
///
/// # Errors
/// [`Error::Inval`] if the frequency makes no sense.
pub fn init(frequency: Option<u64>) -> Result<()> {
    let scale = Scale::new(frequency.unwrap_or_else(|| CNTFRQ_EL0.get())).ok_or(Error::Inval)?;
    CLOCK.call_once(|| Clock {
        scale,
        epoch: counter(),
    });
    Ok(())
}

/// The system counter, in ticks.
pub fn counter() -> u64 {
    // Without the barrier the read may happen before earlier instructions, and time run backwards.
    barrier::isb(barrier::SY);
    CNTPCT_EL0.get()
}

/// Ticks per second of the system counter; 0 before [`init`].
pub fn frequency() -> u64 {
    CLOCK.get().map_or(0, |c| c.scale.frequency())
}

/// The counter's value at time 0; what a guest's virtual counter offset is computed from.
pub fn epoch() -> u64 {
    CLOCK.get().map_or(0, |c| c.epoch)
}

/// Time since [`init`]; 0 before it.
pub fn now() -> Time {
    CLOCK.get().map_or(Time(0), |c| {
        Time(c.scale.ns(counter().wrapping_sub(c.epoch)))
    })
}

/// The counter's value at which [`now`] has reached `time`.
pub fn ticks_at(time: Time) -> u64 {
    CLOCK
        .get()
        .map_or(u64::MAX, |c| c.scale.ticks(time.0).saturating_add(c.epoch))
}

/// The time at which the counter reads `ticks`; 0 for values before time 0.
pub fn time_at(ticks: u64) -> Time {
    CLOCK
        .get()
        .map_or(Time(0), |c| Time(c.scale.ns(ticks.saturating_sub(c.epoch))))
}

/// Programs this CPU's timer to raise its interrupt once `deadline` is reached, at once if it has passed; `None` and
/// [`Time::NEVER`] switch the timer off. The interrupt stays asserted until the next call.
pub fn set_deadline(deadline: Option<Time>) {
    match deadline {
        Some(time) if time < Time::NEVER => {
            let ticks = ticks_at(time);
            // SAFETY: the EL2 physical timer is Oxen's own and interrupts are masked at EL2.
            unsafe {
                asm!("msr cnthp_cval_el2, {v}", "msr cnthp_ctl_el2, {c}", "isb",
                    v = in(reg) ticks, c = in(reg) CTL_ENABLE, options(nomem, nostack, preserves_flags));
            }
        }
        _ => {
            // SAFETY: as above.
            unsafe {
                asm!(
                    "msr cnthp_ctl_el2, xzr",
                    "isb",
                    options(nomem, nostack, preserves_flags)
                )
            };
        }
    }
}

/// Whether this CPU's timer asserts its interrupt.
pub fn is_due() -> bool {
    let ctl: u64;
    // SAFETY: reading the register has no effect.
    unsafe {
        asm!("mrs {}, cnthp_ctl_el2", out(reg) ctl, options(nomem, nostack, preserves_flags))
    };
    ctl & (CTL_ENABLE | CTL_ISTATUS) == CTL_ENABLE | CTL_ISTATUS
}

/// Waits until `condition` holds, at most `ns` nanoseconds; says whether it held.
pub fn wait_until(ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = now().after(ns);
    // Before the clock runs there is no time, and waiting has to end all the same.
    let mut looks = 0;
    loop {
        if condition() {
            return true;
        }
        looks += 1;
        if now() >= end || (frequency() == 0 && looks > 1_000_000) {
            return false;
        }
        core::hint::spin_loop();
    }
}
