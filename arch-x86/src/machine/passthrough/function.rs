//! A function's message-signalled interrupts: what the domain wants of them, done at the machine.

use alloc::vec::Vec;

use xen_core::Result;

use super::board::Board;
use super::place;
use super::table::Table;
use crate::host::pending::Vector;
use crate::platform::message::Message;
use crate::platform::pci::{Access, Action, Function, Intercept, Sbdf};

/// Vendor, and device in the upper half.
const ID: u16 = 0x00;
/// Vendors that there are not: nothing is there, or it is not ready yet.
const NOBODY: [u32; 2] = [0xffff, 0x0001];
/// Message control, in the upper half of a capability's first word. MSI: on; log2 of the number of messages.
const MSI_ENABLED: u32 = 1;
const MSI_COUNT_SHIFT: u32 = 4;
const MSI_COUNT: u32 = 7 << MSI_COUNT_SHIFT;
/// MSI-X: on; all entries are masked.
const MSIX_ENABLED: u32 = 1 << 15;
const MSIX_MASKED: u32 = 1 << 14;

/// An entry of MSI-X, at the machine.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// It keeps its vector until MSI-X is switched off.
    vector: Option<Vector>,
    /// The address that it writes to, while it is not masked.
    open: Option<u32>,
}

/// The vectors of MSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: Vector,
    count: u8,
}

impl Block {
    fn vectors(self) -> impl Iterator<Item = (u8, Vector)> {
        (0..self.count).map(move |n| (n, Vector(self.first.0 + n)))
    }
}

/// A function.
#[derive(Debug)]
pub(super) struct Device {
    id: u32,
    model: Function,
    msi: Option<Block>,
    msix: Vec<Slot>,
    table: Option<Table>,
    /// The log has been told that there are no vectors.
    complained: bool,
}

fn word(sbdf: Sbdf, offset: u16, size: u8) -> Option<Access> {
    Access::new(sbdf, offset, size)
}

impl Device {
    /// Finds out what a function has, and switches its messages off. `None` if there is no function.
    ///
    /// Errors: [`xen_core::Error::NoMem`].
    pub(super) fn scan(sbdf: Sbdf, board: &mut impl Board) -> Result<Option<Self>> {
        let mut read =
            |offset| word(sbdf, offset, 4).map_or(u32::MAX, |access| board.read(&access));
        let id = read(ID);
        if NOBODY.contains(&(id & 0xffff)) {
            return Ok(None);
        }
        let model = Function::scan(sbdf, read)?;
        let mut device = Self {
            id,
            model,
            msi: None,
            msix: Vec::new(),
            table: None,
            complained: false,
        };
        // The firmware may have left them on.
        device.switch_msi(board, None);
        device.switch_msix(board, false, false);
        device.find_table(board);
        Ok(Some(device))
    }

    /// The domain reads configuration space.
    pub(super) fn read(&self, board: &mut impl Board, access: &Access) -> u32 {
        match self.model.read(access) {
            Intercept::Here { value, .. } => value,
            Intercept::PassThrough(_) => board.read(access),
        }
    }

    /// Whether what was read of configuration space says that this function is not there any more.
    pub(super) const fn is_gone(&self, access: &Access, value: u32) -> bool {
        let known = match access.size {
            4 => self.id,
            2 => self.id & 0xffff,
            _ => return false,
        };
        access.offset == ID && value != known
    }

    /// The domain writes configuration space.
    pub(super) fn write(&mut self, board: &mut impl Board, access: &Access, value: u32) {
        let action = match self.model.write(access, value) {
            Intercept::Here { action, .. } => action,
            Intercept::PassThrough(action) => {
                board.write(access, value);
                action
            }
        };
        match action {
            None => {}
            Some(Action::MsiEnable { vectors, .. }) => self.start_msi(board, vectors),
            Some(Action::MsiUpdate { .. }) => self.point_msi(board),
            Some(Action::MsiMask { .. }) => self.mask_msi(board),
            Some(Action::MsiDisable) => self.stop_msi(board),
            Some(Action::MsixControl { .. }) => self.set_msix(board),
            Some(Action::MsixEntry { index, message }) => {
                self.set_entry(board, index, message, false);
            }
            Some(Action::Decoding { .. }) => {
                self.find_table(board);
                self.set_msix(board);
            }
        }
    }

    /// Gives its vectors back: it is not there any more.
    pub(super) fn release(&mut self, board: &mut impl Board) {
        self.free_msi(board);
        self.free_msix(board);
    }

