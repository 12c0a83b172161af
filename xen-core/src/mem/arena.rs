//! Memory of the software machine: ordinary memory of the test process, handed out as frames.
#![expect(unsafe_code, reason = "lends leaked memory to the frame allocator")]

extern crate std;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use std::sync::Mutex;

use super::frames::FrameInfo;
use super::{Frames, Page};
use crate::{Mfn, PAGE_SIZE};

/// The first frame of the software machine; not 0, so that a gfn taken for an mfn is noticed.
pub const SOFT_BASE: Mfn = Mfn(0x7_3000);

/// A page of memory with a page's alignment.
#[repr(align(4096))]
struct Backing {
    _bytes: [u8; PAGE_SIZE as usize],
}

struct Arena {
    base: NonNull<u8>,
    info: &'static [FrameInfo],
}

// SAFETY: an address and a shared slice of atomics.
unsafe impl Send for Arena {}

/// Arenas that nobody uses, kept for the next test: memory of the software machine lives for ever.
static IDLE: Mutex<Vec<Arena>> = Mutex::new(Vec::new());

/// Frames of a software machine; the memory is used again once all of it was freed.
pub struct SoftFrames {
    frames: &'static Frames,
    arena: Option<Arena>,
}

impl SoftFrames {
    /// `count` frames of scrubbed memory from [`SOFT_BASE`] on.
    ///
    /// # Panics
    /// If the process has no memory left.
    pub fn new(count: usize) -> Self {
        let machine = Self::reserved(count);
        machine.frames.release(SOFT_BASE, count as u64);
        machine
    }

    /// As [`SoftFrames::new`], with none of the frames released to the allocator yet.
    ///
    /// # Panics
    /// If the process has no memory left.
    pub fn reserved(count: usize) -> Self {
        let idle = {
            let mut idle = IDLE.lock().unwrap_or_else(|e| e.into_inner());
            let at = idle.iter().position(|a| a.info.len() == count);
            at.map(|at| idle.swap_remove(at))
        };
        let arena = idle.unwrap_or_else(|| {
            let memory: &'static mut [Backing] = Box::leak(
                (0..count)
                    .map(|_| Backing {
                        _bytes: [0; PAGE_SIZE as usize],
                    })
                    .collect(),
            );
            let info = Box::leak((0..count).map(|_| FrameInfo::new()).collect());
            Arena {
                base: NonNull::from(memory).cast(),
                info,
            }
        });
        for info in arena.info {
            info.reset();
        }
        let mut frames = Frames::new();
        // SAFETY: the memory was leaked, is page-aligned and `count` pages long, and belongs to this machine
        // alone: an arena is taken from IDLE only after all its frames were free.
        let added = unsafe { frames.add_bank(SOFT_BASE, arena.base, arena.info) };
        assert_eq!(added, Ok(()));
        Self {
            frames: Box::leak(Box::new(frames)),
            arena: Some(arena),
        }
    }

    /// The allocator.
    pub const fn frames(&self) -> &'static Frames {
        self.frames
    }

    /// The bytes of any frame, allocated or not; for tests that look for what was left behind.
    pub fn peek(&self, mfn: Mfn) -> Option<Page<'_>> {
        let arena = self.arena.as_ref()?;
        let n = usize::try_from(mfn.0.checked_sub(SOFT_BASE.0)?).ok()?;
        if n >= arena.info.len() {
            return None;
        }
        // SAFETY: the frame is inside the leaked arena, and everybody reaches it through `Page`.
        Some(unsafe { Page::new(arena.base.add(n * PAGE_SIZE as usize)) })
    }
}

impl Drop for SoftFrames {
    fn drop(&mut self) {
        // With frames still in use somewhere, the arena is not used again.
        if self.frames.free_frames() == self.frames.total_frames()
            && let Some(arena) = self.arena.take()
        {
            IDLE.lock().unwrap_or_else(|e| e.into_inner()).push(arena);
        }
    }
}
