//! Which ports of a domain are taken.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ptr;

use spin::{Mutex, MutexGuard};

use super::boxed;
use crate::{Port, Result};

/// Ports per word of the bitmap.
const WORD: usize = u64::BITS as usize;

/// What only changes under the domain's control lock.
pub(super) struct Ports {
    /// One bit per port; those beyond the last port are set for ever.
    used: Box<[u64]>,
    /// All words below this one are full.
    first_free: usize,
    /// Which port each bound physical interrupt has.
    pub(super) pirqs: BTreeMap<u32, Port>,
    /// The domain is dying: nothing can be bound any more.
    pub(super) closed: bool,
}

impl Ports {
    /// `count` ports, of which port 0 is taken.
    pub(super) fn new(count: u32) -> Result<Self> {
        let count = count as usize;
        let mut used = boxed(count.div_ceil(WORD), |word| match count - word * WORD {
            left if left < WORD => Ok(u64::MAX << left),
            _ => Ok(0),
        })?;
        if let Some(first) = used.first_mut() {
            *first |= 1;
        }
        Ok(Self {
            used,
            first_free: 0,
            pirqs: BTreeMap::new(),
            closed: false,
        })
    }

    /// The lowest free port that `usable` agrees with.
    pub(super) fn find_free(&mut self, mut usable: impl FnMut(Port) -> bool) -> Option<Port> {
        while self
            .used
            .get(self.first_free)
            .is_some_and(|w| *w == u64::MAX)
        {
            self.first_free += 1;
        }
        for (index, word) in self.used.iter().enumerate().skip(self.first_free) {
            let mut free = !*word;
            while free != 0 {
                let port = Port((index * WORD) as u32 + free.trailing_zeros());
                if usable(port) {
                    return Some(port);
                }
                free &= free - 1;
            }
        }
        None
    }

    /// Notes that a port is taken.
    pub(super) fn take(&mut self, port: Port) {
        if let Some(word) = self.used.get_mut(port.0 as usize / WORD) {
            *word |= 1 << (port.0 as usize % WORD);
        }
    }

    /// Notes that a port is free.
    pub(super) fn give(&mut self, port: Port) {
        let index = port.0 as usize / WORD;
        if let Some(word) = self.used.get_mut(index) {
            *word &= !(1 << (port.0 as usize % WORD));
            self.first_free = self.first_free.min(index);
        }
    }

    /// The ports of word `index` that are taken, port 0 aside.
    pub(super) fn word(&self, index: usize, count: u32) -> u64 {
        let mut word = self.used.get(index).copied().unwrap_or(0);
        if index == 0 {
            word &= !1;
        }
        match (count as usize).saturating_sub(index * WORD) {
            left if left < WORD => word & !(u64::MAX << left),
            _ => word,
        }
    }

    /// The lowest port of the `count` there are that is taken and not below `from`; port 0 aside.
    pub(super) fn next_used(&self, from: u32, count: u32) -> Option<Port> {
        let first = from as usize / WORD;
        (first..self.used.len()).find_map(|index| {
            let mut word = self.word(index, count);
            if index == first {
                word &= u64::MAX << (from as usize % WORD);
            }
            (word != 0).then(|| Port((index * WORD) as u32 + word.trailing_zeros()))
        })
    }
}

/// Takes the control locks of a domain and, if there is one, of another; always in the same order, by address.
pub(super) fn lock_pair<'a>(
    own: &'a Mutex<Ports>,
    other: Option<&'a Mutex<Ports>>,
) -> (MutexGuard<'a, Ports>, Option<MutexGuard<'a, Ports>>) {
    match other {
        None => (own.lock(), None),
        Some(other) if ptr::eq(own, other) => (own.lock(), None),
        Some(other) if ptr::from_ref(own) < ptr::from_ref(other) => {
            let own = own.lock();
            (own, Some(other.lock()))
        }
        Some(other) => {
            let other = other.lock();
            (own.lock(), Some(other))
        }
    }
}
