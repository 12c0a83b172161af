//! Calls of firmware: HVC and SMC by the SMC calling convention.

use core::arch::asm;

use super::Conduit;

/// What a call left in the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// x0 to x3.
    pub x: [u64; 4],
    /// Whether x4 to x17 have kept their values, as version 1.1 of the convention wants.
    pub kept: bool,
}

/// Calls the firmware by HVC; x0.
pub fn firmware(function: u32, args: [u64; 3]) -> i64 {
    smccc(Conduit::Hvc, function.into(), args).x[0] as i64
}

macro_rules! call {
    ($instruction:literal, $x:ident, $rest:ident) => {
        // SAFETY: all registers that may change are named; what firmware writes to memory is what it was asked to.
        unsafe {
            asm!($instruction, inout("x0") $x[0], inout("x1") $x[1], inout("x2") $x[2], inout("x3") $x[3],
                inout("x4") $rest[0], inout("x5") $rest[1], inout("x6") $rest[2], inout("x7") $rest[3],
                inout("x8") $rest[4], inout("x9") $rest[5], inout("x10") $rest[6], inout("x11") $rest[7],
                inout("x12") $rest[8], inout("x13") $rest[9], inout("x14") $rest[10],
                inout("x15") $rest[11], inout("x16") $rest[12], inout("x17") $rest[13], options(nostack))
        }
    };
}

/// Calls the firmware with all of x0.
pub fn smccc(conduit: Conduit, function: u64, args: [u64; 3]) -> Answer {
    const PATTERN: u64 = 0x0123_4567_89ab_cde0;
    let [a, b, c] = args;
    let mut x = [function, a, b, c];
    let mut rest: [u64; 14] = core::array::from_fn(|n| PATTERN + n as u64);
    match conduit {
        Conduit::Hvc => call!("hvc #0", x, rest),
        Conduit::Smc => call!("smc #0", x, rest),
    }
    Answer {
        x,
        kept: (PATTERN..).zip(rest).all(|(had, has)| had == has),
    }
}

/// An HVC that is nobody's, with the number of a PSCI function that would answer: x0.
pub fn hvc_other(function: u32) -> u64 {
    let result;
    // SAFETY: at worst an exception, which the kernel expects; one instruction is skipped then.
    unsafe {
        asm!("hvc #0x123", "nop", inout("x0") u64::from(function) => result, options(nostack));
    }
    result
}

/// An SMC with another immediate than the calling convention's: x0.
pub fn smc_other(function: u32) -> u64 {
    let result;
    // SAFETY: as for `hvc_other`.
    unsafe {
        asm!("smc #0x123", "nop", inout("x0") u64::from(function) => result, options(nostack));
    }
    result
}
