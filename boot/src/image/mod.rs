//! Kernel images for dom0: which format, how to unpack it, where to put it.
//!
//! An arm64 kernel is at heart one format, the `Image` (`header`), which comes plain, as a gzip file (`gzip`), or in
//! an EFI application that unpacks itself (`zboot`). [`probe`] tells them apart; [`Kernel::header`] reads the `Image`
//! header of each; [`plan`] places the kernel by that header; [`Kernel::unpack`] hands the bytes to a sink piece by
//! piece, so that a compressed kernel goes straight into the domain's frames.
//!
//! Formats: the kernel's `Documentation/arch/arm64/booting.rst`; RFC 1952; the header that EFI zboot images carry.

mod gzip;
mod header;
mod zboot;

#[cfg(test)]
mod tests;

pub use crate::range::Bank;
pub use gzip::{GZIP_WINDOW, gunzip};
pub use header::{HEADER_SIZE, ImageHeader, KernelPageSize, LoadPlan, plan};

use core::fmt;
use xen_core::Error;
use zboot::Payload;

/// Where unpacked bytes go: called with ascending, gapless offsets from 0 on. An error ends the unpacking.
pub type Sink<'s> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 's;

/// Why an image cannot be loaded. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// None of the known formats.
    Unknown,
    /// A format that is known but not loaded.
    Unsupported(&'static str),
    /// The image is shorter than its header says.
    Truncated,
    /// A header's field is wrong.
    Header(&'static str),
    /// The compressed data is damaged.
    Corrupt(&'static str),
    /// The unpacked image exceeds the limit.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// No bank of memory has room for it.
    NoRoom {
        /// Bytes needed from the load address on.
        size: u64,
    },
    /// The sink refused bytes.
    Sink(Error),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("the kernel is neither an arm64 Image, nor gzip, nor EFI zboot")
            }
            Self::Unsupported(what) => write!(f, "the kernel is {what}, which is not supported"),
            Self::Truncated => f.write_str("the kernel image is cut short"),
            Self::Header(why) => write!(f, "the kernel's header {why}"),
            Self::Corrupt(why) => write!(f, "the compressed kernel is damaged: {why}"),
            Self::TooLarge { limit } => {
                write!(f, "the unpacked kernel is larger than {limit} bytes")
            }
            Self::NoRoom { size } => {
                write!(f, "no memory bank has {size} free bytes for the kernel")
            }
            Self::Sink(error) => write!(f, "the kernel could not be stored: {error:?}"),
        }
    }
}

impl core::error::Error for ImageError {}

/// A recognised kernel image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// The format.
    pub kind: KernelKind,
    /// The plain image or the gzip file.
    payload: &'a [u8],
}

/// How a kernel is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// A plain `Image`.
    Image,
    /// A gzip file.
    Gzip,
    /// An EFI zboot image with a gzip payload.
    EfiZboot,
}

/// Recognises the format of `bytes`, which are the whole boot module.
///
/// # Errors
/// An unknown format, one that is known but not loaded (named in the error), or a header that lies.
pub fn probe(bytes: &[u8]) -> Result<Kernel<'_>, ImageError> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let kernel = |kind, payload| Ok(Kernel { kind, payload });
    if let Some(payload) = zboot::find(bytes)? {
        return match payload {
            Payload::Gzip(payload) => kernel(KernelKind::EfiZboot, payload),
            Payload::Other(name) => Err(ImageError::Unsupported(name)),
        };
    }
    // An Image that is also an EFI application begins with MZ: its own magic number decides.
    if header::has_magic(bytes) {
        ImageHeader::parse(bytes)?;
        return kernel(KernelKind::Image, bytes);
    }
    if starts(&[0x1f, 0x8b]) {
        return kernel(KernelKind::Gzip, bytes);
    }
    let others: [(&[u8], &'static str); 7] = [
        (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
        (b"\xfd7zXZ\0", "xz-compressed"),
        (b"BZh", "bzip2-compressed"),
        (b"\x5d\0\0", "lzma-compressed"),
        (b"\x89LZO", "lzo-compressed"),
        (b"\x02\x21\x4c\x18", "lz4-compressed"),
        (b"\x7fELF", "an ELF file"),
    ];
    match others.iter().find(|(magic, _)| starts(magic)) {
        Some((_, name)) => Err(ImageError::Unsupported(name)),
        None if bytes.get(0x24..0x28) == Some(&0x016f_2818_u32.to_le_bytes()) => {
            Err(ImageError::Unsupported("a 32-bit Arm zImage"))
        }
        None => Err(ImageError::Unknown),
    }
}

impl Kernel<'_> {
    /// The `Image` header, unpacked if need be.
    pub fn header(&self) -> Result<ImageHeader, ImageError> {
        if self.kind == KernelKind::Image {
            return ImageHeader::parse(self.payload);
        }
        let mut head = [0; HEADER_SIZE];
        let mut have = 0;
        let result = gunzip(self.payload, u64::MAX, &mut |_, bytes| {
            let room = head.get_mut(have..).unwrap_or_default();
            let count = room.len().min(bytes.len());
            room.iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            have += count;
            // Enough: an error is how a sink stops.
            if have == HEADER_SIZE {
                Err(Error::NoSpc)
            } else {
                Ok(())
            }
        });
        match result {
            Err(ImageError::Sink(Error::NoSpc)) => ImageHeader::parse(&head),
            Err(error) => Err(error),
            Ok(_) => Err(ImageError::Truncated),
        }
    }

    /// Bytes of the unpacked image, without the memory it needs beyond them: exact for a plain image; for gzip the size
    /// the file's trailer states, which [`Kernel::unpack`] verifies.
    pub fn unpacked_size(&self) -> Result<u64, ImageError> {
        match self.kind {
            KernelKind::Image => Ok(self.payload.len() as u64),
            _ => gzip::stated_size(self.payload),
        }
    }

    /// Hands the unpacked image to `sink` and returns its size in bytes, at most `limit`.
    ///
    /// The image is complete and its checksum right only if this returns `Ok`.
    pub fn unpack(&self, limit: u64, sink: &mut Sink<'_>) -> Result<u64, ImageError> {
        if self.kind != KernelKind::Image {
            return gunzip(self.payload, limit, sink);
        }
        let size = self.payload.len() as u64;
        if size > limit {
            return Err(ImageError::TooLarge { limit });
        }
        sink(0, self.payload).map_err(ImageError::Sink)?;
        Ok(size)
    }
}

/// Reads a little-endian number of `N` bytes at `offset`.
fn le<const N: usize>(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(N)?;
    let number = bytes.get(offset..end)?;
    Some(
        number
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}
