//! The table shared with the guest, in both versions.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use super::Status;
use super::active::{Active, Grant, Granted, Memory, Onward};
use crate::mem::{FrameRef, Frames};
use crate::p2m::P2m;
use crate::{Arch, DomainConfig, DomainId, Error, Gfn, GrantRef, PAGE_SIZE, Result};

/// Bits of an entry's flags (`GTF_*`).
mod flag {
    pub(super) const TYPE: u16 = 3;
    pub(super) const PERMIT_ACCESS: u16 = 1;
    pub(super) const TRANSITIVE: u16 = 3;
    pub(super) const READONLY: u16 = 1 << 2;
    pub(super) const READING: u16 = 1 << 3;
    pub(super) const WRITING: u16 = 1 << 4;
    pub(super) const SUB_PAGE: u16 = 1 << 8;
}

/// Entries that the toolstack fills before the guest runs (`GNTTAB_NR_RESERVED_ENTRIES`).
const RESERVED: u32 = 8;
/// Tries against a guest that keeps changing an entry while it is looked at, before it is given up.
const TRIES: u32 = 16;
const V1_SIZE: u32 = 8;
const V2_SIZE: u32 = 16;
const STATUS_SIZE: u32 = 2;

/// An entry's shared words, read once.
#[derive(Clone, Copy, Debug)]
struct Entry {
    flags: u16,
    domid: u16,
    /// Version 2, part of a page: offset and length.
    part: (u16, u16),
    gfn: Gfn,
    /// Version 2, transitive: whose grant is passed on.
    onward: Onward,
}

/// What a use of an entry got.
#[derive(Debug)]
pub(super) enum Use {
    /// A frame, and the offset and length of the bytes of it that were granted.
    Memory(FrameRef, u16, u16),
    /// A grant of another domain's to the granter.
    Onward(Onward),
}

/// One domain's table.
pub(super) struct Table {
    frames: &'static Frames,
    version: u32,
    max_version: u32,
    max_frames: u32,
    shared: Vec<FrameRef>,
    status: Vec<FrameRef>,
    active: Vec<Active>,
}

