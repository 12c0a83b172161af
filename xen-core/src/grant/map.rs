//! Mapping granted frames, and keeping track of it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::table::Use;
use super::{GrantTable, Status};
use crate::p2m::P2mType;
use crate::{Arch, Domain, Dying, Error, Gfn, GrantRef, HostPhysAddr, Hypervisor, Result};

/// Mappings that one frame of tracking stands for.
const PER_FRAME: u32 = 256;

/// How to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFlags {
    /// Only for reading.
    pub readonly: bool,
}

/// A mapping that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Names the mapping when it is undone.
    pub handle: u32,
    /// Where a device finds the frame.
    pub bus_address: HostPhysAddr,
}

/// One frame of another domain that a domain has mapped.
struct Mapping<A: Arch> {
    granter: Arc<Domain<A>>,
    mfn: crate::Mfn,
    gref: GrantRef,
    gfn: Gfn,
    write: bool,
}

/// A domain's mappings by handle.
pub(super) struct MapTrack<A: Arch> {
    entries: Vec<Option<Mapping<A>>>,
    free: Vec<u32>,
    limit: u32,
}

impl<A: Arch> MapTrack<A> {
    pub(super) const fn new(frames: u32) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            limit: frames.saturating_mul(PER_FRAME),
        }
    }

    pub(super) fn in_use(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn reserve(&mut self) -> Option<u32> {
        if let Some(handle) = self.free.pop() {
            return Some(handle);
        }
        let handle = u32::try_from(self.entries.len())
            .ok()
            .filter(|h| *h < self.limit)?;
        self.entries.push(None);
        Some(handle)
    }

    fn take(&mut self, handle: u32) -> Option<Mapping<A>> {
        let mapping = self.entries.get_mut(handle as usize)?.take()?;
        self.free.push(handle);
        Some(mapping)
    }
}

impl<A: Arch> GrantTable<A> {
    /// Maps the frame that `granter` granted `domain`, the owner of this table, by `gref`, at guest frame `gfn`.
    /// What was mapped there before is replaced.
    ///
    /// Errors: the status that the interface gives each failure.
    pub fn map(
        &self,
        domain: &Domain<A>,
        granter: &Arc<Domain<A>>,
        gref: GrantRef,
        gfn: Gfn,
        flags: MapFlags,
    ) -> Result<Mapped, Status> {
        if granter.dying() != Dying::Alive {
            return Err(Status::BadDomain);
        }
        let write = !flags.readonly;
        let mut track = self.track.lock();
        let handle = track.reserve().ok_or(Status::NoSpace)?;
        let mapped = self.map_frame(domain, granter, gref, gfn, write);
        match mapped {
            Ok(bus_address) => {
                if let Some(entry) = track.entries.get_mut(handle as usize) {
                    *entry = {
                        let mfn = crate::Mfn::containing(bus_address);
                        Some(Mapping {
                            granter: granter.clone(),
                            mfn,
                            gref,
                            gfn,
                            write,
                        })
                    };
                }
                Ok(Mapped {
                    handle,
                    bus_address,
                })
            }
            Err(status) => {
                track.free.push(handle);
                Err(status)
            }
        }
    }

    fn map_frame(
        &self,
        domain: &Domain<A>,
        granter: &Domain<A>,
        gref: GrantRef,
        gfn: Gfn,
        write: bool,
    ) -> Result<HostPhysAddr, Status> {
        let (frame, start, length) = granter.grants.acquire(granter, gref, domain, write)?;
        let kind = if write {
            P2mType::GrantRw
        } else {
            P2mType::GrantRo
        };
        let bus_address = frame.mfn().base();
        let whole = start == 0 && u64::from(length) == crate::PAGE_SIZE;
        let mapped = if whole {
            // Memory in the way of a mapping: where guest frames are machine frames it stays the domain's own.
            let placed = if domain.config.direct_mapped {
                domain.p2m.map_frame_keeping(gfn, frame, kind)
            } else {
                domain.p2m.map_frame(gfn, frame, kind)
            };
            placed.map_err(|e| match e {
                Error::NoMem => Status::NoSpace,
                _ => Status::GeneralError,
            })
        } else {
            // Part of a page can only be copied.
            Err(Status::GeneralError)
        };
        match mapped {
            Ok(dropped) => {
                domain.uncharge_pages(dropped.ram);
                Ok(bus_address)
            }
            Err(status) => {
                granter.grants.release_use(gref, write);
                Err(status)
            }
        }
    }

