//! The one-shot timer of each CPU: the local APIC's, by deadline where the CPU can, else by counting.
#![expect(unsafe_code, reason = "the deadline's register")]

use core::sync::atomic::{AtomicU64, Ordering};

use xen_core::clock::Scale;
use xen_core::{Error, Result, Time};

use super::calibrate::{self, Sample};
use super::{clock, cpu, interrupts, lapic, msr, percpu};

/// Frequency of the local APIC's timer; 0 while deadlines are used.
static COUNT_FREQUENCY: AtomicU64 = AtomicU64::new(0);
/// How long the APIC's timer is measured, in nanoseconds.
const MEASUREMENT: u64 = 10_000_000;

/// Chooses how the timer works, and measures it if need be, on the boot CPU, after the local APIC and the clock were
/// initialised. Ends with a test that the timer interrupts.
///
/// # Errors
/// [`Error::NoDev`] if the timer does not count or does not interrupt.
pub fn init() -> Result<()> {
    let by_deadline = cpu::features().tsc_deadline;
    if !by_deadline {
        let frequency = measure().ok_or(Error::NoDev)?;
        Scale::new(frequency).ok_or(Error::NoDev)?;
        COUNT_FREQUENCY.store(frequency, Ordering::Relaxed);
        log::info!(
            "Timer: local APIC at {}.{:03} MHz",
            frequency / 1_000_000,
            frequency / 1_000 % 1_000
        );
    } else {
        log::info!("Timer: TSC deadline");
    }
    init_cpu();
    self_test()
}

/// Prepares the timer of this CPU; it is stopped.
pub fn init_cpu() {
    if COUNT_FREQUENCY.load(Ordering::Relaxed) == 0 {
        lapic::timer_by_deadline();
    } else {
        lapic::timer_by_count(false);
    }
    set(None);
}

/// Lets [`interrupts::TIMER`] arrive on this CPU when the time-stamp counter reaches `deadline`, at once if it has;
/// `None` stops the timer. One that was recorded before stays so.
pub fn set(deadline: Option<u64>) {
    match COUNT_FREQUENCY.load(Ordering::Relaxed) {
        0 => {
            // 0 would disarm.
            let value = deadline.map_or(0, |d| d.max(1));
            // SAFETY: interrupts by the timer's vector, which the table of vectors has, are all that can come of it.
            unsafe { msr::write(msr::TSC_DEADLINE, value) };
        }
        frequency => {
            let count = deadline.map_or(0, |d| {
                count_for(
                    d.saturating_sub(clock::tsc()),
                    clock::frequency(),
                    frequency,
                )
            });
            lapic::set_timer_count(count);
        }
    }
}

/// As [`set`], by system time; [`Time::NEVER`] stops the timer.
pub fn set_time(deadline: Time) {
    set((deadline != Time::NEVER).then(|| clock::tsc_at(deadline)));
}

/// Ticks of a timer at `frequency` that last for `ticks` of a counter at `tsc_frequency`: at least 1, at most what fits.
/// A timer that ends too soon for a distant deadline is set again by who looks at the time then.
fn count_for(ticks: u64, tsc_frequency: u64, frequency: u64) -> u32 {
    let exact =
        (u128::from(ticks) * u128::from(frequency)).div_ceil(u128::from(tsc_frequency.max(1)));
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

fn measure() -> Option<u64> {
    lapic::timer_by_count(true);
    lapic::set_timer_count(u32::MAX);
    let sample = || {
        let before = clock::tsc_ordered();
        let count = u64::from(u32::MAX - lapic::timer_count());
        // The roles are swapped: the counter to be measured is the one in the middle.
        Sample {
            target: [before, clock::tsc_ordered()],
            reference: count,
        }
    };
    let from = sample();
    clock::delay(MEASUREMENT);
    let to = sample();
    lapic::set_timer_count(0);
    let tsc = to.target[0].wrapping_sub(from.target[0]);
    let count = Sample {
        target: [to.reference; 2],
        reference: tsc,
    };
    let zero = Sample {
        target: [from.reference; 2],
        reference: 0,
    };
    calibrate::frequency(&zero, &count, u64::MAX, clock::frequency())
}

/// Sets the timer a moment ahead and sees whether it comes.
fn self_test() -> Result<()> {
    set(Some(clock::tsc_at(Time(clock::now().0 + 100_000))));
    let came = clock::wait_until(1_000_000_000, interrupts::pending);
    set(None);
    let mut is_timer = false;
    while let Some(vector) = interrupts::take() {
        is_timer |= vector == interrupts::TIMER;
    }
    if came && is_timer {
        Ok(())
    } else {
        log::error!(
            "CPU {}: the local APIC's timer does not interrupt",
            percpu::cpu_id()
        );
        Err(Error::NoDev)
    }
}

#[cfg(test)]
mod tests {
    use super::count_for;

    #[test]
    fn counts_round_up_and_stay_in_range() {
        assert_eq!(count_for(0, 3_000, 1_000), 1);
        assert_eq!(count_for(3_001, 3_000, 1_000), 1_001);
        assert_eq!(count_for(u64::MAX, 3_000, 1_000), u32::MAX);
    }
}
