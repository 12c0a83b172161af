//! Access to the bytes of one untyped frame.
#![expect(
    unsafe_code,
    reason = "the one place that turns untyped frame memory into loads and stores"
)]

#[cfg(test)]
mod tests;

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::PAGE_SIZE;

/// Attempts at changing a word before it is stored without regard to what others do to it.
///
/// An attempt fails only if somebody else wrote to the same cache line in the few instructions that it takes, so a
/// guest that uses its words for what they are for never gets near this. A guest that writes there without a break
/// costs the hypervisor this many cache-line transfers, some 10 to 50 microseconds.
const TRIES: u32 = 256;
/// Changes that ran out of attempts since the hypervisor started.
static FORCED: AtomicU64 = AtomicU64::new(0);

/// A view of one 4 KiB frame of untyped memory.
///
/// Each access is a copy or one atomic operation; guests and other CPUs may change the memory at any moment.
/// Offsets are bytes from the start of the frame. An offset that is out of the page or not aligned for its
/// width is a bug of the caller: it is reported in debug builds and otherwise wrapped into the page, so that
/// it can never reach other memory.
///
/// # Changing a word takes bounded time, whatever the guest does
///
/// On Arm CPUs without the atomic instructions of Armv8.1 (LSE), a read-modify-write operation is a loop of a
/// load-exclusive and a store-exclusive, which fails when anybody writes to the same cache line between the two. A
/// guest can do that from another CPU for ever, and would keep the hypervisor in that loop, with interrupts masked
/// and locks held: the problem of XSA-295. Strong compare-and-exchange is such a loop, too. So each operation here
/// makes up to 256 attempts by *weak* compare-and-exchange, which compiles to one exclusive pair without a loop (in
/// optimised builds; unoptimised ones of LLVM loop there, too).
///
/// After that, `fetch_or` and `fetch_and` store the new value plainly, made from what they saw last: the
/// change is certain, and what is lost is what others wrote to that very word in between. `compare_exchange` gives
/// up instead and answers `Err` with the expected value. Nothing of the hypervisor's own depends on what a shared
/// word holds, so this harms only whoever lets the word be hammered: its own guest, which may miss an event or see a
/// stale bit. Pausing the guest's vCPUs, the other known way out, would not help against a second domain to which
/// the page is granted.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    base: NonNull<u8>,
    life: PhantomData<&'a ()>,
}

/// One attempt at replacing a value by another; `Err` holds what was found, which may be the expected value.
macro_rules! weakly {
    ($word:expr) => {{
        let word = $word;
        |old, new| word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire)
    }};
}

macro_rules! changes {
    ($($int:ident, $or:ident, $and:ident;)*) => {$(
        /// Sets `bits` in the integer at `offset`; returns the integer before. Takes bounded time, see [`Page`].
        pub fn $or(self, offset: usize, bits: $int) -> $int {
            let word = self.$int(offset);
            change(word.load(Ordering::Relaxed), |old| old | bits, weakly!(word)).unwrap_or_else(|old| {
                word.store(old | bits, Ordering::SeqCst);
                note_forced();
                old
            })
        }
        /// Keeps only `bits` in the integer at `offset`; returns the integer before. Takes bounded time, see
        /// [`Page`].
        pub fn $and(self, offset: usize, bits: $int) -> $int {
            let word = self.$int(offset);
            change(word.load(Ordering::Relaxed), |old| old & bits, weakly!(word)).unwrap_or_else(|old| {
                word.store(old & bits, Ordering::SeqCst);
                note_forced();
                old
            })
        }
    )*};
}

macro_rules! atomics {
    ($($atomic:ident, $int:ident, $load:ident, $store:ident, $cas:ident;)*) => {$(
        /// Loads the integer at `offset`.
        pub fn $load(self, offset: usize, order: Ordering) -> $int {
            self.$int(offset).load(order)
        }
        /// Stores `value` at `offset`.
        pub fn $store(self, offset: usize, value: $int, order: Ordering) {
            self.$int(offset).store(value, order);
        }
        /// Replaces the integer at `offset` by `new` if it is `current`; `Err` holds what was found instead. That is
        /// `current` itself if the word was written to all the time (see [`Page`]): then nothing was stored.
        pub fn $cas(self, offset: usize, current: $int, new: $int) -> Result<$int, $int> {
            exchange(current, new, weakly!(self.$int(offset)))
        }
        fn $int(&self, offset: usize) -> &$atomic {
            let width = size_of::<$int>();
            debug_assert!(offset % width == 0 && offset < PAGE_SIZE as usize, "offset {offset:#x}");
            let offset = offset & (PAGE_SIZE as usize - width);
            // SAFETY: `base` is 4 KiB of mapped, page-aligned untyped memory for 'a (contract of `Page::new`)
            // and `offset` was just wrapped to an aligned place inside it. Atomics may be shared freely.
            unsafe { $atomic::from_ptr(self.base.as_ptr().add(offset).cast()) }
        }
    )*};
}

