//! From a vector of the machine to what a domain gets for it.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;
use xen_core::DomainId;

use crate::host::pending::Vector;
use crate::platform::message::Message;

/// What a vector comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) enum Source {
    /// An interrupt line of the machine (GSI), which the domain's I/O APIC has as well.
    Line(u32),
    /// The domain's message; `None` if it goes nowhere.
    Message(Option<Message>),
}

/// Who gets an interrupt, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) struct Binding {
    /// The domain.
    pub(in crate::machine) domain: DomainId,
    /// What it is there.
    pub(in crate::machine) source: Source,
}

/// The bindings of all vectors. Each has a lock of its own, held for a copy.
#[derive(Debug)]
pub(in crate::machine) struct Bindings {
    slots: Box<[Mutex<Option<Binding>>]>,
    /// Vectors that came without a binding: a bit for each that was reported.
    reported: [AtomicU64; 4],
}

impl Default for Bindings {
    fn default() -> Self {
        Self {
            slots: (0..=u8::MAX).map(|_| Mutex::new(None)).collect(),
            reported: [const { AtomicU64::new(0) }; 4],
        }
    }
}

impl Bindings {
    /// What a vector comes to.
    pub(in crate::machine) fn get(&self, vector: Vector) -> Option<Binding> {
        *self.slots[usize::from(vector.0)].lock()
    }

    /// Changes what a vector comes to.
    pub(super) fn set(&self, vector: Vector, binding: Option<Binding>) {
        *self.slots[usize::from(vector.0)].lock() = binding;
    }

    /// The vector of a domain's line.
    pub(super) fn of_line(&self, domain: DomainId, gsi: u32) -> Option<Vector> {
        let wanted = Some(Binding {
            domain,
            source: Source::Line(gsi),
        });
        (0..=u8::MAX)
            .map(Vector)
            .find(|vector| self.get(*vector) == wanted)
    }

    /// A vector came without a binding. True the first time.
    pub(in crate::machine) fn report(&self, vector: Vector) -> bool {
        let bit = 1 << (vector.0 & 63);
        let word = &self.reported[usize::from(vector.0 >> 6)];
        // A storm of them does not write.
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_to_what_they_were_bound_to() {
        let bindings = Bindings::default();
        let line = |domain, gsi| Binding {
            domain: DomainId(domain),
            source: Source::Line(gsi),
        };
        bindings.set(Vector(0x31), Some(line(0, 9)));
        bindings.set(Vector(0xef), Some(line(1, 9)));
        assert_eq!(bindings.get(Vector(0x31)), Some(line(0, 9)));
        assert_eq!(bindings.get(Vector(0x32)), None);
        assert_eq!(bindings.of_line(DomainId(1), 9), Some(Vector(0xef)));
        assert_eq!(bindings.of_line(DomainId(1), 10), None);
        bindings.set(Vector(0xef), None);
        assert_eq!(bindings.of_line(DomainId(1), 9), None);
    }

    #[test]
    fn a_stray_vector_is_reported_once() {
        let bindings = Bindings::default();
        for vector in [0x40, 0x80, 0xff] {
            assert!(bindings.report(Vector(vector)));
            assert!(!bindings.report(Vector(vector)));
        }
    }
}
