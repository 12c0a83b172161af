//! The unpacked kernel: its segments, Xen's notes, where it goes, and putting it there.
//!
//! The ELF structures are read by the crate `object`; the notes are those of the public header `elfnote.h`.

use crate::range::PhysRange;
use alloc::vec::Vec;
use core::fmt;
use object::LittleEndian;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use xen_core::{Error, GuestPhysAddr, HostPhysAddr, PAGE_SIZE};

/// Numbers of notes.
mod note {
    pub(super) const FEATURES: u32 = 10;
    pub(super) const GUEST_OS: u32 = 6;
    pub(super) const SUPPORTED_FEATURES: u32 = 17;
    pub(super) const PHYS32_ENTRY: u32 = 18;
    pub(super) const PHYS32_RELOC: u32 = 19;
}
/// Bit of the supported features: the kernel can be the initial domain (public header `features.h`).
const FEATURE_DOM0: u32 = 1 << 11;
const NAME: &[u8] = b"Xen";
/// What a relocatable kernel wants if its note does not say.
const DEFAULT_ALIGN: u32 = 0x20_0000;
const MAX_SEGMENTS: usize = 64;
/// PVH enters in 32-bit mode.
const LIMIT: u64 = 1 << 32;

/// Why the ELF file cannot be loaded. `Display` says it in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It is no ELF file for x86, or its structures lie outside of it.
    Malformed(&'static str),
    /// A note of Xen's has a size or content that makes no sense.
    Note(u32),
    /// There is no note with PVH's entry.
    NoEntry,
    /// The entry is in no segment.
    EntryOutside(u64),
    /// No RAM where the kernel has to be.
    NoRoom {
        /// Lowest address of the kernel as it is linked.
        base: u64,
        /// Bytes from there.
        size: u64,
    },
    /// Memory could not be written to.
    Store(Error),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the kernel is no usable ELF file: {why}"),
            Self::Note(n) => write!(f, "the kernel's Xen note {n} is malformed"),
            Self::NoEntry => f.write_str(
                "the kernel cannot be started as PVH: it lacks the note XEN_ELFNOTE_PHYS32_ENTRY",
            ),
            Self::EntryOutside(at) => write!(f, "the kernel's entry {at:#x} is outside of it"),
            Self::NoRoom { base, size } => write!(
                f,
                "dom0 has no RAM for the kernel: {size:#x} bytes at {base:#x}"
            ),
            Self::Store(error) => write!(f, "the kernel could not be stored: {error:?}"),
        }
    }
}

impl core::error::Error for ElfError {}

/// A piece of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Physical address it is linked for.
    pub base: u64,
    /// Its content.
    pub bytes: &'a [u8],
    /// Bytes of memory, at least those of the content; the rest is zero.
    pub size: u64,
}

/// Where a kernel that can be moved may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Its lowest address is a multiple of this, a power of two.
    pub align: u64,
    /// Lowest address of all.
    pub min: u64,
    /// Highest address that a byte of it may have.
    pub max: u64,
}

/// What Xen's notes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes<'a> {
    /// Where PVH enters.
    pub entry: Option<u64>,
    /// Whether, and where to, it can be moved.
    pub relocation: Option<Relocation>,
    /// Name of the operating system.
    pub guest_os: Option<&'a str>,
    /// Features it wants, in text.
    pub features: Option<&'a str>,
    /// Features it can do with, in bits.
    pub supported: Option<u32>,
}

/// Where a kernel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The memory it takes, in whole pages.
    pub range: PhysRange,
    /// Where the first vCPU begins.
    pub entry: u32,
    /// What is added to the addresses it is linked for, modulo 2^64.
    offset: u64,
}

/// dom0's memory for writing.
pub trait Target {
    /// Copies `bytes` to `at`.
    ///
    /// # Errors
    /// There is no such memory.
    fn write(&mut self, at: GuestPhysAddr, bytes: &[u8]) -> Result<(), Error>;

    /// Makes `size` bytes at `at` zero.
    ///
    /// # Errors
    /// There is no such memory.
    fn zero(&mut self, at: GuestPhysAddr, size: u64) -> Result<(), Error>;
}

/// An unpacked kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmlinux<'a> {
    /// Its pieces, in ascending order; they do not overlap, are below 4 GiB, and there is at least one.
    pub segments: Vec<Segment<'a>>,
    /// What it says of itself.
    pub notes: Notes<'a>,
    entry: u32,
}

