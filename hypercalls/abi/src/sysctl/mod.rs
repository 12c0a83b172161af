//! `sysctl`: management of the host by toolstacks (public/sysctl.h), for every interface version served.
//!
//! A call is 136 bytes in every version ([`Sysctl`]). [`Interface::of`] judges the version, [`lookup`] finds the
//! operation, and the operation's type decodes and encodes the payload. Layouts are in [`crate::versioned`].

mod cpupool;
mod host;
mod ops;
mod power;
mod topology;
mod x86;

pub use cpupool::*;
pub use host::*;
pub use ops::*;
pub use power::*;
pub use topology::*;
pub use x86::*;

use crate::domctl;
use crate::versioned::{Machine, Op, Payload, find};

/// An interface version of sysctl that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Interface {
    /// 4.10: for reading scheduling parameters only.
    V10 = 0x10,
    /// 4.14 and 4.15.
    V13 = 0x13,
    /// 4.16.
    V14 = 0x14,
    /// 4.17 to 4.20.
    V15 = 0x15,
    /// 4.21 and 4.22.
    V16 = 0x16,
}

impl Interface {
    /// Every version served, in ascending order.
    pub const ALL: [Self; 5] = [Self::V10, Self::V13, Self::V14, Self::V15, Self::V16];

    /// The version with this number; `None` for one that is not served, which is to be answered `-EACCES` before anything
    /// else is looked at.
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

    /// The domctl version whose [`domctl::DomainInfo`] these callers' lists consist of: the last that they may have. The
    /// others that they may have agree in size and in all fields but those that lie in their padding.
    pub const fn domctl(self) -> domctl::Interface {
        match self {
            Self::V10 => domctl::Interface::V0F,
            Self::V13 => domctl::Interface::V13,
            Self::V14 => domctl::Interface::V14,
            Self::V15 => domctl::Interface::V17,
            Self::V16 => domctl::Interface::V18,
        }
    }
}

/// Finds an operation; `None` for a number that these callers do not have, which is to be answered `-ENOSYS`.
pub fn lookup(cmd: SysctlCmd, interface: Interface, machine: Machine) -> Option<&'static Op> {
    find(TABLE, cmd.0).filter(|op| op.span(machine).contains(interface.number()))
}

wire! {
    /// Argument of the hypercall, the same size in every version.
    pub struct Sysctl = "struct xen_sysctl", 136 {
        /// IN: which operation.
        pub cmd: SysctlCmd, @0;
        /// IN: the caller's interface version.
        pub interface_version: u32, @4;
        /// IN and OUT: the operation's own.
        pub u: Payload, @8;
    }
}
