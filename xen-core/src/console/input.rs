//! Typed bytes: who gets them.

use arrayvec::ArrayVec;

/// Bytes that wait for dom0; more are dropped, as on a serial line that nobody reads.
const QUEUE: usize = 128;
/// How often the switch character must come in a row.
const SWITCH_COUNT: u8 = 3;

/// Who gets what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Dom0,
    Hypervisor,
}

impl Focus {
    pub(super) const fn announcement(self) -> &'static str {
        match self {
            Self::Dom0 => "*** Serial input to DOM0 (type 'CTRL-a' three times to switch input)",
            Self::Hypervisor => {
                "*** Serial input to Xen (type 'CTRL-a' three times to switch input)"
            }
        }
    }
}

/// Something to act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Switched(Focus),
    Key(u8),
    /// There is input for dom0.
    Dom0,
}

#[derive(Debug)]
pub(super) struct Input {
    pub(super) focus: Focus,
    /// The switch character.
    pub(super) switch: Option<u8>,
    repeats: u8,
    raw: ArrayVec<u8, QUEUE>,
    dom0: ArrayVec<u8, QUEUE>,
}

impl Input {
    pub(super) const fn new() -> Self {
        Self {
            focus: Focus::Dom0,
            switch: Some(1),
            repeats: 0,
            raw: ArrayVec::new_const(),
            dom0: ArrayVec::new_const(),
        }
    }

    pub(super) fn receive(&mut self, byte: u8) {
        let _ = self.raw.try_push(byte);
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        let byte = if self.raw.is_empty() {
            return None;
        } else {
            self.raw.remove(0)
        };
        if Some(byte) == self.switch {
            self.repeats += 1;
            if self.repeats == SWITCH_COUNT {
                self.repeats = 0;
                self.focus = match self.focus {
                    Focus::Dom0 => Focus::Hypervisor,
                    Focus::Hypervisor => Focus::Dom0,
                };
                return Some(Event::Switched(self.focus));
            }
        } else {
            self.repeats = 0;
        }
        match self.focus {
            Focus::Hypervisor if Some(byte) == self.switch => self.next_event(),
            Focus::Hypervisor => Some(Event::Key(byte)),
            Focus::Dom0 => {
                let _ = self.dom0.try_push(byte);
                Some(Event::Dom0)
            }
        }
    }

    pub(super) fn read(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.dom0.len());
        for (place, byte) in to.iter_mut().zip(self.dom0.drain(..count)) {
            *place = byte;
        }
        count
    }
}
