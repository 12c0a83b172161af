//! Run-state accounting, and the areas in which a guest wants to see it.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, Ordering, fence};

use arrayvec::ArrayVec;
use spin::Mutex;

use super::Vcpu;
use crate::mem::FrameRef;
use crate::{Arch, Error, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, PAGE_SIZE, Result, Time};

/// Size in bytes of `vcpu_runstate_info`.
pub const RUNSTATE_SIZE: usize = 48;
/// Words of `vcpu_runstate_info`, and which of them is `state_entry_time`.
const WORDS: usize = RUNSTATE_SIZE / 8;
const ENTRY_TIME: usize = 1;
/// Bit of `state_entry_time` that says that an update is going on (`XEN_RUNSTATE_UPDATE`).
const UPDATING: u64 = 1 << 63;

/// What a vCPU does (`RUNSTATE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It is on a CPU.
    Running = 0,
    /// It wants to run.
    Runnable = 1,
    /// It waits for an event.
    Blocked = 2,
    /// It is turned off or paused.
    Offline = 3,
}

/// Time spent in each state (`vcpu_runstate_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunStateInfo {
    /// The state now.
    pub state: State,
    /// When it was entered.
    pub entry_time: Time,
    /// Nanoseconds spent in each state, in [`State`]'s order, up to `entry_time`.
    pub time: [u64; 4],
}

impl RunStateInfo {
    /// Nanoseconds spent in a state, up to `now`.
    pub fn time_in(&self, state: State, now: Time) -> u64 {
        let before = self.time.get(state as usize).copied().unwrap_or(0);
        let since = match self.state == state {
            true => now.since(self.entry_time),
            false => 0,
        };
        before.saturating_add(since)
    }

    fn enter(&mut self, state: State, now: Time) {
        // Another CPU may have got the lock first with a time read later.
        let now = now.max(self.entry_time);
        if let Some(spent) = self.time.get_mut(self.state as usize) {
            *spent += now.since(self.entry_time);
        }
        self.state = state;
        self.entry_time = now;
    }

    /// The structure as the guest sees it, in words.
    const fn words(&self) -> [u64; WORDS] {
        let [running, runnable, blocked, offline] = self.time;
        [
            self.state as u64,
            self.entry_time.0,
            running,
            runnable,
            blocked,
            offline,
        ]
    }
}

/// Where a guest wants its run state. The last successful registration wins, whatever its kind; the one
/// before is released.
#[derive(Debug, Default)]
pub enum RunStateArea {
    /// Nowhere.
    #[default]
    None,
    /// At a virtual address, walked anew at each update.
    Virtual(GuestVirtAddr),
    /// In pinned frames.
    Pinned {
        /// The pieces of it.
        pieces: Pieces,
        /// Registered by physical address: always uses the update flag.
        physical: bool,
    },
}

/// An area in frames that are held: one piece, or two if it crosses a page.
#[derive(Debug, Default)]
pub struct Pieces(ArrayVec<Piece, 2>);

/// A part of an area within a page.
#[derive(Debug)]
struct Piece {
    frame: FrameRef,
    offset: usize,
    length: usize,
}

impl Pieces {
    /// Finds the frames of an area at a virtual address. `frame` looks one up for writing.
    fn find(
        address: GuestVirtAddr,
        mut frame: impl FnMut(GuestVirtAddr) -> Result<(FrameRef, GuestPhysAddr)>,
    ) -> Result<Self> {
        let mut pieces = Self::default();
        let mut done = 0;
        while done < RUNSTATE_SIZE {
            let at = GuestVirtAddr(address.0.wrapping_add(done as u64));
            let length = ((PAGE_SIZE - at.page_offset()) as usize).min(RUNSTATE_SIZE - done);
            let (frame, gpa) = frame(at)?;
            let offset = gpa.page_offset() as usize;
            let piece = Piece {
                frame,
                offset,
                length,
            };
            pieces.0.try_push(piece).map_err(|_| Error::Fault)?;
            done += length;
        }
        Ok(pieces)
    }

