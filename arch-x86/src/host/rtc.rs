//! The PC's real-time clock (MC146818): what time it was when Oxen started.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "port access"))]

/// The registers of the clock, as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Seconds, minutes, hours, day of the month, month, year of the century.
    pub fields: [u8; 6],
    /// The century; 0 where there is no such register.
    pub century: u8,
    /// Status register B: how the fields are encoded.
    pub status_b: u8,
}

/// Status register B: fields are binary, not decimal digits.
const BINARY: u8 = 1 << 2;
/// Status register B: hours run to 23.
const HOURS_24: u8 = 1 << 1;
/// Of the hours, where they run to 12: afternoon.
const AFTERNOON: u8 = 1 << 7;

impl Registers {
    /// Seconds since 1970 if the clock keeps UTC; `None` for fields that are not a date.
    pub fn unix_time(&self) -> Option<u64> {
        let number = |byte: u8| {
            if self.status_b & BINARY != 0 {
                return Some(u64::from(byte));
            }
            let (tens, ones) = (byte >> 4, byte & 15);
            (tens < 10 && ones < 10).then(|| u64::from(tens * 10 + ones))
        };
        let [second, minute, raw_hour, day, month, year] = self.fields;
        let (second, minute) = (number(second)?, number(minute)?);
        let hour = if self.status_b & HOURS_24 != 0 {
            number(raw_hour)?
        } else {
            let hour = number(raw_hour & !AFTERNOON).filter(|h| (1..=12).contains(h))?;
            hour % 12 + if raw_hour & AFTERNOON != 0 { 12 } else { 0 }
        };
        let (day, month, year) = (number(day)?, number(month)?, number(year)?);
        let century = number(self.century).filter(|c| (19..=30).contains(c));
        let year = match century {
            Some(century) => century * 100 + year,
            None if year < 70 => 2000 + year,
            None => 1900 + year,
        };
        let possible = second < 60
            && minute < 60
            && hour < 24
            && (1970..3100).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day);
        if !possible {
            return None;
        }
        let days = days_before_year(year) - days_before_year(1970)
            + (1..month).map(|m| days_in(year, m)).sum::<u64>()
            + day
            - 1;
        Some(((days * 24 + hour) * 60 + minute) * 60 + second)
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from the year 0 to the first of January of `year`, which is above 0.
const fn days_before_year(year: u64) -> u64 {
    let past = year - 1;
    year * 365 + past / 4 - past / 100 + past / 400
}

/// Reads the clock: seconds since 1970, if it is there and set. `century`: the index of its register, from the FADT; 0 if
/// there is none. Takes at most some milliseconds.
#[cfg(target_arch = "x86_64")]
pub fn read(century: u8) -> Option<u64> {
    // Two readings that agree were not disturbed by an update.
    let mut last = registers(century)?;
    for _ in 0..8 {
        let now = registers(century)?;
        if now == last {
            return now.unix_time();
        }
        last = now;
    }
    None
}

/// Index and data are two accesses.
#[cfg(target_arch = "x86_64")]
static PORTS: spin::Mutex<()> = spin::Mutex::new(());

/// Selects a register, under the lock of the ports; returns the port of its value.
#[cfg(target_arch = "x86_64")]
fn select(_: &spin::MutexGuard<'_, ()>, index: u8) -> x86_64::instructions::port::Port<u8> {
    use x86_64::instructions::port::Port;
    // SAFETY: the index port of the clock. The highest bit of the index keeps NMIs open.
    unsafe { Port::<u8>::new(0x70).write(index & 0x7f) };
    Port::new(0x71)
}

/// Reads a register of the clock, or a byte of the memory behind it; `index` is below 128.
#[cfg(target_arch = "x86_64")]
pub fn read_register(index: u8) -> u8 {
    let ports = PORTS.lock();
    // SAFETY: reading has no effect, but that status register C takes back the clock's interrupt.
    unsafe { select(&ports, index).read() }
}

/// Writes a register of the clock, or a byte of the memory behind it; `index` is below 128.
#[cfg(target_arch = "x86_64")]
pub fn write_register(index: u8, value: u8) {
    let ports = PORTS.lock();
    // SAFETY: the registers reach no memory but the clock's own.
    unsafe { select(&ports, index).write(value) };
}

#[cfg(target_arch = "x86_64")]
fn registers(century: u8) -> Option<Registers> {
    /// Status register A, and its bit that says that the fields are about to change.
    const STATUS_A: u8 = 0x0a;
    const UPDATING: u8 = 1 << 7;
    const STATUS_B: u8 = 0x0b;
    let get = read_register;
    // An update takes 2 ms; a clock that is not there reads as all ones.
    super::clock::wait_until(5_000_000, || get(STATUS_A) & UPDATING == 0).then(|| Registers {
        fields: [0, 2, 4, 7, 8, 9].map(get),
        century: if century == 0 { 0 } else { get(century) },
        status_b: get(STATUS_B),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bcd(fields: [u8; 6], century: u8, status_b: u8) -> Registers {
        Registers {
            fields,
            century,
            status_b,
        }
    }

    #[test]
    fn dates_in_all_encodings() {
        let plain = bcd([0x59, 0x58, 0x23, 0x29, 0x02, 0x24], 0x20, HOURS_24);
        assert_eq!(plain.unix_time(), Some(1_709_251_139));
        let binary = bcd([59, 58, 23, 29, 2, 24], 20, HOURS_24 | BINARY);
        assert_eq!(binary.unix_time(), plain.unix_time());
        let afternoon = bcd([0x59, 0x58, 0x11 | AFTERNOON, 0x29, 0x02, 0x24], 0, 0);
        assert_eq!(afternoon.unix_time(), plain.unix_time());
        let midnight = bcd([0, 0, 0x12, 1, 1, 0x70], 0, 0);
        assert_eq!(midnight.unix_time(), Some(0));
        assert_eq!(
            bcd([0, 0, 0, 1, 1, 0], 0x20, HOURS_24).unix_time(),
            Some(946_684_800)
        );
    }

    #[test]
    fn nonsense_is_no_date() {
        assert_eq!(bcd([0xff; 6], 0xff, 0xff).unix_time(), None);
        assert_eq!(bcd([0; 6], 0, HOURS_24).unix_time(), None);
        assert_eq!(
            bcd([0, 0, 0, 0x29, 2, 0x23], 0x20, HOURS_24).unix_time(),
            None
        );
        assert_eq!(bcd([0x60, 0, 0, 1, 1, 1], 0x20, HOURS_24).unix_time(), None);
        assert_eq!(bcd([0, 0, 0x13, 1, 1, 1], 0x20, 0).unix_time(), None);
        assert_eq!(bcd([0x1a, 0, 0, 1, 1, 1], 0x20, HOURS_24).unix_time(), None);
    }
}