impl<'a> Vmlinux<'a> {
    /// Reads the ELF file `bytes`, of 32 or 64 bits.
    ///
    /// # Errors
    /// It is malformed, or no PVH kernel.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        // Byte 4 is the class.
        match bytes.get(4) {
            Some(&class) if class == elf::ELFCLASS64.0 => {
                Self::read::<FileHeader64<LittleEndian>>(bytes)
            }
            Some(_) => Self::read::<FileHeader32<LittleEndian>>(bytes),
            None => Err(ElfError::Malformed("it is too short")),
        }
    }

    fn read<F: FileHeader<Endian = LittleEndian>>(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let malformed = ElfError::Malformed;
        let header = F::parse(bytes).map_err(|_| malformed("its header is invalid"))?;
        let endian = header
            .endian()
            .map_err(|_| malformed("it is big-endian, which x86 is not"))?;
        if ![elf::EM_386, elf::EM_X86_64].contains(&header.e_machine(endian)) {
            return Err(malformed("it is not for x86"));
        }
        if usize::from(header.e_phnum(endian)) > MAX_SEGMENTS {
            return Err(malformed("it has too many segments"));
        }
        let headers = header
            .program_headers(endian, bytes)
            .map_err(|_| malformed("its program headers are outside of it"))?;
        let mut segments = Vec::new();
        let mut notes = Notes::default();
        for program in headers {
            if program.p_type(endian) == elf::PT_LOAD {
                segments.extend(load_segment(program, endian, bytes)?);
            }
            let found = program.notes(endian, bytes);
            let found = found.map_err(|_| malformed("its notes are outside of it"))?;
            let Some(mut found) = found else { continue };
            // Other people's notes may be what they like: a damaged one ends the list.
            while let Ok(Some(one)) = found.next() {
                if one.name() == NAME {
                    notes.take(one.n_type(endian).0, one.desc())?;
                }
            }
        }
        segments.sort_by_key(|segment| segment.base);
        let overlap = |pair: &[Segment<'_>]| matches!(pair, [a, b] if a.base + a.size > b.base);
        if segments.windows(2).any(overlap) {
            return Err(malformed("its segments overlap"));
        }
        if segments.is_empty() {
            return Err(malformed("it has nothing to load"));
        }
        let entry = notes.entry.ok_or(ElfError::NoEntry)?;
        let inside = |s: &Segment<'_>| entry >= s.base && entry - s.base < s.size;
        if !segments.iter().any(inside) {
            return Err(ElfError::EntryOutside(entry));
        }
        let entry = u32::try_from(entry).map_err(|_| ElfError::EntryOutside(entry))?;
        Ok(Self {
            segments,
            notes,
            entry,
        })
    }

    /// Whether the kernel says that it can be the initial domain; `None` if it says nothing.
    pub fn can_be_dom0(&self) -> Option<bool> {
        self.notes.supported.map(|bits| bits & FEATURE_DOM0 != 0)
    }

    /// The whole pages that it takes where it is linked to be.
    pub fn linked_range(&self) -> Option<PhysRange> {
        let (first, last) = (self.segments.first()?, self.segments.last()?);
        let range = PhysRange::from_bounds(
            HostPhysAddr(first.base),
            HostPhysAddr(last.base.checked_add(last.size)?),
        );
        range?.to_pages()
    }

    /// Where the kernel goes in `ram`: where it is linked to be if that is free, else the lowest place that its note
    /// allows. `ram`: ranges that do not touch, of whole pages, free of anything else.
    ///
    /// # Errors
    /// [`ElfError::NoRoom`].
    pub fn place(&self, ram: &[PhysRange]) -> Result<Placement, ElfError> {
        let linked = self
            .linked_range()
            .ok_or(ElfError::Malformed("it has nothing to load"))?;
        let (base, size) = (linked.start().0, linked.size());
        if ram.iter().any(|bank| bank.covers(&linked)) {
            return Ok(Placement {
                range: linked,
                entry: self.entry,
                offset: 0,
            });
        }
        let no_room = ElfError::NoRoom { base, size };
        let rules = self.notes.relocation.ok_or(no_room)?;
        let align = rules.align.max(PAGE_SIZE);
        let fits = |bank: &PhysRange| {
            let start = bank.start().0.max(rules.min);
            let start = start.checked_next_multiple_of(align)?;
            let range = PhysRange::new(HostPhysAddr(start), size)?;
            let last = range.end().0 - 1;
            (bank.covers(&range) && last <= rules.max.min(LIMIT - 1)).then_some(range)
        };
        let range = ram.iter().filter_map(fits).min().ok_or(no_room)?;
        let offset = range.start().0.wrapping_sub(base);
        let entry = u64::from(self.entry).wrapping_add(offset);
        Ok(Placement {
            range,
            entry: u32::try_from(entry).map_err(|_| no_room)?,
            offset,
        })
    }

    /// Puts the kernel where [`Vmlinux::place`] said, and zeroes what is between and behind its segments.
    ///
    /// # Errors
    /// [`ElfError::Store`] as `target` says.
    pub fn load(&self, place: &Placement, target: &mut dyn Target) -> Result<(), ElfError> {
        let mut at = place.range.start().0;
        let zero = |target: &mut dyn Target, from: u64, to: u64| match to.checked_sub(from) {
            None | Some(0) => Ok(()),
            Some(size) => target.zero(GuestPhysAddr(from), size),
        };
        for segment in &self.segments {
            let base = segment.base.wrapping_add(place.offset);
            zero(target, at, base).map_err(ElfError::Store)?;
            target
                .write(GuestPhysAddr(base), segment.bytes)
                .map_err(ElfError::Store)?;
            at = base.wrapping_add(segment.bytes.len() as u64);
        }
        zero(target, at, place.range.end().0).map_err(ElfError::Store)
    }
}

