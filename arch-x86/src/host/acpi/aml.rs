//! The one thing that Oxen needs from the firmware's code: how to power off.
//!
//! `\_S5` is a package of small constants (ACPI 6.5, 7.4.2) that firmware writes down as such, so a bounded search for its
//! definition is enough, and there is no interpreter of AML to have bugs: dom0 runs the firmware's code. Where `\_S5` is
//! anything else, this finds nothing, and Oxen says that it cannot power the machine off.

use super::Fields;

/// What goes into the sleep-type fields of the two control registers for a sleep state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepTypes {
    /// For register 1a, 0 to 7.
    pub a: u8,
    /// For register 1b.
    pub b: u8,
}

const NAME_OP: u8 = 0x08;
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const ONES_OP: u8 = 0xff;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;

impl SleepTypes {
    /// Looks for the definition of `\_S5` in the code of a table.
    pub fn find(code: &[u8]) -> Option<Self> {
        let names = code.windows(4).enumerate();
        names
            .filter(|(_, name)| *name == b"_S5_")
            .find_map(|(at, _)| Self::parse(code, at))
    }

    /// Decodes the definition whose name is at `name`.
    fn parse(code: &[u8], name: usize) -> Option<Self> {
        let before = name.checked_sub(1)?;
        let is_name = code.u8(before)? == NAME_OP
            || code.u8(before)? == b'\\' && code.u8(before.checked_sub(1)?)? == NAME_OP;
        if !is_name || code.u8(name + 4)? != PACKAGE_OP {
            return None;
        }
        // The package's length says by its two highest bits how many bytes of it follow.
        let length = name + 5;
        let elements = length + 1 + usize::from(code.u8(length)? >> 6);
        if code.u8(elements)? < 1 {
            return None;
        }
        let (a, next) = constant(code, elements + 1)?;
        let b = if code.u8(elements)? > 1 {
            constant(code, next)?.0
        } else {
            0
        };
        Some(Self { a, b })
    }
}

/// A constant that fits a sleep type, and what comes behind it.
fn constant(code: &[u8], at: usize) -> Option<(u8, usize)> {
    let (value, next) = match code.u8(at)? {
        ZERO_OP => (0, at + 1),
        ONE_OP => (1, at + 1),
        // All bits set, of which the field takes three.
        ONES_OP => (7, at + 1),
        BYTE_PREFIX => (code.u8(at + 1)?.into(), at + 2),
        WORD_PREFIX => (code.u16(at + 1)?.into(), at + 3),
        DWORD_PREFIX => (code.u32(at + 1)?, at + 5),
        _ => return None,
    };
    let value = u8::try_from(value).ok().filter(|v| *v <= 7)?;
    Some((value, next))
}
