//! Operands: registers, immediates, and where memory operands are.

use iced_x86::{Instruction, MemorySize, OpKind, Register};

use super::cpu::{Cpu, SegmentName};
use super::decode::Mode;

/// A general-purpose register or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gpr {
    index: usize,
    /// In bytes: 1, 2, 4 or 8.
    pub(super) size: usize,
    /// AH, CH, DH or BH.
    high: bool,
}

impl Gpr {
    /// From the decoder's name; nothing for other kinds of registers.
    pub(super) fn new(register: Register) -> Option<Self> {
        let banks = [(Register::AX, 2), (Register::EAX, 4), (Register::RAX, 8)];
        let low = |index, size| Self {
            index,
            size,
            high: false,
        };
        for (first, size) in banks {
            if let Some(index) = within(register, first, 16) {
                return Some(low(index, size));
            }
        }
        // The decoder's order: AL CL DL BL, AH CH DH BH, SPL BPL SIL DIL, R8L to R15L.
        match within(register, Register::AL, 20)? {
            index @ 0..4 => Some(low(index, 1)),
            index @ 4..8 => Some(Self {
                index: index - 4,
                size: 1,
                high: true,
            }),
            index => Some(low(index - 4, 1)),
        }
    }

    /// The register with this number, whole or its low part.
    pub(super) const fn numbered(index: usize, size: usize) -> Self {
        Self {
            index,
            size,
            high: false,
        }
    }

    pub(super) fn read<C: Cpu>(self, cpu: &C) -> u64 {
        let value = cpu.gpr(self.index);
        if self.high {
            value >> 8 & 0xff
        } else {
            value & mask(self.size)
        }
    }

    /// Writes the register as instructions do: 4 bytes clear the upper half, fewer leave the rest.
    pub(super) fn write<C: Cpu>(self, cpu: &mut C, value: u64) {
        let old = cpu.gpr(self.index);
        let value = value & mask(self.size);
        let new = match self.size {
            4 | 8 => value,
            _ if self.high => old & !0xff00 | value << 8,
            size => old & !mask(size) | value,
        };
        cpu.set_gpr(self.index, new);
    }
}

fn within(register: Register, first: Register, count: u32) -> Option<usize> {
    let number = (register as u32).checked_sub(first as u32)?;
    (number < count).then_some(number as usize)
}

/// The number of a general-purpose register in the encoding of instructions.
pub(super) fn number(register: Register) -> Option<u8> {
    Gpr::new(register).map(|gpr| gpr.index as u8)
}

/// A vector register: its number, and its size in bytes, 16 or 32.
pub(super) fn vector(register: Register) -> Option<(usize, usize)> {
    within(register, Register::XMM0, 16)
        .map(|n| (n, 16))
        .or_else(|| within(register, Register::YMM0, 16).map(|n| (n, 32)))
}

/// The low `size` bytes, 1 to 8.
pub(super) const fn mask(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size as u32)
}

/// A value of `size` bytes with its sign extended.
pub(super) const fn sign_extend(value: u64, size: usize) -> u64 {
    let unused = 64 - 8 * size as u32;
    ((value << unused) as i64 >> unused) as u64
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Gpr(Gpr),
    /// Number, size in bytes.
    Vector(usize, usize),
    Immediate(u64),
    Memory(Effective),
    /// Segment, control, debug, MMX, x87 and mask registers, branch targets.
    Other,
}

/// Where a memory operand is: an offset in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) segment: SegmentName,
    pub(super) offset: u64,
    /// Bytes of the address: 2, 4 or 8.
    pub(super) address_size: usize,
}

