//! EFI zboot images: an EFI application around a compressed `Image`.

use super::{ImageError, le};

/// What such an image carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// A gzip file.
    Gzip(&'a [u8]),
    /// Something compressed by another method; the text names it.
    Other(&'static str),
}

/// The methods that kernels are packed with and that are not unpacked here.
const OTHERS: [(&[u8], &str); 6] = [
    (b"lz4", "an EFI zboot image compressed by lz4"),
    (b"lzma", "an EFI zboot image compressed by lzma"),
    (b"lzo", "an EFI zboot image compressed by lzo"),
    (b"xzkern", "an EFI zboot image compressed by xz"),
    (b"zstd", "an EFI zboot image compressed by zstd"),
    (b"zstd22", "an EFI zboot image compressed by zstd"),
];

/// The payload of `bytes` if they are an EFI zboot image.
///
/// The header: `MZ`, at 4 `zimg`, at 8 the payload's offset and at 12 its size (32 bits each, little-endian), at 24 the
/// compression's name ended by a NUL.
pub(super) fn find(bytes: &[u8]) -> Result<Option<Payload<'_>>, ImageError> {
    if !bytes.starts_with(b"MZ") || bytes.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let field = |offset| le::<4>(bytes, offset).ok_or(ImageError::Truncated);
    let (start, size) = (field(8)? as usize, field(12)? as usize);
    let end = start.checked_add(size).ok_or(ImageError::Truncated)?;
    let payload = bytes.get(start..end).ok_or(ImageError::Truncated)?;
    let name = bytes.get(24..56).ok_or(ImageError::Truncated)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    if name == b"gzip" {
        return Ok(Some(Payload::Gzip(payload)));
    }
    let other = OTHERS.iter().find(|(known, _)| *known == name);
    Ok(Some(Payload::Other(other.map_or(
        "an EFI zboot image compressed by an unknown method",
        |(_, text)| text,
    ))))
}
