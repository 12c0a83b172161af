//! What of the machine's devices Oxen keeps, and what dom0 drives through it.

use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};

use arch_x86::host::acpi::Madt;
use arch_x86::host::ioapic;
use arch_x86::machine::hardware::{IoApicPlace, PmTimerPort};
use arch_x86::machine::{Hardware, Told};
use arch_x86::platform::pci::Mcfg;
use arch_x86::platform::ports::Ports;
use boot::range::PhysRange;
use xen_abi::memory::E820Entry;
use xen_core::hardware::TextScreen;
use xen_core::{GuestPhysAddr, HostPhysAddr, Mfn, PAGE_SHIFT, PAGE_SIZE};

use super::console::{self, PortPlace};
use super::firmware::Firmware;
use super::start::Early;

/// I/O ports of a 16550.
const UART_PORTS: u16 = 8;
/// Where local APICs are and messages of interrupts go to.
const MESSAGES: (u64, u64) = (0xfee0_0000, 0x10_0000);
/// The screen that a PC's firmware leaves.
const VGA_TEXT: TextScreen = TextScreen {
    rows: 25,
    columns: 80,
    font_height: 16,
};
/// Configuration space of a bus.
const BUS_SHIFT: u32 = 20;

/// What dom0 drives through Oxen.
pub(super) fn describe(firmware: &Firmware) -> Hardware {
    let pm_timer = firmware.pm_timer();
    let mcfg = firmware.mcfg.iter().map(|segment| Mcfg {
        base: GuestPhysAddr(segment.base),
        segment: segment.segment,
        first_bus: segment.first_bus,
        last_bus: segment.last_bus,
    });
    Hardware {
        io_apics: io_apics(&firmware.madt),
        mcfg: mcfg.collect(),
        ports: Ports::new(pm_timer.map(|(port, _)| port), console_ports()),
        pm_timer: pm_timer.map(|(port, wide)| PmTimerPort { port, wide }),
    }
}

/// What dom0 is told of the machine when it asks.
pub(super) fn told(early: &Early, firmware: &Firmware, memory_map: Vec<E820Entry>) -> Told {
    let cpus = firmware.madt.cpus.iter();
    let screen = console::is_screen_free(&early.params)
        && early.info.framebuffer.is_none()
        && firmware.has_vga();
    Told {
        memory_map,
        cpus: cpus.map(|cpu| (cpu.apic_id, cpu.uid)).collect(),
        screen: screen.then_some(VGA_TEXT),
    }
}

/// The I/O APICs that react.
fn io_apics(madt: &Madt) -> Vec<IoApicPlace> {
    let mut places = Vec::new();
    for chip in &madt.io_apics {
        // Their inputs are numbered one after the other, so that those of the next one must not be counted.
        let others = madt.io_apics.iter().map(|other| other.first_gsi);
        let end = others.filter(|gsi| *gsi > chip.first_gsi).min();
        let gsis = chip.first_gsi..end.unwrap_or(u32::MAX);
        let pins = gsis.take_while(|gsi| ioapic::exists(*gsi)).count();
        if pins > 0 {
            places.push(IoApicPlace {
                id: chip.id,
                gsi_base: chip.first_gsi,
                pins,
                address: GuestPhysAddr(chip.address.into()),
            });
        }
    }
    places
}

/// I/O ports of the console.
fn console_ports() -> Vec<RangeInclusive<u16>> {
    console::ports()
        .filter_map(|(place, _)| match place {
            PortPlace::Io(base) => Some(base..=base.saturating_add(UART_PORTS - 1)),
            PortPlace::Memory(_) => None,
        })
        .collect()
}

/// Physical addresses that no domain may map, in whole pages.
pub(super) fn hidden(firmware: &Firmware) -> Vec<PhysRange> {
    let page = |at: HostPhysAddr| PhysRange::new(at, PAGE_SIZE);
    let mut hidden: Vec<_> = ioapic::register_pages().filter_map(page).collect();
    hidden.extend(PhysRange::new(HostPhysAddr(MESSAGES.0), MESSAGES.1));
    for (place, _) in console::ports() {
        if let PortPlace::Memory(at) = place {
            hidden.extend(PhysRange::new(at, u64::from(UART_PORTS)));
        }
    }
    for segment in &firmware.mcfg {
        let first = u64::from(segment.first_bus) << BUS_SHIFT;
        let end = (u64::from(segment.last_bus) + 1) << BUS_SHIFT;
        let start = segment.base.checked_add(first);
        hidden.extend(start.and_then(|at| PhysRange::new(HostPhysAddr(at), end - first)));
    }
    hidden.iter().filter_map(PhysRange::to_pages).collect()
}

/// The frames of ranges of whole pages.
pub(super) fn frames(ranges: &[PhysRange]) -> Vec<Range<Mfn>> {
    let frame = |at: HostPhysAddr| Mfn(at.0 >> PAGE_SHIFT);
    ranges
        .iter()
        .map(|range| frame(range.start())..frame(range.end()))
        .collect()
}
