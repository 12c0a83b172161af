//! Exceptions that an emulated instruction raises, as values.

use bitflags::bitflags;
use x86_64::registers::control::Cr0Flags;
use xen_core::GuestVirtAddr;

use crate::event::Event;

bitflags! {
    /// The error code of a page fault (Intel SDM volume 3, 4.7; AMD APM volume 2, 8.4.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PageFaultCode: u32 {
        /// The page is there; its rights forbid the access.
        const PRESENT = 1;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access was made at privilege level 3, and not implicitly.
        const USER = 1 << 2;
        /// A reserved bit is set in an entry of the page tables.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch. Only where a CPU tells these apart: with NX or SMEP in use.
        const FETCH = 1 << 4;
        /// A protection key forbids the access.
        const PROTECTION_KEY = 1 << 5;
    }
}

/// An exception, with all that its delivery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DB after an instruction: single step or a breakpoint; DR6 is the caller's to set.
    Debug,
    /// #UD.
    InvalidOpcode,
    /// #NM: the FPU is switched off by CR0.TS or CR0.EM.
    DeviceNotAvailable,
    /// #SS with this error code.
    StackFault(u16),
    /// #GP with this error code.
    GeneralProtection(u16),
    /// #PF.
    PageFault {
        /// What goes to CR2.
        address: GuestVirtAddr,
        /// The error code.
        code: PageFaultCode,
    },
    /// #AC with error code 0.
    AlignmentCheck,
}

impl Exception {
    /// #GP(0), the most common one.
    pub const GP0: Self = Self::GeneralProtection(0);

    /// Its vector.
    pub const fn vector(self) -> u8 {
        match self {
            Self::Debug => 1,
            Self::InvalidOpcode => 6,
            Self::DeviceNotAvailable => 7,
            Self::StackFault(_) => 12,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
            Self::AlignmentCheck => 17,
        }
    }

    /// The error code it has in protected mode.
    pub const fn error_code(self) -> Option<u32> {
        match self {
            Self::Debug | Self::InvalidOpcode | Self::DeviceNotAvailable => None,
            Self::StackFault(code) | Self::GeneralProtection(code) => Some(code as u32),
            Self::PageFault { code, .. } => Some(code.bits()),
            Self::AlignmentCheck => Some(0),
        }
    }

    /// What it leaves in CR2. The caller sets it before it injects [`Self::event`].
    pub const fn cr2(self) -> Option<u64> {
        match self {
            Self::PageFault { address, .. } => Some(address.0),
            _ => None,
        }
    }

    /// What to inject into a guest with this CR0. In real mode exceptions have no error codes.
    pub const fn event(self, cr0: Cr0Flags) -> Event {
        Event::Exception {
            vector: self.vector(),
            error_code: if cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE) {
                self.error_code()
            } else {
                None
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_what_a_cpu_delivers() {
        let fault = Exception::PageFault {
            address: GuestVirtAddr(0x1234),
            code: PageFaultCode::WRITE | PageFaultCode::USER,
        };
        let event = |e: Exception, cr0| e.event(cr0);
        let (protected, real) = (Cr0Flags::PROTECTED_MODE_ENABLE, Cr0Flags::empty());
        assert_eq!(fault.cr2(), Some(0x1234));
        assert_eq!(
            event(fault, protected),
            Event::Exception {
                vector: 14,
                error_code: Some(6)
            }
        );
        assert_eq!(
            event(Exception::GP0, real),
            Event::Exception {
                vector: 13,
                error_code: None
            }
        );
        assert_eq!(
            event(Exception::InvalidOpcode, protected),
            Event::Exception {
                vector: 6,
                error_code: None
            }
        );
        assert_eq!(Exception::StackFault(0).cr2(), None);
    }
}
