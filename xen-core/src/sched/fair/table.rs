//! Units by slot.
//!
//! A look-up takes the lock of one slot and no other, so that wake-ups of different units do not meet here.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::{Mutex, Once};

use super::unit::Unit;
use crate::sched::Slot;
use crate::{Error, Result};

const CHUNK: usize = 256;
const CHUNKS: usize = 256;

type Chunk<T> = Box<[Mutex<Option<Arc<Unit<T>>>>]>;

/// All units.
pub(super) struct Table<T> {
    chunks: Box<[Once<Chunk<T>>]>,
    /// Slots that were used and are free again. Slots from `fresh` on were never used.
    free: Mutex<Vec<u32>>,
    fresh: AtomicU32,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        let chunks = (0..CHUNKS).map(|_| Once::new()).collect();
        Self {
            chunks,
            free: Mutex::new(Vec::new()),
            fresh: AtomicU32::new(0),
        }
    }

    fn place(&self, slot: Slot) -> Option<&Mutex<Option<Arc<Unit<T>>>>> {
        let index = slot.0 as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// The unit in a slot.
    pub(super) fn get(&self, slot: Slot) -> Option<Arc<Unit<T>>> {
        self.place(slot)?.lock().clone()
    }

    /// Stores the unit that `make` makes for a free slot, and returns the slot.
    ///
    /// Errors: [`Error::NoSpc`] if there is none; [`Error::NoMem`].
    pub(super) fn insert(&self, make: impl FnOnce(Slot) -> Arc<Unit<T>>) -> Result<Slot> {
        let slot = {
            let mut free = self.free.lock();
            match free.pop() {
                Some(slot) => slot,
                None => {
                    let slot = self.fresh.load(Ordering::Relaxed);
                    if slot as usize >= CHUNK * CHUNKS {
                        return Err(Error::NoSpc);
                    }
                    // Room for every slot there is, so that to free one takes no memory.
                    let missing = (slot as usize + 1).saturating_sub(free.len());
                    free.try_reserve(missing).map_err(|_| Error::NoMem)?;
                    self.fresh.store(slot + 1, Ordering::Relaxed);
                    slot
                }
            }
        };
        let chunk = self.chunks.get(slot as usize / CHUNK).ok_or(Error::NoSpc)?;
        chunk.call_once(|| (0..CHUNK).map(|_| Mutex::new(None)).collect());
        let unit = make(Slot(slot));
        *self.place(Slot(slot)).ok_or(Error::NoSpc)?.lock() = Some(unit);
        Ok(Slot(slot))
    }

    /// Frees a slot; returns what was in it.
    pub(super) fn remove(&self, slot: Slot) -> Option<Arc<Unit<T>>> {
        let unit = self.place(slot)?.lock().take()?;
        self.free.lock().push(slot.0);
        Some(unit)
    }

    /// Upper bound of the number of units.
    pub(super) fn bound(&self) -> usize {
        self.fresh.load(Ordering::Relaxed) as usize
    }
}