    fn put(&self, board: &mut impl Board, offset: u16, size: u8, value: u32) {
        if let Some(access) = word(self.model.sbdf(), offset, size) {
            board.write(&access, value);
        }
    }

    /// Says once what is wrong.
    fn complain(&mut self, what: core::fmt::Arguments<'_>) {
        if !core::mem::replace(&mut self.complained, true) {
            let Sbdf {
                segment,
                bus,
                devfn,
            } = self.model.sbdf();
            let (device, function) = (devfn >> 3, devfn & 7);
            log::warn!("PCI {segment:04x}:{bus:02x}:{device:02x}.{function}: {what}");
        }
    }
}

/// MSI.
impl Device {
    /// Switches it on, with this many messages, or off.
    fn switch_msi(&self, board: &mut impl Board, count: Option<u8>) {
        let Some(msi) = &self.model.msi else {
            return;
        };
        let at = msi.offset() + 2;
        let Some(access) = word(self.model.sbdf(), at, 2) else {
            return;
        };
        let rest = board.read(&access) & !(MSI_ENABLED | MSI_COUNT);
        let control = match count {
            None => 0,
            Some(count) => MSI_ENABLED | count.trailing_zeros() << MSI_COUNT_SHIFT,
        };
        board.write(&access, rest | control);
    }

    fn start_msi(&mut self, board: &mut impl Board, count: u8) {
        self.switch_msi(board, None);
        if self.msi.is_none_or(|block| block.count != count) {
            self.free_msi(board);
            match board.allocate(count) {
                Ok(first) => self.msi = Some(Block { first, count }),
                Err(error) => {
                    return self.complain(format_args!(
                        "no {count} vectors for its MSI, which stays off ({error:?})"
                    ));
                }
            }
        }
        let (Some(block), Some(msi)) = (self.msi, self.model.msi) else {
            return;
        };
        if msi.wide() {
            self.put(board, msi.offset() + 8, 4, 0);
        }
        self.put(board, msi.data_offset(), 2, block.first.0.into());
        self.point_msi(board);
        self.mask_msi(board);
        self.switch_msi(board, Some(count));
    }

    /// Has its vectors come to what the domain says, at a CPU that suits.
    fn point_msi(&self, board: &mut impl Board) {
        let (Some(block), Some(msi)) = (self.msi, &self.model.msi) else {
            return;
        };
        for (n, vector) in block.vectors() {
            board.bind(vector, msi.message(n));
        }
        // The data stays: a vector is the same on all CPUs, so that this is one write.
        let address = board.address(msi.message(0).as_ref());
        self.put(board, msi.offset() + 4, 4, address);
    }

    fn mask_msi(&self, board: &mut impl Board) {
        let masks = self.model.msi.as_ref().and_then(|msi| msi.masks());
        if let (Some(_), Some((offset, masked))) = (self.msi, masks) {
            self.put(board, offset, 4, masked);
        }
    }

    fn stop_msi(&mut self, board: &mut impl Board) {
        self.switch_msi(board, None);
        self.free_msi(board);
    }

    fn free_msi(&mut self, board: &mut impl Board) {
        if let Some(block) = self.msi.take() {
            block.vectors().for_each(|(_, vector)| board.free(vector));
        }
    }
}

/// MSI-X.
impl Device {
    /// Switches it on or off, with all entries masked or not.
    fn switch_msix(&self, board: &mut impl Board, enabled: bool, masked: bool) {
        let Some(msix) = &self.model.msix else {
            return;
        };
        let Some(access) = word(self.model.sbdf(), msix.offset() + 2, 2) else {
            return;
        };
        let mut control = board.read(&access) & !(MSIX_ENABLED | MSIX_MASKED);
        for (set, bit) in [(enabled, MSIX_ENABLED), (masked, MSIX_MASKED)] {
            control |= if set { bit } else { 0 };
        }
        board.write(&access, control);
    }

    /// Looks where the table is now, and takes its pages away from the domain.
    fn find_table(&mut self, board: &mut impl Board) {
        let range = self.table_range(board);
        self.table = None;
        let Some(range) = range else {
            return;
        };
        let taken = place::pages(&range).ok_or(xen_core::Error::Inval);
        let taken = taken.and_then(|pages| Ok((pages.clone(), board.take(pages)?)));
        match taken {
            Ok((pages, registers)) => self.table = Some(Table::new(range, pages, registers)),
            // While the domain finds out how large its registers are, addresses mean nothing.
            Err(error) => log::debug!(
                "{:?}: no table of MSI-X can be at {:#x} ({error:?})",
                self.model.sbdf(),
                range.start
            ),
        }
    }

