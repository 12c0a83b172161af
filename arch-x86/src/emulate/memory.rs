//! Segmentation, alignment, pages, and the accesses themselves.

use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::rflags::RFlags;

use super::cpu::{Access, Bus, Cpu, Place, SegmentName, Stop};
use super::decode::Mode;
use super::exception::Exception;
use super::operand::mask;
use super::walk::is_canonical;
use crate::backend::Segment;

/// Bits of [`Segment::attributes`].
mod attribute {
    /// Of data: can be written; of code: can be read.
    pub(super) const READ_OR_WRITE: u16 = 1 << 1;
    /// Of data: offsets are above the limit.
    pub(super) const EXPAND_DOWN: u16 = 1 << 2;
    pub(super) const CODE: u16 = 1 << 3;
    /// Code or data; clear for system segments.
    pub(super) const ORDINARY: u16 = 1 << 4;
    pub(super) const PRESENT: u16 = 1 << 7;
}

/// Most bytes of an access.
pub(super) const MAX_SIZE: usize = 32;

/// The exception for an offset that a segment does not have.
const fn segment_fault(segment: SegmentName) -> Stop {
    Stop::Exception(match segment {
        SegmentName::Ss => Exception::StackFault(0),
        _ => Exception::GeneralProtection(0),
    })
}

fn canonical<C: Cpu>(cpu: &C, linear: u64) -> bool {
    let bits = if cpu.cr4().contains(Cr4Flags::L5_PAGING) {
        57
    } else {
        48
    };
    is_canonical(linear, bits)
}

/// The linear address of `offset` in CS, and how many bytes the segment has from there on (at least 1).
pub(super) fn code<C: Cpu>(cpu: &C, mode: Mode, offset: u64) -> Result<(u64, u64), Stop> {
    if mode.bits == 64 {
        return if canonical(cpu, offset) {
            Ok((offset, u64::MAX))
        } else {
            Err(Exception::GP0.into())
        };
    }
    let segment = cpu.segment(SegmentName::Cs);
    match u64::from(segment.limit).checked_sub(offset) {
        Some(left) => Ok((mode.cut(segment.base.wrapping_add(offset)), left + 1)),
        None => Err(Exception::GP0.into()),
    }
}

/// The linear address of `size` bytes at an offset in a segment that allows the access.
pub(super) fn linear<C: Cpu>(
    cpu: &C,
    mode: Mode,
    name: SegmentName,
    offset: u64,
    size: usize,
    write: bool,
) -> Result<u64, Stop> {
    let last = size as u64 - 1;
    if mode.bits == 64 {
        let base = match name {
            SegmentName::Fs | SegmentName::Gs => cpu.segment(name).base,
            _ => 0,
        };
        let linear = base.wrapping_add(offset);
        return if canonical(cpu, linear) && canonical(cpu, linear.wrapping_add(last)) {
            Ok(linear)
        } else {
            Err(segment_fault(name))
        };
    }
    let segment = cpu.segment(name);
    if mode.protected && !allows(segment, write) {
        return Err(segment_fault(name));
    }
    if !contains(segment, mode, offset, last) {
        return Err(segment_fault(name));
    }
    Ok(mode.cut(segment.base.wrapping_add(offset)))
}

fn allows(segment: Segment, write: bool) -> bool {
    let has = |bit| segment.attributes & bit != 0;
    has(attribute::PRESENT)
        && has(attribute::ORDINARY)
        && match (has(attribute::CODE), write) {
            (true, true) => false,
            (true, false) | (false, true) => has(attribute::READ_OR_WRITE),
            (false, false) => true,
        }
}

/// Whether offsets `offset` to `offset + last` are in the segment.
fn contains(segment: Segment, mode: Mode, offset: u64, last: u64) -> bool {
    let limit = u64::from(segment.limit);
    let end = offset.saturating_add(last);
    let down = attribute::CODE | attribute::EXPAND_DOWN;
    if mode.protected && segment.attributes & down == attribute::EXPAND_DOWN {
        let top = if segment.attributes & super::decode::BIG != 0 {
            0xffff_ffff
        } else {
            0xffff
        };
        offset > limit && end <= top
    } else {
        end <= limit
    }
}

/// Up to 32 bytes of memory or devices, whose every byte was found to be accessible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    first: (Place, usize),
    second: Option<(Place, usize)>,
}

impl Span {
    pub(super) const fn len(&self) -> usize {
        match self.second {
            Some((_, len)) => self.first.1 + len,
            None => self.first.1,
        }
    }

    /// The place of memory that an atomic operation on all of it can be done at.
    pub(super) fn atomic(&self) -> Option<Place> {
        let (place, len) = self.first;
        let aligned = place.address().0.is_multiple_of(len as u64);
        match (place, self.second) {
            (Place::Memory(_), None) if aligned => Some(place),
            _ => None,
        }
    }

    /// Whether any of it is memory.
    pub(super) fn has_memory(&self) -> bool {
        let is_memory = |(place, _): (Place, usize)| matches!(place, Place::Memory(_));
        is_memory(self.first) || self.second.is_some_and(is_memory)
    }

    fn pieces(&self) -> impl Iterator<Item = (Place, usize)> {
        core::iter::once(self.first).chain(self.second)
    }

