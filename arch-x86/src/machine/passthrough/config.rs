//! The machine's PCI configuration space.
#![expect(unsafe_code, reason = "configuration ports and registers in memory")]

use alloc::vec::Vec;

use spin::Mutex;
use x86_64::instructions::port::Port;
use xen_core::{GuestPhysAddr, HostPhysAddr};

use crate::host::mmio::Mmio;
use crate::host::mmu;
use crate::platform::pci::{Access, Mcfg};

/// The address register and the data, 4 ports each.
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;
/// What the ports reach of a function.
const CONVENTIONAL: u16 = 256;

/// An access by ports is two of them.
static PORTS: Mutex<()> = Mutex::new(());

/// The ways to configuration space: the ports for what they reach, memory for the rest.
#[derive(Debug)]
pub(in crate::machine) struct ConfigSpace {
    regions: Vec<(Mcfg, Mmio)>,
}

/// Where the part of a region with buses is, and how long that is.
fn buses(mcfg: &Mcfg) -> Option<(u64, u64)> {
    let count = u64::from(mcfg.last_bus.checked_sub(mcfg.first_bus)?) + 1;
    let start = mcfg.base.0.checked_add(u64::from(mcfg.first_bus) << 20)?;
    Some((start, count << 20))
}

impl ConfigSpace {
    /// With these regions in memory. One that cannot be mapped is left out, with a note.
    pub(super) fn new(mcfg: &[Mcfg]) -> Self {
        let regions = mcfg.iter().filter_map(|mcfg| {
            let (start, size) = buses(mcfg)?;
            // SAFETY: the firmware says that configuration space is there; domains do not get it.
            let registers = unsafe { mmu::map_device(HostPhysAddr(start), size) };
            if let Err(error) = &registers {
                log::warn!("PCI configuration space at {start:#x} cannot be used: {error:?}");
            }
            Some((*mcfg, registers.ok()?))
        });
        Self {
            regions: regions.collect(),
        }
    }

    fn in_memory(&self, access: &Access) -> Option<(&Mmio, usize)> {
        let function = access.function;
        let (mcfg, registers) = self.regions.iter().find(|(mcfg, _)| {
            mcfg.segment == function.segment
                && (mcfg.first_bus..=mcfg.last_bus).contains(&function.bus)
        })?;
        Some((registers, offset(mcfg, access)))
    }

    /// Reads the machine's; all ones where nothing is, or no way leads.
    pub(super) fn read(&self, access: &Access) -> u32 {
        if let Some(port) = select(access) {
            let _ports = PORTS.lock();
            // SAFETY: these are the configuration ports. What is read concerns no memory.
            return unsafe {
                Port::<u32>::new(ADDRESS).write(port.0);
                match access.size {
                    1 => Port::<u8>::new(port.1).read().into(),
                    2 => Port::<u16>::new(port.1).read().into(),
                    _ => Port::<u32>::new(port.1).read(),
                }
            };
        }
        match (self.in_memory(access), access.size) {
            (Some((registers, at)), 1) => registers.read8(at).into(),
            (Some((registers, at)), 2) => registers.read16(at).into(),
            (Some((registers, at)), _) => registers.read32(at),
            (None, size) => u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4))),
        }
    }

    /// Writes the machine's; where nothing is, or no way leads, it is lost.
    pub(super) fn write(&self, access: &Access, value: u32) {
        if let Some(port) = select(access) {
            let _ports = PORTS.lock();
            // SAFETY: these are the configuration ports. The domain that writes may do with devices what it likes; what
            // concerns Oxen was taken out before.
            unsafe {
                Port::<u32>::new(ADDRESS).write(port.0);
                match access.size {
                    1 => Port::<u8>::new(port.1).write(value as u8),
                    2 => Port::<u16>::new(port.1).write(value as u16),
                    _ => Port::<u32>::new(port.1).write(value),
                }
            }
            return;
        }
        match (self.in_memory(access), access.size) {
            (Some((registers, at)), 1) => registers.write8(at, value as u8),
            (Some((registers, at)), 2) => registers.write16(at, value as u16),
            (Some((registers, at)), _) => registers.write32(at, value),
            (None, _) => {}
        }
    }
}

/// The offset of an access from the region's first bus on.
const fn offset(mcfg: &Mcfg, access: &Access) -> usize {
    let bus = (access.function.bus - mcfg.first_bus) as usize;
    bus << 20 | (access.function.devfn as usize) << 12 | access.offset as usize
}

/// The address register's value and the port of the data, for what the ports reach.
const fn select(access: &Access) -> Option<(u32, u16)> {
    let function = access.function;
    if function.segment != 0 || access.offset >= CONVENTIONAL {
        return None;
    }
    let register =
        (function.bus as u32) << 16 | (function.devfn as u32) << 8 | (access.offset & !3) as u32;
    Some((ENABLED | register, DATA + access.offset % 4))
}

/// The accesses that a naturally aligned access of up to 8 bytes in memory consists of.
pub(in crate::machine) fn in_words(
    mcfg: &Mcfg,
    at: GuestPhysAddr,
    size: usize,
) -> impl Iterator<Item = (usize, Option<Access>)> {
    let step = size.clamp(1, 4);
    (0..size).step_by(step).map(move |n| {
        let at = at.0.checked_add(n as u64).map(GuestPhysAddr);
        (n, at.and_then(|at| mcfg.access(at, step as u8)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::pci::Sbdf;
    use alloc::vec;
    use alloc::vec::Vec;

    const MCFG: Mcfg = Mcfg {
        base: GuestPhysAddr(0xb000_0000),
        segment: 0,
        first_bus: 2,
        last_bus: 3,
    };

    fn access(bus: u8, offset: u16, size: u8) -> Access {
        let function = Sbdf {
            segment: 0,
            bus,
            devfn: 0x0a,
        };
        Access::new(function, offset, size).unwrap()
    }

    #[test]
    fn ports_reach_what_was_there_in_the_last_century() {
        assert_eq!(select(&access(3, 0x46, 2)), Some((0x8003_0a44, 0xcfe)));
        assert_eq!(select(&access(3, 0x100, 2)), None);
        let mut far = access(3, 0x40, 4);
        far.function.segment = 1;
        assert_eq!(select(&far), None);
    }

    #[test]
    fn memory_begins_with_the_first_bus() {
        assert_eq!(buses(&MCFG), Some((0xb020_0000, 0x20_0000)));
        assert_eq!(
            buses(&Mcfg {
                last_bus: 1,
                ..MCFG
            }),
            None
        );
        assert_eq!(offset(&MCFG, &access(3, 0x104, 4)), 0x10_a104);
    }

    #[test]
    fn wide_accesses_are_two() {
        let at = GuestPhysAddr(0xb020_a100);
        let words: Vec<_> = in_words(&MCFG, at, 8).collect();
        assert_eq!(
            words,
            vec![
                (0, Some(access(2, 0x100, 4))),
                (4, Some(access(2, 0x104, 4)))
            ]
        );
        let words: Vec<_> = in_words(&MCFG, at, 2).collect();
        assert_eq!(words, vec![(0, Some(access(2, 0x100, 2)))]);
    }
}
