//! Values in and out of a caller's bytes.

use super::{DecodeError, Machine, Rule, RuleKind, Shape};
use crate::Handle;
use core::ops::Range;

/// A value with a place in a caller's structure.
///
/// `version` is the domctl interface version for what domctl and sysctl share, else the one of the value's own family.
pub trait Wire: Sized {
    /// How it lies in memory.
    const SHAPE: Shape;

    /// The value of a field that the caller does not know: zero, unless its type says otherwise.
    fn absent() -> Self;

    /// Reads the value from its bytes.
    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError>;

    /// Writes the value over its bytes; bytes that no field covers stay.
    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine);
}

/// A value that the caller may not know.
impl<T: Wire> Wire for Option<T> {
    const SHAPE: Shape = T::SHAPE;

    fn absent() -> Self {
        None
    }

    fn get(bytes: &[u8], version: u32, machine: Machine) -> Result<Self, DecodeError> {
        T::get(bytes, version, machine).map(Some)
    }

    fn put(&self, bytes: &mut [u8], version: u32, machine: Machine) {
        match self {
            Some(value) => value.put(bytes, version, machine),
            None => bytes.fill(0),
        }
    }
}

scalars! { u8, u16, u32, i32, u64, i64, Handle, [u8; 16], [u32; 8], [u64; 31] }

/// A walk along the fields of a structure, in their order.
#[derive(Debug)]
pub struct Walk {
    rules: core::slice::Iter<'static, Rule>,
    end: usize,
    version: u32,
    machine: Machine,
}

impl Walk {
    /// Starts at the first of `rules`.
    pub fn new(rules: &'static [Rule], version: u32, machine: Machine) -> Self {
        Self {
            rules: rules.iter(),
            end: 0,
            version,
            machine,
        }
    }

    /// Where the next field lies; `None` where the caller does not have it.
    fn next(&mut self) -> Option<(Range<usize>, RuleKind)> {
        let rule = self.rules.next()?;
        if !rule.present(self.version, self.machine) {
            return None;
        }
        let at = rule.shape.place(self.end, self.version, self.machine);
        self.end = at + rule.shape.size(self.version, self.machine);
        Some((at..self.end, rule.kind))
    }

    /// Reads the next field; `None` where the caller does not have it.
    pub fn get<T: Wire>(&mut self, bytes: &[u8]) -> Result<Option<T>, DecodeError> {
        match self.next() {
            None => Ok(None),
            Some((range, _)) => {
                let bytes = bytes.get(range).ok_or(DecodeError::Short)?;
                T::get(bytes, self.version, self.machine).map(Some)
            }
        }
    }

    /// Writes the next field, where the caller has it.
    pub fn put<T: Wire>(&mut self, value: &T, bytes: &mut [u8]) {
        if let Some((range, _)) = self.next()
            && let Some(bytes) = bytes.get_mut(range)
        {
            value.put(bytes, self.version, self.machine);
        }
    }

    /// Checks the next field, which is padding.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        match self.next() {
            Some((range, RuleKind::Zero)) => {
                let bytes = bytes.get(range).ok_or(DecodeError::Short)?;
                match bytes.iter().all(|byte| *byte == 0) {
                    true => Ok(()),
                    false => Err(DecodeError::Reserved),
                }
            }
            _ => Ok(()),
        }
    }

    /// Writes zeros over the next field, which is padding.
    pub fn clear(&mut self, bytes: &mut [u8]) {
        if let Some((range, _)) = self.next()
            && let Some(bytes) = bytes.get_mut(range)
        {
            bytes.fill(0);
        }
    }
}