    /// Shows `info`, if `flag` so that a reader can tell that it is being written.
    fn show(&self, info: &RunStateInfo, flag: bool) {
        let mut words = info.words();
        let entry_time = words[ENTRY_TIME];
        if flag {
            words[ENTRY_TIME] |= UPDATING;
            self.write(ENTRY_TIME, &words[ENTRY_TIME..=ENTRY_TIME]);
            fence(Ordering::Release);
        }
        self.write(0, &words);
        if flag {
            fence(Ordering::Release);
            self.write(ENTRY_TIME, &[entry_time]);
        }
    }

    /// Writes words of the area from word `first` on.
    fn write(&self, first: usize, words: &[u64]) {
        // The common case, an area of an ordinary guest's, costs a store per word.
        if let [piece] = self.0.as_slice()
            && piece.offset.is_multiple_of(8)
        {
            let page = piece.frame.page();
            for (n, word) in (first..).zip(words) {
                page.store_u64(piece.offset + n * 8, *word, Ordering::Relaxed);
            }
            return;
        }
        for (n, word) in (first..).zip(words) {
            self.write_bytes(n * 8, &word.to_le_bytes());
        }
    }

    /// Writes bytes of the area, which may be split between two pages.
    fn write_bytes(&self, mut skip: usize, bytes: &[u8]) {
        let mut left = bytes;
        for piece in &self.0 {
            if skip >= piece.length {
                skip -= piece.length;
                continue;
            }
            let n = left.len().min(piece.length - skip);
            let (now, rest) = left.split_at_checked(n).unwrap_or((left, &[]));
            piece.frame.page().write(piece.offset + skip, now);
            left = rest;
            skip = 0;
            if left.is_empty() {
                break;
            }
        }
    }
}

/// A vCPU's run state.
pub struct RunState {
    info: Mutex<RunStateInfo>,
    area: Mutex<RunStateArea>,
    /// There is an area: spares vCPUs without one the lock. Set before a new area is written with what is known then,
    /// under the lock of `info`, so that whoever changes that afterwards finds it set.
    wanted: AtomicBool,
}

impl RunState {
    pub(super) fn new(now: Time) -> Self {
        let info = RunStateInfo {
            state: State::Offline,
            entry_time: now,
            time: [0; 4],
        };
        Self {
            info: Mutex::new(info),
            area: Mutex::new(RunStateArea::None),
            wanted: AtomicBool::new(false),
        }
    }

    /// The accounting as it stands.
    pub fn snapshot(&self) -> RunStateInfo {
        *self.info.lock()
    }

    /// Enters a state.
    pub fn enter(&self, state: State, now: Time) {
        let mut info = self.info.lock();
        if info.state != state {
            info.enter(state, now);
        }
    }

    /// Registers an area by physical address; all ones unregisters.
    ///
    /// Errors: [`Error::Nxio`] if it crosses a page or is misaligned; [`Error::Access`] if the guest may not
    /// write there; [`Error::Fault`] if nothing is there.
    pub fn register_physical<A: Arch>(&self, vcpu: &Vcpu<A>, address: GuestPhysAddr) -> Result<()> {
        let area = if address.0 == u64::MAX {
            RunStateArea::None
        } else {
            let offset = address.page_offset();
            if offset > PAGE_SIZE - RUNSTATE_SIZE as u64 || !offset.is_multiple_of(8) {
                return Err(Error::Nxio);
            }
            let (frame, kind) = vcpu.domain.p2m.frame(Gfn::containing(address), false)?;
            if !kind.writable() || !kind.is_ram() {
                return Err(Error::Access);
            }
            let mut pieces = Pieces::default();
            pieces.0.push(Piece {
                frame,
                offset: offset as usize,
                length: RUNSTATE_SIZE,
            });
            RunStateArea::Pinned {
                pieces,
                physical: true,
            }
        };
        self.install(vcpu, area);
        Ok(())
    }

