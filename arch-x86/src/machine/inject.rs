//! Which event a guest gets when a second one comes up while a first one is being delivered.

use crate::event::Event;

/// Vector of the double fault.
const DOUBLE_FAULT: u8 = 8;
/// Vector of the page fault.
const PAGE_FAULT: u8 = 14;

/// The classes of Intel SDM volume 3, table 6-4, and AMD APM volume 2, 8.2.9.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Goes together with every other one.
    Benign,
    /// #DE, #TS, #NP, #SS, #GP, #CP, #HV, #VC, #SX.
    Contributory,
    /// #PF, and #VE, which guests do not get.
    PageFault,
    /// #DF.
    DoubleFault,
}

const fn class(vector: u8) -> Class {
    match vector {
        0 | 10..=13 | 21 | 28..=30 => Class::Contributory,
        PAGE_FAULT | 20 => Class::PageFault,
        DOUBLE_FAULT => Class::DoubleFault,
        _ => Class::Benign,
    }
}

/// What comes of two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The second is delivered. The first one is an interrupt, which is not lost by it: it is due afterwards.
    Defer(Event),
    /// The second is delivered; the first one is made again by the instruction that made it, or is forgotten as by a CPU.
    Second,
    /// A double fault is delivered.
    DoubleFault,
    /// The CPU shuts down.
    TripleFault,
}

/// The double fault.
pub const fn double_fault() -> Event {
    Event::Exception {
        vector: DOUBLE_FAULT,
        error_code: Some(0),
    }
}

/// What comes of an exception with this vector that came up while `first` was being delivered.
pub const fn merge(first: Event, vector: u8) -> Merged {
    let first_vector = match first {
        Event::Interrupt(_) | Event::Nmi => return Merged::Defer(first),
        Event::Exception { vector, .. } => vector,
    };
    match (class(first_vector), class(vector)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault | Class::DoubleFault) => {
            Merged::TripleFault
        }
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => Merged::DoubleFault,
        _ => Merged::Second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn exception(vector: u8) -> Event {
        Event::Exception {
            vector,
            error_code: None,
        }
    }

    #[test]
    fn the_table_of_the_manual() {
        let (de, db, ud, gp, pf, df, ac) = (0, 1, 6, 13, 14, 8, 17);
        for (first, second, result) in [
            (gp, gp, Merged::DoubleFault),
            (de, gp, Merged::DoubleFault),
            (pf, gp, Merged::DoubleFault),
            (pf, pf, Merged::DoubleFault),
            (gp, pf, Merged::Second),
            (gp, db, Merged::Second),
            (ud, gp, Merged::Second),
            (ud, pf, Merged::Second),
            (pf, ac, Merged::Second),
            (ac, pf, Merged::Second),
            (df, gp, Merged::TripleFault),
            (df, pf, Merged::TripleFault),
            (df, db, Merged::Second),
        ] {
            assert_eq!(
                merge(exception(first), second),
                result,
                "{first} then {second}"
            );
        }
    }

    proptest! {
        #[test]
        fn interrupts_are_not_lost(interrupt: u8, vector in 0u8..32) {
            for first in [Event::Interrupt(interrupt), Event::Nmi] {
                prop_assert_eq!(merge(first, vector), Merged::Defer(first));
            }
        }

        // However exceptions pile up, it ends: three that are no benign ones shut the CPU down.
        #[test]
        fn piles_end(vectors in prop::collection::vec(prop::sample::select(&[0u8, 10, 11, 12, 13, 14][..]), 3)) {
            let mut current = exception(vectors[0]);
            let mut ended = false;
            for _ in 0..3 {
                for vector in &vectors {
                    match merge(current, *vector) {
                        Merged::TripleFault => ended = true,
                        Merged::DoubleFault => current = double_fault(),
                        _ => current = exception(*vector),
                    }
                }
            }
            // Only a contributory one before a page fault stays single.
            prop_assert!(ended || vectors.windows(2).all(|w| w[0] != 14 && w[1] == 14));
        }
    }
}
