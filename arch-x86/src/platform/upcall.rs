//! How a guest hears of events: the domain's way (`HVM_PARAM_CALLBACK_IRQ`) and a vCPU's own vector
//! (`HVMOP_set_evtchn_upcall_vector`), which comes before it.

use core::sync::atomic::{AtomicU8, Ordering};

use xen_abi::hvm_params::{CallbackIrq, CallbackType};
use xen_core::{Error, Result};

use super::lapic::FIRST_VECTOR;

/// A domain's way to hear of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// It does not, unless a vCPU has a vector of its own.
    None,
    /// A global system interrupt.
    Gsi(u64),
    /// A line of a PCI device.
    PciLine {
        /// Segment, called domain in the public header.
        segment: u16,
        /// Bus.
        bus: u16,
        /// Device and function.
        devfn: u8,
        /// The line: 0 for INTA to 3 for INTD.
        line: u8,
    },
    /// A vector, on all vCPUs, beside the local APIC: it needs no end of interrupt.
    Vector(u8),
}

impl Callback {
    /// From the parameter's value (public header `hvm/params.h`).
    ///
    /// # Errors
    /// [`Error::Inval`] for a type that does not exist.
    pub const fn decode(value: u64) -> Result<Self> {
        let value = CallbackIrq(value);
        Ok(match value.kind() {
            CallbackType::GSI if value.gsi() == 0 => Self::None,
            CallbackType::GSI => Self::Gsi(value.gsi()),
            CallbackType::PCI_INTX => Self::PciLine {
                segment: (value.0 >> 32) as u16,
                bus: (value.0 >> 16) as u16,
                devfn: (value.0 >> 8) as u8,
                line: value.0 as u8 & 3,
            },
            CallbackType::VECTOR => Self::Vector(value.number()),
            _ => return Err(Error::Inval),
        })
    }
}

/// The way of one upcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upcall {
    /// None.
    None,
    /// An edge at the vCPU's local APIC: [`super::lapic::Lapic::accept`].
    Lapic(u8),
    /// A vector that the CPU takes whenever it can take interrupts and the upcall is pending, whatever its local APIC
    /// does.
    Direct(u8),
}

/// A vCPU's own vector.
#[derive(Debug, Default)]
pub struct UpcallVector(AtomicU8);

impl UpcallVector {
    /// Sets it. If an upcall is pending it is to be announced at once.
    ///
    /// # Errors
    /// [`Error::Inval`] for a vector that an APIC cannot deliver.
    pub fn set(&self, vector: u32) -> Result<()> {
        let vector = u8::try_from(vector).map_err(|_| Error::Inval)?;
        if vector < FIRST_VECTOR {
            return Err(Error::Inval);
        }
        self.0.store(vector, Ordering::Release);
        Ok(())
    }

    /// After a reset of the vCPU: it has none.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The way of an upcall to the vCPU, whose domain has this callback.
    pub fn way(&self, callback: Callback) -> Upcall {
        match (self.0.load(Ordering::Acquire), callback) {
            // There is no line to raise: IOAPICs serve the machine's devices.
            (0, Callback::None | Callback::Gsi(_) | Callback::PciLine { .. }) => Upcall::None,
            (0, Callback::Vector(vector)) => Upcall::Direct(vector),
            (vector, _) => Upcall::Lapic(vector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_header() {
        assert_eq!(Callback::decode(0), Ok(Callback::None));
        assert_eq!(Callback::decode(0xf3 | 2 << 56), Ok(Callback::Vector(0xf3)));
        assert_eq!(Callback::decode(28), Ok(Callback::Gsi(28)));
        let line = Callback::PciLine {
            segment: 1,
            bus: 2,
            devfn: 0x18,
            line: 3,
        };
        assert_eq!(
            Callback::decode(1 << 56 | 1 << 32 | 2 << 16 | 0x18 << 8 | 3),
            Ok(line)
        );
        for kind in 3..=0xff {
            assert_eq!(Callback::decode(kind << 56), Err(Error::Inval));
        }
    }

    #[test]
    fn a_vcpus_own_vector_comes_first() {
        let own = UpcallVector::default();
        let domain = Callback::Vector(0xf3);
        assert_eq!(own.way(domain), Upcall::Direct(0xf3));
        assert_eq!(own.way(Callback::Gsi(28)), Upcall::None);
        for illegal in [0, 15, 256, u32::MAX] {
            assert_eq!(own.set(illegal), Err(Error::Inval));
        }
        assert_eq!(own.way(domain), Upcall::Direct(0xf3));
        assert_eq!(own.set(16), Ok(()));
        assert_eq!(own.way(domain), Upcall::Lapic(16));
        assert_eq!(own.way(Callback::None), Upcall::Lapic(16));
        own.clear();
        assert_eq!(own.way(domain), Upcall::Direct(0xf3));
    }
}
