//! The boot module with dom0's kernel: a bzImage, an ELF file, or a gzip file around one.
//!
//! A bzImage is a boot loader's wrapping around a compressed ELF file. PVH enters that file, so what surrounds it does
//! not run; of its header only the place of the payload and the limit for the ramdisk are used (the kernel's
//! `Documentation/arch/x86/boot.rst`).

use super::le;
use super::unpack::{Compression, UnpackError};
use core::fmt;

/// Why a module is no kernel that can be loaded. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// None of the known formats.
    Unknown,
    /// A bzImage of a boot protocol before 2.08, which does not say where the payload is.
    OldProtocol(u16),
    /// The file ends before what its header speaks of.
    Truncated,
    /// A bzImage's payload is packed by an unknown method.
    UnknownPayload,
    /// A format that is not loaded, named.
    Unsupported(&'static str),
    /// The unpacked kernel would have this many bytes.
    TooLarge(u64),
    /// It does not unpack.
    Unpack(UnpackError),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the kernel is neither a bzImage nor an ELF file"),
            Self::OldProtocol(v) => write!(
                f,
                "the kernel is a bzImage of boot protocol {}.{:02}, older than 2.08",
                v >> 8,
                v & 0xff
            ),
            Self::Truncated => f.write_str("the kernel is cut short"),
            Self::UnknownPayload => {
                f.write_str("the kernel is a bzImage compressed by an unknown method")
            }
            Self::Unsupported(what) => write!(f, "the kernel is {what}, which is not supported"),
            Self::TooLarge(size) => write!(
                f,
                "the unpacked kernel has {size} bytes, more than {MAX_KERNEL}"
            ),
            Self::Unpack(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KernelError {}

/// No kernel is larger when unpacked.
pub const MAX_KERNEL: u64 = 512 << 20;

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// A bzImage.
    BzImage {
        /// Boot protocol, major and minor number in a byte each.
        protocol: u16,
        /// Highest address that a byte of the ramdisk may have.
        ramdisk_max: u32,
    },
    /// The ELF file as it is, or in a gzip file.
    Elf,
}

/// A recognised kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// The format.
    pub kind: KernelKind,
    /// How the ELF file is packed.
    pub compression: Compression,
    payload: &'a [u8],
    size: u64,
}

/// Offsets in the setup header.
mod setup {
    pub(super) const SECTORS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const RAMDISK_MAX: usize = 0x22c;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
}
const SECTOR: usize = 512;
/// What a sector count of 0 means.
const DEFAULT_SECTORS: u8 = 4;
const PAYLOAD_PROTOCOL: u16 = 0x0208;

impl<'a> Kernel<'a> {
    /// Recognises `module`, which is the whole boot module.
    ///
    /// # Errors
    /// An unknown format, one that is not loaded, or a header that lies.
    pub fn probe(module: &'a [u8]) -> Result<Self, KernelError> {
        if module.get(setup::MAGIC..setup::MAGIC + 4) == Some(b"HdrS")
            && le(module, setup::BOOT_FLAG) == Some([0x55, 0xaa])
        {
            return Self::bzimage(module);
        }
        let compression = Compression::detect(module).ok_or(KernelError::Unknown)?;
        let size = match compression {
            Compression::None => module.len() as u64,
            Compression::Gzip => trailing_size(module)?,
            // Only in a bzImage does the size come with the data.
            Compression::Bzip2 => return Err(KernelError::Unsupported("a bzip2 file")),
            Compression::Lzma => return Err(KernelError::Unsupported("an lzma file")),
            Compression::Xz => return Err(KernelError::Unsupported("an xz file")),
            Compression::Lzo => return Err(KernelError::Unsupported("an lzo file")),
            Compression::Lz4 => return Err(KernelError::Unsupported("an lz4 file")),
            Compression::Zstd => return Err(KernelError::Unsupported("a zstd file")),
        };
        Self::new(KernelKind::Elf, compression, module, size)
    }

