//! Copying between granted frames and own ones, without mapping.

use alloc::sync::Arc;

use super::Status;
use super::table::Use;
use crate::mem::{FrameRef, Page};
use crate::{Arch, Domain, Dying, Gfn, GrantRef, Hypervisor, PAGE_SIZE};

/// Bytes moved at a time.
const CHUNK: usize = 256;

/// A page that takes part in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyPlace {
    /// Granted to the caller by the domain of the [`CopyEnd`].
    Granted(GrantRef),
    /// A frame of that domain's own, which must be the caller.
    Own(Gfn),
}

/// One end of a copy.
pub struct CopyEnd<A: Arch> {
    /// Whose frame or grant it is.
    pub domain: Arc<Domain<A>>,
    /// Which.
    pub place: CopyPlace,
    /// Offset in the page.
    pub offset: u16,
}

/// A use of a grant, which ends when this is dropped.
struct Using<A: Arch> {
    granter: Arc<Domain<A>>,
    gref: GrantRef,
    write: bool,
}

impl<A: Arch> Drop for Using<A> {
    fn drop(&mut self) {
        self.granter.grants.release_use(self.gref, self.write);
    }
}

/// A page held for the time of a copy.
struct Held<A: Arch> {
    frame: FrameRef,
    /// Offset and length of what may be copied.
    part: (u16, u16),
    /// Of a grant that was passed on: the one it leads to. Ends first.
    _onward: Option<Using<A>>,
    _grant: Option<Using<A>>,
}

/// Begins a use of `granter`'s grant `gref` to `caller`. One that is passed on (`GTF_transitive`) is followed once:
/// the domain it leads to must have granted it to `granter`, itself and not by passing on another one. Each entry is
/// marked in use before the next is looked at, and no two tables are locked at a time.
fn use_grant<A: Arch>(
    hv: &Hypervisor<A>,
    caller: &Domain<A>,
    granter: &Arc<Domain<A>>,
    gref: GrantRef,
    write: bool,
) -> Result<Held<A>, Status> {
    let using = |granter: &Arc<Domain<A>>, gref| Using {
        granter: granter.clone(),
        gref,
        write,
    };
    let transitive = hv.settings.transitive_grants;
    let found = granter
        .grants
        .acquire_any(granter, gref, caller, write, transitive)?;
    // Ended by any return from here on.
    let grant = using(granter, gref);
    let onward = match found {
        Use::Memory(frame, start, length) => {
            return Ok(Held {
                frame,
                part: (start, length),
                _onward: None,
                _grant: Some(grant),
            });
        }
        Use::Onward(onward) => onward,
    };
    // To pass on a grant of its own would lead round in a circle. Leading back to the caller is fine.
    if onward.domain == granter.id() {
        return Err(Status::GeneralError);
    }
    let owner = hv
        .domains
        .get(onward.domain)
        .filter(|owner| owner.dying() == Dying::Alive)
        .ok_or(Status::GeneralError)?;
    let (frame, start, length) = owner.grants.acquire(&owner, onward.gref, granter, write)?;
    Ok(Held {
        frame,
        part: (start, length),
        _onward: Some(using(&owner, onward.gref)),
        _grant: Some(grant),
    })
}

impl<A: Arch> CopyEnd<A> {
    fn hold(
        &self,
        hv: &Hypervisor<A>,
        caller: &Domain<A>,
        length: u16,
        write: bool,
    ) -> Result<Held<A>, Status> {
        match self.place {
            CopyPlace::Own(gfn) => {
                if self.domain.id() != caller.id() {
                    return Err(Status::PermissionDenied);
                }
                let (frame, _) = self
                    .domain
                    .p2m
                    .frame(gfn, write)
                    .map_err(|_| Status::BadPage)?;
                Ok(Held {
                    frame,
                    part: (0, PAGE_SIZE as u16),
                    _onward: None,
                    _grant: None,
                })
            }
            CopyPlace::Granted(gref) => {
                if self.domain.dying() != Dying::Alive {
                    return Err(Status::BadDomain);
                }
                let held = use_grant(hv, caller, &self.domain, gref, write)?;
                let (start, granted) = held.part;
                let (from, to) = (
                    u32::from(self.offset),
                    u32::from(self.offset) + u32::from(length),
                );
                if from < u32::from(start) || to > u32::from(start) + u32::from(granted) {
                    return Err(Status::GeneralError);
                }
                Ok(held)
            }
        }
    }
}

/// Copies `length` bytes for `caller` (`GNTTABOP_copy`); neither end may leave its page.
///
/// Errors: the status that the interface gives each failure.
pub fn copy<A: Arch>(
    hv: &Hypervisor<A>,
    caller: &Domain<A>,
    from: &CopyEnd<A>,
    to: &CopyEnd<A>,
    length: u16,
) -> Result<(), Status> {
    for end in [from, to] {
        if u64::from(end.offset) + u64::from(length) > PAGE_SIZE {
            return Err(Status::BadCopyArg);
        }
    }
    let source = from.hold(hv, caller, length, false)?;
    let dest = to.hold(hv, caller, length, true)?;
    move_bytes(
        source.frame.page(),
        from.offset.into(),
        dest.frame.page(),
        to.offset.into(),
        length.into(),
    );
    Ok(())
}

fn move_bytes(from: Page<'_>, from_at: usize, to: Page<'_>, to_at: usize, length: usize) {
    let mut buffer = [0; CHUNK];
    let mut done = 0;
    while done < length {
        let n = CHUNK.min(length - done);
        if let Some(part) = buffer.get_mut(..n) {
            from.read(from_at + done, part);
            to.write(to_at + done, part);
        }
        done += n;
    }
}
