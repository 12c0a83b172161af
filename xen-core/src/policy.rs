//! Who may do what to whom: the one permission check.
//!
//! Every hypercall that touches another domain, the machine or the hypervisor names what it does with a
//! [`Verb`] and asks here, after the arguments were decoded and before anything changes.

use crate::{Arch, Domain, Error, Result};

/// Something a domain wants to do, to itself, to another domain or to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Change or ask what memory a domain has.
    Memory,
    /// Change what is mapped in a domain's address space.
    Physmap,
    /// Map frames that another domain owns.
    MapForeign,
    /// Make or look at a domain's event channels on its behalf.
    EventChannel,
    /// Set up or look at a domain's grant table.
    GrantTable,
    /// Read or write a domain's HVM parameters.
    HvmParam,
    /// Shut a domain down from outside.
    Shutdown,
    /// Use the hypervisor's console.
    Console,
    /// See strings about the hypervisor that help an attacker (command line, build, changes).
    SensitiveVersion,
    /// Control the platform: wall clock, power management, firmware.
    Platform,
    /// Act on the machine's devices and interrupts.
    Hardware,
    /// Everything that manages other domains.
    Control,
}

/// Whom a verb needs.
enum Class {
    /// The domain acted upon itself, or one that manages others.
    SelfOrControl,
    /// One that manages others.
    Control,
    /// The one that owns the hardware.
    Hardware,
}

impl Verb {
    const fn class(self) -> Class {
        match self {
            Self::Memory
            | Self::Physmap
            | Self::EventChannel
            | Self::GrantTable
            | Self::HvmParam => Class::SelfOrControl,
            Self::MapForeign
            | Self::Shutdown
            | Self::Console
            | Self::SensitiveVersion
            | Self::Platform
            | Self::Control => Class::Control,
            Self::Hardware => Class::Hardware,
        }
    }
}

/// Whether `caller` may do `verb` to `target` (itself, for what concerns the machine).
///
/// Errors: [`Error::Perm`].
pub fn may<A: Arch>(caller: &Domain<A>, verb: Verb, target: &Domain<A>) -> Result<()> {
    let allowed = match verb.class() {
        Class::SelfOrControl => caller.id() == target.id() || caller.privileged(),
        Class::Control => caller.privileged(),
        Class::Hardware => caller.config.hardware,
    };
    if allowed { Ok(()) } else { Err(Error::Perm) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soft::Machine;

    #[test]
    fn only_dom0_reaches_others() {
        let machine = Machine::new(64, 1);
        let (dom0, one, two) = (
            machine.domain(0, 0, 0),
            machine.domain(1, 0, 0),
            machine.domain(2, 0, 0),
        );
        for verb in [
            Verb::Memory,
            Verb::Physmap,
            Verb::EventChannel,
            Verb::GrantTable,
            Verb::HvmParam,
        ] {
            assert_eq!(may(&one, verb, &one), Ok(()));
            assert_eq!(may(&one, verb, &two), Err(Error::Perm));
            assert_eq!(may(&dom0, verb, &two), Ok(()));
        }
        for verb in [
            Verb::MapForeign,
            Verb::Shutdown,
            Verb::Console,
            Verb::SensitiveVersion,
            Verb::Platform,
        ] {
            assert_eq!(may(&one, verb, &one), Err(Error::Perm));
            assert_eq!(may(&dom0, verb, &one), Ok(()));
        }
        assert_eq!(may(&one, Verb::Hardware, &one), Err(Error::Perm));
        assert_eq!(may(&dom0, Verb::Hardware, &dom0), Ok(()));
    }
}
