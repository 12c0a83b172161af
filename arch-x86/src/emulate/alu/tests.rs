//! Against the arithmetic of Rust, on any host. The comparison with a CPU is in `execute::tests::host`.

use super::*;
use proptest::prelude::*;

const NONE: RFlags = RFlags::empty();

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(2), Just(4), Just(8)]
}

fn signed(value: u64, size: usize) -> i128 {
    i128::from(sign_extend(value, size) as i64)
}

fn fits(value: i128, size: usize) -> bool {
    let limit = 1i128 << (8 * size - 1);
    (-limit..limit).contains(&value)
}

proptest! {
    #[test]
    fn sums_and_differences(a: u64, b: u64, carry: bool, size in size()) {
        let (a, b) = (a & mask(size), b & mask(size));
        let flags = if carry { RFlags::CARRY_FLAG } else { NONE };
        let c = i128::from(carry);
        let (sum, after) = binary(Binary::Adc, size, a, b, flags);
        let exact = i128::from(a) + i128::from(b) + c;
        prop_assert_eq!(i128::from(sum), exact & i128::from(mask(size)));
        prop_assert_eq!(after.contains(RFlags::CARRY_FLAG), exact > i128::from(mask(size)));
        let fitting = fits(signed(a, size) + signed(b, size) + c, size);
        prop_assert_eq!(after.contains(RFlags::OVERFLOW_FLAG), !fitting);
        let (difference, after) = binary(Binary::Sbb, size, a, b, flags);
        let exact = i128::from(a) - i128::from(b) - c;
        prop_assert_eq!(i128::from(difference), exact & i128::from(mask(size)));
        prop_assert_eq!(after.contains(RFlags::CARRY_FLAG), exact < 0);
        let fitting = fits(signed(a, size) - signed(b, size) - c, size);
        prop_assert_eq!(after.contains(RFlags::OVERFLOW_FLAG), !fitting);
        let half = (a & 0xf) as i64 - (b & 0xf) as i64 - i64::from(carry);
        prop_assert_eq!(after.contains(RFlags::AUXILIARY_CARRY_FLAG), half < 0);
    }

    #[test]
    fn conditions_are_those_of_a_comparison(a: u64, b: u64, size in size()) {
        let (a, b) = (a & mask(size), b & mask(size));
        let (_, flags) = binary(Binary::Cmp, size, a, b, NONE);
        let (sa, sb) = (signed(a, size), signed(b, size));
        let expected = [(2, a < b), (4, a == b), (6, a <= b), (12, sa < sb), (14, sa <= sb)];
        for (code, holds) in expected {
            prop_assert_eq!(condition(code, flags), holds);
            prop_assert_eq!(condition(code + 1, flags), !holds);
        }
    }

    #[test]
    fn increments_leave_the_carry(a: u64, carry: bool, size in size()) {
        let flags = if carry { RFlags::CARRY_FLAG } else { NONE };
        for (op, like) in [(Unary::Inc, Binary::Add), (Unary::Dec, Binary::Sub)] {
            let (result, after) = unary(op, size, a, flags);
            let (expected, other) = binary(like, size, a, 1, flags);
            prop_assert_eq!(result, expected);
            prop_assert_eq!(after.contains(RFlags::CARRY_FLAG), carry);
            prop_assert_eq!(after - RFlags::CARRY_FLAG, other - RFlags::CARRY_FLAG);
        }
    }

    #[test]
    fn rotations_lose_nothing(a: u64, count: u64, carry: bool, size in size()) {
        let a = a & mask(size);
        let flags = if carry { RFlags::CARRY_FLAG } else { NONE };
        for (there, back) in [(Shift::Rol, Shift::Ror), (Shift::Rcl, Shift::Rcr)] {
            let (turned, after) = shift(there, size, a, count, flags);
            let (result, after) = shift(back, size, turned, count, after);
            prop_assert_eq!(result, a);
            if there == Shift::Rcl {
                prop_assert_eq!(after.contains(RFlags::CARRY_FLAG), carry);
            }
        }
    }

    #[test]
    fn shifts_are_those_of_rust(a: u64, count in 1u64..32, size in size()) {
        let a = a & mask(size);
        prop_assert_eq!(shift(Shift::Shr, size, a, count, NONE).0, a >> count);
        prop_assert_eq!(shift(Shift::Shl, size, a, count, NONE).0, a << count & mask(size));
        let arithmetic = (signed(a, size) >> count) as u64 & mask(size);
        prop_assert_eq!(shift(Shift::Sar, size, a, count, NONE).0, arithmetic);
        // The count has 5 bits, or 6.
        let beyond = count + if size == 8 { 64 } else { 32 };
        prop_assert_eq!(shift(Shift::Shr, size, a, beyond, NONE).0, a >> count);
    }

    #[test]
    fn double_shifts_join_both_values(a: u64, b: u64, count in 1u64..32) {
        let (a32, b32) = (a & mask(4), b & mask(4));
        let (left, _) = double_shift(true, 4, a, b, count, NONE);
        prop_assert_eq!(left, (a32 << 32 | b32) << count >> 32);
        let (right, _) = double_shift(false, 4, a, b, count, NONE);
        prop_assert_eq!(right, (b32 << 32 | a32) >> count & mask(4));
    }

    #[test]
    fn products_are_exact(a: u64, b: u64, size in size()) {
        let (low, high, flags) = wide_multiply(false, size, a, b, NONE);
        let exact = u128::from(a & mask(size)) * u128::from(b & mask(size));
        prop_assert_eq!(u128::from(low) | u128::from(high) << (8 * size), exact);
        prop_assert_eq!(flags.contains(RFlags::CARRY_FLAG), high != 0);
        let (product, flags) = signed_multiply(size, a, b, NONE);
        let exact = signed(a, size) * signed(b, size);
        prop_assert_eq!(product, exact as u64 & mask(size));
        prop_assert_eq!(flags.contains(RFlags::OVERFLOW_FLAG), !fits(exact, size));
    }
}
