//! The register map: which register an access means, and whether it has that width.
//!
//! What is reserved, or belongs to something this controller does not have (LPIs, message-based SPIs, a second
//! security state, error reporting), is [`Reg::Reserved`]: reads as zero, ignores writes.

use super::types::{Fault, Region};
use crate::decode::AccessSize;
use crate::host::gic::GicVersion;

/// One bit per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    /// GICD_IGROUPR: group 1.
    Group,
    /// GICD_ISENABLER.
    SetEnable,
    /// GICD_ICENABLER.
    ClearEnable,
    /// GICD_ISPENDR.
    SetPending,
    /// GICD_ICPENDR.
    ClearPending,
    /// GICD_ISACTIVER.
    SetActive,
    /// GICD_ICACTIVER.
    ClearActive,
}

/// Part of a 64-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Low,
    High,
}

impl Part {
    const fn new(offset: u64, size: AccessSize) -> Self {
        match (size, offset & 4) {
            (AccessSize::Double, _) => Self::Whole,
            (_, 0) => Self::Low,
            _ => Self::High,
        }
    }

    pub(super) const fn read(self, register: u64) -> u64 {
        match self {
            Self::Whole => register,
            Self::Low => register & 0xffff_ffff,
            Self::High => register >> 32,
        }
    }

    pub(super) const fn write(self, register: u64, value: u64) -> u64 {
        match self {
            Self::Whole => value,
            Self::Low => register & !0xffff_ffff | value & 0xffff_ffff,
            Self::High => register & 0xffff_ffff | value << 32,
        }
    }
}

/// A register, or the part of a register array an access covers. `first` is the first INTID there; INTIDs below 32
/// are of the vCPU whose redistributor, or else whose access, it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    Reserved,
    Control,
    Type,
    Implementer,
    /// The identification register with the architecture revision.
    Peripheral2,
    Bits {
        what: Bits,
        first: u32,
    },
    /// A byte per interrupt.
    Priority {
        first: u32,
    },
    /// GICv2: a byte per interrupt.
    Targets {
        first: u32,
    },
    /// Two bits per interrupt.
    Trigger {
        first: u32,
    },
    /// GICv2: GICD_SGIR.
    Generate,
    /// GICv2: a byte of sources per SGI.
    Sources {
        first: u32,
        set: bool,
    },
    /// GICv3.
    Route {
        intid: u32,
        part: Part,
    },
    RedistType {
        part: Part,
    },
    Waker,
}

/// Widths an access to a register may have.
#[derive(Clone, Copy)]
enum Widths {
    Word,
    ByteOrWord,
    WordOrDouble,
    Any,
}

impl Widths {
    const fn allow(self, size: AccessSize) -> bool {
        match self {
            Self::Word => matches!(size, AccessSize::Word),
            Self::ByteOrWord => matches!(size, AccessSize::Byte | AccessSize::Word),
            Self::WordOrDouble => matches!(size, AccessSize::Word | AccessSize::Double),
            Self::Any => true,
        }
    }
}

/// Finds the register at `offset` of `region`.
pub(super) fn decode(
    version: GicVersion,
    region: Region,
    offset: u64,
    size: AccessSize,
) -> Result<Reg, Fault> {
    if !offset.is_multiple_of(size.bytes()) {
        return Err(Fault::Unaligned);
    }
    let (reg, widths) = match (version, region) {
        (GicVersion::V2, Region::Dist) => dist_v2(offset),
        (GicVersion::V3, Region::Dist) => dist_v3(offset, size),
        (GicVersion::V3, Region::Redist(_)) => redist(offset, size),
        (GicVersion::V2, Region::Redist(_)) => return Err(Fault::NoRegion),
    };
    if widths.allow(size) {
        Ok(reg)
    } else {
        Err(Fault::Size)
    }
}

const RESERVED: (Reg, Widths) = (Reg::Reserved, Widths::Any);