impl<'a> Page<'a> {
    /// Makes a view of the frame mapped at `base`.
    ///
    /// # Safety
    /// `base` is page-aligned and maps 4 KiB that stay mapped, readable and writable for `'a`; whatever else
    /// accesses them in that time does so by atomic operations or is not the hypervisor (a guest, a device).
    pub(super) const unsafe fn new(base: NonNull<u8>) -> Self {
        Self {
            base,
            life: PhantomData,
        }
    }

    atomics! {
        AtomicU8, u8, load_u8, store_u8, compare_exchange_u8;
        AtomicU16, u16, load_u16, store_u16, compare_exchange_u16;
        AtomicU32, u32, load_u32, store_u32, compare_exchange_u32;
        AtomicU64, u64, load_u64, store_u64, compare_exchange_u64;
    }

    changes! {
        u16, fetch_or_u16, fetch_and_u16;
        u32, fetch_or_u32, fetch_and_u32;
        u64, fetch_or_u64, fetch_and_u64;
    }

    /// Where the hypervisor sees the page, for cache maintenance by address.
    pub fn address(self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Copies bytes from `offset` on into `to`, as many as both the page and `to` have.
    pub fn read(self, offset: usize, to: &mut [u8]) {
        let len = to.len().min((PAGE_SIZE as usize).saturating_sub(offset));
        debug_assert!(len == to.len());
        let (mut at, mut left) = (offset, &mut to[..len]);
        while !left.is_empty() {
            if at.is_multiple_of(8) && left.len() >= 8 {
                let (chunk, rest) = left.split_at_mut(8);
                chunk.copy_from_slice(&self.load_u64(at, Ordering::Relaxed).to_ne_bytes());
                (left, at) = (rest, at + 8);
            } else {
                let (byte, rest) = left.split_at_mut(1);
                byte.copy_from_slice(&[self.load_u8(at, Ordering::Relaxed)]);
                (left, at) = (rest, at + 1);
            }
        }
    }

    /// Copies `from` into the page from `offset` on, as many bytes as fit.
    pub fn write(self, offset: usize, from: &[u8]) {
        let len = from.len().min((PAGE_SIZE as usize).saturating_sub(offset));
        debug_assert!(len == from.len());
        let (mut at, mut left) = (offset, &from[..len]);
        while let Some((&byte, rest)) = left.split_first() {
            match left.split_first_chunk::<8>() {
                Some((chunk, rest)) if at.is_multiple_of(8) => {
                    self.store_u64(at, u64::from_ne_bytes(*chunk), Ordering::Relaxed);
                    (left, at) = (rest, at + 8);
                }
                _ => {
                    self.store_u8(at, byte, Ordering::Relaxed);
                    (left, at) = (rest, at + 1);
                }
            }
        }
    }

    /// Fills the page with zeroes.
    pub fn zero(self) {
        for offset in (0..PAGE_SIZE as usize).step_by(8) {
            self.store_u64(offset, 0, Ordering::Relaxed);
        }
    }

    /// Copies the whole of `from` into this page.
    pub fn copy_from(self, from: Page<'_>) {
        for offset in (0..PAGE_SIZE as usize).step_by(8) {
            self.store_u64(
                offset,
                from.load_u64(offset, Ordering::Relaxed),
                Ordering::Relaxed,
            );
        }
    }
}

/// Changes a value by a bounded number of attempts, beginning with what it is thought to be; `Ok` and `Err` hold the
/// value seen last, which is the one replaced if all went well.
#[inline]
fn change<T: Copy>(
    mut old: T,
    to: impl Fn(T) -> T,
    mut attempt: impl FnMut(T, T) -> Result<T, T>,
) -> Result<T, T> {
    for _ in 0..TRIES {
        match attempt(old, to(old)) {
            Ok(old) => return Ok(old),
            Err(found) => old = found,
        }
        core::hint::spin_loop();
    }
    Err(old)
}

/// Replaces `current` by `new` by a bounded number of attempts, unless something else is found.
#[inline]
fn exchange<T: Copy + PartialEq>(
    current: T,
    new: T,
    mut attempt: impl FnMut(T, T) -> Result<T, T>,
) -> Result<T, T> {
    for _ in 0..TRIES {
        match attempt(current, new) {
            Ok(old) => return Ok(old),
            Err(found) if found != current => return Err(found),
            Err(_) => core::hint::spin_loop(),
        }
    }
    note_forced();
    Err(current)
}

/// Counts a word that was written to all the time; says so when the count reaches a power of two, so that a guest
/// cannot flood the log.
#[cold]
fn note_forced() {
    let count = FORCED.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if count.is_power_of_two() {
        log::warn!(target: crate::console::GUEST, "a guest writes to a shared word without a break ({count} times so far)");
    }
}
