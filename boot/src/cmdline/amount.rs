//! Quantities that depend on the machine: memory and vCPUs of dom0.

use super::value::{self, Outcome};

/// An amount of memory, perhaps relative to how much there is: Xen's `[-]<size>`, `<percent>%`, `<size>+<percent>%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Percent of the memory there is, below 100, which come on top.
    pub percent: u8,
    /// The amount is what to leave free.
    pub negative: bool,
}

impl Amount {
    /// An absolute amount.
    pub const fn absolute(bytes: u64) -> Self {
        Self {
            bytes,
            percent: 0,
            negative: false,
        }
    }

    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let (text, negative) = match text.strip_prefix('-') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (size, percent) = match text.strip_suffix('%') {
            None => (Some(text), None),
            Some(text) => match text.split_once('+') {
                Some((size, percent)) => (Some(size), Some(percent)),
                None => (None, Some(text)),
            },
        };
        let percent = match percent {
            None => 0,
            Some(text) => value::number(text)
                .and_then(|percent| u8::try_from(percent).ok())
                .filter(|percent| *percent < 100)
                .ok_or("a percentage is a number below 100")?,
        };
        let bytes = size.map_or(Ok(0), value::size)?;
        Ok(Self {
            bytes,
            percent,
            negative,
        })
    }

    /// Bytes of a machine that has `total`; never more than that.
    pub fn of(&self, total: u64) -> u64 {
        let part = u128::from(total) * u128::from(self.percent) / 100;
        let bytes = u64::try_from(part + u128::from(self.bytes)).unwrap_or(u64::MAX);
        if self.negative {
            total.saturating_sub(bytes)
        } else {
            bytes.min(total)
        }
    }
}

/// `dom0_mem`: how much memory dom0 gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dom0Mem {
    /// The amount meant.
    pub size: Option<Amount>,
    /// At least this.
    pub min: Option<Amount>,
    /// At most this, which also wins over `min`.
    pub max: Option<Amount>,
}

impl Dom0Mem {
    pub(super) fn parse(value: Option<&str>) -> Outcome<Self> {
        let mut parsed = Self::default();
        for entry in value::list(value::required(value)?) {
            if let Some(text) = entry.strip_prefix("min:") {
                parsed.min = Some(Amount::parse(text)?);
            } else if let Some(text) = entry.strip_prefix("max:") {
                parsed.max = Some(Amount::parse(text)?);
            } else {
                parsed.size = Some(Amount::parse(entry)?);
            }
        }
        Ok(parsed)
    }

    /// Bytes that dom0 gets on a machine with `available` bytes to give.
    ///
    /// Without a size: all of it less a reserve, which is the smaller of a sixteenth and 128 MiB, as Xen on x86 does.
    /// (Xen on Arm requires a size.)
    pub fn resolve(&self, available: u64) -> u64 {
        let reserve = (available / 16).min(128 << 20);
        let size = self.size.map_or(available - reserve, |s| s.of(available));
        let size = self.min.map_or(size, |min| size.max(min.of(available)));
        self.max.map_or(size, |max| size.min(max.of(available)))
    }
}

/// `dom0_max_vcpus`: how many vCPUs dom0 gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuRange {
    /// At least this many, even if there are fewer CPUs.
    pub min: Option<u32>,
    /// At most this many; it wins over `min`.
    pub max: Option<u32>,
}

impl VcpuRange {
    pub(super) fn parse(value: Option<&str>) -> Outcome<Self> {
        let text = value::required(value)?;
        let count = |text: &str| value::integer::<u32>(Some(text), 1).map(Some);
        let bound = |text: &str| match text {
            "" => Ok(None),
            text => count(text),
        };
        let range = match text.split_once('-') {
            None if text == "0" => Self::default(),
            None => Self {
                min: count(text)?,
                max: count(text)?,
            },
            Some(("", "")) => return Err("a range has a minimum, a maximum or both"),
            Some((min, max)) => Self {
                min: bound(min)?,
                max: bound(max)?,
            },
        };
        match (range.min, range.max) {
            (Some(min), Some(max)) if min > max => Err("the minimum exceeds the maximum"),
            _ => Ok(range),
        }
    }

    /// vCPUs of dom0 on a machine with `cpus` CPUs; at least 1.
    pub fn resolve(&self, cpus: u32) -> u32 {
        let count = cpus.max(self.min.unwrap_or(1));
        count.min(self.max.unwrap_or(u32::MAX)).max(1)
    }
}