    pub(super) fn read<B: Bus>(&self, bus: &mut B, mut to: &mut [u8]) -> Result<(), Stop> {
        for (place, len) in self.pieces() {
            let (mut now, rest) = to.split_at_mut(len);
            to = rest;
            let mut at = place;
            while !now.is_empty() {
                let n = step(at, now.len());
                let (part, more) = now.split_at_mut(n);
                bus.read(at, part)?;
                (now, at) = (more, at.offset(n as u64));
            }
        }
        Ok(())
    }

    pub(super) fn write<B: Bus>(&self, bus: &mut B, mut from: &[u8]) -> Result<(), Stop> {
        for (place, len) in self.pieces() {
            let (mut now, rest) = from.split_at(len);
            from = rest;
            let mut at = place;
            while !now.is_empty() {
                let n = step(at, now.len());
                let (part, more) = now.split_at(n);
                bus.write(at, part)?;
                (now, at) = (more, at.offset(n as u64));
            }
        }
        Ok(())
    }

    /// Reads 1 to 8 bytes.
    pub(super) fn load<B: Bus>(&self, bus: &mut B) -> Result<u64, Stop> {
        let mut bytes = [0; 8];
        self.read(bus, &mut bytes[..self.len()])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes the low bytes of a value, 1 to 8.
    pub(super) fn store<B: Bus>(&self, bus: &mut B, value: u64) -> Result<(), Stop> {
        let bytes = value.to_le_bytes();
        self.write(bus, &bytes[..self.len()])
    }
}

/// How many of `left` bytes one access takes: all of memory, of a device as many as are naturally aligned.
fn step(at: Place, left: usize) -> usize {
    match at {
        Place::Memory(_) => left,
        Place::Device(address) => {
            let aligned = 1 << address.0.trailing_zeros().min(3);
            let mut n = 8usize.min(aligned);
            while n > left {
                n /= 2;
            }
            n
        }
    }
}

/// Finds the places of `size` bytes, 1 to [`MAX_SIZE`], at an offset in a segment, and checks every right to them.
pub(super) fn span<C: Cpu, B: Bus>(
    cpu: &C,
    bus: &mut B,
    mode: Mode,
    segment: SegmentName,
    offset: u64,
    size: usize,
    write: bool,
) -> Result<Span, Stop> {
    let at = linear(cpu, mode, segment, offset, size, write)?;
    let user = cpu.cpl() == 3;
    let checked = user
        && cpu.cr0().contains(Cr0Flags::ALIGNMENT_MASK)
        && cpu.rflags().contains(RFlags::ALIGNMENT_CHECK);
    if checked && size.is_power_of_two() && !at.is_multiple_of(size as u64) {
        return Err(Exception::AlignmentCheck.into());
    }
    let access = Access {
        write,
        user,
        ..Access::default()
    };
    places(bus, mode, at, size, access)
}

/// Finds the places of `size` bytes at a linear address.
pub(super) fn places<B: Bus>(
    bus: &mut B,
    mode: Mode,
    linear: u64,
    size: usize,
    access: Access,
) -> Result<Span, Stop> {
    let in_page = (0x1000 - (linear & 0xfff)) as usize;
    let n = size.min(in_page);
    let first = (bus.translate(linear, access)?, n);
    let second = if n < size {
        let next = mode.cut(linear.wrapping_add(n as u64));
        Some((bus.translate(next, access)?, size - n))
    } else {
        None
    };
    Ok(Span { first, second })
}

/// Whether the guest may use `size` ports from `port` on: its privilege level and the I/O permission bitmap of its TSS (Intel
/// SDM volume 1, 19.5).
///
/// Errors: #GP(0) if not; page faults of the TSS.
pub(super) fn check_ports<C: Cpu, B: Bus>(
    cpu: &C,
    bus: &mut B,
    mode: Mode,
    port: u16,
    size: usize,
) -> Result<(), Stop> {
    /// Offset in a TSS of the offset of its bitmap.
    const BITMAP_OFFSET: u64 = 102;
    /// Types of an available and a busy TSS that has a bitmap.
    const TYPES: [u16; 2] = [9, 11];
    let iopl = (cpu.rflags().bits() >> 12 & 3) as u8;
    if !cpu.cr0().contains(Cr0Flags::PROTECTED_MODE_ENABLE)
        || (!mode.virtual_8086 && cpu.cpl() <= iopl)
    {
        return Ok(());
    }
    let task = cpu.task();
    let limit = u64::from(task.limit);
    let usable =
        task.attributes & attribute::PRESENT != 0 && TYPES.contains(&(task.attributes & 0x1f));
    let mut read = |offset: u64| -> Result<u64, Stop> {
        if !usable || offset + 1 > limit {
            return Err(Exception::GP0.into());
        }
        let access = Access {
            implicit: true,
            ..Access::default()
        };
        let at = task.base.wrapping_add(offset);
        // The TSS of long mode can be anywhere.
        let at = if cpu
            .efer()
            .contains(x86_64::registers::control::EferFlags::LONG_MODE_ACTIVE)
        {
            at
        } else {
            at & mask(4)
        };
        places(bus, mode, at, 2, access)?.load(bus)
    };
    let bitmap = read(BITMAP_OFFSET)?;
    let bits = read(bitmap + u64::from(port / 8))?;
    let wanted = (1u64 << size) - 1;
    if bits >> (port % 8) & wanted != 0 {
        return Err(Exception::GP0.into());
    }
    Ok(())
}
