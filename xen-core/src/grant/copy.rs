//! Copying between granted frames and own ones, without mapping.

use alloc::sync::Arc;

use super::Status;
use crate::mem::{FrameRef, Page};
use crate::{Arch, Domain, Dying, Gfn, GrantRef, PAGE_SIZE};

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

/// A page held for the time of a copy.
struct Held<'a, A: Arch> {
    end: &'a CopyEnd<A>,
    frame: FrameRef,
    write: bool,
}

impl<A: Arch> Drop for Held<'_, A> {
    fn drop(&mut self) {
        if let CopyPlace::Granted(gref) = self.end.place {
            self.end.domain.grants.release_use(gref, self.write);
        }
    }
}

impl<A: Arch> CopyEnd<A> {
    fn hold<'a>(
        &'a self,
        caller: &Domain<A>,
        length: u16,
        write: bool,
    ) -> Result<Held<'a, A>, Status> {
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
                    end: self,
                    frame,
                    write,
                })
            }
            CopyPlace::Granted(gref) => {
                if self.domain.dying() != Dying::Alive {
                    return Err(Status::BadDomain);
                }
                let (frame, start, granted) =
                    self.domain
                        .grants
                        .acquire(&self.domain, gref, caller, write)?;
                let held = Held {
                    end: self,
                    frame,
                    write,
                };
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
    let source = from.hold(caller, length, false)?;
    let dest = to.hold(caller, length, true)?;
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
