//! The compressions that x86 kernels come in.
//!
//! The size is known before unpacking, so each method fills one buffer of exactly that size, and none can be made to
//! write more. What a method needs besides is on the heap; [`Compression::scratch`] says how much.

use super::le;
use crate::image::{ImageError, gunzip};
use alloc::vec::Vec;
use core::fmt;
use lzma_rust2::{Action, LzmaStream, Status, StreamResult, XzStream};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;

/// How a kernel is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// bzip2, which is not unpacked.
    Bzip2,
    /// The format before xz.
    Lzma,
    /// xz.
    Xz,
    /// LZO, which is not unpacked.
    Lzo,
    /// LZ4's legacy frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not compressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Why a kernel cannot be unpacked. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// There is nothing that unpacks this.
    Unsupported(Compression),
    /// The data is damaged.
    Corrupt(Compression),
    /// There is less than, or more than, the size stated with it.
    Size(Compression),
    /// The dictionary is larger than any kernel's.
    Dictionary(Compression),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(c) => {
                write!(
                    f,
                    "the kernel is compressed by {c}, which cannot be unpacked"
                )
            }
            Self::Corrupt(c) => write!(f, "the kernel's {c} data is damaged"),
            Self::Size(c) => write!(f, "the kernel's {c} data is not of the stated size"),
            Self::Dictionary(c) => write!(f, "the kernel's {c} data needs too large a dictionary"),
        }
    }
}

impl core::error::Error for UnpackError {}

const MAGICS: [(&[u8], Compression); 8] = [
    (b"\x7fELF", Compression::None),
    (b"\x1f\x8b", Compression::Gzip),
    (b"BZh", Compression::Bzip2),
    (b"\x5d\0\0", Compression::Lzma),
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"\x89LZO", Compression::Lzo),
    (LZ4_LEGACY, Compression::Lz4),
    (ZSTD_MAGIC, Compression::Zstd),
];
const LZ4_LEGACY: &[u8] = b"\x02\x21\x4c\x18";
/// What one legacy block unpacks to at most.
const LZ4_BLOCK: usize = 8 << 20;
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
/// Dictionaries of kernels have at most 128 MiB; the decoder's own tables come on top.
const MAX_DICTIONARY: u64 = 128 << 20;
const XZ_LIMIT_KB: u32 = (MAX_DICTIONARY >> 10) as u32 + 1024;
/// More than what a method keeps besides its dictionary.
const TABLES: u64 = 2 << 20;
/// Unpacked at a time: filters keep as much.
const STEP: usize = 1 << 20;

impl Compression {
    /// The method by the first bytes of data; `None` if they are of no known one.
    pub fn detect(data: &[u8]) -> Option<Self> {
        let found = MAGICS.iter().find(|(magic, _)| data.starts_with(magic));
        found.map(|(_, compression)| *compression)
    }

    /// Bytes of heap that unpacking `data` to `size` bytes needs at most, in blocks of up to about that size.
    pub fn scratch(self, data: &[u8], size: u64) -> u64 {
        match self {
            Self::Zstd => size
                .checked_next_power_of_two()
                .unwrap_or(MAX_DICTIONARY)
                .min(MAX_DICTIONARY)
                .saturating_add(TABLES),
            Self::Xz => {
                // The first block's header says it, and nothing is allocated beyond the limit.
                let mut stream = XzStream::new_mem_limit(false, 1);
                let _ = stream.process(data, &mut [], Action::Run);
                growing(u64::from(stream.memory_usage().unwrap_or(0)) << 10)
            }
            Self::Lzma => growing(le(data, 1).map_or(0, u32::from_le_bytes).into()),
            _ => TABLES,
        }
    }

    /// Unpacks `data` into `out`, which it fills exactly.
    ///
    /// # Errors
    /// A method that is not there, damaged data, or data of another size. What is in `out` then means nothing.
    pub fn unpack(self, data: &[u8], out: &mut [u8]) -> Result<(), UnpackError> {
        match self {
            Self::None => {
                if data.len() != out.len() {
                    return Err(UnpackError::Size(self));
                }
                out.copy_from_slice(data);
                Ok(())
            }
            Self::Gzip => gzip(data, out),
            Self::Xz => {
                let mut stream = XzStream::new_mem_limit(false, XZ_LIMIT_KB);
                drive(self, data, out, &mut |data, out| {
                    stream.process(data, out, Action::Finish).ok()
                })
            }
            Self::Lzma => {
                let mut stream = LzmaStream::new_mem_limit(XZ_LIMIT_KB, None);
                drive(self, data, out, &mut |data, out| {
                    stream.process(data, out, Action::Finish).ok()
                })
            }
            Self::Lz4 => lz4(data, out),
            Self::Zstd => zstd(data, out),
            Self::Bzip2 | Self::Lzo => Err(UnpackError::Unsupported(self)),
        }
    }
}

/// Heap for a dictionary that grows as it fills: the old one is there until the new one is filled.
fn growing(dictionary: u64) -> u64 {
    dictionary.min(MAX_DICTIONARY) * 2 + TABLES
}