/// Register arrays at the same offsets in both versions' distributors and in the SGI frame of redistributors.
fn arrays(offset: u64) -> Option<(Reg, Widths, u32)> {
    let at = |start: u64, per_byte: u64| ((offset - start) * per_byte) as u32;
    let bits = |what, start| {
        let first = at(start, 8);
        Some((Reg::Bits { what, first }, Widths::Word, first))
    };
    match offset {
        0x080..=0x0ff => bits(Bits::Group, 0x080),
        0x100..=0x17f => bits(Bits::SetEnable, 0x100),
        0x180..=0x1ff => bits(Bits::ClearEnable, 0x180),
        0x200..=0x27f => bits(Bits::SetPending, 0x200),
        0x280..=0x2ff => bits(Bits::ClearPending, 0x280),
        0x300..=0x37f => bits(Bits::SetActive, 0x300),
        0x380..=0x3ff => bits(Bits::ClearActive, 0x380),
        0x400..=0x7ff => {
            let first = at(0x400, 1);
            Some((Reg::Priority { first }, Widths::ByteOrWord, first))
        }
        0xc00..=0xcff => {
            let first = at(0xc00, 4);
            Some((Reg::Trigger { first }, Widths::Word, first))
        }
        _ => None,
    }
}

fn dist_v2(offset: u64) -> (Reg, Widths) {
    match offset {
        0x000 => (Reg::Control, Widths::Word),
        0x004 => (Reg::Type, Widths::Word),
        0x008 => (Reg::Implementer, Widths::Word),
        0x800..=0xbff => (
            Reg::Targets {
                first: (offset - 0x800) as u32,
            },
            Widths::ByteOrWord,
        ),
        0xf00 => (Reg::Generate, Widths::Word),
        0xf10..=0xf1f => (
            Reg::Sources {
                first: (offset - 0xf10) as u32,
                set: false,
            },
            Widths::ByteOrWord,
        ),
        0xf20..=0xf2f => (
            Reg::Sources {
                first: (offset - 0xf20) as u32,
                set: true,
            },
            Widths::ByteOrWord,
        ),
        0xfe8 => (Reg::Peripheral2, Widths::Word),
        _ => arrays(offset).map_or(RESERVED, |(reg, widths, _)| (reg, widths)),
    }
}

fn dist_v3(offset: u64, size: AccessSize) -> (Reg, Widths) {
    match offset {
        0x0000 => (Reg::Control, Widths::Word),
        0x0004 => (Reg::Type, Widths::Word),
        0x0008 => (Reg::Implementer, Widths::Word),
        0x6100..=0x7fdf => {
            let intid = ((offset - 0x6000) / 8) as u32;
            (
                Reg::Route {
                    intid,
                    part: Part::new(offset, size),
                },
                Widths::WordOrDouble,
            )
        }
        0xffe8 => (Reg::Peripheral2, Widths::Word),
        // With affinity routing SGIs and PPIs are the redistributors'.
        _ => match arrays(offset) {
            Some((reg, widths, 32..)) => (reg, widths),
            Some((_, widths, _)) => (Reg::Reserved, widths),
            None => RESERVED,
        },
    }
}

fn redist(offset: u64, size: AccessSize) -> (Reg, Widths) {
    const SGI_FRAME: u64 = 0x1_0000;
    match offset {
        // GICR_CTLR: everything in it is about LPIs.
        0x0000 => (Reg::Reserved, Widths::Word),
        0x0004 => (Reg::Implementer, Widths::Word),
        0x0008..=0x000f => (
            Reg::RedistType {
                part: Part::new(offset, size),
            },
            Widths::WordOrDouble,
        ),
        0x0014 => (Reg::Waker, Widths::Word),
        0xffe8 => (Reg::Peripheral2, Widths::Word),
        SGI_FRAME.. => match arrays(offset - SGI_FRAME) {
            Some((reg, widths, 0..32)) => (reg, widths),
            _ => RESERVED,
        },
        _ => RESERVED,
    }
}
