//! A guest's time-stamp counter: the host's, multiplied by a ratio where the hardware does that, plus an offset.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use xen_abi::domctl::TscMode;
use xen_core::{Error, Result};

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

    /// The number as hardware takes it that has so many bits behind the point.
    pub const fn in_form(self, fraction: u8) -> u64 {
        if self.is_one() {
            return 1 << fraction;
        }
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

/// A ratio that other CPUs read while it is not changed: it only changes while the vCPU is on no CPU.
#[derive(Debug)]
pub(super) struct RatioCell {
    value: AtomicU64,
    fraction: AtomicU8,
}

impl RatioCell {
    pub(super) const fn new(ratio: Ratio) -> Self {
        Self {
            value: AtomicU64::new(ratio.value),
            fraction: AtomicU8::new(ratio.fraction),
        }
    }

    pub(super) fn get(&self) -> Ratio {
        Ratio {
            value: self.value.load(Ordering::Relaxed),
            fraction: self.fraction.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set(&self, ratio: Ratio) {
        self.value.store(ratio.value, Ordering::Relaxed);
        self.fraction.store(ratio.fraction, Ordering::Relaxed);
    }
}

/// Bits behind the point of ratios that are only reckoned with: frequencies of up to 65 thousand times the host's.
const SOFT_FRACTION: u8 = 48;

/// What becomes of a toolstack's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// In Hz.
    pub hz: u64,
    /// What the host's counter is multiplied with.
    pub ratio: Ratio,
    /// Reads exit.
    pub emulated: bool,
}

/// How a counter of `khz`, 0 for the host's frequency, is made in a mode. `native` is the hardware's ratio for a frequency,
/// if it has one. The host's counter is always reliable: it is what the hypervisor's own clock goes by.
///
/// # Errors
/// [`Error::Inval`] for a mode or frequency that there is not.
pub fn choose(
    mode: TscMode,
    khz: u32,
    host: u64,
    native: impl Fn(u64) -> Option<Ratio>,
) -> Result<Choice> {
    let hz = match khz {
        0 => host,
        khz if u64::from(khz) == host / 1000 => host,
        khz => u64::from(khz) * 1000,
    };
    let own = Choice {
        hz: host,
        ratio: Ratio::ONE,
        emulated: false,
    };
    let soft = || {
        let ratio = Ratio::new(hz, host, SOFT_FRACTION, 64).ok_or(Error::Inval)?;
        Ok(Choice {
            hz,
            ratio,
            emulated: true,
        })
    };
    match mode {
        TscMode::NEVER_EMULATE => Ok(own),
        TscMode::DEFAULT => match native(hz) {
            Some(ratio) => Ok(Choice { hz, ratio, ..own }),
            None => soft(),
        },
        TscMode::ALWAYS_EMULATE => soft(),
        _ => Err(Error::Inval),
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
        let value = |ratio: Option<Ratio>| ratio.map(|r| r.in_form(32));
        assert_eq!(value(svm(1_000, 1_000)), Some(1 << 32));
        assert_eq!(value(svm(3_000, 2_000)), Some(3 << 31));
        assert_eq!(Ratio::ONE.in_form(32), 1 << 32);
        assert_eq!(svm(256_000, 1_000), None);
        assert!(svm(255_999, 1_000).is_some());
        assert_eq!(svm(0, 1_000), None);
        assert_eq!(svm(1_000, 0), None);
        assert!(Ratio::ONE.is_one());
        assert_eq!(Ratio::ONE.guest(u64::MAX), u64::MAX);
        assert_eq!(Ratio::ONE.host(7), 7);
    }

    #[test]
    fn how_a_toolstacks_counter_is_made() {
        const HOST: u64 = 2_445_421_337;
        let none = |_| None;
        let scaled = |hz| Ratio::new(hz, HOST, 32, 40);
        let own = Choice {
            hz: HOST,
            ratio: Ratio::ONE,
            emulated: false,
        };
        let exact = |hz| (hz == HOST).then_some(Ratio::ONE);
        for khz in [0, 2_445_421] {
            assert_eq!(choose(TscMode::DEFAULT, khz, HOST, exact), Ok(own));
            assert_eq!(choose(TscMode::NEVER_EMULATE, khz, HOST, none), Ok(own));
            let emulated = choose(TscMode::ALWAYS_EMULATE, khz, HOST, exact).unwrap();
            assert_eq!((emulated.hz, emulated.emulated), (HOST, true));
            assert!(emulated.ratio.is_one());
        }
        // Another machine's: by the hardware if it can, otherwise by hand.
        let native = choose(TscMode::DEFAULT, 3_000_000, HOST, scaled).unwrap();
        assert_eq!((native.hz, native.emulated), (3_000_000_000, false));
        let soft = choose(TscMode::DEFAULT, 3_000_000, HOST, none).unwrap();
        assert_eq!((soft.hz, soft.emulated), (3_000_000_000, true));
        let second = soft.ratio.guest(HOST);
        assert!(second.abs_diff(3_000_000_000) <= 1, "{second}");
        assert_eq!(
            choose(TscMode::NEVER_EMULATE, 3_000_000, HOST, none),
            Ok(own)
        );
        for mode in [TscMode::PVRDTSCP, TscMode(4), TscMode(u32::MAX)] {
            assert_eq!(choose(mode, 0, HOST, exact), Err(Error::Inval));
        }
        assert_eq!(
            choose(TscMode::ALWAYS_EMULATE, u32::MAX, 1000, none),
            Err(Error::Inval)
        );
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
