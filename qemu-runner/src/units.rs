//! Sizes as people write them: `512M`, `2G`, `64K`, plain bytes.

use anyhow::{Context as _, Result, bail};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// A number of bytes, written with an optional K, M, G or T (powers of 1024), optionally followed by `iB` or `B`.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .with_context(|| format!("not a size: `{text}` (examples: 512M, 2G)"))?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if !unit.starts_with('i') => 1,
        "k" => KIB,
        "m" => MIB,
        "g" => GIB,
        "t" => GIB * 1024,
        _ => bail!("unknown unit `{unit}` in the size `{text}` (K, M, G or T)"),
    };
    number
        .checked_mul(factor)
        .with_context(|| format!("the size `{text}` is too large"))
}

/// The shortest exact form, as QEMU and Xen's command line take it.
pub(crate) fn format_size(bytes: u64) -> String {
    for (unit, factor) in [("G", GIB), ("M", MIB), ("K", KIB)] {
        if bytes != 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// `value` rounded up to a multiple of `align`, which is a power of two.
pub(crate) fn align_up(value: u64, align: u64) -> u64 {
    debug_assert!(align.is_power_of_two());
    value.saturating_add(align - 1) & !(align - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("16K", 16384),
            ("512m", 512 * MIB),
            ("2GiB", 2 * GIB),
            ("1 MB", MIB),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn bad_sizes_are_refused() {
        for text in [
            "",
            "M",
            "12X",
            "-1M",
            "1.5G",
            "99999999999999999999",
            "18446744073709551615G",
            "3iB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formatting_is_exact() {
        assert_eq!(format_size(2 * GIB), "2G");
        assert_eq!(format_size(GIB + MIB), "1025M");
        assert_eq!(format_size(3 * KIB), "3K");
        assert_eq!(format_size(1025), "1025");
        assert_eq!(format_size(0), "0");
    }

    #[test]
    fn aligning() {
        assert_eq!(align_up(0, 4096), 0);
        assert_eq!(align_up(1, 4096), 4096);
        assert_eq!(align_up(4096, 4096), 4096);
    }
}
