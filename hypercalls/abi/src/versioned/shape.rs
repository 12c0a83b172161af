//! A layout as data, and C's rules that turn it into sizes and offsets.

use super::Machine;

/// How a value lies in memory, for every version and machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A number or an array of bytes.
    Scalar {
        /// Bytes.
        size: usize,
        /// Alignment in bytes.
        align: usize,
    },
    /// A number whose width changed.
    Changed {
        /// First version with the later width.
        from: u32,
        /// The number up to then.
        before: &'static Shape,
        /// The number from then on.
        after: &'static Shape,
    },
    /// A structure: its fields one after the other.
    Record {
        /// C type in Xen's public headers, with its `struct`.
        c_type: &'static str,
        /// Fields and explicit padding, in order.
        rules: &'static [Rule],
    },
    /// A union: its members one on top of the other.
    Union {
        /// The members.
        rules: &'static [Rule],
    },
}

/// A field of a structure: who knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// C designator of the field; empty for a level that C does not have, whose fields belong to the level above.
    pub name: &'static str,
    /// The field's layout.
    pub shape: &'static Shape,
    /// First version that has the field.
    pub since: u32,
    /// Last version that has the field.
    pub until: u32,
    /// The machine that has the field; `None` for both.
    pub machine: Option<Machine>,
    /// Whether it has a meaning.
    pub kind: RuleKind,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// It has a meaning.
    Field,
    /// Callers must leave it zero.
    Zero,
    /// Padding that C's alignment alone would not give; of any content, and encoded as zero.
    Skip,
}

impl Rule {
    /// Whether callers of `version` on `machine` have the field.
    pub const fn present(&self, version: u32, machine: Machine) -> bool {
        self.since <= version
            && version <= self.until
            && match self.machine {
                None => true,
                Some(only) => only as u8 == machine as u8,
            }
    }
}

impl Shape {
    /// Bytes for callers of `version` on `machine`.
    pub const fn size(&self, version: u32, machine: Machine) -> usize {
        match *self {
            Self::Scalar { size, .. } => size,
            Self::Changed { .. } => self.at(version).size(version, machine),
            Self::Record { rules, .. } => {
                let (mut end, mut i) = (0, 0);
                while i < rules.len() {
                    if rules[i].present(version, machine) {
                        end = rules[i].shape.place(end, version, machine)
                            + rules[i].shape.size(version, machine);
                    }
                    i += 1;
                }
                end.next_multiple_of(self.align(version, machine))
            }
            Self::Union { rules } => {
                let (mut largest, mut i) = (0, 0);
                while i < rules.len() {
                    let size = rules[i].shape.size(version, machine);
                    if rules[i].present(version, machine) && size > largest {
                        largest = size;
                    }
                    i += 1;
                }
                largest.next_multiple_of(self.align(version, machine))
            }
        }
    }

    /// Alignment in bytes for callers of `version` on `machine`.
    pub const fn align(&self, version: u32, machine: Machine) -> usize {
        match *self {
            Self::Scalar { align, .. } => align,
            Self::Changed { .. } => self.at(version).align(version, machine),
            Self::Record { rules, .. } | Self::Union { rules } => {
                let (mut largest, mut i) = (1, 0);
                while i < rules.len() {
                    let align = rules[i].shape.align(version, machine);
                    if rules[i].present(version, machine) && align > largest {
                        largest = align;
                    }
                    i += 1;
                }
                largest
            }
        }
    }

    /// Where a value goes that follows `end` bytes of others.
    pub const fn place(&self, end: usize, version: u32, machine: Machine) -> usize {
        end.next_multiple_of(self.align(version, machine))
    }

    /// Offset of the field `name`, `None` if callers of `version` on `machine` do not have it.
    ///
    /// A field of a field is named `outer.inner`.
    pub const fn offset(&self, name: &str, version: u32, machine: Machine) -> Option<usize> {
        let (rules, stacked) = match *self {
            Self::Record { rules, .. } => (rules, false),
            Self::Union { rules } => (rules, true),
            _ => return None,
        };
        let (mut end, mut i) = (0, 0);
        while i < rules.len() {
            let rule = &rules[i];
            i += 1;
            if !rule.present(version, machine) {
                continue;
            }
            let at = rule.shape.place(end, version, machine);
            if let Some(rest) = below(name, rule.name) {
                if rest.is_empty() && !rule.name.is_empty() {
                    return Some(at);
                }
                if let Some(inner) = rule.shape.offset(rest, version, machine) {
                    return Some(at + inner);
                }
            }
            if !stacked {
                end = at + rule.shape.size(version, machine);
            }
        }
        None
    }

    /// The shape for `version` of a number whose width changed.
    const fn at(&self, version: u32) -> &Self {
        match *self {
            Self::Changed {
                from,
                before,
                after,
            } => {
                if version < from {
                    before
                } else {
                    after
                }
            }
            _ => self,
        }
    }
}

/// What of the designator `name` is left below `outer`; `None` if it is not below.
const fn below<'a>(name: &'a str, outer: &str) -> Option<&'a str> {
    if outer.is_empty() {
        return Some(name);
    }
    let (whole, start) = (name.as_bytes(), outer.as_bytes());
    if whole.len() < start.len() {
        return None;
    }
    let mut i = 0;
    while i < start.len() {
        if whole[i] != start[i] {
            return None;
        }
        i += 1;
    }
    if whole.len() == start.len() {
        return Some("");
    }
    match name.split_at(start.len()).1.as_bytes()[0] {
        b'.' => Some(name.split_at(start.len() + 1).1),
        _ => None,
    }
}
