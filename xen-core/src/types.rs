//! Newtypes for the numbers that must never be mixed.

use core::fmt;

/// log2 of the size of a page of Xen's interface: 4 KiB on every architecture.
pub const PAGE_SHIFT: u32 = 12;
/// Size in bytes of a page of Xen's interface.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $fmt:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $fmt, ")"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $fmt, self.0)
            }
        }
    };
}

number! {
    /// Guest frame number: index of a 4 KiB page in a domain's physical address space.
    Gfn(u64), "{:#x}"
}
number! {
    /// Machine frame number: index of a 4 KiB page in the host's physical address space.
    Mfn(u64), "{:#x}"
}
number! {
    /// Byte address in a domain's physical address space.
    GuestPhysAddr(u64), "{:#x}"
}
number! {
    /// Byte address in a vCPU's current virtual address space.
    GuestVirtAddr(u64), "{:#x}"
}
number! {
    /// Byte address in the host's physical address space.
    HostPhysAddr(u64), "{:#x}"
}
number! {
    /// Identifier of a domain; values from [`DomainId::FIRST_RESERVED`] up have special meanings.
    DomainId(u16), "{}"
}
number! {
    /// Index of a vCPU in its domain.
    VcpuId(u32), "{}"
}
number! {
    /// Index of a physical CPU, dense from 0 (the boot CPU).
    CpuId(u32), "{}"
}
number! {
    /// Event-channel port of a domain; 0 is never valid.
    Port(u32), "{}"
}
number! {
    /// Index of an entry in a domain's grant table.
    GrantRef(u32), "{}"
}
number! {
    /// System time: nanoseconds since the hypervisor started.
    Time(u64), "{}ns"
}

impl DomainId {
    /// The initial domain.
    pub const DOM0: Self = Self(0);
    /// First identifier that no ordinary domain has (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: u16 = 0x7ff0;
    /// The calling domain (`DOMID_SELF`).
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of machine I/O frames (`DOMID_IO`).
    pub const IO: Self = Self(0x7ff1);
    /// The hypervisor (`DOMID_XEN`).
    pub const XEN: Self = Self(0x7ff2);
    /// No domain (`DOMID_INVALID`).
    pub const INVALID: Self = Self(0x7ff4);
}

impl Gfn {
    /// The frame that contains `addr`.
    pub const fn containing(addr: GuestPhysAddr) -> Self {
        Self(addr.0 >> PAGE_SHIFT)
    }
    /// Address of the frame's first byte; wraps for frames no address can name.
    pub const fn base(self) -> GuestPhysAddr {
        GuestPhysAddr(self.0 << PAGE_SHIFT)
    }
    /// The frame `n` after this one, or `None` past the end of the number space.
    pub const fn checked_add(self, n: u64) -> Option<Self> {
        match self.0.checked_add(n) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
}

impl Mfn {
    /// The frame that contains `addr`.
    pub const fn containing(addr: HostPhysAddr) -> Self {
        Self(addr.0 >> PAGE_SHIFT)
    }
    /// Address of the frame's first byte.
    pub const fn base(self) -> HostPhysAddr {
        HostPhysAddr(self.0 << PAGE_SHIFT)
    }
}

impl GuestPhysAddr {
    /// Offset of the address in its page.
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl GuestVirtAddr {
    /// Offset of the address in its page.
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl HostPhysAddr {
    /// Offset of the address in its page.
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl Time {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This time plus `ns` nanoseconds, at most [`Time::NEVER`].
    pub const fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
    /// Nanoseconds from `earlier` to this time, 0 if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
