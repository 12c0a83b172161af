//! Redirection entries.

use super::super::message::{DeliveryMode, Message, Trigger};

const POLARITY: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask; destination, with its extension in bits 55:49.
const WRITABLE: u64 = 0xfffe_0000_0001_afff;

/// A redirection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Default for Entry {
    fn default() -> Self {
        Self(MASKED)
    }
}

impl Entry {
    /// Writes half of it; what is read-only or reserved stays as it is.
    pub(super) const fn write(&mut self, value: u32, high: bool) {
        let (value, half) = if high {
            ((value as u64) << 32, 0xffff_ffff << 32)
        } else {
            (value as u64, 0xffff_ffff)
        };
        self.0 = self.0 & !(WRITABLE & half) | value & WRITABLE & half;
    }

    /// The vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Whether it delivers nothing.
    pub const fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    /// Whether the pin is asserted at the lower voltage.
    pub const fn is_active_low(self) -> bool {
        self.0 & POLARITY != 0
    }

    /// Remote IRR: a level-triggered interrupt was accepted, and has not ended.
    pub const fn is_outstanding(self) -> bool {
        self.0 & REMOTE_IRR != 0
    }

    pub(super) const fn set_outstanding(&mut self, outstanding: bool) {
        if outstanding {
            self.0 |= REMOTE_IRR;
        } else {
            self.0 &= !REMOTE_IRR;
        }
    }

    /// The trigger mode. All that is not by vector is an edge.
    pub const fn trigger(self) -> Trigger {
        let by_vector = matches!(
            DeliveryMode::of_source((self.0 >> 8) as u32),
            DeliveryMode::Fixed | DeliveryMode::LowestPriority
        );
        if self.0 & LEVEL != 0 && by_vector {
            Trigger::Level
        } else {
            Trigger::Edge
        }
    }

    /// What it sends.
    pub const fn message(self) -> Message {
        Message::from_redirection(self.0)
    }
}
