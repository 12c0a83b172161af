//! The kinds of values: booleans, integers, sizes, lists. Each error says what was expected.

/// What a setter returns: the text says what was expected.
pub(super) type Outcome<T = ()> = Result<T, &'static str>;

/// A boolean; a missing value means true.
pub(super) fn boolean(value: Option<&str>) -> Outcome<bool> {
    match value {
        None => Ok(true),
        Some(text) => as_boolean(text)
            .ok_or("a boolean is yes, on, true, enable or 1, or no, off, false, disable or 0"),
    }
}

pub(super) fn as_boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "on" | "true" | "enable" | "1" => Some(true),
        "no" | "off" | "false" | "disable" | "0" => Some(false),
        _ => None,
    }
}

/// The value of a parameter that must have one.
pub(super) fn required(value: Option<&str>) -> Outcome<&str> {
    match value {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err("a value is missing"),
    }
}

/// A number without sign: decimal, hexadecimal after `0x`, octal after `0`.
pub(super) fn number(text: &str) -> Option<u64> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
    let (digits, radix) = match (hex, octal) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) => (digits, 8),
        (None, None) => (text, 10),
    };
    // from_str_radix would take a sign.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A number of the parameter's type, at least `min`.
pub(super) fn integer<T: TryFrom<u64> + PartialOrd>(value: Option<&str>, min: T) -> Outcome<T> {
    let number = number(required(value)?)
        .ok_or("a number is decimal, 0x and hexadecimal, or 0 and octal")?;
    let number = T::try_from(number).map_err(|_| "the number is too large")?;
    if number < min {
        return Err("the number is too small");
    }
    Ok(number)
}

/// Bytes that a size with a suffix (B, K, M, G, T; none means K) stands for.
pub(super) fn size(text: &str) -> Outcome<u64> {
    let expected = "a size is a number and B, K, M, G or T; without a letter it counts KiB";
    let last = text.chars().next_back().ok_or(expected)?;
    let (shift, digits) = match last.to_ascii_lowercase() {
        // In a hexadecimal number B is a digit; there is no size in bytes to be had by it.
        'b' if !text.starts_with("0x") => (0, text.strip_suffix(last)),
        'k' => (10, text.strip_suffix(last)),
        'm' => (20, text.strip_suffix(last)),
        'g' => (30, text.strip_suffix(last)),
        't' => (40, text.strip_suffix(last)),
        _ => (10, Some(text)),
    };
    let number = digits
        .filter(|digits| !digits.is_empty())
        .and_then(number)
        .ok_or(expected)?;
    number
        .checked_mul(1 << shift)
        .ok_or("the size is too large")
}

/// The entries of a comma-separated list, empty ones left out.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|entry| !entry.is_empty())
}
