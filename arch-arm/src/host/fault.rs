//! The vectors of EL2 and what they save when Oxen itself faults.
#![expect(unsafe_code, reason = "vector table")]

use core::arch::global_asm;
use core::fmt;

#[cfg(target_os = "none")]
global_asm!(include_str!("vectors.S"));

/// State of the CPU at a fatal exception, as `vectors.S` stores it.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct FatalFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// ELR_EL2: the instruction.
    pub elr: u64,
    /// SPSR_EL2: the processor state.
    pub spsr: u64,
    /// ESR_EL2: the reason.
    pub esr: u64,
    /// FAR_EL2: the address, for faults that have one.
    pub far: u64,
    /// HPFAR_EL2: the intermediate physical address of stage-2 faults.
    pub hpfar: u64,
    /// Vector: 0 to 3 synchronous, IRQ, FIQ, SError from EL2; plus 4 with SP_EL0, plus 8 from a 32-bit guest.
    pub kind: u64,
}

const _: () = assert!(size_of::<FatalFrame>() == 304);

impl FatalFrame {
    /// What happened, in words.
    pub fn reason(&self) -> &'static str {
        match (self.kind & 3, self.kind & !3) {
            (_, 8) => "exception from a 32-bit guest",
            (1, _) => "interrupt while interrupts are masked",
            (2, _) => "fast interrupt while interrupts are masked",
            (3, _) => "system error",
            (_, 4) => "exception on SP_EL0",
            _ => exception_class(self.esr),
        }
    }

    /// Whether FAR_EL2 holds an address.
    pub fn has_address(&self) -> bool {
        self.kind & 3 == 0
            && matches!(
                self.esr >> 26 & 0x3f,
                0x20 | 0x21 | 0x22 | 0x24 | 0x25 | 0x34 | 0x35
            )
    }
}

impl fmt::Display for FatalFrame {
    /// The register dump, without what needs the symbol table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pair) in self.x.chunks(3).enumerate() {
            for (j, value) in pair.iter().enumerate() {
                let n = i * 3 + j;
                write!(f, "{}x{n:<2} {value:016x}", if j == 0 { " " } else { "  " })?;
            }
            if i < 10 {
                writeln!(f)?;
            }
        }
        writeln!(f, "  sp  {:016x}", self.sp)?;
        writeln!(
            f,
            " elr {:016x}  spsr {:08x}  esr {:08x}",
            self.elr, self.spsr, self.esr
        )?;
        write!(f, " far {:016x}  hpfar {:010x}", self.far, self.hpfar)
    }
}

/// The exception class of an ESR_EL2 value in words (Arm ARM, D24.2.40).
pub fn exception_class(esr: u64) -> &'static str {
    let read = esr & 1 << 6 == 0;
    match esr >> 26 & 0x3f {
        0x00 => "undefined instruction",
        0x07 => "floating-point or SIMD instruction",
        0x0e => "illegal execution state",
        0x15 => "SVC instruction",
        0x16 => "HVC instruction",
        0x17 => "SMC instruction",
        0x18 => "trapped system register access",
        0x20 | 0x21 => "instruction abort",
        0x22 => "misaligned program counter",
        0x24 | 0x25 if read => "data abort on a read",
        0x24 | 0x25 => "data abort on a write",
        0x26 => "misaligned stack pointer",
        0x2f => "system error",
        0x3c => "BRK instruction",
        _ => "unexpected exception",
    }
}

/// The fault status of an abort in words, with the table level it concerns.
pub fn fault_status(esr: u64) -> (&'static str, Option<u64>) {
    let level = Some(esr & 3);
    match esr & 0x3f {
        0x00..=0x03 => ("address size fault", level),
        0x04..=0x07 => ("translation fault (not mapped)", level),
        0x08..=0x0b => ("access flag fault", level),
        0x0c..=0x0f => ("permission fault", level),
        0x10 => ("external abort", None),
        0x14..=0x17 => ("external abort on a table walk", level),
        0x18 => ("parity or ECC error", None),
        0x21 => ("misaligned access", None),
        0x30 => ("TLB conflict", None),
        _ => ("other fault", None),
    }
}
