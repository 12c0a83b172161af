//! What is in use of a grant table.

use crate::mem::FrameRef;
use crate::{DomainId, Gfn, GrantRef};

/// Users beyond this many of one entry are refused.
const MAX_PINS: u32 = 1 << 20;

/// An entry's use by its grantee.
#[derive(Debug, Default)]
pub(super) struct Active {
    readers: u32,
    writers: u32,
    grant: Option<Grant>,
}

/// What was granted when the first use began; it holds until the last use ends.
#[derive(Debug)]
pub(super) struct Grant {
    /// To whom.
    pub(super) grantee: DomainId,
    /// What.
    pub(super) what: Granted,
}

/// What an entry grants.
#[derive(Debug)]
pub(super) enum Granted {
    /// Memory of the granter's.
    Memory(Memory),
    /// The use of another domain's grant to the granter (`GTF_transitive`).
    Grant(Onward),
}

/// Granted memory.
#[derive(Debug)]
pub(super) struct Memory {
    /// The granter's frame number.
    pub(super) gfn: Gfn,
    /// The frame.
    pub(super) frame: FrameRef,
    /// First byte that may be copied; mappings need 0.
    pub(super) start: u16,
    /// Number of bytes that may be copied; mappings need a whole page.
    pub(super) length: u16,
}

/// A grant that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Onward {
    /// Whose it is.
    pub(super) domain: DomainId,
    /// Which.
    pub(super) gref: GrantRef,
}

impl Active {
    /// Whether anybody uses the entry.
    pub(super) const fn in_use(&self) -> bool {
        self.readers != 0 || self.writers != 0
    }

    /// Whether anybody may write through it.
    pub(super) const fn has_writers(&self) -> bool {
        self.writers != 0
    }

    /// The grant, while in use.
    pub(super) const fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// Readers and writers.
    pub(super) const fn pins(&self) -> (u32, u32) {
        (self.readers, self.writers)
    }

    /// Whether one more use can be counted.
    pub(super) const fn has_room(&self) -> bool {
        self.readers < MAX_PINS && self.writers < MAX_PINS
    }

    /// Begins a use; `grant` is what the entry says, if this is the first one.
    pub(super) fn pin(&mut self, write: bool, grant: Option<Grant>) {
        if grant.is_some() {
            self.grant = grant;
        }
        if write {
            self.writers += 1;
        } else {
            self.readers += 1;
        }
    }

    /// Ends a use; the frame's reference goes with the last one.
    pub(super) fn unpin(&mut self, write: bool) {
        if write {
            self.writers = self.writers.saturating_sub(1);
        } else {
            self.readers = self.readers.saturating_sub(1);
        }
        if !self.in_use() {
            self.grant = None;
        }
    }
}
