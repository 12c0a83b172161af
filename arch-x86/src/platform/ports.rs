//! Which ports the hardware domain reaches directly, which are ours, and where there is nothing for it. Other guests have
//! no ports.
//!
//! The choice is that of Xen's PVH hardware domain: the interrupt controllers, the interval timer with the speaker's gate, the
//! hypervisor's console and the configuration ports of PCI are not its own; everything else is, the power management
//! registers (PM1) among it. The reset register at 0xcf9 is not: the domain asks the hypervisor to restart the machine.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::cmos;

/// What is behind a port, for the hardware domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The machine's.
    Direct,
    /// Nothing: IN reads ones, OUT is lost.
    Hidden,
    /// Byte `0..4` of the address register of PCI configuration; it counts for accesses of 4 bytes at 0 alone.
    PciAddress(u8),
    /// Byte `0..4` of the data of PCI configuration.
    PciData(u8),
    /// Byte `0..4` of the power management timer.
    PmTimer(u8),
    /// The index register of the real-time clock.
    CmosIndex,
    /// The data of the real-time clock.
    CmosData,
}

/// The address register of PCI configuration, 4 ports.
const PCI_ADDRESS: u16 = 0xcf8;
/// The data of PCI configuration, 4 ports.
const PCI_DATA: u16 = 0xcfc;
/// What of a PC a PVH guest does not have, or not for itself.
const HIDDEN: [RangeInclusive<u16>; 5] = [
    // The two PICs.
    0x20..=0x21,
    // The PIT.
    0x40..=0x43,
    // The gate of its channel 2, and the speaker.
    0x61..=0x61,
    0xa0..=0xa1,
    // The PICs' edge and level control.
    0x4d0..=0x4d1,
];

/// The hardware domain's ports.
#[derive(Clone, Debug)]
pub struct Ports {
    hidden: Vec<RangeInclusive<u16>>,
    pm_timer: Option<u16>,
}

impl Ports {
    /// The ports of a machine with this power management timer (FADT) and these that the hypervisor uses, as those of
    /// its serial console.
    pub fn new(pm_timer: Option<u16>, own: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self {
            hidden: HIDDEN.into_iter().chain(own).collect(),
            pm_timer,
        }
    }

    /// What is behind a port.
    pub fn port(&self, port: u16) -> Port {
        if self.hidden.iter().any(|range| range.contains(&port)) {
            return Port::Hidden;
        }
        let within = |first: u16| {
            let offset = port.checked_sub(first)?;
            (offset < 4).then_some(offset as u8)
        };
        if let Some(byte) = self.pm_timer.and_then(within) {
            return Port::PmTimer(byte);
        }
        if let Some(byte) = within(PCI_ADDRESS) {
            return Port::PciAddress(byte);
        }
        if let Some(byte) = within(PCI_DATA) {
            return Port::PciData(byte);
        }
        match port {
            cmos::INDEX => Port::CmosIndex,
            cmos::DATA => Port::CmosData,
            _ => Port::Direct,
        }
    }

    /// What an access of 1, 2 or 4 bytes is for: the machine's ports if all of them are the domain's, otherwise what is
    /// behind the first one, which then has to see whether it reaches that far; nothing if the first one is the
    /// machine's, or the access wraps.
    pub fn access(&self, port: u16, size: u8) -> Port {
        let Some(last) = port.checked_add(u16::from(size.saturating_sub(1))) else {
            return Port::Hidden;
        };
        match self.port(port) {
            Port::Direct if !(port..=last).all(|n| self.port(n) == Port::Direct) => Port::Hidden,
            // Index and data are registers of one byte.
            Port::CmosIndex | Port::CmosData if size != 1 => Port::Hidden,
            first => first,
        }
    }

    /// The ports that need not exit.
    pub fn direct(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for port in (0..=u16::MAX).filter(|port| self.port(*port) == Port::Direct) {
            match ranges.last_mut() {
                Some(range) if range.end().checked_add(1) == Some(port) => {
                    *range = *range.start()..=port;
                }
                _ => ranges.push(port..=port),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports() -> Ports {
        Ports::new(Some(0x608), [0x3f8..=0x3ff])
    }

    #[test]
    fn the_table() {
        let ports = ports();
        for port in [0x20, 0xa1, 0x40, 0x42, 0x43, 0x61, 0x4d0, 0x3f8, 0x3ff] {
            assert_eq!(ports.port(port), Port::Hidden, "{port:#x}");
        }
        // Keyboard, PM1 event and control, the VGA registers, the second serial line, POST codes.
        for port in [0x60, 0x64, 0x600, 0x604, 0x3d4, 0x2f8, 0x80, 0, 0xffff] {
            assert_eq!(ports.port(port), Port::Direct, "{port:#x}");
        }
        assert_eq!(ports.port(0x60b), Port::PmTimer(3));
        assert_eq!(ports.port(0x60c), Port::Direct);
        assert_eq!(ports.port(0xcf9), Port::PciAddress(1));
        assert_eq!(ports.port(0xcfe), Port::PciData(2));
        assert_eq!(
            (ports.port(0x70), ports.port(0x71)),
            (Port::CmosIndex, Port::CmosData)
        );
        assert_eq!(Ports::new(None, []).port(0x608), Port::Direct);
    }

    #[test]
    fn an_access_is_for_one_thing() {
        let ports = ports();
        assert_eq!(ports.access(0x60, 1), Port::Direct);
        assert_eq!(ports.access(0x60, 2), Port::Hidden);
        assert_eq!(ports.access(0x70, 2), Port::Hidden);
        assert_eq!(ports.access(0xcf8, 4), Port::PciAddress(0));
        assert_eq!(ports.access(0x608, 4), Port::PmTimer(0));
        assert_eq!(ports.access(0xffff, 2), Port::Hidden);
        assert_eq!(ports.access(0xffff, 1), Port::Direct);
    }

    #[test]
    fn direct_ranges_are_the_direct_ports() {
        let ports = ports();
        let ranges = ports.direct();
        for port in 0..=u16::MAX {
            let direct = ranges.iter().filter(|range| range.contains(&port)).count();
            assert_eq!(
                direct,
                usize::from(ports.port(port) == Port::Direct),
                "{port:#x}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_reached_by_a_wider_access(port: u16, size in prop::sample::select(&[1u8, 2, 4][..])) {
            let ports = ports();
            if ports.access(port, size) == Port::Direct {
                for n in 0..u16::from(size) {
                    prop_assert_eq!(ports.port(port + n), Port::Direct);
                }
            }
        }
    }
}
