//! A function's table of MSI-X in the machine (PCI Local Bus specification 3.0, 6.8.2).

use core::ops::Range;

use crate::host::mmio::Mmio;
use crate::host::pending::Vector;
use crate::platform::pci::msix::ENTRY_SIZE;

/// Words of an entry.
const ADDRESS_LOW: usize = 0;
const ADDRESS_HIGH: usize = 4;
const DATA: usize = 8;
const CONTROL: usize = 12;
/// Vector control: masked.
const MASKED: u32 = 1;

/// A table, and the other registers in its pages.
#[derive(Debug)]
pub(super) struct Table {
    /// Its addresses.
    range: Range<u64>,
    /// The pages that contain it.
    pages: Range<u64>,
    registers: Mmio,
}

impl Table {
    /// The table at `range`; `registers` are `pages`, which contain it.
    pub(super) const fn new(range: Range<u64>, pages: Range<u64>, registers: Mmio) -> Self {
        Self {
            range,
            pages,
            registers,
        }
    }

    /// Where it is.
    pub(super) const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// The pages that the domain does not reach by itself.
    pub(super) const fn pages(&self) -> &Range<u64> {
        &self.pages
    }

    fn entry(&self, index: u16) -> usize {
        let table = (self.range.start - self.pages.start) as usize;
        table + usize::from(index) * ENTRY_SIZE as usize
    }

    /// Masks an entry. The function has seen it on return.
    pub(super) fn mask(&self, index: u16) {
        let control = self.entry(index) + CONTROL;
        self.registers.write32(control, MASKED);
        // The answer comes behind the write.
        self.registers.read32(control);
    }

    /// Has an entry, which is masked, write `vector` to `address`, and unmasks it.
    pub(super) fn open(&self, index: u16, address: u32, vector: Vector) {
        let entry = self.entry(index);
        self.registers.write32(entry + ADDRESS_LOW, address);
        self.registers.write32(entry + ADDRESS_HIGH, 0);
        self.registers.write32(entry + DATA, vector.0.into());
        self.registers.write32(entry + CONTROL, 0);
    }

    /// Reads a register that shares a page with the table: 1, 2, 4 or 8 bytes, naturally aligned.
    pub(super) fn read_other(&self, at: u64, to: &mut [u8]) {
        let Some(offset) = self.offset(at, to.len()) else {
            return to.fill(0xff);
        };
        match to.len() {
            1 => to[0] = self.registers.read8(offset),
            2 => to.copy_from_slice(&self.registers.read16(offset).to_le_bytes()),
            4 => to.copy_from_slice(&self.registers.read32(offset).to_le_bytes()),
            _ => to.copy_from_slice(&self.registers.read64(offset).to_le_bytes()),
        }
    }

    /// Writes a register that shares a page with the table.
    pub(super) fn write_other(&self, at: u64, from: &[u8]) {
        let Some(offset) = self.offset(at, from.len()) else {
            return;
        };
        match *from {
            [a] => self.registers.write8(offset, a),
            [a, b] => self.registers.write16(offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self
                .registers
                .write32(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => self
                .registers
                .write64(offset, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => {}
        }
    }

    /// Where an access is in the registers, if it is one that they take.
    fn offset(&self, at: u64, size: usize) -> Option<usize> {
        let fits = matches!(size, 1 | 2 | 4 | 8)
            && at.is_multiple_of(size as u64)
            && self.pages.contains(&at);
        fits.then(|| (at - self.pages.start) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mmio::FakeRegisters;

    #[test]
    fn entries_and_their_neighbours() {
        let mut fake = FakeRegisters::new(0x1000);
        let table = Table::new(0x8100..0x8140, 0x8000..0x9000, fake.mmio());
        let words = |fake: &mut FakeRegisters| {
            let registers = fake.mmio();
            [0x110, 0x114, 0x118, 0x11c].map(|at| registers.read32(at))
        };
        table.mask(1);
        assert_eq!(words(&mut fake), [0, 0, 0, 1]);
        table.open(1, 0xfee0_1000, Vector(0x41));
        assert_eq!(words(&mut fake), [0xfee0_1000, 0, 0x41, 0]);
        for size in [1, 2, 4, 8] {
            let from = [1, 2, 3, 4, 5, 6, 7, 8];
            table.write_other(0x8200, &[0; 8]);
            table.write_other(0x8200, &from[..size]);
            let mut to = [0; 8];
            table.read_other(0x8200, &mut to);
            assert!(to[..size] == from[..size] && to[size..].iter().all(|byte| *byte == 0));
            table.read_other(0x8200, &mut to[..size]);
            assert_eq!(to[..size], from[..size]);
        }
        // Not theirs, or not an access that they take.
        let mut to = [0; 4];
        for at in [0x7fff, 0x9000, 0x8002] {
            table.write_other(at, &[1; 4]);
            table.read_other(at, &mut to);
            assert_eq!(to, [0xff; 4]);
        }
    }
}