/// Operand `n` of an instruction.
pub(super) fn operand<C: Cpu>(cpu: &C, mode: Mode, instruction: &Instruction, n: u32) -> Operand {
    let Ok(kind) = instruction.try_op_kind(n) else {
        return Operand::Other;
    };
    if n >= instruction.op_count() {
        return Operand::Other;
    }
    match kind {
        OpKind::Register => {
            let register = instruction.try_op_register(n).unwrap_or(Register::None);
            if let Some(gpr) = Gpr::new(register) {
                Operand::Gpr(gpr)
            } else if let Some((number, size)) = vector(register) {
                Operand::Vector(number, size)
            } else {
                Operand::Other
            }
        }
        OpKind::Memory => Operand::Memory(effective(cpu, mode, instruction)),
        _ => match instruction.try_immediate(n) {
            Ok(value) => Operand::Immediate(value),
            Err(_) => Operand::Other,
        },
    }
}

/// The address of the operand of kind `OpKind::Memory`.
fn effective<C: Cpu>(cpu: &C, mode: Mode, instruction: &Instruction) -> Effective {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let segment = segment(mode, instruction, base);
    let displacement = instruction.memory_displacement64();
    if matches!(base, Register::RIP | Register::EIP) {
        // The decoder has added the next instruction's address.
        let address_size = if base == Register::RIP { 8 } else { 4 };
        return Effective {
            segment,
            offset: displacement & mask(address_size),
            address_size,
        };
    }
    let registers = [base, index].map(Gpr::new);
    let address_size = match registers.iter().flatten().next() {
        Some(register) => register.size,
        // Without registers the displacement is as wide as addresses are.
        None => match instruction.memory_displ_size() {
            size @ (2 | 4 | 8) => size as usize,
            _ => mode.bits as usize / 8,
        },
    };
    let read = |register: Option<Gpr>| register.map_or(0, |r| r.read(cpu));
    let scaled = read(registers[1]).wrapping_mul(u64::from(instruction.memory_index_scale()));
    let offset = displacement
        .wrapping_add(read(registers[0]))
        .wrapping_add(scaled);
    Effective {
        segment,
        offset: offset & mask(address_size),
        address_size,
    }
}

/// The segment of a memory operand with this base register.
fn segment(mode: Mode, instruction: &Instruction, base: Register) -> SegmentName {
    let default = match base {
        Register::BP | Register::EBP | Register::RBP => SegmentName::Ss,
        Register::SP | Register::ESP | Register::RSP => SegmentName::Ss,
        _ => SegmentName::Ds,
    };
    overridden(mode, instruction, default)
}

/// The segment that a prefix names instead of the default; 64-bit mode knows only FS and GS.
pub(super) fn overridden(
    mode: Mode,
    instruction: &Instruction,
    default: SegmentName,
) -> SegmentName {
    match instruction.segment_prefix() {
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ if mode.bits == 64 => default,
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::DS => SegmentName::Ds,
        _ => default,
    }
}

/// Bytes of an instruction's memory operand, if it is one of those that are emulated.
pub(super) const fn memory_size(instruction: MemorySize) -> Option<usize> {
    Some(match instruction {
        MemorySize::UInt8 | MemorySize::Int8 => 1,
        MemorySize::UInt16 | MemorySize::Int16 => 2,
        MemorySize::UInt32 | MemorySize::Int32 | MemorySize::Float32 => 4,
        MemorySize::UInt64
        | MemorySize::Int64
        | MemorySize::Float64
        | MemorySize::Packed64_Float32 => 8,
        MemorySize::UInt128
        | MemorySize::Packed128_UInt8
        | MemorySize::Packed128_UInt16
        | MemorySize::Packed128_UInt32
        | MemorySize::Packed128_UInt64
        | MemorySize::Packed128_Float32
        | MemorySize::Packed128_Float64 => 16,
        MemorySize::UInt256
        | MemorySize::Packed256_UInt8
        | MemorySize::Packed256_UInt16
        | MemorySize::Packed256_UInt32
        | MemorySize::Packed256_UInt64
        | MemorySize::Packed256_Float32
        | MemorySize::Packed256_Float64 => 32,
        _ => return None,
    })
}
