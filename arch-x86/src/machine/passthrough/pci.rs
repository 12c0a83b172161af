//! The machine's functions, and the domain's accesses to them.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use super::board::Board;
use super::function::Device;
use crate::platform::pci::{Access, ConfigAddress, Sbdf};

/// Functions that the domain has touched.
#[derive(Debug, Default)]
pub(in crate::machine) struct Pci {
    /// The domain's address register, for accesses by ports.
    pub(in crate::machine) address: ConfigAddress,
    devices: BTreeMap<Sbdf, Device>,
}

/// All bits of an access.
const fn ones(size: u8) -> u32 {
    match size {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

impl Pci {
    /// A function that is known, or is there and known from now on.
    fn device(&mut self, board: &mut impl Board, sbdf: Sbdf) -> Option<&mut Device> {
        let vacant = match self.devices.entry(sbdf) {
            Entry::Occupied(entry) => return Some(entry.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        match Device::scan(sbdf, board) {
            Ok(device) => Some(vacant.insert(device?)),
            Err(error) => {
                log::warn!("{sbdf:?} cannot be looked over: {error:?}");
                None
            }
        }
    }

    /// A function is gone, or was reset: what it was told is forgotten. False if it is not known.
    pub(in crate::machine) fn forget(&mut self, board: &mut impl Board, sbdf: Sbdf) -> bool {
        let Some(mut device) = self.devices.remove(&sbdf) else {
            return false;
        };
        device.release(board);
        true
    }

    /// Reads configuration space.
    pub(in crate::machine) fn read(&mut self, board: &mut impl Board, access: &Access) -> u32 {
        let sbdf = access.function;
        let Some(device) = self.device(board, sbdf) else {
            return board.read(access);
        };
        let value = device.read(board, access);
        if device.is_gone(access, value) {
            // Pulled out, or another one is in its place, which the next access finds.
            device.release(board);
            self.devices.remove(&sbdf);
        }
        value
    }

    /// Writes configuration space.
    pub(in crate::machine) fn write(
        &mut self,
        board: &mut impl Board,
        access: &Access,
        value: u32,
    ) {
        match self.device(board, access.function) {
            Some(device) => device.write(board, access, value),
            None => board.write(access, value),
        }
    }

    /// IN from the data port, at byte `0..4`.
    pub(in crate::machine) fn data_in(
        &mut self,
        board: &mut impl Board,
        byte: u8,
        size: u8,
    ) -> u32 {
        match self.address.access(byte, size, false) {
            Some(access) => self.read(board, &access),
            None => ones(size),
        }
    }

    /// OUT to the data port, at byte `0..4`.
    pub(in crate::machine) fn data_out(
        &mut self,
        board: &mut impl Board,
        byte: u8,
        size: u8,
        value: u32,
    ) {
        if let Some(access) = self.address.access(byte, size, false) {
            self.write(board, &access, value);
        }
    }

    /// Whether a function's table is in a page.
    pub(in crate::machine) fn keeps_page(&self, at: u64) -> bool {
        self.devices.values().any(|device| device.keeps(at))
    }

    /// The function whose table is at an address, or else one whose table is in the same page.
    fn at(&mut self, at: u64) -> Option<&mut Device> {
        let devices = || self.devices.iter();
        let exact = devices().find(|(_, device)| device.has_table_at(at));
        let found = exact.or_else(|| devices().find(|(_, device)| device.keeps(at)));
        let sbdf = *found?.0;
        self.devices.get_mut(&sbdf)
    }

    /// Reads 1, 2, 4 or 8 bytes, naturally aligned, of a page in which a table is; anywhere else all bits are set.
    pub(in crate::machine) fn read_memory(&mut self, at: u64, to: &mut [u8]) {
        match self.at(at) {
            Some(device) => device.read_memory(at, to),
            None => to.fill(0xff),
        }
    }

    /// Writes to a page in which a table is; anywhere else it is lost.
    pub(in crate::machine) fn write_memory(
        &mut self,
        board: &mut impl Board,
        at: u64,
        from: &[u8],
    ) {
        if let Some(device) = self.at(at) {
            device.write_memory(board, at, from);
        }
    }
}