impl Table {
    pub(super) fn new(frames: &'static Frames, config: &DomainConfig) -> Result<Self> {
        if config.max_grant_frames == 0 || !(1..=2).contains(&config.max_grant_version) {
            return Err(Error::Inval);
        }
        let mut table = Self {
            frames,
            version: 1,
            max_version: config.max_grant_version,
            max_frames: config.max_grant_frames,
            shared: Vec::new(),
            status: Vec::new(),
            active: Vec::new(),
        };
        table.grow(1)?;
        Ok(table)
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.shared.len() as u32, self.max_frames)
    }

    pub(super) const fn version(&self) -> u32 {
        self.version
    }

    const fn entry_size(&self) -> u32 {
        if self.version == 2 { V2_SIZE } else { V1_SIZE }
    }

    fn entries(&self) -> u32 {
        self.shared.len() as u32 * (PAGE_SIZE as u32 / self.entry_size())
    }

    /// Status frames that a table of `frames` version 2 frames needs.
    fn status_for(frames: u32) -> u32 {
        frames
            .saturating_mul(PAGE_SIZE as u32 / V2_SIZE)
            .div_ceil(PAGE_SIZE as u32 / STATUS_SIZE)
    }

    pub(super) fn grow(&mut self, frames: u32) -> Result<()> {
        if frames > self.max_frames {
            return Err(Error::Inval);
        }
        if self.version == 2 {
            self.grow_status(Self::status_for(frames))?;
        }
        while (self.shared.len() as u32) < frames {
            self.shared.push(self.frames.alloc_page(DomainId::XEN)?);
        }
        // Version 1 has the smaller entries: room for its count fits both.
        let count = self.shared.len() * (PAGE_SIZE as usize / V1_SIZE as usize);
        if self.active.len() < count {
            self.active.resize_with(count, Active::default);
        }
        Ok(())
    }

    fn grow_status(&mut self, frames: u32) -> Result<()> {
        while (self.status.len() as u32) < frames {
            self.status.push(self.frames.alloc_page(DomainId::XEN)?);
        }
        Ok(())
    }

    pub(super) fn shared_frame(&mut self, index: u32) -> Result<FrameRef> {
        self.grow(
            index
                .checked_add(1)
                .ok_or(Error::Inval)?
                .max(self.shared.len() as u32),
        )?;
        self.shared
            .get(index as usize)
            .and_then(FrameRef::try_clone)
            .ok_or(Error::Inval)
    }

    pub(super) fn status_frame(&mut self, index: u32) -> Result<FrameRef> {
        if self.version != 2 || index >= Self::status_for(self.max_frames) {
            return Err(Error::Inval);
        }
        self.grow_status(index + 1)?;
        self.status
            .get(index as usize)
            .and_then(FrameRef::try_clone)
            .ok_or(Error::Inval)
    }

    pub(super) fn status_frames(&self) -> u32 {
        self.status.len() as u32
    }

    pub(super) fn max_status_frames(&self) -> u32 {
        Self::status_for(self.max_frames)
    }

    /// The frame and offset of an entry.
    fn place(&self, gref: GrantRef) -> Option<(&FrameRef, usize)> {
        let per_page = PAGE_SIZE as u32 / self.entry_size();
        let frame = self.shared.get((gref.0 / per_page) as usize)?;
        Some((frame, (gref.0 % per_page * self.entry_size()) as usize))
    }

    /// The frame and offset of a version 2 entry's status.
    fn status_place(&self, gref: GrantRef) -> Option<(&FrameRef, usize)> {
        let per_page = PAGE_SIZE as u32 / STATUS_SIZE;
        Some((
            self.status.get((gref.0 / per_page) as usize)?,
            (gref.0 % per_page * STATUS_SIZE) as usize,
        ))
    }

    fn header(&self, gref: GrantRef) -> Option<(u16, u16, u32)> {
        let (frame, at) = self.place(gref)?;
        let word = frame.page().load_u32(at, Ordering::Acquire);
        Some((word as u16, (word >> 16) as u16, word))
    }

    fn read(&self, gref: GrantRef) -> Option<Entry> {
        let (flags, domid, _) = self.header(gref)?;
        let (frame, at) = self.place(gref)?;
        let page = frame.page();
        let whole = (0, PAGE_SIZE as u16);
        if self.version == 1 {
            let gfn = Gfn(u64::from(page.load_u32(at + 4, Ordering::Acquire)));
            let onward = Onward {
                domain: DomainId::XEN,
                gref: GrantRef(0),
            };
            return Some(Entry {
                flags,
                domid,
                part: whole,
                gfn,
                onward,
            });
        }
        let part = if flags & flag::SUB_PAGE != 0 {
            let word = page.load_u32(at + 4, Ordering::Acquire);
            (word as u16, (word >> 16) as u16)
        } else {
            whole
        };
        let onward = Onward {
            domain: DomainId(page.load_u16(at + 4, Ordering::Acquire)),
            gref: GrantRef(page.load_u32(at + 8, Ordering::Acquire)),
        };
        Some(Entry {
            flags,
            domid,
            part,
            gfn: Gfn(page.load_u64(at + 8, Ordering::Acquire)),
            onward,
        })
    }

    /// Whether an entry grants something of a kind that the caller can use.
    fn usable(&self, entry: &Entry, transitive: bool) -> bool {
        match entry.flags & flag::TYPE {
            flag::PERMIT_ACCESS => true,
            flag::TRANSITIVE => self.version == 2 && transitive,
            _ => false,
        }
    }

    /// Marks an entry in use as the guest sees it, if it still says what was read: `grantee` may do this.
    fn mark(
        &self,
        gref: GrantRef,
        grantee: DomainId,
        write: bool,
        transitive: bool,
    ) -> Result<Entry, Status> {
        let bits = flag::READING | if write { flag::WRITING } else { 0 };
        for _ in 0..TRIES {
            let (_, _, word) = self.header(gref).ok_or(Status::BadGntref)?;
            let entry = self.read(gref).ok_or(Status::BadGntref)?;
            if !self.usable(&entry, transitive) || entry.domid != grantee.0 {
                return Err(Status::GeneralError);
            }
            if write && entry.flags & flag::READONLY != 0 {
                return Err(Status::GeneralError);
            }
            let (frame, at) = self.place(gref).ok_or(Status::BadGntref)?;
            if self.version == 1 {
                if frame
                    .page()
                    .compare_exchange_u32(at, word, word | u32::from(bits))
                    .is_ok()
                {
                    return Ok(entry);
                }
            } else {
                let (status, status_at) = self.status_place(gref).ok_or(Status::BadGntref)?;
                status.page().fetch_or_u16(status_at, bits);
                // The guest revokes by clearing the flags and then looking at the status: look again.
                if self.header(gref).is_some_and(|(_, _, now)| now == word) {
                    return Ok(entry);
                }
                self.clear(gref, bits);
            }
        }
        Err(Status::GeneralError)
    }

    /// Clears in-use bits as the guest sees them.
    fn clear(&self, gref: GrantRef, bits: u16) {
        if self.version == 1 {
            if let Some((frame, at)) = self.place(gref) {
                frame.page().fetch_and_u16(at, !bits);
            }
        } else if let Some((frame, at)) = self.status_place(gref) {
            frame.page().fetch_and_u16(at, !bits);
        }
    }

    /// Begins a use of `gref` by `grantee`. With `transitive` it may be the use of a grant that the granter only
    /// passes on; that one is not looked at here.
    pub(super) fn acquire<A: Arch>(
        &mut self,
        p2m: &P2m<A>,
        gref: GrantRef,
        grantee: DomainId,
        write: bool,
        transitive: bool,
    ) -> Result<Use, Status> {
        if gref.0 >= self.entries() {
            return Err(Status::BadGntref);
        }
        let active = self.active.get(gref.0 as usize).ok_or(Status::BadGntref)?;
        if !active.has_room() {
            return Err(Status::NoSpace);
        }
        if let Some(grant) = active.grant()
            && (grant.grantee != grantee
                || (!transitive && matches!(grant.what, Granted::Grant(_))))
        {
            return Err(Status::GeneralError);
        }
        let (first, marked_for_write) = (!active.in_use(), active.has_writers());
        let mut grant = None;
        if first || (write && !marked_for_write) {
            let entry = self.mark(gref, grantee, write, transitive)?;
            if first {
                match Self::resolve(p2m, &entry, grantee, write) {
                    Ok(new) => grant = Some(new),
                    Err(status) => {
                        self.clear(gref, flag::READING | flag::WRITING);
                        return Err(status);
                    }
                }
            } else if active.grant().is_none_or(|g| !Self::still_writable(p2m, g)) {
                self.clear(gref, flag::WRITING);
                return Err(Status::BadPage);
            }
        }
        let active = self
            .active
            .get_mut(gref.0 as usize)
            .ok_or(Status::BadGntref)?;
        active.pin(write, grant);
        let found = active.grant().and_then(|g| match &g.what {
            Granted::Memory(memory) => Some(Use::Memory(
                memory.frame.try_clone()?,
                memory.start,
                memory.length,
            )),
            Granted::Grant(onward) => Some(Use::Onward(*onward)),
        });
        match found {
            Some(found) => Ok(found),
            None => {
                self.release_use(gref, write);
                Err(Status::GeneralError)
            }
        }
    }

    fn resolve<A: Arch>(
        p2m: &P2m<A>,
        entry: &Entry,
        grantee: DomainId,
        write: bool,
    ) -> Result<Grant, Status> {
        if entry.flags & flag::TYPE == flag::TRANSITIVE {
            let what = Granted::Grant(entry.onward);
            return Ok(Grant { grantee, what });
        }
        let (start, length) = entry.part;
        if u32::from(start) + u32::from(length) > PAGE_SIZE as u32 {
            return Err(Status::GeneralError);
        }
        match p2m.frame(entry.gfn, write) {
            Ok((frame, kind)) if kind.is_ram() => Ok(Grant {
                grantee,
                what: Granted::Memory(Memory {
                    gfn: entry.gfn,
                    frame,
                    start,
                    length,
                }),
            }),
            _ => Err(Status::BadPage),
        }
    }

    /// Whether what was granted to a reader can be written, as its entry allows now.
    fn still_writable<A: Arch>(p2m: &P2m<A>, grant: &Grant) -> bool {
        match &grant.what {
            Granted::Memory(memory) => p2m
                .frame(memory.gfn, true)
                .is_ok_and(|(frame, kind)| kind.is_ram() && frame.mfn() == memory.frame.mfn()),
            // That is for the grant which is passed on to say.
            Granted::Grant(_) => true,
        }
    }

    /// Ends a use.
    pub(super) fn release_use(&mut self, gref: GrantRef, write: bool) {
        let Some(active) = self.active.get_mut(gref.0 as usize) else {
            return;
        };
        active.unpin(write);
        let (in_use, writers) = (active.in_use(), active.has_writers());
        let mut bits = 0;
        if write && !writers {
            bits |= flag::WRITING;
        }
        if !in_use {
            bits |= flag::READING;
        }
        if bits != 0 {
            self.clear(gref, bits);
        }
    }

    pub(super) fn set_version(&mut self, version: u32) -> Result<()> {
        if !(1..=2).contains(&version) {
            return Err(Error::Inval);
        }
        if version > self.max_version {
            return Err(Error::NoSys);
        }
        if version == self.version {
            return Ok(());
        }
        if self.active.iter().any(Active::in_use) {
            return Err(Error::Busy);
        }
        let unused = |n| {
            self.header(GrantRef(n))
                .is_none_or(|(flags, ..)| flags & flag::TYPE == 0)
        };
        if !(RESERVED..self.entries()).all(unused) {
            return Err(Error::Busy);
        }
        // Prepare: a new set of status frames; then commit.
        let mut kept = Vec::new();
        for n in 0..RESERVED.min(self.entries()) {
            kept.push(
                self.read(GrantRef(n))
                    .filter(|e| self.convertible(e, version)),
            );
        }
        if version == 2 {
            self.grow_status(Self::status_for(self.shared.len() as u32))?;
        }
        for frame in &self.shared {
            frame.page().zero();
        }
        self.version = version;
        if version == 1 {
            // A guest that still maps them keeps them through its own mappings.
            self.status.clear();
        }
        for (n, entry) in (0..).zip(kept) {
            if let Some(entry) = entry {
                self.write(GrantRef(n), entry);
            }
        }
        Ok(())
    }

    /// Whether a reserved entry has a meaning in the other version.
    fn convertible(&self, entry: &Entry, to: u32) -> bool {
        entry.flags & flag::TYPE == flag::PERMIT_ACCESS
            && (to == 2
                || (entry.flags & flag::SUB_PAGE == 0 && entry.gfn.0 <= u64::from(u32::MAX)))
    }

    fn write(&self, gref: GrantRef, entry: Entry) {
        let Some((frame, at)) = self.place(gref) else {
            return;
        };
        let page = frame.page();
        if self.version == 1 {
            page.store_u32(at + 4, entry.gfn.0 as u32, Ordering::Release);
        } else {
            page.store_u64(at + 8, entry.gfn.0, Ordering::Release);
        }
        let flags = entry.flags & (flag::TYPE | flag::READONLY);
        page.store_u32(
            at,
            u32::from(flags) | u32::from(entry.domid) << 16,
            Ordering::Release,
        );
    }

    pub(super) fn swap(&mut self, a: GrantRef, b: GrantRef) -> Status {
        let in_use = |g: GrantRef| self.active.get(g.0 as usize).is_none_or(Active::in_use);
        if a.0 >= self.entries() || b.0 >= self.entries() {
            return Status::BadGntref;
        }
        if in_use(a) || in_use(b) {
            return Status::Again;
        }
        if let (Some((fa, at_a)), Some((fb, at_b))) = (self.place(a), self.place(b)) {
            for word in (0..self.entry_size() as usize).step_by(8) {
                let (pa, pb) = (fa.page(), fb.page());
                let (va, vb) = (
                    pa.load_u64(at_a + word, Ordering::Acquire),
                    pb.load_u64(at_b + word, Ordering::Acquire),
                );
                pa.store_u64(at_a + word, vb, Ordering::Release);
                pb.store_u64(at_b + word, va, Ordering::Release);
            }
        }
        Status::Okay
    }

    /// Gives up all frames; entries in use by others keep what they use.
    pub(super) fn release(&mut self) {
        self.max_frames = 0;
        self.shared.clear();
        self.status.clear();
    }

    pub(super) fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (size, max) = self.size();
        writeln!(
            out,
            "  grant table version {}, {size} of {max} frames",
            self.version
        )?;
        for (gref, active) in self.active.iter().enumerate().filter(|(_, a)| a.in_use()) {
            let (readers, writers) = active.pins();
            if let Some(grant) = active.grant() {
                write!(out, "  ref {gref}: ")?;
                match &grant.what {
                    Granted::Memory(memory) => {
                        write!(out, "gfn {} mfn {}", memory.gfn, memory.frame.mfn())?;
                    }
                    Granted::Grant(onward) => {
                        write!(out, "ref {} of d{}", onward.gref.0, onward.domain)?;
                    }
                }
                let to = grant.grantee;
                writeln!(out, " to d{to}, {readers} readers, {writers} writers")?;
            }
        }
        Ok(())
    }
}
