//! A guest's time-stamp counter: the host's, multiplied by a ratio where the hardware does that, plus an offset.

/// The ratio, as a fixed-point number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The number, times 2^`fraction`; not 0.
    value: u64,
    /// Bits behind the point, at most 63.
    fraction: u8,
}

impl Ratio {
    /// As fast as the host's.
    pub const ONE: Self = Self {
        value: 1,
        fraction: 0,
    };

    /// The ratio that makes `guest` Hz of `host` Hz, with `fraction` bits behind the point and `bits` in all, as the
    /// hardware has them. `None` if it does not fit, or is nothing.
    pub const fn new(guest: u64, host: u64, fraction: u8, bits: u8) -> Option<Self> {
        if host == 0 || fraction > 63 || bits > 64 {
            return None;
        }
        let scaled = (guest as u128) << fraction;
        // To the nearest.
        let value = (scaled + host as u128 / 2) / host as u128;
        if value == 0 || value >> bits != 0 {
            return None;
        }
        Some(Self {
            value: value as u64,
            fraction,
        })
    }

    /// The number as the hardware takes it.
    pub const fn value(self) -> u64 {
        self.value
    }

    /// Whether the guest's counter is as fast as the host's.
    pub const fn is_one(self) -> bool {
        self.value == 1 << self.fraction
    }

    /// What so many of the host's ticks are of the guest's, modulo 2^64, as the hardware reckons.
    pub const fn guest(self, ticks: u64) -> u64 {
        if self.is_one() {
            return ticks;
        }
        ((ticks as u128 * self.value as u128) >> self.fraction) as u64
    }

    /// How many of the host's ticks it takes until so many of the guest's have passed; [`u64::MAX`] for too many.
    pub const fn host(self, ticks: u64) -> u64 {
        if self.is_one() {
            return ticks;
        }
        let host = ((ticks as u128) << self.fraction).div_ceil(self.value as u128);
        if host > u64::MAX as u128 {
            u64::MAX
        } else {
            host as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_that_the_hardware_does_not_have() {
        // SVM's: 8 bits before the point, 32 behind it.
        let svm = |guest, host| Ratio::new(guest, host, 32, 40);
        assert_eq!(svm(1_000, 1_000).map(Ratio::value), Some(1 << 32));
        assert_eq!(svm(3_000, 2_000).map(Ratio::value), Some(3 << 31));
        assert_eq!(svm(256_000, 1_000), None);
        assert!(svm(255_999, 1_000).is_some());
        assert_eq!(svm(0, 1_000), None);
        assert_eq!(svm(1_000, 0), None);
        assert!(Ratio::ONE.is_one());
        assert_eq!(Ratio::ONE.guest(u64::MAX), u64::MAX);
        assert_eq!(Ratio::ONE.host(7), 7);
    }

    proptest! {
        #[test]
        fn the_way_back_is_the_first_tick_that_is_enough(
            guest in 1_000_000u64..10_000_000_000, host in 100_000_000u64..10_000_000_000, ticks in 1u64..1 << 50
        ) {
            let ratio = Ratio::new(guest, host, 32, 40).unwrap();
            let needed = ratio.host(ticks);
            prop_assert!(ratio.guest(needed) >= ticks);
            prop_assert!(ratio.guest(needed - 1) < ticks);
        }
    }
}
