//! Access to device registers in memory.
#![expect(unsafe_code, reason = "reads and writes device registers")]

/// A block of device registers, mapped for as long as Oxen runs. No reference to device memory is ever formed.
#[derive(Debug)]
pub struct Mmio {
    base: usize,
    size: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $ty:ty) => {
        /// Reads the register at byte offset `offset`, which must be aligned and inside the block.
        #[inline]
        pub fn $read(&self, offset: usize) -> $ty {
            let at = self.address(offset, size_of::<$ty>());
            // SAFETY: `address` checked that the register lies in the block, which `new`'s caller vouched for.
            unsafe { core::ptr::with_exposed_provenance::<$ty>(at).read_volatile() }
        }

        /// Writes the register at byte offset `offset`, which must be aligned and inside the block.
        #[inline]
        pub fn $write(&self, offset: usize, value: $ty) {
            let at = self.address(offset, size_of::<$ty>());
            // SAFETY: as above.
            unsafe { core::ptr::with_exposed_provenance_mut::<$ty>(at).write_volatile(value) }
        }
    };
}

impl Mmio {
    /// Register block of `size` bytes at virtual address `base`.
    ///
    /// # Safety
    /// The block must stay mapped (in tests: be plain memory with exposed provenance) for as long as the value lives,
    /// and reading or writing its registers must not break Rust's rules elsewhere: it is the device this driver is
    /// for, not memory.
    pub const unsafe fn new(base: usize, size: usize) -> Self {
        Self { base, size }
    }

    /// Size in bytes of the block.
    pub const fn size(&self) -> usize {
        self.size
    }

    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);

    /// Address of a register. An offset outside is an error of the driver, found at its first use.
    #[inline]
    fn address(&self, offset: usize, width: usize) -> usize {
        assert!(
            offset.is_multiple_of(width)
                && offset
                    .checked_add(width)
                    .is_some_and(|end| end <= self.size),
            "register offset {offset:#x} outside"
        );
        self.base + offset
    }
}

/// Plain memory that stands in for a device in tests.
#[cfg(test)]
pub(crate) struct FakeRegisters(std::boxed::Box<[u64]>);

#[cfg(test)]
impl FakeRegisters {
    pub(crate) fn new(size: usize) -> Self {
        Self(std::vec![0; size / 8].into_boxed_slice())
    }
    pub(crate) fn mmio(&mut self) -> Mmio {
        let base = self.0.as_mut_ptr().expose_provenance();
        // SAFETY: tests keep the box alive while they use the handle and touch it only through handles.
        unsafe { Mmio::new(base, self.0.len() * 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_they_should_be() {
        let mut fake = FakeRegisters::new(64);
        let m = fake.mmio();
        m.write32(4, 0x1234_5678);
        assert_eq!(m.read64(0), 0x1234_5678_0000_0000);
        assert_eq!(m.read8(7), 0x12);
        assert_eq!(m.read16(4), 0x5678);
        assert_eq!(m.size(), 64);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn an_offset_outside_is_found() {
        let mut fake = FakeRegisters::new(64);
        fake.mmio().read32(64);
    }
}
