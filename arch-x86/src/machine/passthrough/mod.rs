//! The machine's devices in the hands of the hardware domain: what of them Oxen keeps between, and why.
//!
//! The domain drives devices itself: their registers and their DMA do not concern Oxen. What does is what all CPUs share:
//! interrupts, since vectors of the machine are Oxen's, and with them the registers that say where interrupts go.
//!
//! | module | idea |
//! | --- | --- |
//! | [`bindings`] | from a vector of the machine to what the domain gets for it |
//! | [`lines`] | I/O APICs: the domain's in front of the machine's |
//! | [`board`] | what of the machine a function needs: configuration space, vectors, registers in memory |
//! | [`config`] | the machine's configuration space |
//! | [`pci`] | functions, found when they are first touched, and the accesses to them |
//! | [`function`], [`table`] | a function's MSI and MSI-X, made to send Oxen's messages |
//! | [`place`] | where a function's registers are in memory |
//!
//! The models of what the domain sees are in [`crate::platform`], and know nothing of the machine.
//!
//! # The way of an interrupt
//! A device's interrupt has one vector of the machine, the same on all CPUs, for as long as the domain has it switched on.
//! It is sent to the CPU that the receiving vCPU is on at the moment when it is set up. The host's handler records and
//! acknowledges it; `interrupts::poll` looks up its [`Binding`] and hands it to the domain: a message directly, a line
//! through the domain's I/O APIC, whose pin stays asserted, with the machine's masked, until the domain ends the interrupt.
//!
//! A function with several messages per MSI capability needs as many consecutive vectors, aligned. Where there are none left
//! its MSI stays off, which the log says: to make fewer of them would lose interrupts silently, and a driver that was
//! told that it has them cannot be told otherwise. MSI-X has no such need; entries without a vector stay masked.
//!
//! # Locks
//! [`Passthrough::pci`], or an I/O APIC of the domain, are outermost; neither is taken under the other, and neither is taken
//! under a local APIC's lock. Under them: the p2m and its flush, local APICs (from an I/O APIC, which has to know whether
//! its message was accepted), then the leaves: bindings, the host's I/O APICs, configuration ports, and mappings. So
//! whoever calls in here with the end of an interrupt does not hold a local APIC.

pub(super) mod bindings;
mod board;
mod config;
mod function;
pub(super) mod lines;
mod pci;
mod place;
mod table;

use alloc::vec::Vec;

use spin::Mutex;
use xen_core::{GuestPhysAddr, PAGE_SIZE, Result};

use super::hardware::{Hardware, IoApicPlace, PmTimerPort};
use crate::platform::cmos::Cmos;
use crate::platform::ioapic::IoApic;
use crate::platform::pci::Mcfg;
use crate::platform::pm_timer::PmTimer;
use crate::platform::ports::Ports;

pub(super) use bindings::{Binding, Bindings, Source};
pub(super) use board::Machine;
use config::ConfigSpace;
pub(super) use config::in_words;
use pci::Pci;

/// An I/O APIC of the domain.
#[derive(Debug)]
pub(super) struct Lines {
    place: IoApicPlace,
    pub(super) chip: Mutex<IoApic>,
}

/// What the hardware domain reaches through Oxen.
#[derive(Debug)]
pub(super) struct Passthrough {
    pub(super) io_apics: Vec<Lines>,
    mcfg: Vec<Mcfg>,
    pub(super) ports: Ports,
    pub(super) pm_timer: Option<PmTimer>,
    pub(super) cmos: Mutex<Cmos>,
    pub(super) pci: Mutex<Pci>,
    config: ConfigSpace,
}

/// What of Oxen's is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A register of an I/O APIC: its number in the list, and the offset.
    IoApic(usize, u16),
    /// Configuration space.
    Config(Mcfg),
}

