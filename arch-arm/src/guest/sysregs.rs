//! Reading and writing a system register by its name.
//!
//! The macros are `unsafe` to use because some registers change what memory means; each use says why its own is
//! harmless. Names that assemblers may not know are given by their encoding.

/// Reads a system register.
macro_rules! read {
    ($name:expr) => {{
        let value: u64;
        core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags));
        value
    }};
}

/// Writes a system register.
macro_rules! write {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags));
    }};
}

/// Makes writes of system registers visible to what follows.
macro_rules! isb {
    () => {
        core::arch::asm!("isb", options(nostack, preserves_flags))
    };
}

pub(super) use {isb, read, write};
