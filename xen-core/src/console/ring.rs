//! The ring that keeps the console's latest output.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{Error, Result};

/// Bytes kept until [`Ring::resize`].
pub(super) const SIZE: usize = 16 * 1024;

/// The latest bytes, addressed by their position since start-up.
#[derive(Debug)]
pub(super) struct Ring {
    /// In use from the start, before there is a heap.
    fixed: [u8; SIZE],
    /// In use if not empty.
    chosen: Vec<u8>,
    start: u64,
    end: u64,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            fixed: [0; SIZE],
            chosen: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.chosen.is_empty() {
            &self.fixed
        } else {
            &self.chosen
        }
    }

    /// Number of bytes kept.
    pub(super) fn size(&self) -> usize {
        self.bytes().len()
    }

    /// Keeps `size` bytes from now on, of what there is the latest.
    ///
    /// Errors: [`Error::Inval`] for 0; [`Error::NoMem`].
    pub(super) fn resize(&mut self, size: usize) -> Result<()> {
        if size == 0 {
            return Err(Error::Inval);
        }
        let mut new = Vec::new();
        new.try_reserve_exact(size).map_err(|_| Error::NoMem)?;
        new.resize(size, 0);
        let start = self.start.max(self.end.saturating_sub(size as u64));
        let old = self.bytes();
        for at in start..self.end {
            if let (Some(to), Some(from)) = (
                new.get_mut((at % size as u64) as usize),
                old.get((at % old.len() as u64) as usize),
            ) {
                *to = *from;
            }
        }
        self.start = start;
        self.chosen = new;
        Ok(())
    }

    pub(super) fn push(&mut self, from: &[u8]) {
        let (start, mut end) = (self.start, self.end);
        let bytes = if self.chosen.is_empty() {
            &mut self.fixed[..]
        } else {
            &mut self.chosen[..]
        };
        let size = bytes.len() as u64;
        for byte in from {
            if let Some(place) = bytes.get_mut((end % size) as usize) {
                *place = *byte;
            }
            end += 1;
        }
        self.end = end;
        self.start = start.max(end.saturating_sub(size));
    }

    pub(super) fn read(&self, from: u64, to: &mut [u8]) -> (u64, usize) {
        let from = from.clamp(self.start, self.end);
        let count = to.len().min((self.end - from) as usize);
        let bytes = self.bytes();
        for (n, place) in (0..count as u64).zip(to.iter_mut()) {
            let at = ((from + n) % bytes.len() as u64) as usize;
            *place = bytes.get(at).copied().unwrap_or(0);
        }
        (from + count as u64, count)
    }

    /// The position whose low half is `index`; if the ring does not hold it any more, or not yet, that of its oldest byte.
    pub(super) fn locate(&self, index: u32) -> u64 {
        let behind = u64::from((self.end as u32).wrapping_sub(index));
        if behind <= self.end - self.start {
            self.end - behind
        } else {
            self.start
        }
    }

    /// Positions of the oldest byte and of the one after the latest.
    pub(super) const fn span(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Forgets what is before a position.
    pub(super) fn forget(&mut self, before: u64) {
        self.start = self.start.max(before.min(self.end));
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8])) {
        let mut part = [0; 64];
        let mut at = self.start;
        loop {
            let (next, count) = self.read(at, &mut part);
            if count == 0 {
                return;
            }
            each(part.get(..count).unwrap_or(&[]));
            at = next;
        }
    }
}
