//! Interrupt messages: what local APICs, IOAPICs and message-signalled interrupts send to local APICs.

/// How an interrupt is delivered (Intel SDM volume 3, "Interrupt Command Register", bits 10:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// To all that are named, by vector.
    Fixed,
    /// To the one of those named that does the least urgent work.
    LowestPriority,
    /// System management interrupt. Guests have no such mode: it is lost.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up interrupt (interrupt commands only): the vector is a page number.
    Startup,
    /// As of a PIC, which guests do not have (redirection entries, messages and local interrupts only).
    External,
    /// A number without a meaning here.
    Reserved,
}

impl DeliveryMode {
    /// Of an interrupt command.
    pub const fn of_command(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::Startup,
            _ => Self::Reserved,
        }
    }

    /// Of anything else.
    pub const fn of_source(bits: u32) -> Self {
        match bits & 7 {
            6 => Self::Reserved,
            7 => Self::External,
            bits => Self::of_command(bits),
        }
    }
}

/// Whether an interrupt is an event or a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what the name says")]
pub enum Trigger {
    Edge,
    Level,
}

/// Who is named by a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All.
    All,
    /// The one with this APIC ID.
    Physical(u32),
    /// Those whose logical destination register matches.
    Logical(u32),
}

impl Destination {
    /// From the field of 8 bits of an interrupt command in xAPIC mode.
    pub const fn from_xapic(id: u8, logical: bool) -> Self {
        match (id, logical) {
            (_, true) => Self::Logical(id as u32),
            (0xff, false) => Self::All,
            (_, false) => Self::Physical(id as u32),
        }
    }

    /// From the field of 32 bits of an interrupt command in x2APIC mode.
    pub const fn from_x2apic(id: u32, logical: bool) -> Self {
        match (id, logical) {
            (u32::MAX, _) => Self::All,
            (_, true) => Self::Logical(id),
            (_, false) => Self::Physical(id),
        }
    }

    /// From the 8 bits of a redirection entry or a message, and 7 more that were reserved once and are bits 14:8 of an
    /// APIC ID if a hypervisor says so (`XEN_HVM_CPUID_EXT_DEST_ID`).
    const fn from_source(low: u8, high: u8, logical: bool) -> Self {
        match (high & 0x7f, logical) {
            (0, _) => Self::from_xapic(low, logical),
            (high, true) => Self::Logical((high as u32) << 8 | low as u32),
            (high, false) => Self::Physical((high as u32) << 8 | low as u32),
        }
    }
}

/// A message to local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub destination: Destination,
    /// How.
    pub mode: DeliveryMode,
    /// The vector.
    pub vector: u8,
    /// Event or state.
    pub trigger: Trigger,
}

impl Message {
    /// What a redirection entry of an IOAPIC sends.
    pub const fn from_redirection(entry: u64) -> Self {
        let logical = entry >> 11 & 1 != 0;
        Self {
            destination: Destination::from_source(
                (entry >> 56) as u8,
                (entry >> 49) as u8,
                logical,
            ),
            mode: DeliveryMode::of_source((entry >> 8) as u32),
            vector: entry as u8,
            trigger: if entry >> 15 & 1 != 0 {
                Trigger::Level
            } else {
                Trigger::Edge
            },
        }
    }

    /// What a message-signalled interrupt sends (Intel SDM volume 3, "Message Signalled Interrupts"). `None` if it
    /// is not written to local APICs.
    pub const fn from_msi(address: u64, data: u32) -> Option<Self> {
        if address >> 20 != 0xfee {
            return None;
        }
        // CPUs look at the destination mode whether or not the redirection hint is set.
        let logical = address >> 2 & 1 != 0;
        Some(Self {
            destination: Destination::from_source(
                (address >> 12) as u8,
                (address >> 5) as u8,
                logical,
            ),
            mode: DeliveryMode::of_source(data >> 8),
            vector: data as u8,
            trigger: if data >> 15 & 1 != 0 {
                Trigger::Level
            } else {
                Trigger::Edge
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirection_entries_and_messages_say_the_same() {
        let entry = 0x0300_0000_0000_0000 | 1 << 15 | 1 << 11 | 1 << 8 | 0x31;
        let expected = Message {
            destination: Destination::Logical(3),
            mode: DeliveryMode::LowestPriority,
            vector: 0x31,
            trigger: Trigger::Level,
        };
        assert_eq!(Message::from_redirection(entry), expected);
        assert_eq!(
            Message::from_msi(0xfee0_300c, 1 << 15 | 1 << 14 | 1 << 8 | 0x31),
            Some(expected)
        );
        assert_eq!(Message::from_msi(0xfed0_300c, 0x31), None);
        assert_eq!(Message::from_msi(1 << 32 | 0xfee0_300c, 0x31), None);
        let all = Message::from_msi(0xfeef_f000, 0x41).unwrap();
        assert_eq!(
            (all.destination, all.mode),
            (Destination::All, DeliveryMode::Fixed)
        );
        // Identifiers beyond 8 bits.
        let far = Message::from_msi(0xfee0_2000 | 1 << 5, 0x41).unwrap();
        assert_eq!(far.destination, Destination::Physical(0x102));
        let far = Message::from_redirection(0x02 << 56 | 1 << 49 | 0x41);
        assert_eq!(far.destination, Destination::Physical(0x102));
    }

    #[test]
    fn broadcasts() {
        assert_eq!(Destination::from_xapic(0xff, false), Destination::All);
        assert_eq!(
            Destination::from_xapic(0xff, true),
            Destination::Logical(0xff)
        );
        assert_eq!(
            Destination::from_x2apic(0xff, false),
            Destination::Physical(0xff)
        );
        assert_eq!(Destination::from_x2apic(u32::MAX, true), Destination::All);
        assert_eq!(Destination::from_x2apic(u32::MAX, false), Destination::All);
    }

    #[test]
    fn modes() {
        use DeliveryMode::*;
        let all = [
            Fixed,
            LowestPriority,
            Smi,
            Reserved,
            Nmi,
            Init,
            Startup,
            Reserved,
        ];
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(DeliveryMode::of_command), all);
        let all = [
            Fixed,
            LowestPriority,
            Smi,
            Reserved,
            Nmi,
            Init,
            Reserved,
            External,
        ];
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(DeliveryMode::of_source), all);
    }
}
