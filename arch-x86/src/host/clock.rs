//! System time: the time-stamp counter, from when [`init`] was called on.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]

use spin::Once;
use xen_core::clock::Scale;
use xen_core::{Error, Result, Time};

use super::calibrate::{self, Sample};
use super::{cpu, pit};

/// The counter's conversion and its value at time 0.
static CLOCK: Once<Clock> = Once::new();

#[derive(Clone, Copy, Debug)]
struct Clock {
    scale: Scale,
    start: u64,
}

/// How long each measurement lasts, in ticks of the reference per second: 10 ms.
const MEASUREMENT: u64 = 100;
/// Number of measurements, of which the median counts.
const MEASUREMENTS: usize = 3;
/// Readings for one sample; the one that was least disturbed counts.
const READINGS: usize = 5;
/// Reads of a reference that may pass without its moving before it counts as dead.
const PATIENCE: u32 = 100_000_000;

/// A counter whose frequency is known.
pub struct Reference<'a> {
    /// What it is, for the log.
    pub name: &'static str,
    /// Ticks per second.
    pub frequency: u64,
    /// Its bits that count.
    pub mask: u64,
    /// Reads it.
    pub read: &'a dyn Fn() -> u64,
}

impl core::fmt::Debug for Reference<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({} Hz)", self.name, self.frequency)
    }
}

/// The time-stamp counter now. Not ordered with other instructions.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: has no effect but on registers.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The time-stamp counter after all that came before was done.
pub fn tsc_ordered() -> u64 {
    // SAFETY: fences and reading a counter.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        let now = core::arch::x86_64::_rdtsc();
        core::arch::x86_64::_mm_lfence();
        now
    }
}

/// Finds the counter's frequency by the first of `references` that runs, or else by the 8254, and by what the CPU says,
/// and starts system time.
///
/// # Errors
/// [`Error::NoDev`] if nothing tells the frequency, or only nonsense.
pub fn init(references: &[Reference<'_>]) -> Result<()> {
    let announced = cpu::announced_tsc_frequency();
    let mut by = "";
    let measured = references
        .iter()
        .find_map(|r| measure(r).inspect(|_| by = r.name))
        .or_else(|| {
            pit::start();
            let pit = Reference {
                name: "the 8254 timer",
                frequency: pit::FREQUENCY,
                mask: pit::MASK,
                read: &pit::ticks,
            };
            measure(&pit).inspect(|_| by = pit.name)
        });
    let (frequency, said) = calibrate::settle(announced, measured).ok_or(Error::NoDev)?;
    if let (Some(announced), false) = (announced, said) {
        log::warn!(
            "The CPU says that its TSC has {announced} Hz, but {by} measures {frequency} Hz"
        );
    }
    let scale = Scale::new(frequency).ok_or(Error::NoDev)?;
    CLOCK.call_once(|| Clock {
        scale,
        start: tsc_ordered(),
    });
    let source = if said { "as the CPU says" } else { by };
    log::info!(
        "Clock: TSC at {}.{:03} MHz, {}{source}",
        frequency / 1_000_000,
        frequency / 1_000 % 1_000,
        if said { "" } else { "measured by " },
    );
    if !cpu::features().invariant_tsc {
        log::warn!("The TSC may change its speed when the CPU saves power: time may be wrong");
    }
    Ok(())
}

fn measure(reference: &Reference<'_>) -> Option<u64> {
    let mut results = [0; MEASUREMENTS];
    for result in &mut results {
        *result = measure_once(reference)?;
    }
    calibrate::median(&mut results)
}

fn measure_once(reference: &Reference<'_>) -> Option<u64> {
    let sample = || {
        let before = tsc_ordered();
        let now = (reference.read)() & reference.mask;
        Sample {
            target: [before, tsc_ordered()],
            reference: now,
        }
    };
    let best = || Sample::best((0..READINGS).map(|_| sample()));
    let from = best()?;
    let wanted = reference.frequency / MEASUREMENT;
    let mut still = 0;
    let mut last = from.reference;
    loop {
        let now = (reference.read)() & reference.mask;
        still = if now == last { still + 1 } else { 0 };
        last = now;
        if now.wrapping_sub(from.reference) & reference.mask >= wanted {
            break;
        }
        if still > PATIENCE || still > 100_000 && now == reference.mask {
            return None;
        }
    }
    calibrate::frequency(&from, &best()?, reference.mask, reference.frequency)
}

/// The running clock; before [`init`] the counter counts as nanoseconds, for what is said and waited for until then.
fn clock() -> Clock {
    CLOCK.get().copied().unwrap_or(Clock {
        scale: const {
            match Scale::new(1_000_000_000) {
                Some(scale) => scale,
                None => panic!("1 GHz is a frequency"),
            }
        },
        start: 0,
    })
}

/// System time.
#[inline]
pub fn now() -> Time {
    let clock = clock();
    Time(clock.scale.ns(tsc().saturating_sub(clock.start)))
}

/// Value of the time-stamp counter at a system time, for [`super::timer::set`]; [`u64::MAX`] for one too far away.
pub fn tsc_at(time: Time) -> u64 {
    let clock = clock();
    clock.start.saturating_add(clock.scale.ticks(time.0))
}

/// System time at a value of the time-stamp counter; 0 for one before [`init`].
pub fn time_at(tsc: u64) -> Time {
    let clock = clock();
    Time(clock.scale.ns(tsc.saturating_sub(clock.start)))
}

/// Ticks of the time-stamp counter per second.
pub fn frequency() -> u64 {
    clock().scale.frequency()
}

/// `tsc_to_system_mul` and `tsc_shift` of `vcpu_time_info`, for a counter of so many Hz.
pub fn time_info_ratio(hz: u64) -> (u32, i8) {
    calibrate::time_info_ratio(hz)
}

/// Waits until `done` or for `ns` nanoseconds; says whether `done` came true.
pub fn wait_until(ns: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = tsc().saturating_add(clock().scale.ticks(ns));
    loop {
        if done() {
            return true;
        }
        if tsc() >= end {
            return done();
        }
        core::hint::spin_loop();
    }
}

/// Waits for `ns` nanoseconds.
pub fn delay(ns: u64) {
    wait_until(ns, || false);
}