    /// Where the table is, while the function decodes memory.
    fn table_range(&self, board: &mut impl Board) -> Option<core::ops::Range<u64>> {
        let msix = self.model.msix.as_ref()?;
        if !self.model.decodes_memory() {
            return None;
        }
        let sbdf = self.model.sbdf();
        let bar = place::address(msix.table().bar, self.model.bars(), |offset| {
            word(sbdf, offset, 4).map_or(0, |access| board.read(&access))
        })?;
        msix.table().at(bar)
    }

    /// Makes the machine's table and control what the domain's are.
    fn set_msix(&mut self, board: &mut impl Board) {
        let Some(msix) = &self.model.msix else {
            return;
        };
        if !msix.is_enabled() {
            self.switch_msix(board, false, false);
            return self.free_msix(board);
        }
        let (count, masked) = (msix.len(), msix.is_masked());
        if self.msix.is_empty() {
            if self.msix.try_reserve_exact(count).is_err() {
                return self.complain(format_args!("no memory for its MSI-X, which stays off"));
            }
            self.msix.resize(count, Slot::default());
        }
        // The table is the function's only while all of it is masked.
        self.switch_msix(board, true, true);
        for index in 0..count as u16 {
            let message = self.message(index);
            self.set_entry(board, index, message, true);
        }
        match self.table {
            Some(_) if masked => {}
            Some(_) => self.switch_msix(board, true, false),
            None if self.model.decodes_memory() => self.complain(format_args!(
                "its table of MSI-X is nowhere: all entries stay masked"
            )),
            // It comes with memory.
            None => {}
        }
    }

    fn message(&self, index: u16) -> Option<Message> {
        self.model.msix.as_ref()?.message(index.into())
    }

    /// Makes an entry of the machine's table what the domain's is. `anew`: nothing is known of it.
    fn set_entry(
        &mut self,
        board: &mut impl Board,
        index: u16,
        message: Option<Message>,
        anew: bool,
    ) {
        let (Some(table), Some(slot)) = (&self.table, self.msix.get_mut(usize::from(index))) else {
            return;
        };
        let close = |slot: &mut Slot| {
            if slot.open.take().is_some() || anew {
                table.mask(index);
            }
        };
        let Some(message) = message else {
            // What has been sent already is the domain's still: the vector stays bound.
            return close(slot);
        };
        let vector = match slot.vector {
            Some(vector) => vector,
            None => match board.allocate(1) {
                Ok(vector) => *slot.vector.insert(vector),
                Err(error) => {
                    close(slot);
                    return self.complain(format_args!(
                        "no vector for entry {index} of its MSI-X, which stays masked ({error:?})"
                    ));
                }
            },
        };
        board.bind(vector, Some(message));
        let address = board.address(Some(&message));
        if slot.open != Some(address) || anew {
            close(slot);
            table.open(index, address, vector);
            slot.open = Some(address);
        }
    }

    fn free_msix(&mut self, board: &mut impl Board) {
        for vector in self.msix.drain(..).filter_map(|slot| slot.vector) {
            board.free(vector);
        }
    }

    /// Whether its table is in these pages.
    pub(super) fn keeps(&self, at: u64) -> bool {
        self.table
            .as_ref()
            .is_some_and(|table| table.pages().contains(&at))
    }

    /// Whether its table is at an address.
    pub(super) fn has_table_at(&self, at: u64) -> bool {
        self.table
            .as_ref()
            .is_some_and(|table| table.range().contains(&at))
    }

    /// The domain reads a page that the table is in: 1, 2, 4 or 8 bytes, naturally aligned.
    pub(super) fn read_memory(&self, at: u64, to: &mut [u8]) {
        match (&self.table, &self.model.msix) {
            (Some(table), Some(msix)) if table.range().contains(&at) => {
                msix.read_table((at - table.range().start) as u32, to);
            }
            (Some(table), _) => table.read_other(at, to),
            (None, _) => to.fill(0xff),
        }
    }

    /// The domain writes to a page that the table is in.
    pub(super) fn write_memory(&mut self, board: &mut impl Board, at: u64, from: &[u8]) {
        let action = match (&self.table, &mut self.model.msix) {
            (Some(table), Some(msix)) if table.range().contains(&at) => {
                msix.write_table((at - table.range().start) as u32, from)
            }
            (Some(table), _) => {
                table.write_other(at, from);
                None
            }
            (None, _) => None,
        };
        if let Some(Action::MsixEntry { index, message }) = action {
            self.set_entry(board, index, message, false);
        }
    }
}

#[cfg(test)]
mod tests;
