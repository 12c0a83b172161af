//! Going on after an emulated instruction.

use super::esr::Condition;
use super::spsr;

/// The T32 IT state as `SPSR_EL2` holds it: bits 1:0 at 26:25, bits 7:2 at 15:10 (Arm ARM C5.2.20).
const fn it_state(cpsr: u64) -> u8 {
    ((cpsr >> 10 & 0x3f) << 2 | cpsr >> 25 & 3) as u8
}

const fn with_it_state(cpsr: u64, it: u8) -> u64 {
    let it = it as u64;
    cpsr & !(0x3f << 10 | 3 << 25) | (it >> 2) << 10 | (it & 3) << 25
}

/// `pc` and `cpsr` as they are after the instruction of `len` bytes at `pc` (2 or 4).
///
/// The IT state of T32 moves on as the instruction's own execution would have moved it; a branch type and a pending
/// software step, which the instruction would have consumed, are cleared.
pub const fn skip_instruction(pc: u64, cpsr: u64, len: u64) -> (u64, u64) {
    let next = pc.wrapping_add(len);
    if cpsr & spsr::AARCH32 == 0 {
        return (next, cpsr & !(spsr::SS | spsr::BTYPE));
    }
    let it = it_state(cpsr);
    // The last instruction of a block has its mask's low bits clear; otherwise the mask shifts left.
    let it = if it & 7 == 0 {
        0
    } else {
        it & 0xe0 | (it << 1) & 0x1f
    };
    (next & 0xffff_ffff, with_it_state(cpsr, it) & !spsr::SS)
}

/// Whether a trapped AArch32 instruction would have been executed; CPUs may trap one whose condition fails, and it
/// then does nothing.
///
/// `cpsr` is the state at the trap. True of every AArch64 instruction.
pub const fn condition_passes(condition: Condition, cpsr: u64) -> bool {
    if cpsr & spsr::AARCH32 == 0 {
        return true;
    }
    let cond = if condition.valid {
        condition.cond
    } else {
        let it = it_state(cpsr);
        // Outside an IT block T32 instructions are unconditional.
        if it == 0 { 0xe } else { it >> 4 }
    };
    let (n, z) = (cpsr & spsr::N != 0, cpsr & spsr::Z != 0);
    let (c, v) = (cpsr & spsr::C != 0, cpsr & spsr::V != 0);
    let holds = match cond >> 1 & 7 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (cond & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THUMB: u64 = spsr::USR32 | spsr::T;

    #[test]
    fn a_whole_it_block() {
        // ITTE EQ: firstcond 0000, mask 0110, for three instructions.
        let mut state = (0x1000, with_it_state(THUMB, 0x06));
        let mut seen = std::vec::Vec::new();
        for _ in 0..3 {
            seen.push(it_state(state.1));
            state = skip_instruction(state.0, state.1, 2);
        }
        assert_eq!(seen, [0x06, 0x0c, 0x18]);
        assert_eq!(state, (0x1006, THUMB));
        // The last one's condition is NE.
        assert_eq!(0x18 >> 4, 1);
    }

    #[test]
    fn aarch64_clears_what_the_instruction_consumes() {
        let cpsr = spsr::EL1H | spsr::SS | spsr::BTYPE | spsr::Z;
        assert_eq!(
            skip_instruction(0xffff_ffff_ffff_fffc, cpsr, 4),
            (0, spsr::EL1H | spsr::Z)
        );
    }

    #[test]
    fn conditions() {
        let eq = Condition {
            valid: true,
            cond: 0,
        };
        assert!(condition_passes(eq, spsr::USR32 | spsr::Z));
        assert!(!condition_passes(eq, spsr::USR32));
        assert!(condition_passes(eq, spsr::EL0T));
        let from_it = Condition {
            valid: false,
            cond: 0,
        };
        assert!(condition_passes(from_it, THUMB));
        assert!(!condition_passes(from_it, with_it_state(THUMB, 0x08)));
        assert!(condition_passes(from_it, with_it_state(THUMB, 0x18)));
        let gt = Condition {
            valid: true,
            cond: 0xc,
        };
        assert!(condition_passes(gt, spsr::USR32 | spsr::N | spsr::V));
        assert!(!condition_passes(gt, spsr::USR32 | spsr::N));
    }

    proptest! {
        // A condition and its opposite never agree, except AL and its twin.
        #[test]
        fn opposites(cond in 0u8..14, flags in 0u64..16) {
            let cpsr = spsr::USR32 | flags << 28;
            let passes = |cond| condition_passes(Condition { valid: true, cond }, cpsr);
            prop_assert_ne!(passes(cond), passes(cond ^ 1));
        }

        #[test]
        fn only_the_it_state_changes(cpsr in any::<u32>(), pc: u32) {
            let cpsr = u64::from(cpsr) | spsr::AARCH32;
            let (_, after) = skip_instruction(u64::from(pc), cpsr, 4);
            prop_assert_eq!(with_it_state(after, 0), with_it_state(cpsr, 0) & !spsr::SS);
        }
    }
}
