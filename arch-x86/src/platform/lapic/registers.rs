//! The registers that only the vCPU's own accesses change, and what follows from a change.

use super::super::message::{DeliveryMode, Destination, Trigger};
use super::timer::{Deadline, Mode as TimerMode, Now, Timer};
use super::{Arrival, Effect, FIRST_VECTOR, Inbox, Ipi, Shorthand, Vectors, address, arrival};
use crate::platform::message::Message;

/// Entries of the local vector table, in the order of their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The timer.
    Timer = 0,
    /// The thermal sensor.
    Thermal = 1,
    /// A performance counter: its entry is masked as it interrupts.
    Performance = 2,
    /// The pin LINT0.
    Lint0 = 3,
    /// The pin LINT1.
    Lint1 = 4,
    /// An error of the APIC.
    Error = 5,
}

/// Bits of entries of the local vector table.
pub(super) mod lvt {
    pub(in super::super) const VECTOR: u32 = 0xff;
    pub(in super::super) const MODE: u32 = 7 << 8;
    pub(in super::super) const STATUS: u32 = 1 << 12;
    pub(in super::super) const POLARITY: u32 = 1 << 13;
    pub(in super::super) const REMOTE_IRR: u32 = 1 << 14;
    pub(in super::super) const LEVEL: u32 = 1 << 15;
    pub(in super::super) const MASKED: u32 = 1 << 16;
    pub(in super::super) const PERIODIC: u32 = 1 << 17;
    pub(in super::super) const TSC_DEADLINE: u32 = 1 << 18;
}

/// Errors, as the error status register has them.
pub(super) mod error {
    pub(in super::super) const SEND_ILLEGAL: u32 = 1 << 5;
    pub(in super::super) const RECEIVE_ILLEGAL: u32 = 1 << 6;
    pub(in super::super) const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// Spurious vector register: software has enabled the APIC.
pub(super) const SVR_ENABLED: u32 = 1 << 8;
/// Spurious vector register: focus processor checking, which has no effect.
pub(super) const SVR_FOCUS: u32 = 1 << 9;

impl Source {
    pub(super) const ALL: [Self; 6] = [
        Self::Timer,
        Self::Thermal,
        Self::Performance,
        Self::Lint0,
        Self::Lint1,
        Self::Error,
    ];

    /// The bits of its entry that software can write.
    pub(super) const fn writable(self, tsc_deadline: bool) -> u32 {
        lvt::VECTOR
            | lvt::MASKED
            | match self {
                Self::Timer if tsc_deadline => lvt::PERIODIC | lvt::TSC_DEADLINE,
                Self::Timer => lvt::PERIODIC,
                Self::Thermal | Self::Performance => lvt::MODE,
                Self::Lint0 | Self::Lint1 => lvt::MODE | lvt::POLARITY | lvt::LEVEL,
                Self::Error => 0,
            }
    }

    /// Its bits that are read-only, and not reserved.
    pub(super) const fn read_only(self) -> u32 {
        match self {
            Self::Lint0 | Self::Lint1 => lvt::STATUS | lvt::REMOTE_IRR,
            _ => lvt::STATUS,
        }
    }
}

#[derive(Debug)]
pub(super) struct Registers {
    pub(super) tpr: u8,
    /// Logical destination register, bits 31:24; xAPIC mode only.
    pub(super) logical: u8,
    /// Destination format register; xAPIC mode only.
    pub(super) format: u32,
    pub(super) svr: u32,
    pub(super) service: Vectors,
    /// The error status register, as it was when it was last written to.
    pub(super) errors: u32,
    /// Errors since.
    pub(super) new_errors: u32,
    /// The interrupt command register. In xAPIC mode the destination is in bits 63:56.
    pub(super) command: u64,
    pub(super) entries: [u32; 6],
    pub(super) timer: Timer,
}

impl Registers {
    /// After reset or INIT (Intel SDM volume 3, "Local APIC State After Power-Up or Reset").
    pub(super) const fn new() -> Self {
        Self {
            tpr: 0,
            logical: 0,
            format: u32::MAX,
            svr: 0xff,
            service: Vectors([0; 8]),
            errors: 0,
            new_errors: 0,
            command: 0,
            entries: [lvt::MASKED; 6],
            timer: Timer::new(),
        }
    }

    /// The word for [`address`].
    pub(super) const fn address(&self) -> u32 {
        let enabled = if self.is_enabled() {
            address::ENABLED
        } else {
            0
        };
        self.logical as u32 | self.format >> 28 << address::MODEL_SHIFT | enabled
    }

    pub(super) const fn is_enabled(&self) -> bool {
        self.svr & SVR_ENABLED != 0
    }

    /// What x2APIC mode does not have starts anew.
    pub(super) const fn enter_x2apic(&mut self) {
        self.logical = 0;
        self.format = u32::MAX;
        self.command &= 0xffff_ffff;
    }

    pub(super) const fn task_priority(&self) -> u8 {
        self.tpr
    }

