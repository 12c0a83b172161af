//! The frequency of one counter from readings of it and of a counter whose frequency is known.

/// A reading of both counters: the known one was read between two readings of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The counter to be measured, before and after.
    pub target: [u64; 2],
    /// The reference, modulo its width.
    pub reference: u64,
}

impl Sample {
    /// How far apart the two readings of the target are: how imprecise the sample is.
    pub const fn width(&self) -> u64 {
        self.target[1].wrapping_sub(self.target[0])
    }

    /// The best of some samples.
    pub fn best(samples: impl IntoIterator<Item = Self>) -> Option<Self> {
        samples.into_iter().min_by_key(Self::width)
    }

    const fn middle(&self) -> u64 {
        self.target[0].wrapping_add(self.width() / 2)
    }
}

/// Ticks per second of the target between two samples, not longer apart than the reference takes to wrap. `mask`: the
/// bits of the reference that count; `frequency`: its ticks per second. `None` if either of them stood still.
pub fn frequency(from: &Sample, to: &Sample, mask: u64, frequency: u64) -> Option<u64> {
    let reference = to.reference.wrapping_sub(from.reference) & mask;
    let target = to.middle().wrapping_sub(from.middle());
    if reference == 0 || target == 0 {
        return None;
    }
    u64::try_from(u128::from(target) * u128::from(frequency) / u128::from(reference)).ok()
}

/// Which frequency to believe: what the CPU says of itself is more exact than a measurement, if they agree to 1 %.
/// Returns it, and whether the CPU's word was taken.
pub fn settle(announced: Option<u64>, measured: Option<u64>) -> Option<(u64, bool)> {
    match (announced, measured) {
        (Some(said), Some(seen)) => {
            let agrees = said.abs_diff(seen) <= seen / 100;
            Some(if agrees { (said, true) } else { (seen, false) })
        }
        (Some(said), None) => Some((said, true)),
        (None, Some(seen)) => Some((seen, false)),
        (None, None) => None,
    }
}

/// The middle of some measurements.
pub fn median(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The frequency that CPUID says the time-stamp counter has: leaf 0x15 (`crystal`: EAX denominator, EBX numerator, ECX
/// Hz of the crystal) or leaf 0x4000_0010 of a hypervisor (kHz). Zero is "does not say".
pub const fn announced(crystal: [u32; 3], hypervisor_khz: u32) -> Option<u64> {
    let [denominator, numerator, hz] = crystal;
    if denominator != 0 && numerator != 0 && hz != 0 {
        return Some(hz as u64 * numerator as u64 / denominator as u64);
    }
    if hypervisor_khz != 0 {
        return Some(hypervisor_khz as u64 * 1000);
    }
    None
}

/// `tsc_to_system_mul` and `tsc_shift` of Xen's `vcpu_time_info` for a counter of `frequency` (above 0): nanoseconds
/// are `((ticks << shift) * mul) >> 32`, a negative shift to the right.
pub const fn time_info_ratio(frequency: u64) -> (u32, i8) {
    let mut shift: i8 = 0;
    let mut hz = frequency;
    // The multiplier is 2^32 * 10^9 / hz and has its highest bit set when hz is in 10^9..2 * 10^9.
    while hz > 2_000_000_000 {
        hz >>= 1;
        shift -= 1;
    }
    let mut scaled = frequency as u128;
    while scaled > 0 && scaled <= 1_000_000_000 && shift < 31 {
        scaled <<= 1;
        shift += 1;
    }
    let scaled = if shift < 0 {
        // 2^32 * 10^9 / (frequency / 2^-shift), without losing the bits that were shifted out.
        ((1_000_000_000u128) << (32 + (-shift) as u32)) / frequency as u128
    } else {
        ((1_000_000_000u128) << 32) / scaled
    };
    let mul = if scaled > u32::MAX as u128 {
        u32::MAX
    } else {
        scaled as u32
    };
    (mul, shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn sample(target: u64, reference: u64) -> Sample {
        Sample {
            target: [target, target + 10],
            reference,
        }
    }

    #[test]
    fn wrapping_references_measure() {
        let (from, to) = (sample(1000, 0xff_fff0), sample(101_000, 0x10));
        assert_eq!(
            frequency(&from, &to, 0xff_ffff, 1_000_000),
            Some(3_125_000_000)
        );
        assert_eq!(frequency(&from, &from, 0xff_ffff, 1_000_000), None);
        assert_eq!(frequency(&sample(5, 1), &sample(5, 2), 0xff, 1), None);
        let sharp = Sample {
            target: [7, 8],
            reference: 1,
        };
        assert_eq!(Sample::best([from, sharp, to]), Some(sharp));
    }

    #[test]
    fn the_cpus_word_counts_if_a_clock_agrees() {
        assert_eq!(settle(Some(3_000), Some(3_020)), Some((3_000, true)));
        assert_eq!(settle(Some(3_000), Some(100)), Some((100, false)));
        assert_eq!(settle(Some(3_000), None), Some((3_000, true)));
        assert_eq!(settle(None, Some(5)), Some((5, false)));
        assert_eq!(settle(None, None), None);
        assert_eq!(median(&mut [9, 1, 5]), Some(5));
        assert_eq!(median(&mut []), None);
        assert_eq!(announced([2, 250, 24_000_000], 7), Some(3_000_000_000));
        assert_eq!(announced([2, 250, 0], 7), Some(7000));
        assert_eq!(announced([0, 0, 0], 0), None);
    }

    proptest! {
        #[test]
        fn the_ratio_for_guests_is_close(hz in 1_000_000u64..20_000_000_000, ticks in 0u64..1 << 40) {
            let (mul, shift) = time_info_ratio(hz);
            prop_assert!(mul >= 1 << 31, "{:#x}", mul);
            let shifted = if shift < 0 { ticks >> -shift } else { ticks << shift };
            let ns = (u128::from(shifted) * u128::from(mul)) >> 32;
            let exact = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
            let slack = 20 + (exact >> 30);
            prop_assert!(ns <= exact + 1 && exact <= ns + slack + (16_000_000_000 / u128::from(hz) + 1), "{} {}", ns, exact);
        }
    }
}
