//! Streaming gzip (RFC 1952) around miniz_oxide's inflate.

use super::{ImageError, Sink, le};
use alloc::boxed::Box;
use alloc::vec;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Bytes of the history window, which is also the largest piece a sink is handed.
pub const GZIP_WINDOW: usize = 32 << 10;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAG_RESERVED: u8 = 0xe0;
/// CRC32 and ISIZE.
const TRAILER_SIZE: usize = 8;

/// Unpacks the gzip file `input` into `sink` and returns the unpacked size in bytes.
///
/// Only one member is unpacked; what follows its trailer is ignored, for boot loaders pad modules. The checksum and the
/// size are verified at the end, so the sink's bytes are good only if this returns `Ok`.
///
/// # Errors
/// Damaged data, more than `limit` bytes (of which none past the limit reaches the sink), or the sink's own error.
pub fn gunzip(input: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<u64, ImageError> {
    let mut input = skip_header(input)?;
    let mut state = Box::<DecompressorOxide>::default();
    let mut window = vec![0; GZIP_WINDOW];
    let mut at = 0;
    let mut total: u64 = 0;
    let mut crc = Crc32::new();
    loop {
        // There never is more input than this, but without the flag the end of input and a full window look alike.
        let (status, consumed, produced) = decompress(
            &mut state,
            input,
            &mut window,
            at,
            TINFL_FLAG_HAS_MORE_INPUT,
        );
        input = input.get(consumed..).unwrap_or_default();
        let end = at.saturating_add(produced);
        let piece = window.get(at..end).unwrap_or_default();
        if !piece.is_empty() {
            let new_total = total.saturating_add(piece.len() as u64);
            if new_total > limit {
                return Err(ImageError::TooLarge { limit });
            }
            crc.update(piece);
            sink(total, piece).map_err(ImageError::Sink)?;
            total = new_total;
        }
        at = end % GZIP_WINDOW;
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput => return Err(ImageError::Truncated),
            _ => return Err(ImageError::Corrupt("the deflate stream is invalid")),
        }
    }
    let (Some(sum), Some(size)) = (le::<4>(input, 0), le::<4>(input, 4)) else {
        return Err(ImageError::Truncated);
    };
    if sum != u64::from(crc.finish()) {
        return Err(ImageError::Corrupt("its checksum is wrong"));
    }
    if size != total & 0xffff_ffff {
        return Err(ImageError::Corrupt("its size is not the stated one"));
    }
    Ok(total)
}

/// The unpacked size in bytes that the last four bytes of `input` state. A hint: padding after the file, or a file of
/// 4 GiB or more, makes it wrong.
pub(super) fn stated_size(input: &[u8]) -> Result<u64, ImageError> {
    let at = input.len().checked_sub(4).ok_or(ImageError::Truncated)?;
    le::<4>(input, at).ok_or(ImageError::Truncated)
}

/// Checks the member's header and returns what follows it.
fn skip_header(input: &[u8]) -> Result<&[u8], ImageError> {
    let get = |at: usize| input.get(at).copied().ok_or(ImageError::Truncated);
    if (get(0)?, get(1)?) != (0x1f, 0x8b) {
        return Err(ImageError::Unknown);
    }
    if get(2)? != 8 {
        return Err(ImageError::Corrupt("its method is not deflate"));
    }
    let flags = get(3)?;
    if flags & FLAG_RESERVED != 0 {
        return Err(ImageError::Corrupt("reserved header flags are set"));
    }
    let mut at: usize = 10;
    if flags & FLAG_EXTRA != 0 {
        let len = le::<2>(input, at).ok_or(ImageError::Truncated)?;
        at = at.saturating_add(2 + len as usize);
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let rest = input.get(at..).ok_or(ImageError::Truncated)?;
            let len = rest.iter().position(|byte| *byte == 0);
            at = at.saturating_add(len.ok_or(ImageError::Truncated)? + 1);
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        let mut crc = Crc32::new();
        crc.update(input.get(..at).ok_or(ImageError::Truncated)?);
        let stated = le::<2>(input, at).ok_or(ImageError::Truncated)?;
        if stated != u64::from(crc.finish() & 0xffff) {
            return Err(ImageError::Corrupt("its header's checksum is wrong"));
        }
        at = at.saturating_add(2);
    }
    match input.get(at..) {
        Some(rest) if rest.len() > TRAILER_SIZE => Ok(rest),
        _ => Err(ImageError::Truncated),
    }
}

/// The CRC of RFC 1952, section 8: polynomial 0xedb88320, reflected.
pub(super) struct Crc32(u32);

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 {
                0xedb8_8320 ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

impl Crc32 {
    pub(super) fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The index is one byte and the table has 256 entries.
            self.0 = CRC_TABLE[((self.0 ^ u32::from(*byte)) & 0xff) as usize] ^ (self.0 >> 8);
        }
    }

    pub(super) fn finish(&self) -> u32 {
        !self.0
    }
}
