//! Events that are injected into a guest at its next entry.

use bitflags::bitflags;

/// What is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An external interrupt with this vector.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception of the CPU.
    Exception {
        /// Its vector, 0 to 31.
        vector: u8,
        /// The error code, for vectors that have one.
        error_code: Option<u32>,
    },
}

bitflags! {
    /// The low 32 bits of an event as the hardware is told, and as it reports one whose delivery was cut short.
    ///
    /// VMX: VM-entry interruption information (Intel SDM volume 3, "VM-Entry Controls for Event Injection") and IDT-vectoring information. SVM: EVENTINJ
    /// and EXITINTINFO (AMD APM volume 2, 15.20). Both have the same bits here.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Info: u32 {
        const NMI = 2 << 8;
        const EXCEPTION = 3 << 8;
        const KIND = 7 << 8;
        const ERROR_CODE = 1 << 11;
        const VALID = 1 << 31;
    }
}

/// Vector of non-maskable interrupts.
const NMI_VECTOR: u8 = 2;

impl Event {
    /// The hardware's word for the event, and the error code that goes beside it: in the VM-entry exception error
    /// code of VMX, in the upper half of SVM's EVENTINJ.
    pub const fn encode(self) -> (u32, u32) {
        let (vector, kind, error_code) = match self {
            Self::Interrupt(vector) => (vector, Info::empty(), None),
            Self::Nmi => (NMI_VECTOR, Info::NMI, None),
            Self::Exception { vector, error_code } => (vector, Info::EXCEPTION, error_code),
        };
        let word = vector as u32 | kind.bits() | Info::VALID.bits();
        match error_code {
            Some(code) => (word | Info::ERROR_CODE.bits(), code),
            None => (word, 0),
        }
    }

    /// The event whose delivery an exit cut short, from the hardware's word and error code; it is to be injected again.
    /// `None` if there is none, or one that the guest's instruction makes again when it is executed again (a software
    /// interrupt or exception).
    pub const fn decode(word: u32, error_code: u32) -> Option<Self> {
        let info = Info::from_bits_retain(word);
        if !info.contains(Info::VALID) {
            return None;
        }
        let vector = word as u8;
        let kind = info.intersection(Info::KIND).bits();
        if kind == 0 {
            Some(Self::Interrupt(vector))
        } else if kind == Info::NMI.bits() {
            Some(Self::Nmi)
        } else if kind == Info::EXCEPTION.bits() {
            Some(Self::Exception {
                vector,
                error_code: if info.contains(Info::ERROR_CODE) {
                    Some(error_code)
                } else {
                    None
                },
            })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_the_manuals() {
        assert_eq!(Event::Interrupt(0xf3).encode(), (0x8000_00f3, 0));
        assert_eq!(Event::Nmi.encode(), (0x8000_0202, 0));
        let page_fault = Event::Exception {
            vector: 14,
            error_code: Some(6),
        };
        assert_eq!(page_fault.encode(), (0x8000_0b0e, 6));
        let undefined = Event::Exception {
            vector: 6,
            error_code: None,
        };
        assert_eq!(undefined.encode(), (0x8000_0306, 0));
    }

    #[test]
    fn software_interrupts_are_not_injected_again() {
        assert_eq!(Event::decode(0x8000_0480, 0), None);
        assert_eq!(Event::decode(0x8000_0603, 0), None);
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<u8>().prop_map(Event::Interrupt),
            Just(Event::Nmi),
            (0u8..32, any::<Option<u32>>())
                .prop_map(|(vector, error_code)| Event::Exception { vector, error_code }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_cut_short_is_what_was_injected(event in event()) {
            let (word, code) = event.encode();
            prop_assert_eq!(Event::decode(word, code), Some(event));
            prop_assert_eq!(Event::decode(word & !(1 << 31), code), None);
        }
    }
}
