//! The table of operations: numbers, who has them, and who may use them.

use super::{Machine, Shape, Wire};

/// The versions in which callers have an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First version.
    pub first: u32,
    /// Last version; `u32::MAX` for an operation that was not removed.
    pub last: u32,
}

impl Span {
    /// No version at all: the number is reserved.
    pub const NONE: Self = Self { first: 1, last: 0 };

    /// Whether `version` is among them.
    pub const fn contains(self, version: u32) -> bool {
        self.first <= version && version <= self.last
    }

    /// Whether there is no version.
    pub const fn is_empty(self) -> bool {
        self.first > self.last
    }
}

/// Whom an operation is for. Nobody else may learn from its answer whether a domain exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The domain that controls the others.
    Control,
    /// The target's device model, and the domain that controls the others.
    DeviceModel,
    /// The domain that runs xenstore, and the domain that controls the others.
    Xenstore,
}

/// What the field `domain` of a domctl means to an operation; sysctls have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// There is no such field, or it is not looked at.
    Host,
    /// A domain that exists; `-ESRCH` for another.
    Domain,
    /// The identifier wanted for a new domain; 0 and reserved identifiers ask for a free one. Written back.
    New,
    /// A domain, or the next one above it for callers that walk ([`crate::domctl::Interface::finds_next`]). Written
    /// back.
    Next,
    /// A domain, or `DOMID_INVALID` for none in particular; written back where the operation finds one.
    DomainOrNone,
    /// A domain, or `DOMID_IO` for devices in quarantine.
    DomainOrIo,
}

/// An operation of domctl or sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its number.
    pub number: u32,
    /// Its name in Xen's public headers, in full.
    pub name: &'static str,
    /// Versions in which x86-64 callers have it.
    pub x86: Span,
    /// Versions in which arm64 callers have it.
    pub arm: Span,
    /// What the domain of the call means.
    pub target: Target,
    /// Who may call it.
    pub permission: Permission,
    /// Whether only one such call at a time changes domains. The others lock what they touch themselves.
    pub serialized: bool,
    /// Whether it has results in the payload, which is then written back; on most errors too.
    pub out: bool,
    /// Layout of its payload; `None` for one without, and where nothing decodes it.
    pub shape: Option<&'static Shape>,
}

impl Op {
    /// Versions in which callers on `machine` have it.
    pub const fn span(&self, machine: Machine) -> Span {
        match machine {
            Machine::X86_64 => self.x86,
            Machine::Arm64 => self.arm,
        }
    }

    /// Whether nobody has it: the number is taken, and stays so.
    pub const fn is_reserved(&self) -> bool {
        self.x86.is_empty() && self.arm.is_empty()
    }

    const NEW: Self = Self {
        number: 0,
        name: "",
        x86: Span::NONE,
        arm: Span::NONE,
        target: Target::Domain,
        permission: Permission::Control,
        serialized: true,
        out: false,
        shape: None,
    };

    /// On both machines since version `first`.
    pub(crate) const fn both(first: u32) -> Self {
        Self::x86(first).and_arm(first)
    }

    /// On x86-64 alone since version `first`.
    pub(crate) const fn x86(first: u32) -> Self {
        let x86 = Span {
            first,
            last: u32::MAX,
        };
        Self { x86, ..Self::NEW }
    }

    /// On arm64 alone since version `first`.
    pub(crate) const fn arm(first: u32) -> Self {
        Self::NEW.and_arm(first)
    }

    /// Nowhere: removed before the first version served, or never given to callers.
    pub(crate) const fn reserved() -> Self {
        Self::NEW
    }

    const fn and_arm(self, first: u32) -> Self {
        let arm = Span {
            first,
            last: u32::MAX,
        };
        Self { arm, ..self }
    }

    /// Until version `last`, where it exists at all.
    pub(crate) const fn until(mut self, last: u32) -> Self {
        if !self.x86.is_empty() {
            self.x86.last = last;
        }
        self.arm_until(last)
    }

    /// On arm64 until version `last`.
    pub(crate) const fn arm_until(mut self, last: u32) -> Self {
        if !self.arm.is_empty() {
            self.arm.last = last;
        }
        self
    }

    /// With another meaning of the domain.
    pub(crate) const fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// For others than the controlling domain.
    pub(crate) const fn allow(self, permission: Permission) -> Self {
        Self { permission, ..self }
    }

    /// Needs no lock of its own.
    pub(crate) const fn unserialized(mut self) -> Self {
        self.serialized = false;
        self
    }

    /// With the payload `T`, IN only.
    pub(crate) const fn takes<T: Wire>(mut self) -> Self {
        self.shape = Some(const { &T::SHAPE });
        self
    }

    /// With the payload `T`, of which fields are OUT.
    pub(crate) const fn gives<T: Wire>(mut self) -> Self {
        self.out = true;
        self.takes::<T>()
    }

    /// Under this number and name.
    pub(crate) const fn named(self, number: u32, name: &'static str) -> Self {
        Self {
            number,
            name,
            ..self
        }
    }
}

/// Finds the operation with this number in a table in ascending order.
pub(crate) fn find(table: &'static [Op], number: u32) -> Option<&'static Op> {
    let index = table.binary_search_by_key(&number, |op| op.number).ok()?;
    table.get(index)
}

/// Whether the numbers of a table ascend, so that none stands for two operations.
pub(crate) const fn ascends(table: &[Op]) -> bool {
    let mut i = 1;
    while i < table.len() {
        if table[i - 1].number >= table[i].number {
            return false;
        }
        i += 1;
    }
    true
}
