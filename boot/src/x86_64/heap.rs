//! The kernel heap: a small arena in the image for what is read before memory is known, more once it is.
#![expect(unsafe_code, reason = "global allocator")]

use core::sync::atomic::{AtomicBool, Ordering};
use talc::TalcLock;
use talc::source::Claim;

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

#[global_allocator]
static HEAP: TalcLock<SpinLock, Claim> = TalcLock::new({
    static mut MEMORY: [u8; ARENA] = [0; ARENA];
    // SAFETY: nothing else refers to the array.
    unsafe { Claim::array(&raw mut MEMORY) }
});

/// Gives `size` bytes at `start` to the heap, for ever.
///
/// # Safety
/// The memory must be mapped, writable and used by nobody else.
pub(crate) unsafe fn add(start: *mut u8, size: usize) -> bool {
    // SAFETY: by the caller's word.
    unsafe { HEAP.lock().claim(start, size) }.is_some()
}
