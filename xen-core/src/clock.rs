//! Converts between ticks of a hardware counter and nanoseconds, exactly monotonic and without division.

/// Nanoseconds per second.
const GIGA: u64 = 1_000_000_000;

/// A conversion for one counter frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    frequency: u64,
    to_ns: Ratio,
    to_ticks: Ratio,
}

/// Multiplication by `mult / 2^shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    mult: u64,
    shift: u32,
}

impl Ratio {
    /// The largest ratio not above `numerator / denominator` with a 64-bit multiplier.
    const fn new(numerator: u64, denominator: u64) -> Self {
        let mut shift = 63;
        loop {
            let mult = ((numerator as u128) << shift) / denominator as u128;
            if mult <= u64::MAX as u128 {
                return Self {
                    mult: mult as u64,
                    shift,
                };
            }
            shift -= 1;
        }
    }

    const fn apply(self, value: u64) -> u64 {
        let wide = (value as u128 * self.mult as u128) >> self.shift;
        if wide > u64::MAX as u128 {
            u64::MAX
        } else {
            wide as u64
        }
    }
}

impl Scale {
    /// Conversion for a counter of `frequency` ticks per second; `None` below 1 kHz or above 1 THz, where the
    /// firmware has programmed nonsense.
    pub const fn new(frequency: u64) -> Option<Self> {
        if frequency < 1_000 || frequency > 1_000 * GIGA {
            return None;
        }
        Some(Self {
            frequency,
            to_ns: Ratio::new(GIGA, frequency),
            to_ticks: Ratio::new(frequency, GIGA),
        })
    }

    /// Ticks per second.
    pub const fn frequency(&self) -> u64 {
        self.frequency
    }

    /// Nanoseconds in `ticks`, rounded down.
    pub const fn ns(&self, ticks: u64) -> u64 {
        self.to_ns.apply(ticks)
    }

    /// The fewest ticks that last at least `ns` nanoseconds (by [`Scale::ns`]); `u64::MAX` if there is no such
    /// number.
    pub const fn ticks(&self, ns: u64) -> u64 {
        // Both ratios are rounded down, so this estimate can only be too small, and only by a few.
        let mut ticks = self.to_ticks.apply(ns);
        while self.ns(ticks) < ns {
            match ticks.checked_add(1) {
                Some(t) => ticks = t,
                None => return u64::MAX,
            }
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn even_frequencies_are_exact() {
        let s = Scale::new(62_500_000).unwrap();
        assert_eq!(s.ns(1), 16);
        assert_eq!(s.ns(62_500_000 * 86_400 * 365), 86_400 * 365 * GIGA);
        assert_eq!(s.ticks(17), 2);
        assert_eq!(s.ticks(32), 2);
        assert_eq!(s.ticks(0), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Scale::new(0).is_none());
        assert!(Scale::new(u64::MAX).is_none());
        assert_eq!(Scale::new(1_000).unwrap().ns(u64::MAX), u64::MAX);
        assert_eq!(Scale::new(1_000 * GIGA).unwrap().ticks(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn close_to_the_exact_quotient(frequency in 1_000u64..10_000_000_000, ticks in 0u64..1 << 56) {
            let s = Scale::new(frequency).unwrap();
            let exact = (u128::from(ticks) * u128::from(GIGA) / u128::from(frequency)).min(u128::from(u64::MAX)) as u64;
            let got = s.ns(ticks);
            prop_assert!(got <= exact && exact - got <= 1 + (exact >> 40), "{} {}", got, exact);
        }

        #[test]
        fn monotonic(frequency in 1_000u64..10_000_000_000, ticks in 0u64..u64::MAX) {
            let s = Scale::new(frequency).unwrap();
            prop_assert!(s.ns(ticks) <= s.ns(ticks + 1));
        }

        #[test]
        fn a_deadline_is_not_early_and_not_late(frequency in 1_000u64..10_000_000_000, ns in 1u64..1 << 60) {
            let s = Scale::new(frequency).unwrap();
            let t = s.ticks(ns);
            prop_assert!(s.ns(t) >= ns);
            prop_assert!(s.ns(t - 1) < ns);
        }
    }
}
