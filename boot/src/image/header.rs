//! The arm64 `Image` header and the placement it asks for.

use super::{ImageError, le};
use crate::range::Bank;
use xen_core::GuestPhysAddr;

/// Size in bytes of the header at the start of an `Image`.
pub const HEADER_SIZE: usize = 64;
const MAGIC: &[u8] = b"ARM\x64";
const MAGIC_OFFSET: usize = 56;
/// A kernel's base is aligned to this.
const ALIGN: u64 = 2 << 20;
/// The offset meant by a header whose image size is 0 (kernels before 3.17).
const LEGACY_TEXT_OFFSET: u64 = 0x8_0000;

/// Page size a kernel was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPageSize {
    /// The header does not say.
    Unspecified,
    /// 4 KiB.
    Size4K,
    /// 16 KiB.
    Size16K,
    /// 64 KiB.
    Size64K,
}

/// What an `Image` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Offset of the image from a 2 MiB boundary.
    pub text_offset: u64,
    /// Bytes the kernel needs from its load address on, memory it clears itself included; `None` in old kernels.
    pub image_size: Option<u64>,
    /// Page size the kernel was built for.
    pub page_size: KernelPageSize,
    /// Whether the 2 MiB-aligned base may be anywhere in memory; else it should be as close to its start as possible.
    pub anywhere: bool,
}

pub(super) fn has_magic(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_OFFSET..MAGIC_OFFSET + MAGIC.len()) == Some(MAGIC)
}

impl ImageHeader {
    /// Reads the header at the start of `bytes`, which need hold no more than it.
    ///
    /// # Errors
    /// No header, a big-endian kernel, or an offset or size that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() < HEADER_SIZE {
            return Err(ImageError::Truncated);
        }
        if !has_magic(bytes) {
            return Err(ImageError::Unknown);
        }
        let field = |offset| le::<8>(bytes, offset).unwrap_or_default();
        let (text_offset, image_size, flags) = (field(8), field(16), field(24));
        if flags & 1 != 0 {
            return Err(ImageError::Unsupported("big-endian"));
        }
        let page_size = match flags >> 1 & 3 {
            0 => KernelPageSize::Unspecified,
            1 => KernelPageSize::Size4K,
            2 => KernelPageSize::Size16K,
            _ => KernelPageSize::Size64K,
        };
        // Where the size is 0, the flags and the offset were not defined yet.
        if image_size == 0 {
            return Ok(Self {
                text_offset: LEGACY_TEXT_OFFSET,
                image_size: None,
                page_size: KernelPageSize::Unspecified,
                anywhere: false,
            });
        }
        if text_offset >= ALIGN || !text_offset.is_multiple_of(4096) {
            return Err(ImageError::Header(
                "has a text offset that is not a page below 2 MiB",
            ));
        }
        Ok(Self {
            text_offset,
            image_size: Some(image_size),
            page_size,
            anywhere: flags & 8 != 0,
        })
    }
}

/// Where a kernel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Address of the image's first byte, which is also its entry point.
    pub load: GuestPhysAddr,
    /// Bytes from there that nothing else may use: the image and the memory it clears.
    pub size: u64,
}

impl LoadPlan {
    /// Address at which the boot CPU enters the kernel, with the device tree's address in x0.
    pub const fn entry(&self) -> GuestPhysAddr {
        self.load
    }

    /// The address after the kernel's memory.
    pub const fn end(&self) -> GuestPhysAddr {
        GuestPhysAddr(self.load.0.saturating_add(self.size))
    }
}

/// Places a kernel whose unpacked image has `unpacked` bytes in the first of `banks` that has room clear of `taken`.
///
/// The base is the lowest 2 MiB boundary that fits, so that as much memory as possible lies above the kernel: what lies
/// below is lost to kernels before 4.6.
///
/// # Errors
/// No bank has room.
pub fn plan(
    header: &ImageHeader,
    unpacked: u64,
    banks: &[Bank],
    taken: &[Bank],
) -> Result<LoadPlan, ImageError> {
    let size = header.image_size.unwrap_or(0).max(unpacked).max(1);
    banks
        .iter()
        .find_map(|bank| fit(header.text_offset, size, bank, taken))
        .ok_or(ImageError::NoRoom { size })
}

fn fit(text_offset: u64, size: u64, bank: &Bank, taken: &[Bank]) -> Option<LoadPlan> {
    let mut from = bank.start.0;
    loop {
        let load = from
            .checked_next_multiple_of(ALIGN)?
            .checked_add(text_offset)?;
        let end = load.checked_add(size)?;
        if end > bank.end().0 {
            return None;
        }
        let obstacle = taken
            .iter()
            .filter(|t| t.size > 0 && t.start.0 < end && load < t.end().0)
            .map(|t| t.end().0)
            .max();
        match obstacle {
            // It ends above the load address, so that the next boundary is a higher one.
            Some(past) => from = past,
            None => {
                return Some(LoadPlan {
                    load: GuestPhysAddr(load),
                    size,
                });
            }
        }
    }
}