impl Passthrough {
    /// What `hardware` describes, as after a reset.
    ///
    /// Errors: [`xen_core::Error::Inval`] for an I/O APIC that there cannot be; [`xen_core::Error::NoMem`].
    pub(super) fn new(hardware: &Hardware) -> Result<Self> {
        let io_apics = hardware.io_apics.iter().map(|place| {
            Ok(Lines {
                place: *place,
                chip: Mutex::new(IoApic::new(place.id, place.gsi_base, place.pins)?),
            })
        });
        Ok(Self {
            io_apics: io_apics.collect::<Result<_>>()?,
            mcfg: hardware.mcfg.clone(),
            ports: hardware.ports.clone(),
            pm_timer: hardware
                .pm_timer
                .map(|PmTimerPort { wide, .. }| PmTimer::new(wide)),
            cmos: Mutex::default(),
            pci: Mutex::default(),
            config: ConfigSpace::new(&hardware.mcfg),
        })
    }

    /// What is at an address, but for tables of MSI-X, whose places change.
    pub(super) fn place(&self, at: GuestPhysAddr) -> Option<Place> {
        let page = |at: GuestPhysAddr| at.0 & !(PAGE_SIZE - 1);
        let chips = self.io_apics.iter().map(|lines| lines.place.address);
        // Several may share a page: each begins where the one before ends.
        let chip = (0..)
            .zip(chips)
            .filter(|(_, base)| page(*base) == page(at) && *base <= at)
            .max_by_key(|(_, base)| *base);
        if let Some((n, base)) = chip {
            return Some(Place::IoApic(n, (at.0 - base.0) as u16));
        }
        let mcfg = self.mcfg.iter().find(|mcfg| mcfg.access(at, 1).is_some());
        mcfg.map(|mcfg| Place::Config(*mcfg))
    }

    /// Whether a page is not to be mapped for the domain: an access to it is dealt with here.
    fn keeps_page(&self, page: GuestPhysAddr) -> bool {
        let chips = self.io_apics.iter().map(|lines| lines.place.address.0);
        chips
            .into_iter()
            .any(|base| base & !(PAGE_SIZE - 1) == page.0)
            || matches!(self.place(page), Some(Place::Config(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn hardware(io_apics: &[(u64, u32)]) -> Hardware {
        Hardware {
            io_apics: io_apics
                .iter()
                .map(|(address, gsi_base)| IoApicPlace {
                    id: 0,
                    gsi_base: *gsi_base,
                    pins: 24,
                    address: GuestPhysAddr(*address),
                })
                .collect(),
            mcfg: vec![Mcfg {
                base: GuestPhysAddr(0xb000_0000),
                segment: 0,
                first_bus: 1,
                last_bus: 2,
            }],
            ports: Ports::new(None, []),
            pm_timer: None,
        }
    }

    #[test]
    fn addresses_lead_to_devices() {
        let hardware = hardware(&[(0xfec0_0400, 24), (0xfec0_0000, 0), (0xfec2_0000, 48)]);
        let devices = Passthrough::new(&hardware).unwrap();
        let place = |at| devices.place(GuestPhysAddr(at));
        assert_eq!(place(0xfec0_0010), Some(Place::IoApic(1, 0x10)));
        assert_eq!(place(0xfec0_0440), Some(Place::IoApic(0, 0x40)));
        assert_eq!(place(0xfec2_0fff), Some(Place::IoApic(2, 0xfff)));
        assert_eq!(place(0xfec0_1000), None);
        assert_eq!(place(0xfebf_ffff), None);
        assert_eq!(place(0xb00f_ffff), None);
        assert_eq!(place(0xb010_0000), Some(Place::Config(hardware.mcfg[0])));
        assert_eq!(place(0xb030_0000), None);
        for page in [0xfec0_0000, 0xfec2_0000, 0xb02f_f000] {
            assert!(devices.keeps_page(GuestPhysAddr(page)), "{page:#x}");
        }
        for page in [0xfec0_1000, 0xb00f_f000, 0xb030_0000, 0] {
            assert!(!devices.keeps_page(GuestPhysAddr(page)), "{page:#x}");
        }
    }

    #[test]
    fn an_impossible_machine_is_refused() {
        assert!(Passthrough::new(&hardware(&[(0xfec0_0000, u32::MAX)])).is_err());
    }
}