/// A segment that is loaded; `None` if there is nothing in it.
fn load_segment<'a, P: ProgramHeader<Endian = LittleEndian>>(
    program: &P,
    endian: LittleEndian,
    bytes: &'a [u8],
) -> Result<Option<Segment<'a>>, ElfError> {
    let content = program
        .data(endian, bytes)
        .map_err(|()| ElfError::Malformed("a segment is outside of it"))?;
    let (base, size): (u64, u64) = (
        program.p_paddr(endian).into(),
        program.p_memsz(endian).into(),
    );
    if (content.len() as u64) > size {
        return Err(ElfError::Malformed(
            "a segment has more content than memory",
        ));
    }
    if base.checked_add(size).is_none_or(|end| end > LIMIT) {
        return Err(ElfError::Malformed("a segment is above 4 GiB"));
    }
    Ok((size != 0).then_some(Segment {
        base,
        bytes: content,
        size,
    }))
}

impl<'a> Notes<'a> {
    fn take(&mut self, kind: u32, desc: &'a [u8]) -> Result<(), ElfError> {
        let bad = ElfError::Note(kind);
        match kind {
            note::PHYS32_ENTRY => self.entry = Some(number(desc).ok_or(bad)?),
            note::SUPPORTED_FEATURES => {
                // Features beyond bit 31 are of other submaps.
                self.supported = Some(number(desc).ok_or(bad)? as u32);
            }
            note::GUEST_OS => self.guest_os = text(desc),
            note::FEATURES => self.features = text(desc),
            note::PHYS32_RELOC => self.relocation = Some(relocation(desc).ok_or(bad)?),
            _ => {}
        }
        Ok(())
    }
}

/// A number of 4 or 8 bytes.
fn number(desc: &[u8]) -> Option<u64> {
    match desc.len() {
        4 => super::le(desc, 0).map(u32::from_le_bytes).map(u64::from),
        8 => super::le(desc, 0).map(u64::from_le_bytes),
        _ => None,
    }
}

fn text(desc: &[u8]) -> Option<&str> {
    let text = desc.split(|byte| *byte == 0).next()?;
    core::str::from_utf8(text).ok()
}

/// Up to three numbers of 32 bits: alignment, lowest and highest address.
fn relocation(desc: &[u8]) -> Option<Relocation> {
    if desc.len() > 12 || !desc.len().is_multiple_of(4) {
        return None;
    }
    let word = |n: usize, default| super::le(desc, 4 * n).map_or(default, u32::from_le_bytes);
    let align = word(0, DEFAULT_ALIGN);
    align.is_power_of_two().then_some(Relocation {
        align: align.into(),
        min: word(1, 0).into(),
        max: word(2, u32::MAX).into(),
    })
}
