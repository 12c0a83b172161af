//! Access to the bytes of one untyped frame.
#![expect(
    unsafe_code,
    reason = "the one place that turns untyped frame memory into loads and stores"
)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::PAGE_SIZE;

/// A view of one 4 KiB frame of untyped memory.
///
/// Each access is a copy or one atomic operation; guests and other CPUs may change the memory at any moment.
/// Offsets are bytes from the start of the frame. An offset that is out of the page or not aligned for its
/// width is a bug of the caller: it is reported in debug builds and otherwise wrapped into the page, so that
/// it can never reach other memory.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    base: NonNull<u8>,
    life: PhantomData<&'a ()>,
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
        /// Replaces the integer at `offset` by `new` if it is `current`; `Err` holds what was found instead.
        pub fn $cas(self, offset: usize, current: $int, new: $int) -> Result<$int, $int> {
            self.$int(offset).compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
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

    /// Sets `bits` in the word at `offset`; returns the word before.
    pub fn fetch_or_u32(self, offset: usize, bits: u32) -> u32 {
        self.u32(offset).fetch_or(bits, Ordering::AcqRel)
    }

    /// Keeps only `bits` in the word at `offset`; returns the word before.
    pub fn fetch_and_u32(self, offset: usize, bits: u32) -> u32 {
        self.u32(offset).fetch_and(bits, Ordering::AcqRel)
    }

    /// Sets `bits` in the halfword at `offset`; returns the halfword before.
    pub fn fetch_or_u16(self, offset: usize, bits: u16) -> u16 {
        self.u16(offset).fetch_or(bits, Ordering::AcqRel)
    }

    /// Keeps only `bits` in the halfword at `offset`; returns the halfword before.
    pub fn fetch_and_u16(self, offset: usize, bits: u16) -> u16 {
        self.u16(offset).fetch_and(bits, Ordering::AcqRel)
    }

    /// Sets `bits` in the doubleword at `offset`; returns the doubleword before.
    pub fn fetch_or_u64(self, offset: usize, bits: u64) -> u64 {
        self.u64(offset).fetch_or(bits, Ordering::AcqRel)
    }

    /// Keeps only `bits` in the doubleword at `offset`; returns the doubleword before.
    pub fn fetch_and_u64(self, offset: usize, bits: u64) -> u64 {
        self.u64(offset).fetch_and(bits, Ordering::AcqRel)
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