    /// Whether the owner of this table has mapped the frame by a grant.
    pub fn maps(&self, mfn: crate::Mfn) -> bool {
        self.track
            .lock()
            .entries
            .iter()
            .flatten()
            .any(|m| m.mfn == mfn)
    }

    /// Undoes the mapping `handle` of `domain`, the owner of this table. `gfn` is where it was made.
    ///
    /// Errors: [`Status::BadHandle`]; [`Status::BadVirtAddr`] for another `gfn`, with the mapping as it was.
    pub fn unmap(&self, domain: &Domain<A>, handle: u32, gfn: Gfn) -> Result<(), Status> {
        let mut track = self.track.lock();
        let mapping = track
            .entries
            .get(handle as usize)
            .and_then(Option::as_ref)
            .ok_or(Status::BadHandle)?;
        if mapping.gfn != gfn {
            return Err(Status::BadVirtAddr);
        }
        match domain.p2m.unmap_if(gfn, |entry| {
            if entry.kind.is_grant() {
                Ok(())
            } else {
                Err(Error::NoEnt)
            }
        }) {
            // Somebody may have mapped something else over it: then there is nothing left to take out.
            Ok(_) | Err(Error::NoEnt) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(mapping) = track.take(handle) {
            mapping
                .granter
                .grants
                .release_use(mapping.gref, mapping.write);
        }
        Ok(())
    }

    /// Undoes all mappings of a dying domain; its p2m entries go with its p2m.
    pub(super) fn unmap_all(&self, hv: &Hypervisor<A>, _domain: &Domain<A>) -> Result<()> {
        let mut track = self.track.lock();
        while let Some(entry) = track.entries.pop() {
            if let Some(mapping) = entry {
                mapping
                    .granter
                    .grants
                    .release_use(mapping.gref, mapping.write);
            }
            if track.entries.len().is_multiple_of(32)
                && !track.entries.is_empty()
                && hv.should_yield()
            {
                // Handles above the new end must not be given out again.
                let end = track.entries.len() as u32;
                track.free.retain(|h| *h < end);
                return Err(Error::Restart);
            }
        }
        track.free.clear();
        track.limit = 0;
        Ok(())
    }

    /// Begins a use of one of `granter`'s entries by `grantee`: the frame, and the offset and length of the bytes of
    /// it that were granted. A grant that is only passed on is refused.
    pub(super) fn acquire(
        &self,
        granter: &Domain<A>,
        gref: GrantRef,
        grantee: &Domain<A>,
        write: bool,
    ) -> Result<(crate::mem::FrameRef, u16, u16), Status> {
        match self.acquire_any(granter, gref, grantee, write, false)? {
            Use::Memory(frame, start, length) => Ok((frame, start, length)),
            Use::Onward(_) => Err(Status::GeneralError),
        }
    }

    /// As [`GrantTable::acquire`]; with `transitive` also a grant that `granter` passes on.
    pub(super) fn acquire_any(
        &self,
        granter: &Domain<A>,
        gref: GrantRef,
        grantee: &Domain<A>,
        write: bool,
        transitive: bool,
    ) -> Result<Use, Status> {
        self.table
            .lock()
            .acquire(&granter.p2m, gref, grantee.id(), write, transitive)
    }

    /// Ends a use.
    pub(super) fn release_use(&self, gref: GrantRef, write: bool) {
        self.table.lock().release_use(gref, write);
    }
}
