//! Integer operations and their flags (Intel SDM volume 1, appendix A; the instructions' own pages in volume 2).
//!
//! Values are the low 1, 2, 4 or 8 bytes of a `u64`; results have nothing above. Flags that the manuals leave undefined keep
//! their old value, or get that of the hardware's usual behaviour.

use x86_64::registers::rflags::RFlags;

use super::operand::{mask, sign_extend};

/// The flags that arithmetic changes.
pub(super) const STATUS: RFlags = RFlags::CARRY_FLAG
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::OVERFLOW_FLAG);

/// A result, and all flags after it.
pub(super) type Computed = (u64, RFlags);

/// An operation with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    /// As [`Self::Sub`]; the result is dropped.
    Cmp,
    /// As [`Self::And`]; the result is dropped.
    Test,
}

/// An operation with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

/// A shift or rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// What is done to a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

const fn bits(size: usize) -> u32 {
    8 * size as u32
}

const fn top_bit(value: u64, size: usize) -> bool {
    value >> (bits(size) - 1) & 1 != 0
}

/// Sets ZF, SF and PF for a result.
fn of_result(flags: RFlags, result: u64, size: usize) -> RFlags {
    let mut flags = flags;
    flags.set(RFlags::ZERO_FLAG, result == 0);
    flags.set(RFlags::SIGN_FLAG, top_bit(result, size));
    let parity = (result as u8).count_ones().is_multiple_of(2);
    flags.set(RFlags::PARITY_FLAG, parity);
    flags
}

