//! Layouts that change with the interface version of the caller: how domctl and sysctl are described.
//!
//! Toolstacks name the interface version they were compiled for, and what a structure looks like follows from that
//! version and from the machine. Here a structure is one Rust type whatever the version; each of its fields says since
//! which version, until which and on which machine callers know it ([`Rule`]), and C's rules of size and alignment give
//! the offsets ([`Shape`]). So the table is also the codec, and cannot differ from it.
//!
//! A field that a caller does not know decodes to its documented default and is not encoded. A number that a caller
//! knows in fewer bits is encoded truncated. Both machines are always compiled, so that tests cover both.

#[macro_use]
mod macros;
mod op;
mod shape;
mod wire;

pub use op::{Op, Permission, Span, Target};
pub(crate) use op::{ascends, find};
pub use shape::{Rule, RuleKind, Shape};
pub use wire::{Walk, Wire};

use crate::Handle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The machine whose layouts are meant; 64-bit callers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

impl Machine {
    /// Both machines.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];
}

/// Why bytes of a caller are not an operation's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A byte that the caller's own header requires to be zero is not; `-EINVAL`.
    Reserved,
    /// There are fewer bytes than the structure has; a mistake of the hypervisor's, since payloads have a fixed size.
    Short,
}

/// The union at the end of a domctl and of a sysctl: 128 bytes in every version.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Payload(pub [u8; Payload::SIZE]);

impl Payload {
    /// Bytes of the union.
    pub const SIZE: usize = 128;
    /// A union of zeros, what toolstacks start from.
    pub const ZERO: Self = Self([0; Self::SIZE]);
}

impl core::fmt::Debug for Payload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Payload")?;
        f.debug_list().entries(self.0).finish()
    }
}

record! {
    /// A bit map in the caller's memory (`struct xenctl_bitmap`, public/xen.h): bytes, bit 0 of byte 0 first.
    ///
    /// The two sides may disagree about its length: what is beyond the shorter of the two is ignored on the way in and
    /// zero on the way out.
    pub struct Bitmap = "struct xenctl_bitmap" {
        /// The bytes.
        pub bitmap: Handle;
        /// Number of bits; the last byte may be in use in part.
        pub nr_bits: u32;
    }
}

#[cfg(test)]
mod tests;
