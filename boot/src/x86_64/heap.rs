//! The kernel heap: a small arena in the image for what is read before memory is known, more once it is, and memory
//! that it borrows for one large piece of work.
#![expect(unsafe_code, reason = "global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use talc::TalcLock;
use talc::base::Talc;
use talc::source::{Claim, Manual};

/// Bytes of the arena in the image: enough for what the boot loader and the firmware say.
const ARENA: usize = 1 << 20;

/// A spin lock for the allocator; interrupts are always masked, so no holder is interrupted.
struct SpinLock(AtomicBool);

// SAFETY: the flag is taken by one compare-and-swap at a time.
unsafe impl talc::lock_api::RawMutex for SpinLock {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = talc::lock_api::GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            core::hint::spin_loop();
        }
    }

    fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The heap, and what it has borrowed.
struct Heap {
    own: TalcLock<SpinLock, Claim>,
    /// Memory that is the heap's for a while.
    loan: TalcLock<SpinLock, Manual>,
    /// New blocks come from the loan.
    from_loan: AtomicBool,
    /// Where the loan is; nowhere if there is none.
    loan_start: AtomicUsize,
    loan_end: AtomicUsize,
    /// Blocks of the loan that are in use.
    loan_blocks: AtomicUsize,
}

impl Heap {
    fn loan_range(&self) -> Range<usize> {
        self.loan_start.load(Ordering::Relaxed)..self.loan_end.load(Ordering::Relaxed)
    }
}

// SAFETY: each block comes from one of two allocators and goes back to the same, which its address tells.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.from_loan.load(Ordering::Relaxed)
            // SAFETY: by the caller's word.
            && let Some(block) = unsafe { self.loan.lock().allocate(layout) }
        {
            self.loan_blocks.fetch_add(1, Ordering::Relaxed);
            return block.as_ptr();
        }
        // SAFETY: by the caller's word.
        unsafe { self.own.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.loan_range().contains(&pointer.addr()) {
            // SAFETY: by the caller's word; its address is the loan's.
            unsafe { self.loan.lock().deallocate(pointer, layout) };
            self.loan_blocks.fetch_sub(1, Ordering::Relaxed);
        } else {
            // SAFETY: by the caller's word; not from the loan.
            unsafe { self.own.dealloc(pointer, layout) };
        }
    }
}

#[global_allocator]
static HEAP: Heap = Heap {
    own: TalcLock::new({
        static mut MEMORY: [u8; ARENA] = [0; ARENA];
        // SAFETY: nothing else refers to the array.
        unsafe { Claim::array(&raw mut MEMORY) }
    }),
    loan: TalcLock::new(Manual),
    from_loan: AtomicBool::new(false),
    loan_start: AtomicUsize::new(0),
    loan_end: AtomicUsize::new(0),
    loan_blocks: AtomicUsize::new(0),
};

/// Gives `size` bytes at `start` to the heap, for ever.
///
/// # Safety
/// The memory must be mapped, writable and used by nobody else.
pub(crate) unsafe fn add(start: *mut u8, size: usize) -> bool {
    // SAFETY: by the caller's word.
    unsafe { HEAP.own.lock().claim(start, size) }.is_some()
}

/// Has `work` allocate from the `size` bytes at `start`. False with its result: something that was allocated meanwhile,
/// here or on another CPU, is still there, and so the memory stays the heap's.
///
/// # Safety
/// The memory must be mapped, writable and used by nobody else; after `false`, for ever.
pub(crate) unsafe fn lend<T>(start: *mut u8, size: usize, work: impl FnOnce() -> T) -> (T, bool) {
    // SAFETY: by the caller's word.
    let usable = unsafe { HEAP.loan.lock().claim(start, size) }.is_some();
    HEAP.loan_start.store(start.addr(), Ordering::Relaxed);
    HEAP.loan_end.store(start.addr() + size, Ordering::Relaxed);
    HEAP.from_loan.store(usable, Ordering::Relaxed);
    let result = work();
    HEAP.from_loan.store(false, Ordering::Relaxed);
    let mut loan = HEAP.loan.lock();
    let all_back = HEAP.loan_blocks.load(Ordering::Relaxed) == 0;
    if all_back {
        *loan = Talc::new(Manual);
        HEAP.loan_start.store(0, Ordering::Relaxed);
        HEAP.loan_end.store(0, Ordering::Relaxed);
    }
    (result, all_back)
}
