//! Grant tables: what a domain lets others do with its memory, and what it has mapped of others.
//!
//! The table's pages are shared with the guest, which writes entries into them at any time; the hypervisor
//! reads each entry once, checks it, and sets the in-use bits by bounded compare-and-swap. What is in use is
//! remembered in [`active::Active`], never read back from the guest. A mapped frame is kept by the mapping p2m
//! entry's own reference, so neither side's misbehaviour can make it vanish under the other.
//!
//! Lock order: a grantee's map tracking before a granter's table; never two tables at once.

mod active;
mod copy;
mod map;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transitive_tests;

use core::fmt;

use spin::Mutex;

use crate::mem::{FrameRef, Frames};
use crate::{Arch, Domain, DomainConfig, Error, GrantRef, Hypervisor, Result};
use map::MapTrack;
use table::Table;

pub use copy::{CopyEnd, CopyPlace, copy};
pub use map::{MapFlags, Mapped};

/// Result of one grant operation (`GNTST_*` of public header `grant_table.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Status {
    /// Done.
    Okay = 0,
    /// Something is wrong.
    GeneralError = -1,
    /// There is no such domain.
    BadDomain = -2,
    /// There is no such entry, or it does not grant this.
    BadGntref = -3,
    /// There is no such mapping.
    BadHandle = -4,
    /// The address does not fit the mapping.
    BadVirtAddr = -5,
    /// The bus address does not fit the mapping.
    BadDevAddr = -6,
    /// No space in the IOMMU.
    NoDeviceSpace = -7,
    /// Not allowed.
    PermissionDenied = -8,
    /// The granted frame is not memory of the granter.
    BadPage = -9,
    /// A copy crosses a page.
    BadCopyArg = -10,
    /// The address does not fit its type.
    AddressTooBig = -11,
    /// Try again.
    Again = -12,
    /// Too many mappings.
    NoSpace = -13,
}

/// A domain's grant table.
pub struct GrantTable<A: Arch> {
    table: Mutex<Table>,
    track: Mutex<MapTrack<A>>,
}

impl<A: Arch> GrantTable<A> {
    /// Makes a table with one frame.
    ///
    /// Errors: [`Error::Inval`] for limits or a version that make no sense; [`Error::NoMem`].
    pub fn new(frames: &'static Frames, config: &DomainConfig) -> Result<Self> {
        Ok(Self {
            table: Mutex::new(Table::new(frames, config)?),
            track: Mutex::new(MapTrack::new(config.max_maptrack_frames)),
        })
    }

    /// Frames the table has now, and the most it can have (`GNTTABOP_query_size`).
    pub fn size(&self) -> (u32, u32) {
        self.table.lock().size()
    }

    /// The version in use: 1 or 2.
    pub fn version(&self) -> u32 {
        self.table.lock().version()
    }

    /// Switches to version 1 or 2; the reserved entries are kept, all others must be unused.
    ///
    /// Errors: [`Error::Inval`] for another version; [`Error::NoSys`] for one above the domain's limit;
    /// [`Error::Busy`] while entries are in use; [`Error::NoMem`].
    pub fn set_version(&self, version: u32) -> Result<()> {
        self.table.lock().set_version(version)
    }

    /// Makes the table at least `frames` frames large.
    ///
    /// Errors: [`Error::Inval`] beyond the limit; [`Error::NoMem`].
    pub fn grow(&self, frames: u32) -> Result<()> {
        self.table.lock().grow(frames)
    }

    /// Frame `index` of the shared table, to be mapped; the table grows to it.
    ///
    /// Errors: [`Error::Inval`] beyond the limit; [`Error::NoMem`].
    pub fn shared_frame(&self, index: u32) -> Result<FrameRef> {
        self.table.lock().shared_frame(index)
    }

    /// Frame `index` of the status array of version 2, to be mapped; the table grows to it.
    ///
    /// Errors: [`Error::Inval`] beyond the limit or in version 1; [`Error::NoMem`].
    pub fn status_frame(&self, index: u32) -> Result<FrameRef> {
        self.table.lock().status_frame(index)
    }

    /// Number of status frames that the table has now.
    pub fn status_frames(&self) -> u32 {
        self.table.lock().status_frames()
    }

    /// Number of status frames that the largest table of the domain's would have.
    pub fn max_status_frames(&self) -> u32 {
        self.table.lock().max_status_frames()
    }

    /// Swaps two entries, if neither is in use (`GNTTABOP_swap_grant_ref`).
    pub fn swap(&self, a: GrantRef, b: GrantRef) -> Status {
        self.table.lock().swap(a, b)
    }

    /// Ends all mappings of a dying domain and gives up the table's frames.
    ///
    /// Errors: [`Error::Restart`] when more urgent work waits.
    pub fn destroy(&self, hv: &Hypervisor<A>, domain: &Domain<A>) -> Result<()> {
        self.unmap_all(hv, domain)?;
        self.table.lock().release();
        Ok(())
    }

    /// Number of mappings of others' frames.
    pub fn mappings(&self) -> usize {
        self.track.lock().in_use()
    }

    /// For the debug key: entries in use and mappings.
    pub fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.table.lock().dump(out)?;
        writeln!(
            out,
            "  {} mappings of other domains' frames",
            self.mappings()
        )
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Srch => Self::BadDomain,
            Error::Perm | Error::Access => Self::PermissionDenied,
            Error::NoMem | Error::NoSpc => Self::NoSpace,
            Error::Again => Self::Again,
            _ => Self::GeneralError,
        }
    }
}