    pub(super) const fn set_task_priority(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    pub(super) const fn spurious_vector(&self) -> u8 {
        self.svr as u8
    }

    /// The task priority or the class of what is in service, whichever is more urgent.
    pub(super) fn processor_priority(&self) -> u8 {
        let service = self.service.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= service {
            self.tpr
        } else {
            service
        }
    }

    pub(super) const fn begin(&mut self, vector: u8) {
        self.service.insert(vector);
    }

    /// The end of the most urgent interrupt in service.
    pub(super) fn end(&mut self, inbox: &Inbox<'_>) -> Effect {
        let Some(vector) = self.service.highest() else {
            return Effect::None;
        };
        self.service.remove(vector);
        if inbox.level.contains(vector) {
            Effect::EndOfInterrupt(vector)
        } else {
            Effect::None
        }
    }

    pub(super) const fn entry(&self, source: Source) -> u32 {
        self.entries[source as usize]
    }

    /// A source of the CPU interrupts.
    pub(super) fn raise(&mut self, inbox: &Inbox<'_>, source: Source) -> Option<Arrival> {
        let entry = self.entry(source);
        if entry & lvt::MASKED != 0 {
            return None;
        }
        let mode = match source {
            Source::Timer | Source::Error => DeliveryMode::Fixed,
            _ => DeliveryMode::of_source(entry >> 8),
        };
        if source == Source::Performance {
            self.entries[source as usize] |= lvt::MASKED;
        }
        let vector = entry as u8;
        match mode {
            DeliveryMode::Fixed if vector < FIRST_VECTOR => {
                // An error of the entry for errors is only noted.
                if source == Source::Error {
                    self.new_errors |= error::RECEIVE_ILLEGAL;
                } else {
                    self.receive_illegal(inbox);
                }
                None
            }
            DeliveryMode::Fixed => {
                // Pins are edges here: nothing holds LINT0 or LINT1 asserted.
                inbox.add(vector, Trigger::Edge);
                Some(Arrival::Interrupt)
            }
            DeliveryMode::LowestPriority => None,
            mode => arrival(mode, vector),
        }
    }

    /// An error was found.
    pub(super) fn fail(&mut self, inbox: &Inbox<'_>, error: u32) {
        self.new_errors |= error;
        // Its interrupt is by vector, or is nothing.
        let _: Option<Arrival> = self.raise(inbox, Source::Error);
    }

    pub(super) fn receive_illegal(&mut self, inbox: &Inbox<'_>) {
        self.fail(inbox, error::RECEIVE_ILLEGAL);
    }

    /// Writes the error status register.
    pub(super) const fn latch_errors(&mut self) {
        self.errors = self.new_errors;
        self.new_errors = 0;
    }

    /// When the timer is due next. One that is masked counts, but nobody has to hear of it.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let masked = self.entry(Source::Timer) & lvt::MASKED != 0;
        self.timer.deadline().filter(|_| !masked)
    }

    pub(super) fn tick(&mut self, inbox: &Inbox<'_>, now: &Now) {
        if self.timer.expire(now) {
            let _: Option<Arrival> = self.raise(inbox, Source::Timer);
        }
    }

    pub(super) const fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    pub(super) fn set_tsc_deadline(&mut self, inbox: &Inbox<'_>, value: u64, now: &Now) -> Effect {
        self.tick(inbox, now);
        self.timer.set_tsc_deadline(value);
        self.rearm(inbox, now)
    }

    /// The timer changed. If it is due already, its interrupt is pending at once.
    pub(super) fn rearm(&mut self, inbox: &Inbox<'_>, now: &Now) -> Effect {
        self.tick(inbox, now);
        Effect::Timer(self.deadline())
    }

    /// Writes an entry of the local vector table; the bits are legal. The timer has been told of the time.
    pub(super) fn set_entry(
        &mut self,
        inbox: &Inbox<'_>,
        source: Source,
        value: u32,
        now: &Now,
    ) -> Effect {
        let masked = if self.is_enabled() { 0 } else { lvt::MASKED };
        self.entries[source as usize] = value | masked;
        if source != Source::Timer {
            return Effect::None;
        }
        self.timer.set_mode(TimerMode::from_lvt(value), now.time);
        self.rearm(inbox, now)
    }

    /// Writes the spurious vector register; the bits are legal.
    pub(super) fn set_spurious(&mut self, value: u32) -> Effect {
        let was = self.is_enabled();
        self.svr = value;
        if was && !self.is_enabled() {
            for entry in &mut self.entries {
                *entry |= lvt::MASKED;
            }
            return Effect::Timer(None);
        }
        Effect::None
    }

    /// An interrupt command was written.
    pub(super) fn send(&mut self, inbox: &Inbox<'_>, destination: Destination) -> Effect {
        let ipi = Ipi::decode(self.command as u32, destination);
        let by_vector = matches!(
            ipi.message.mode,
            DeliveryMode::Fixed | DeliveryMode::LowestPriority
        );
        if by_vector && ipi.message.vector < FIRST_VECTOR {
            self.fail(inbox, error::SEND_ILLEGAL);
            return Effect::None;
        }
        if ipi.is_void(self.command as u32) {
            return Effect::None;
        }
        Effect::Ipi(ipi)
    }

    /// The self-IPI register was written.
    pub(super) fn send_to_self(&mut self, inbox: &Inbox<'_>, vector: u8) -> Effect {
        if vector < FIRST_VECTOR {
            self.fail(inbox, error::SEND_ILLEGAL);
            return Effect::None;
        }
        Effect::Ipi(Ipi {
            shorthand: Shorthand::Own,
            message: Message {
                destination: Destination::All,
                mode: DeliveryMode::Fixed,
                vector,
                trigger: Trigger::Edge,
            },
        })
    }
}
