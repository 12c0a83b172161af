//! The ACPI power management timer (ACPI specification, "Power Management Timer"): a counter that software reads.

use xen_core::Time;

/// Its frequency, in Hz.
pub const FREQUENCY: u32 = 3_579_545;

/// A timer of 24 or of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    mask: u32,
}

impl PmTimer {
    /// One of 32 bits, if `wide` (flag `TMR_VAL_EXT` of the FADT).
    pub const fn new(wide: bool) -> Self {
        Self {
            mask: if wide { u32::MAX } else { 0x00ff_ffff },
        }
    }

    /// The counter.
    pub const fn count(&self, now: Time) -> u32 {
        (now.0 as u128 * FREQUENCY as u128 / 1_000_000_000) as u32 & self.mask
    }

    /// IN of 1, 2 or 4 bytes at byte `offset` of the register; bytes behind it are all ones. OUT has no effect.
    pub const fn read(&self, now: Time, offset: u8, size: u8) -> u32 {
        let bytes = 0xffff_ffff_0000_0000 | self.count(now) as u64;
        let value = if offset < 4 {
            (bytes >> (8 * offset)) as u32
        } else {
            u32::MAX
        };
        match size {
            1 => value & 0xff,
            2 => value & 0xffff,
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_is_what_the_specification_says() {
        let timer = PmTimer::new(true);
        assert_eq!(timer.count(Time(1_000_000_000)), FREQUENCY);
        // 24 bits last for 4.69 seconds.
        let narrow = PmTimer::new(false);
        assert_eq!(narrow.count(Time(5_000_000_000)), 5 * FREQUENCY - (1 << 24));
        assert_eq!(timer.count(Time(5_000_000_000)), 5 * FREQUENCY);
        let now = Time(4_000_000_000);
        let count = timer.count(now);
        assert_eq!(timer.read(now, 0, 4), count);
        assert_eq!(timer.read(now, 1, 1), count >> 8 & 0xff);
        assert_eq!(timer.read(now, 3, 2), count >> 24 | 0xff00);
        assert_eq!(timer.read(now, 4, 4), u32::MAX);
    }

    proptest! {
        #[test]
        fn it_never_runs_backwards(start: u64, step in 0u64..2_000_000_000, wide: bool) {
            let timer = PmTimer::new(wide);
            let end = start.saturating_add(step);
            let passed = timer.count(Time(end)).wrapping_sub(timer.count(Time(start)));
            let passed = u64::from(passed & timer.mask);
            let expected = (end - start) * u64::from(FREQUENCY) / 1_000_000_000;
            prop_assert!(passed == expected || passed == expected + 1);
        }
    }
}