fn add(size: usize, a: u64, b: u64, carry: bool, flags: RFlags) -> Computed {
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = wide as u64 & mask(size);
    let mut flags = of_result(flags, result, size);
    flags.set(RFlags::CARRY_FLAG, wide >> bits(size) != 0);
    flags.set(RFlags::AUXILIARY_CARRY_FLAG, (a ^ b ^ result) & 0x10 != 0);
    let overflow = top_bit((a ^ result) & (b ^ result), size);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

fn subtract(size: usize, a: u64, b: u64, borrow: bool, flags: RFlags) -> Computed {
    let result = a.wrapping_sub(b).wrapping_sub(u64::from(borrow)) & mask(size);
    let mut flags = of_result(flags, result, size);
    let borrowed = u128::from(a) < u128::from(b) + u128::from(borrow);
    flags.set(RFlags::CARRY_FLAG, borrowed);
    flags.set(RFlags::AUXILIARY_CARRY_FLAG, (a ^ b ^ result) & 0x10 != 0);
    let overflow = top_bit((a ^ b) & (a ^ result), size);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

fn logic(size: usize, result: u64, flags: RFlags) -> Computed {
    (result, of_result(flags - STATUS, result, size))
}

/// Computes `a op b`.
pub(super) fn binary(op: Binary, size: usize, a: u64, b: u64, flags: RFlags) -> Computed {
    let (a, b) = (a & mask(size), b & mask(size));
    let carry = flags.contains(RFlags::CARRY_FLAG);
    match op {
        Binary::Add => add(size, a, b, false, flags),
        Binary::Adc => add(size, a, b, carry, flags),
        Binary::Sub | Binary::Cmp => subtract(size, a, b, false, flags),
        Binary::Sbb => subtract(size, a, b, carry, flags),
        Binary::And | Binary::Test => logic(size, a & b, flags),
        Binary::Or => logic(size, a | b, flags),
        Binary::Xor => logic(size, a ^ b, flags),
    }
}

/// Computes `op a`.
pub(super) fn unary(op: Unary, size: usize, a: u64, flags: RFlags) -> Computed {
    let a = a & mask(size);
    let carry = flags & RFlags::CARRY_FLAG;
    match op {
        Unary::Not => (!a & mask(size), flags),
        Unary::Neg => subtract(size, 0, a, false, flags),
        // These two leave CF alone.
        Unary::Inc => {
            let (result, flags) = add(size, a, 1, false, flags);
            (result, (flags - RFlags::CARRY_FLAG) | carry)
        }
        Unary::Dec => {
            let (result, flags) = subtract(size, a, 1, false, flags);
            (result, (flags - RFlags::CARRY_FLAG) | carry)
        }
    }
}

/// Shifts or rotates `a` by a count of which the CPU looks at the low 5 bits (6 for 8 bytes).
pub(super) fn shift(op: Shift, size: usize, a: u64, count: u64, flags: RFlags) -> Computed {
    let a = a & mask(size);
    let count = count as u32 & if size == 8 { 63 } else { 31 };
    if count == 0 {
        return (a, flags);
    }
    match op {
        Shift::Rol | Shift::Ror => rotate(op, size, a, count, flags),
        Shift::Rcl | Shift::Rcr => rotate_through_carry(op, size, a, count, flags),
        Shift::Shl | Shift::Shr | Shift::Sar => shift_out(op, size, a, count, flags),
    }
}

fn rotate(op: Shift, size: usize, a: u64, count: u32, flags: RFlags) -> Computed {
    let width = bits(size);
    let left = match op {
        Shift::Rol => count % width,
        _ => (width - count % width) % width,
    };
    // The value twice, side by side: every rotation is a part of that.
    let twice = u128::from(a) | u128::from(a) << width;
    let result = (twice >> ((width - left) % width)) as u64 & mask(size);
    let mut flags = flags;
    let top = top_bit(result, size);
    let (carry, overflow) = match op {
        Shift::Rol => (result & 1 != 0, top != (result & 1 != 0)),
        _ => (top, top != (result >> (width - 2) & 1 != 0)),
    };
    flags.set(RFlags::CARRY_FLAG, carry);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

fn rotate_through_carry(op: Shift, size: usize, a: u64, count: u32, flags: RFlags) -> Computed {
    let width = bits(size);
    let count = count % (width + 1);
    let mut carry = flags.contains(RFlags::CARRY_FLAG);
    let mut result = a;
    for _ in 0..count {
        let out = match op {
            Shift::Rcl => top_bit(result, size),
            _ => result & 1 != 0,
        };
        result = match op {
            Shift::Rcl => (result << 1 | u64::from(carry)) & mask(size),
            _ => result >> 1 | u64::from(carry) << (width - 1),
        };
        carry = out;
    }
    let mut flags = flags;
    flags.set(RFlags::CARRY_FLAG, carry);
    let top = top_bit(result, size);
    let overflow = match op {
        Shift::Rcl => top != carry,
        _ => top != (result >> (width - 2) & 1 != 0),
    };
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

fn shift_out(op: Shift, size: usize, a: u64, count: u32, flags: RFlags) -> Computed {
    let width = bits(size);
    let (result, carry, overflow) = match op {
        Shift::Shl => {
            let wide = u128::from(a) << count;
            let result = wide as u64 & mask(size);
            let carry = wide >> width & 1 != 0;
            (result, carry, top_bit(result, size) != carry)
        }
        Shift::Shr => (a >> count, a >> (count - 1) & 1 != 0, top_bit(a, size)),
        _ => {
            let value = sign_extend(a, size) as i64;
            let result = (value >> count) as u64 & mask(size);
            (result, value >> (count - 1) & 1 != 0, false)
        }
    };
    let mut flags = of_result(flags, result, size);
    flags.set(RFlags::CARRY_FLAG, carry);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

/// SHLD (`left`) and SHRD: shifts `a`, filling up with bits of `b`.
pub(super) fn double_shift(
    left: bool,
    size: usize,
    a: u64,
    b: u64,
    count: u64,
    flags: RFlags,
) -> Computed {
    let (a, b) = (a & mask(size), b & mask(size));
    let width = bits(size);
    let count = count as u32 & if size == 8 { 63 } else { 31 };
    if count == 0 {
        return (a, flags);
    }
    // A rotation of both values side by side. More than the width, which only 2 bytes can have, is undefined.
    let ring = u128::MAX >> (128 - 2 * width);
    let (result, carry) = if left {
        let wide = u128::from(a) << width | u128::from(b);
        let turned = (wide << count | wide >> (2 * width - count)) & ring;
        ((turned >> width) as u64, turned & 1 != 0)
    } else {
        let wide = u128::from(b) << width | u128::from(a);
        let turned = (wide >> count | wide << (2 * width - count)) & ring;
        (turned as u64 & mask(size), turned >> (2 * width - 1) != 0)
    };
    let mut flags = of_result(flags, result, size);
    flags.set(RFlags::CARRY_FLAG, carry);
    let overflow = top_bit(a ^ result, size);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    (result, flags)
}

/// BT, BTS, BTR, BTC: CF becomes the old bit `index`, modulo the width.
pub(super) fn bit(op: Bit, size: usize, a: u64, index: u64, flags: RFlags) -> Computed {
    let selected = 1u64 << (index % u64::from(bits(size)));
    let mut flags = flags;
    flags.set(RFlags::CARRY_FLAG, a & selected != 0);
    let result = match op {
        Bit::Test => a,
        Bit::Set => a | selected,
        Bit::Reset => a & !selected,
        Bit::Complement => a ^ selected,
    };
    (result, flags)
}

/// IMUL with a result as wide as its operands.
pub(super) fn signed_multiply(size: usize, a: u64, b: u64, flags: RFlags) -> Computed {
    let wide = i128::from(sign_extend(a, size) as i64) * i128::from(sign_extend(b, size) as i64);
    let result = wide as u64 & mask(size);
    let lost = i128::from(sign_extend(result, size) as i64) != wide;
    (result, overflowed(flags, lost))
}

/// MUL and one-operand IMUL: the lower and upper half of the product.
pub(super) fn wide_multiply(
    signed: bool,
    size: usize,
    a: u64,
    b: u64,
    flags: RFlags,
) -> (u64, u64, RFlags) {
    let (wide, lost) = if signed {
        let product =
            i128::from(sign_extend(a, size) as i64) * i128::from(sign_extend(b, size) as i64);
        let low = sign_extend(product as u64 & mask(size), size) as i64;
        (product as u128, i128::from(low) != product)
    } else {
        let product = u128::from(a & mask(size)) * u128::from(b & mask(size));
        (product, product >> bits(size) != 0)
    };
    (
        wide as u64 & mask(size),
        (wide >> bits(size)) as u64 & mask(size),
        overflowed(flags, lost),
    )
}

fn overflowed(flags: RFlags, lost: bool) -> RFlags {
    let mut flags = flags;
    flags.set(RFlags::CARRY_FLAG, lost);
    flags.set(RFlags::OVERFLOW_FLAG, lost);
    flags
}

/// Whether a condition holds: 0 to 15 as in the encoding of SETcc and CMOVcc.
pub(super) fn condition(code: u8, flags: RFlags) -> bool {
    let has = |flag| flags.contains(flag);
    let less = has(RFlags::SIGN_FLAG) != has(RFlags::OVERFLOW_FLAG);
    let holds = match code >> 1 & 7 {
        0 => has(RFlags::OVERFLOW_FLAG),
        1 => has(RFlags::CARRY_FLAG),
        2 => has(RFlags::ZERO_FLAG),
        3 => has(RFlags::CARRY_FLAG) || has(RFlags::ZERO_FLAG),
        4 => has(RFlags::SIGN_FLAG),
        5 => has(RFlags::PARITY_FLAG),
        6 => less,
        _ => less || has(RFlags::ZERO_FLAG),
    };
    holds != (code & 1 != 0)
}

#[cfg(test)]
mod tests;
