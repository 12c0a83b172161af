//! Run-state accounting, and the areas in which a guest wants to see it.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use spin::Mutex;

use super::Vcpu;
use crate::mem::FrameRef;
use crate::{Arch, Error, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, PAGE_SIZE, Result, Time};

/// Size in bytes of `vcpu_runstate_info`.
pub const RUNSTATE_SIZE: usize = 48;
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
    fn enter(&mut self, state: State, now: Time) {
        if let Some(spent) = self.time.get_mut(self.state as usize) {
            *spent += now.since(self.entry_time);
        }
        self.state = state;
        self.entry_time = now;
    }

    /// The structure as the guest sees it; `flag` is ORed into the entry time.
    fn encode(&self, flag: u64) -> [u8; RUNSTATE_SIZE] {
        let words = [
            self.state as u64,
            self.entry_time.0 | flag,
            self.time[0],
            self.time[1],
            self.time[2],
            self.time[3],
        ];
        let mut bytes = [0; RUNSTATE_SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
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
    /// In these pieces of pinned frames: (frame, offset, length).
    Pinned {
        /// One piece, or two if the area crosses a page.
        pieces: ArrayVec<(FrameRef, usize, usize), 2>,
        /// Registered by physical address: always uses the update flag.
        physical: bool,
    },
}

/// A vCPU's run state.
pub struct RunState {
    info: Mutex<RunStateInfo>,
    area: Mutex<RunStateArea>,
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
            let mut pieces = ArrayVec::new();
            pieces.push((frame, offset as usize, RUNSTATE_SIZE));
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
        let mut pieces = ArrayVec::new();
        let mut done = 0;
        while done < RUNSTATE_SIZE {
            let at = GuestVirtAddr(address.0.wrapping_add(done as u64));
            let len = ((PAGE_SIZE - at.page_offset()) as usize).min(RUNSTATE_SIZE - done);
            let gpa = translate(at)?;
            let (frame, kind) = vcpu.domain.p2m.frame(Gfn::containing(gpa), true)?;
            if !kind.is_ram() {
                return Err(Error::Fault);
            }
            pieces
                .try_push((frame, gpa.page_offset() as usize, len))
                .map_err(|_| Error::Fault)?;
            done += len;
        }
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
        *self.area.lock() = RunStateArea::None;
    }

    fn install<A: Arch>(&self, vcpu: &Vcpu<A>, area: RunStateArea) {
        let mut place = self.area.lock();
        *place = area;
        if let RunStateArea::Pinned { pieces, physical } = &*place {
            self.write_pinned(pieces, *physical || vcpu.wants_runstate_flag());
        }
    }

    /// Brings the guest's copy up to date. `context` is the vCPU's, loaded on this CPU.
    pub fn publish<A: Arch>(&self, hv: &Hypervisor<A>, vcpu: &Vcpu<A>, context: &mut A::Context) {
        let area = self.area.lock();
        match &*area {
            RunStateArea::None => {}
            RunStateArea::Pinned { pieces, physical } => {
                self.write_pinned(pieces, *physical || vcpu.wants_runstate_flag());
            }
            RunStateArea::Virtual(address) => {
                let bytes = self.snapshot().encode(0);
                // The guest is not told when its page has gone: Xen's interface has no way to.
                let _ = hv.copy_to_virtual(vcpu, context, *address, &bytes);
            }
        }
    }

    fn write_pinned(&self, pieces: &[(FrameRef, usize, usize)], flag: bool) {
        let info = self.snapshot();
        if flag {
            write_entry_time(pieces, info.entry_time.0 | UPDATING);
            core::sync::atomic::fence(Ordering::SeqCst);
        }
        let mut bytes = &info.encode(if flag { UPDATING } else { 0 })[..];
        for (frame, offset, len) in pieces {
            let (now, rest) = bytes.split_at_checked(*len).unwrap_or((bytes, &[]));
            frame.page().write(*offset, now);
            bytes = rest;
        }
        if flag {
            core::sync::atomic::fence(Ordering::SeqCst);
            write_entry_time(pieces, info.entry_time.0);
        }
    }
}

/// Writes the 8 bytes at offset 8 of the area, which may be split between two pages.
fn write_entry_time(pieces: &[(FrameRef, usize, usize)], value: u64) {
    let mut skip = 8usize;
    let bytes = value.to_le_bytes();
    let mut left = &bytes[..];
    for (frame, offset, len) in pieces {
        if skip >= *len {
            skip -= len;
            continue;
        }
        let n = left.len().min(len - skip);
        let (now, rest) = left.split_at_checked(n).unwrap_or((left, &[]));
        frame.page().write(offset + skip, now);
        left = rest;
        skip = 0;
        if left.is_empty() {
            break;
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