fn gzip(data: &[u8], out: &mut [u8]) -> Result<(), UnpackError> {
    let limit = out.len() as u64;
    let unpacked = gunzip(data, limit, &mut |at, bytes| {
        let at = at as usize;
        let to = at
            .checked_add(bytes.len())
            .and_then(|end| out.get_mut(at..end));
        to.ok_or(xen_core::Error::NoSpc)?.copy_from_slice(bytes);
        Ok(())
    });
    match unpacked {
        Ok(size) if size == limit => Ok(()),
        Ok(_) | Err(ImageError::TooLarge { .. }) => Err(UnpackError::Size(Compression::Gzip)),
        Err(_) => Err(UnpackError::Corrupt(Compression::Gzip)),
    }
}

/// One step of a decoder: what it took and gave; `None` for damaged data.
type Step<'s> = dyn FnMut(&[u8], &mut [u8]) -> Option<StreamResult> + 's;

fn drive(
    compression: Compression,
    mut data: &[u8],
    mut out: &mut [u8],
    step: &mut Step<'_>,
) -> Result<(), UnpackError> {
    let corrupt = UnpackError::Corrupt(compression);
    loop {
        let room = out.len().min(STEP);
        let to = out.get_mut(..room).ok_or(corrupt)?;
        let done = step(data, to).ok_or(corrupt)?;
        data = data.get(done.bytes_consumed..).ok_or(corrupt)?;
        out = out.get_mut(done.bytes_produced..).ok_or(corrupt)?;
        if done.status == Status::StreamEnd {
            break;
        }
        if done.bytes_consumed == 0 && done.bytes_produced == 0 {
            // It waits for what is not there: more data, or more room.
            return Err(match out.is_empty() {
                true => UnpackError::Size(compression),
                false => corrupt,
            });
        }
    }
    if out.is_empty() {
        Ok(())
    } else {
        Err(UnpackError::Size(compression))
    }
}

/// LZ4's legacy frames: a magic number, then blocks with their sizes before them, and again.
fn lz4(data: &[u8], mut out: &mut [u8]) -> Result<(), UnpackError> {
    let corrupt = UnpackError::Corrupt(Compression::Lz4);
    let mut data = data.strip_prefix(LZ4_LEGACY).ok_or(corrupt)?;
    while !data.is_empty() {
        if let Some(rest) = data.strip_prefix(LZ4_LEGACY) {
            data = rest;
            continue;
        }
        let size = le(data, 0).map(u32::from_le_bytes).ok_or(corrupt)? as usize;
        let rest = data.get(4..).ok_or(corrupt)?;
        let (block, rest) = rest.split_at_checked(size).ok_or(corrupt)?;
        let room = out.len().min(LZ4_BLOCK);
        let to = out.get_mut(..room).ok_or(corrupt)?;
        let done = lz4_flex::block::decompress_into(block, to).map_err(|_| corrupt)?;
        out = out.get_mut(done..).ok_or(corrupt)?;
        data = rest;
    }
    if out.is_empty() {
        Ok(())
    } else {
        Err(UnpackError::Size(Compression::Lz4))
    }
}

/// The frame header of zstd data, with a window that is not larger than what is unpacked, and its length.
///
/// Kernels are packed with windows of 128 MiB, which the decoder would allocate; matches cannot reach back further
/// than to the beginning, though.
fn zstd_header(data: &[u8], size: u64) -> Option<(Vec<u8>, usize)> {
    let descriptor = *data.strip_prefix(ZSTD_MAGIC)?.first()?;
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(single),
        n => 1 << n,
    };
    let length = 5 + usize::from(!single) + dictionary + content;
    let mut header = Vec::from(data.get(..length)?);
    if !single {
        let window = |code: u8| {
            let base = 1u64 << (10 + (code >> 3));
            base + (base >> 3) * u64::from(code & 7)
        };
        let byte = header.get_mut(5)?;
        let enough = (0..*byte).find(|code| window(*code) >= size);
        *byte = enough.unwrap_or(*byte);
        if window(*byte) > MAX_DICTIONARY {
            return None;
        }
    }
    Some((header, length))
}

fn zstd(data: &[u8], mut out: &mut [u8]) -> Result<(), UnpackError> {
    let corrupt = UnpackError::Corrupt(Compression::Zstd);
    let size = UnpackError::Size(Compression::Zstd);
    let (header, length) =
        zstd_header(data, out.len() as u64).ok_or(UnpackError::Dictionary(Compression::Zstd))?;
    let mut data = data.get(length..).ok_or(corrupt)?;
    let mut decoder = FrameDecoder::new();
    // Twice: only the second time is the whole window allocated at once, instead of by doubling.
    for _ in 0..2 {
        decoder.reset(header.as_slice()).map_err(|_| corrupt)?;
    }
    while !decoder.is_finished() {
        let strategy = BlockDecodingStrategy::UptoBytes(STEP);
        let finished = decoder.decode_blocks(&mut data, strategy);
        let finished = finished.map_err(|_| corrupt)?;
        if decoder.can_collect() > out.len() {
            return Err(size);
        }
        let done = decoder.read(out).map_err(|_| corrupt)?;
        out = out.get_mut(done..).ok_or(corrupt)?;
        if finished {
            break;
        }
    }
    while decoder.can_collect() > 0 {
        let done = decoder.read(out).map_err(|_| corrupt)?;
        if done == 0 {
            return Err(size);
        }
        out = out.get_mut(done..).ok_or(corrupt)?;
    }
    let stated = decoder.get_checksum_from_data();
    if stated.is_some() && stated != decoder.get_calculated_checksum() {
        return Err(corrupt);
    }
    if out.is_empty() { Ok(()) } else { Err(size) }
}