    /// Registers an area by virtual address, translated now by `translate`; each page of it stays pinned.
    ///
    /// Errors: what `translate` says; [`Error::Fault`] if a page is not the domain's writable memory.
    pub fn register_translated<A: Arch>(
        &self,
        vcpu: &Vcpu<A>,
        address: GuestVirtAddr,
        mut translate: impl FnMut(GuestVirtAddr) -> Result<GuestPhysAddr>,
    ) -> Result<()> {
        let pieces = Pieces::find(address, |at| {
            let gpa = translate(at)?;
            match vcpu.domain.p2m.frame(Gfn::containing(gpa), true)? {
                (frame, kind) if kind.is_ram() => Ok((frame, gpa)),
                _ => Err(Error::Fault),
            }
        })?;
        self.install(
            vcpu,
            RunStateArea::Pinned {
                pieces,
                physical: false,
            },
        );
        Ok(())
    }

    /// Registers an area by a virtual address that is walked at each update; 0 unregisters.
    pub fn register_virtual<A: Arch>(&self, vcpu: &Vcpu<A>, address: GuestVirtAddr) {
        let area = if address.0 == 0 {
            RunStateArea::None
        } else {
            RunStateArea::Virtual(address)
        };
        self.install(vcpu, area);
    }

    /// Unregisters whatever is registered.
    pub fn unregister(&self) {
        let mut area = self.area.lock();
        *area = RunStateArea::None;
        self.wanted.store(false, Ordering::Relaxed);
    }

    fn install<A: Arch>(&self, vcpu: &Vcpu<A>, area: RunStateArea) {
        let mut place = self.area.lock();
        let wanted = !matches!(area, RunStateArea::None);
        *place = area;
        self.wanted.store(wanted, Ordering::Relaxed);
        if let RunStateArea::Pinned { pieces, physical } = &*place {
            pieces.show(&self.snapshot(), *physical || vcpu.wants_runstate_flag());
        }
    }

    /// Brings the guest's copy up to date. `context` is the vCPU's, loaded on this CPU.
    #[inline]
    pub fn publish<A: Arch>(&self, hv: &Hypervisor<A>, vcpu: &Vcpu<A>, context: &mut A::Context) {
        if self.wanted.load(Ordering::Relaxed) {
            self.publish_area(hv, vcpu, context);
        }
    }

    fn publish_area<A: Arch>(&self, hv: &Hypervisor<A>, vcpu: &Vcpu<A>, context: &mut A::Context) {
        let area = self.area.lock();
        match &*area {
            RunStateArea::None => {}
            RunStateArea::Pinned { pieces, physical } => {
                pieces.show(&self.snapshot(), *physical || vcpu.wants_runstate_flag());
            }
            RunStateArea::Virtual(address) => {
                // Walked once, though the flag makes three writes of it.
                let pieces = Pieces::find(*address, |at| {
                    let gpa = hv.arch.translate(context, at, true)?;
                    let (frame, _) = vcpu.domain.p2m.frame(Gfn::containing(gpa), true)?;
                    Ok((frame, gpa))
                });
                // The guest is not told when its page has gone: Xen's interface has no way to.
                if let Ok(pieces) = pieces {
                    pieces.show(&self.snapshot(), vcpu.wants_runstate_flag());
                }
            }
        }
    }
}

impl<A: Arch> Vcpu<A> {
    /// Whether the guest asked for the update flag in areas registered by virtual address
    /// (`VMASST_TYPE_runstate_update_flag`).
    fn wants_runstate_flag(&self) -> bool {
        const RUNSTATE_UPDATE_FLAG: u32 = 5;
        self.domain.vm_assist.load(Ordering::Relaxed) & (1 << RUNSTATE_UPDATE_FLAG) != 0
    }
}