    fn bzimage(module: &'a [u8]) -> Result<Self, KernelError> {
        let word = |at| {
            le(module, at)
                .map(u32::from_le_bytes)
                .ok_or(KernelError::Truncated)
        };
        let protocol = le(module, setup::VERSION)
            .map(u16::from_le_bytes)
            .ok_or(KernelError::Truncated)?;
        if protocol < PAYLOAD_PROTOCOL {
            return Err(KernelError::OldProtocol(protocol));
        }
        let sectors = match module.get(setup::SECTORS) {
            Some(0) => DEFAULT_SECTORS,
            Some(n) => *n,
            None => return Err(KernelError::Truncated),
        };
        let start = (usize::from(sectors) + 1) * SECTOR;
        let payload = start
            .checked_add(word(setup::PAYLOAD_OFFSET)? as usize)
            .and_then(|start| module.get(start..))
            .and_then(|rest| rest.get(..word(setup::PAYLOAD_LENGTH).ok()? as usize))
            .ok_or(KernelError::Truncated)?;
        let compression = Compression::detect(payload).ok_or(KernelError::UnknownPayload)?;
        let kind = KernelKind::BzImage {
            protocol,
            ramdisk_max: word(setup::RAMDISK_MAX)?,
        };
        // gzip files end in the size; behind all others the kernel's build puts it.
        let (data, size) = match compression {
            Compression::None => (payload, payload.len() as u64),
            Compression::Gzip => (payload, trailing_size(payload)?),
            _ => {
                let end = payload.len().saturating_sub(4);
                let data = payload.get(..end).ok_or(KernelError::Truncated)?;
                (data, trailing_size(payload)?)
            }
        };
        Self::new(kind, compression, data, size)
    }

    fn new(
        kind: KernelKind,
        compression: Compression,
        payload: &'a [u8],
        size: u64,
    ) -> Result<Self, KernelError> {
        if matches!(compression, Compression::Bzip2 | Compression::Lzo) {
            return Err(KernelError::Unpack(UnpackError::Unsupported(compression)));
        }
        if size > MAX_KERNEL {
            return Err(KernelError::TooLarge(size));
        }
        Ok(Self {
            kind,
            compression,
            payload,
            size,
        })
    }

    /// The ELF file, if it need not be unpacked.
    pub fn plain(&self) -> Option<&'a [u8]> {
        (self.compression == Compression::None).then_some(self.payload)
    }

    /// Bytes of the ELF file, at most [`MAX_KERNEL`]; [`Kernel::unpack`] verifies it.
    pub fn unpacked_size(&self) -> u64 {
        self.size
    }

    /// Bytes of heap that [`Kernel::unpack`] needs at most.
    pub fn scratch(&self) -> u64 {
        self.compression.scratch(self.payload, self.size)
    }

    /// The highest address that a byte of the ramdisk may have: PVH hands it over below 4 GiB.
    pub fn ramdisk_max(&self) -> u64 {
        match self.kind {
            KernelKind::BzImage { ramdisk_max, .. } if ramdisk_max != 0 => ramdisk_max.into(),
            _ => u32::MAX.into(),
        }
    }

    /// Unpacks the ELF file into `out`, whose size is [`Kernel::unpacked_size`].
    ///
    /// # Errors
    /// [`KernelError::Unpack`]; what is in `out` then means nothing.
    pub fn unpack(&self, out: &mut [u8]) -> Result<(), KernelError> {
        self.compression
            .unpack(self.payload, out)
            .map_err(KernelError::Unpack)
    }
}

/// The size that the last four bytes state.
fn trailing_size(data: &[u8]) -> Result<u64, KernelError> {
    let at = data.len().checked_sub(4).ok_or(KernelError::Truncated)?;
    let size = le(data, at).map(u32::from_le_bytes);
    size.map(u64::from).ok_or(KernelError::Truncated)
}
