//! What stands before each of the hypervisor's lines (`console_timestamps`).

use core::fmt;

use crate::Time;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Kinds of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Timestamps {
    /// None.
    #[default]
    None = 0,
    /// Date and time, in UTC; as [`Timestamps::Boot`] while the wall clock is not known.
    Date = 1,
    /// The same with milliseconds.
    DateMs = 2,
    /// Seconds and microseconds since start-up.
    Boot = 3,
    /// Ticks of the machine's counter, hexadecimal.
    Raw = 4,
}

impl Timestamps {
    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Date,
            2 => Self::DateMs,
            3 => Self::Boot,
            4 => Self::Raw,
            _ => Self::None,
        }
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// System time.
    pub now: fn() -> Time,
    /// The counter that it comes from.
    pub ticks: fn() -> u64,
}

/// Writes a timestamp. `wallclock`: nanoseconds since 1970 at system time 0, or 0 if that is not known.
pub(super) fn write(
    out: &mut dyn fmt::Write,
    kind: Timestamps,
    clock: Clock,
    wallclock: u64,
) -> fmt::Result {
    if kind == Timestamps::None {
        return Ok(());
    }
    if kind == Timestamps::Raw {
        return write!(out, "[{:016x}] ", (clock.ticks)());
    }
    let now = (clock.now)().0;
    if kind == Timestamps::Boot || wallclock == 0 {
        let micros = now % SECOND / 1000;
        return write!(out, "[{:5}.{micros:06}] ", now / SECOND);
    }
    let wall = wallclock.saturating_add(now);
    let seconds = wall / SECOND;
    let (year, month, day) = date(seconds / DAY);
    let time = seconds % DAY;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    write!(
        out,
        "[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
    )?;
    if kind == Timestamps::DateMs {
        write!(out, ".{:03}", wall % SECOND / 1_000_000)?;
    }
    out.write_str("] ")
}

/// The Gregorian date of a day after 1970-01-01: year, month, day of the month.
pub(super) fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March end with the leap day; 400 of them have 146097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 30.6 days each, but for rounding.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day_of_month)
}
