//! Numbers, structures and layouts of Xen's stable guest interface, for 64-bit guests of both architectures.
//!
//! One module per public header, with the header's base name. Everything here is data: no behaviour, no `cfg` on the
//! architecture, no dependency on the hypervisor, so that the hypervisor and the test guests share one description.
//! domctl and sysctl, whose layouts change with every release, are behind the feature `mgmt_hypercalls`
//! and described in `versioned`.
//!
//! Three rules hold everywhere:
//! - a number that a guest chooses is an *open* enum, a transparent integer with named values: an unknown value is
//!   legal and is answered with an error, not an impossibility;
//! - a structure has C layout, its padding is written out, any bit pattern of it is valid, and its size and offsets
//!   are asserted at compile time; unions are flattened to their widest member, with accessors where they need them;
//! - an address that comes from a guest is a [`Handle`], an allegation, not a pointer.
//!
//! `tests/headers.rs` compares all of it with the C headers.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod macros;
#[cfg(feature = "mgmt_hypercalls")]
#[macro_use]
pub mod versioned;

pub mod arch_arm;
pub mod arch_x86;
pub mod console;
#[cfg(feature = "mgmt_hypercalls")]
pub mod domctl;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm_op;
pub mod hvm_params;
pub mod memory;
pub mod physdev;
pub mod platform;
pub mod sched;
#[cfg(feature = "mgmt_hypercalls")]
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use macros::{Field, Layout, Named};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A guest's word for where something lies in its memory (`XEN_GUEST_HANDLE`, public/arch-*.h): nothing more.
///
/// 64 bits wide on both architectures. What kind of address it is depends on the guest: a virtual address, translated
/// with the caller's own page tables. The address may be unmapped, unaligned, read-only, or change its meaning between
/// two accesses; only a copy through the guest-memory accessor turns it into data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle(pub u64);

impl Handle {
    /// The null handle, which several operations give a meaning (size queries, absent arguments).
    pub const NULL: Self = Self(0);

    /// Whether this is the null handle.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Handle of element `index` of an array of elements of `size` bytes; `None` past the end of the address space.
    pub const fn element(self, index: u64, size: u64) -> Option<Self> {
        match index.checked_mul(size) {
            Some(offset) => match self.0.checked_add(offset) {
                Some(address) => Some(Self(address)),
                None => None,
            },
            None => None,
        }
    }
}

impl core::fmt::Debug for Handle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Handle({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests;
