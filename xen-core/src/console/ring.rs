//! The ring that keeps the console's latest output.

/// Bytes kept.
pub(super) const SIZE: usize = 32 * 1024;

/// The latest [`SIZE`] bytes, addressed by their position since start-up.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: [u8; SIZE],
    start: u64,
    end: u64,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            start: 0,
            end: 0,
        }
    }

    pub(super) fn push(&mut self, from: &[u8]) {
        for byte in from {
            if let Some(place) = self.bytes.get_mut(self.end as usize % SIZE) {
                *place = *byte;
            }
            self.end += 1;
        }
        self.start = self.start.max(self.end.saturating_sub(SIZE as u64));
    }

    pub(super) fn read(&self, from: u64, to: &mut [u8]) -> (u64, usize) {
        let from = from.clamp(self.start, self.end);
        let count = to.len().min((self.end - from) as usize);
        for (n, place) in (0..count as u64).zip(to.iter_mut()) {
            *place = self
                .bytes
                .get((from + n) as usize % SIZE)
                .copied()
                .unwrap_or(0);
        }
        (from + count as u64, count)
    }

    pub(super) fn clear(&mut self) {
        self.start = self.end;
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
