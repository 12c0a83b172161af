//! `domctl`: management of domains by toolstacks (public/domctl.h), for every interface version served.
//!
//! A call is 144 bytes in every version ([`Domctl`]): command, version, domain, and a [`Payload`] that the command gives
//! a meaning. [`interface`] judges the version, [`lookup`] finds the operation, and the operation's type decodes and
//! encodes the payload for that version and machine. Layouts are in [`crate::versioned`].

mod create;
mod device;
mod info;
mod memory;
mod ops;
mod pirq;
mod scheduler;
mod vcpu;
mod vcpu_context;
mod x86;

pub use create::*;
pub use device::*;
pub use info::*;
pub use memory::*;
pub use ops::*;
pub use pirq::*;
pub use scheduler::*;
pub use vcpu::*;
pub use vcpu_context::*;
pub use x86::*;

use crate::versioned::{Machine, Op, Payload, find};

/// An interface version of domctl that is served.
///
/// Several releases share some of them; where those differ, the reading that is safe for all is documented at the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Interface {
    /// The stable operations of 4.21 and later, which are versioned by their number alone.
    Stable = 0,
    /// 4.10: for listing, pausing and reading only; domains were created in several steps then.
    V0F = 0xf,
    /// 4.13 and 4.14.
    V12 = 0x12,
    /// 4.15.
    V13 = 0x13,
    /// 4.16.
    V14 = 0x14,
    /// 4.17.
    V15 = 0x15,
    /// 4.18.
    V16 = 0x16,
    /// 4.19, 4.20 and 4.21.
    V17 = 0x17,
    /// 4.22.
    V18 = 0x18,
}

impl Interface {
    /// Every version served, in ascending order.
    pub const ALL: [Self; 9] = [
        Self::Stable,
        Self::V0F,
        Self::V12,
        Self::V13,
        Self::V14,
        Self::V15,
        Self::V16,
        Self::V17,
        Self::V18,
    ];

    /// The version with this number; `None` for one that is not served. See [`interface`].
    pub const fn of(number: u32) -> Option<Self> {
        let mut i = 0;
        while i < Self::ALL.len() {
            if Self::ALL[i].number() == number {
                return Some(Self::ALL[i]);
            }
            i += 1;
        }
        None
    }

    /// The number, as callers write it.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Whether [`DomctlCmd::GETDOMAININFO`] finds the next domain at or above the one named, as callers of these versions
    /// rely on to enumerate domains, rather than exactly the one named.
    pub const fn finds_next(self) -> bool {
        self.number() <= Self::V15.number()
    }

    /// Whether [`CdFlags::TRAP_UNMAPPED_ACCESSES`] decides what a domain's access to nothing does. Callers of the others
    /// do not know the flag, or share their version with some that do not: the access is an abort.
    pub const fn chooses_unmapped_accesses(self) -> bool {
        self.number() >= Self::V18.number()
    }
}

/// Judges the version of a call; `None` is to be answered `-EACCES` before anything else is looked at.
///
/// The stable operations ([`DomctlCmd::GET_DOMAIN_STATE`]) are called with version 0, and all others with another.
pub const fn interface(cmd: DomctlCmd, version: u32) -> Option<Interface> {
    let stable = cmd.0 == DomctlCmd::GET_DOMAIN_STATE.0;
    match Interface::of(version) {
        Some(interface) if stable == matches!(interface, Interface::Stable) => Some(interface),
        _ => None,
    }
}

/// Finds an operation; `None` for a number that these callers do not have, which is to be answered `-ENOSYS`.
pub fn lookup(cmd: DomctlCmd, interface: Interface, machine: Machine) -> Option<&'static Op> {
    find(TABLE, cmd.0).filter(|op| op.span(machine).contains(interface.number()))
}

wire! {
    /// Argument of the hypercall, the same size in every version.
    pub struct Domctl = "struct xen_domctl", 144 {
        /// IN: which operation.
        pub cmd: DomctlCmd, @0;
        /// IN: the caller's interface version.
        pub interface_version: u32, @4;
        /// IN: the domain acted upon; OUT where [`crate::versioned::Target`] says so.
        pub domain: u16, @8;
        /// Padding.
        pub pad: [u16; 3];
        /// IN and OUT: the operation's own.
        pub u: Payload, @16;
    }
}
