//! Interrupt commands, and the way of messages to their receivers.

use xen_core::VcpuId;

use super::super::message::{DeliveryMode, Destination, Message, Trigger};
use super::{Lapic, arrival};

/// A way to say to whom without naming them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// The destination counts.
    None,
    /// The sender.
    Own,
    /// All.
    All,
    /// All but the sender.
    Others,
}

/// An interrupt command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// What is sent. With a shorthand its destination is of no account.
    pub message: Message,
    /// To whom, otherwise.
    pub shorthand: Shorthand,
}

/// What a vCPU has to be told of a message that has reached its APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A vector was added to the requests: the vCPU is to be woken, or made to exit.
    Interrupt,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: [`Lapic::init`], and the vCPU waits for a start-up interrupt.
    Init,
    /// A start-up interrupt: a vCPU that waits for it begins at this page.
    Startup(u8),
}

impl Ipi {
    /// From the lower half of an interrupt command register. Commands are edges: the trigger mode matters to INIT alone.
    pub(super) const fn decode(command: u32, destination: Destination) -> Self {
        Self {
            message: Message {
                destination,
                mode: DeliveryMode::of_command(command >> 8),
                vector: command as u8,
                trigger: Trigger::Edge,
            },
            shorthand: match command >> 18 & 3 {
                0 => Shorthand::None,
                1 => Shorthand::Own,
                2 => Shorthand::All,
                _ => Shorthand::Others,
            },
        }
    }

    /// Whether nothing comes of it: INIT that is de-asserted, which was to synchronise arbitration once, and combinations that the manual
    /// has as invalid (Intel SDM volume 3, "Valid Combinations for the … Local xAPIC Interrupt Command Register"), except
    /// that a CPU can send itself an NMI, as CPUs do.
    pub(super) const fn is_void(&self, command: u32) -> bool {
        const ASSERT: u32 = 1 << 14;
        const LEVEL: u32 = 1 << 15;
        let to_self = matches!(self.shorthand, Shorthand::Own | Shorthand::All);
        match self.message.mode {
            DeliveryMode::Fixed | DeliveryMode::Nmi => false,
            DeliveryMode::LowestPriority | DeliveryMode::Startup => to_self,
            DeliveryMode::Init => to_self || command & (ASSERT | LEVEL) == LEVEL,
            DeliveryMode::Smi | DeliveryMode::External | DeliveryMode::Reserved => true,
        }
    }

    /// Delivers it among a domain's vCPUs, as [`deliver`] does.
    pub fn deliver<'a>(
        &self,
        sender: VcpuId,
        lapics: impl Iterator<Item = (VcpuId, &'a Lapic)> + Clone,
        arrive: impl FnMut(VcpuId, Arrival),
    ) -> bool {
        let all = Message {
            destination: Destination::All,
            ..self.message
        };
        match self.shorthand {
            Shorthand::None => deliver(&self.message, lapics, arrive),
            Shorthand::Own => deliver(&all, lapics.filter(|(id, _)| *id == sender), arrive),
            Shorthand::All => deliver(&all, lapics, arrive),
            Shorthand::Others => deliver(&all, lapics.filter(|(id, _)| *id != sender), arrive),
        }
    }
}

/// Delivers a message among a domain's vCPUs: adds requests, and says of each receiver what it has to be told. True if any has
/// accepted it.
///
/// Of several candidates for the lowest priority, the first takes it.
pub fn deliver<'a>(
    message: &Message,
    lapics: impl Iterator<Item = (VcpuId, &'a Lapic)> + Clone,
    mut arrive: impl FnMut(VcpuId, Arrival),
) -> bool {
    let named = lapics.filter(|(_, lapic)| lapic.is_named(message.destination));
    let mut give = |id, lapic: &Lapic| {
        let Some(arrival) = arrival(message.mode, message.vector) else {
            return false;
        };
        if arrival == Arrival::Interrupt && !lapic.accept(message.vector, message.trigger) {
            return false;
        }
        arrive(id, arrival);
        true
    };
    if message.mode == DeliveryMode::LowestPriority {
        return named
            .filter(|(_, lapic)| lapic.is_software_enabled())
            .min_by_key(|(_, lapic)| lapic.processor_priority())
            .is_some_and(|(id, lapic)| give(id, lapic));
    }
    let mut accepted = false;
    for (id, lapic) in named {
        accepted |= give(id, lapic);
    }
    accepted
}
