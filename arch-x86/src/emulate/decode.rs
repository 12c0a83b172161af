//! Fetch and decode, and the instruction behind an exit.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, Register};
use x86_64::registers::control::{Cr0Flags, EferFlags};
use x86_64::registers::rflags::RFlags;
use xen_core::Error;

use super::cpu::{Access, Bus, Cpu, Opcode, Place, SegmentName, Stop};
use super::exception::Exception;
use super::memory;
use super::operand::{Operand, number, operand};

/// Most bytes of an instruction.
const MAX_LEN: usize = 15;
/// Attribute of a code segment: 64-bit, in long mode ([`crate::backend::Segment::attributes`]).
const CODE_LONG: u16 = 1 << 9;
/// Attribute of a segment: 32-bit.
pub(super) const BIG: u16 = 1 << 10;

/// Which instruction an exit is about, with its operands where the exit needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the instructions")]
pub enum Intercepted {
    Cpuid,
    Rdmsr,
    Wrmsr,
    Rdtsc,
    Rdtscp,
    Rdpmc,
    Hlt,
    Pause,
    Vmcall,
    Vmmcall,
    Xsetbv,
    Invd,
    Wbinvd,
    Wbnoinvd,
    Invlpg,
    Monitor,
    Mwait,
    /// IN or OUT; not a string form.
    Port,
    /// INS or OUTS.
    StringPort,
    /// MOV to control register `number` from general-purpose register `gpr`. LOCK MOV CR0, AMD's name for CR8, has number 8.
    WriteControl {
        number: u8,
        gpr: u8,
    },
    /// MOV from a control register.
    ReadControl {
        number: u8,
        gpr: u8,
    },
    Clts,
    /// LMSW of this value, which was read if it is in memory.
    Lmsw(u16),
    /// MOV to a debug register.
    WriteDebug {
        number: u8,
        gpr: u8,
    },
    /// MOV from a debug register.
    ReadDebug {
        number: u8,
        gpr: u8,
    },
    Int3,
    Into,
    Icebp,
    /// An instruction of AMD's or Intel's virtualisation extension, other than the hypercall.
    Virtualisation,
    /// Any other: guest code that changed meanwhile, or an exit that is not about an instruction.
    Other,
}

/// An instruction that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub kind: Intercepted,
    /// Its length in bytes, 1 to 15, prefixes included.
    pub length: u8,
    /// Where the next one starts: RIP plus the length, cut to the mode's width.
    pub next_rip: u64,
}

/// How a vCPU executes code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// 16, 32 or 64: default size of operands and addresses (for 64, of addresses).
    pub(super) bits: u32,
    /// Segments have types and rights: neither real nor virtual-8086 mode.
    pub(super) protected: bool,
    /// Virtual-8086 mode.
    pub(super) virtual_8086: bool,
}

impl Mode {
    pub(super) fn of<C: Cpu>(cpu: &C) -> Self {
        let attributes = cpu.segment(SegmentName::Cs).attributes;
        let virtual_8086 = cpu.rflags().contains(RFlags::VIRTUAL_8086_MODE);
        let protected = cpu.cr0().contains(Cr0Flags::PROTECTED_MODE_ENABLE);
        let long = cpu.efer().contains(EferFlags::LONG_MODE_ACTIVE);
        Self {
            bits: if long && attributes & CODE_LONG != 0 {
                64
            } else if attributes & BIG != 0 {
                32
            } else {
                16
            },
            protected: protected && !virtual_8086,
            virtual_8086: protected && virtual_8086,
        }
    }

    /// An address or offset, cut to the width of the mode's linear addresses.
    pub(super) const fn cut(self, address: u64) -> u64 {
        if self.bits == 64 {
            address
        } else {
            address & 0xffff_ffff
        }
    }
}

/// A decoded instruction.
pub(super) struct Decoded {
    pub(super) instruction: Instruction,
    pub(super) opcode: Opcode,
    /// Offset in CS of the next instruction.
    pub(super) next: u64,
}

/// Builds the decoder's tables; to be called once at boot, after the heap is there.
pub fn prepare() {
    let _ = Decoder::new(64, &[0x90], DecoderOptions::AMD).decode();
}

/// Fetches and decodes the instruction at RIP; `hint` is what the hardware fetched of it.
pub(super) fn fetch<C: Cpu, B: Bus>(
    cpu: &C,
    bus: &mut B,
    mode: Mode,
    hint: &[u8],
) -> Result<Decoded, Stop> {
    let mut bytes = [0; MAX_LEN];
    let mut len = hint.len().min(MAX_LEN);
    bytes[..len].copy_from_slice(&hint[..len]);
    loop {
        if len > 0
            && let Some(decoded) = decode(cpu, mode, &bytes[..len])?
        {
            return Ok(decoded);
        }
        if len == MAX_LEN {
            return Err(Exception::GP0.into());
        }
        len += fetch_more(cpu, bus, mode, len, &mut bytes)?;
    }
}

/// Decodes; nothing if the instruction has more bytes.
fn decode<C: Cpu>(cpu: &C, mode: Mode, bytes: &[u8]) -> Result<Option<Decoded>, Stop> {
    let mut decoder = Decoder::with_ip(mode.bits, bytes, cpu.rip(), DecoderOptions::AMD);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes => return Ok(None),
        // The decoder does not tell an instruction that is longer from one that is none; it consumed all of them for both.
        _ if decoder.position() == MAX_LEN => return Err(Exception::GP0.into()),
        _ if is_unknown_to_decoder(mode, bytes) => {
            return Err(Stop::Unsupported(Opcode::new(bytes)));
        }
        _ => return Err(Exception::InvalidOpcode.into()),
    }
    let len = instruction.len();
    Ok(Some(Decoded {
        opcode: Opcode::new(&bytes[..len]),
        next: mode.cut(cpu.rip().wrapping_add(len as u64)),
        instruction,
    }))
}

/// Whether this is an encoding that the decoder was built without: EVEX, XOP, 3DNow!. A CPU may well know it.
fn is_unknown_to_decoder(mode: Mode, bytes: &[u8]) -> bool {
    let legacy = [
        0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3,
    ];
    let is_prefix =
        |byte: &u8| legacy.contains(byte) || (mode.bits == 64 && (0x40..0x50).contains(byte));
    let mut rest = bytes.iter().skip_while(|b| is_prefix(b));
    // Without 64-bit mode, EVEX and XOP look like BOUND and POP except for what follows.
    match (rest.next(), rest.next()) {
        (Some(0x62), Some(next)) => mode.bits == 64 || next >> 6 == 3,
        (Some(0x8f), Some(next)) => next & 0x1f >= 8,
        (Some(0x0f), Some(0x0f)) => true,
        _ => false,
    }
}

/// Reads more bytes of the instruction, behind the first `have`, up to the end of a page; returns how many.
fn fetch_more<C: Cpu, B: Bus>(
    cpu: &C,
    bus: &mut B,
    mode: Mode,
    have: usize,
    bytes: &mut [u8; MAX_LEN],
) -> Result<usize, Stop> {
    let offset = mode.cut(cpu.rip().wrapping_add(have as u64));
    let (linear, within) = memory::code(cpu, mode, offset)?;
    let access = Access {
        fetch: true,
        user: cpu.cpl() == 3,
        ..Access::default()
    };
    let page = 0x1000 - (linear & 0xfff);
    let n = page.min(within).min((MAX_LEN - have) as u64) as usize;
    let place = bus.translate(linear, access)?;
    let Place::Memory(_) = place else {
        return Err(Stop::Failed(Error::Fault));
    };
    bus.read(place, &mut bytes[have..have + n])?;
    Ok(n)
}

/// Looks at the instruction at RIP, for exits where the hardware gives no length, or where the kind of exit is in doubt.
///
/// `bytes` is what the hardware fetched of it, if it says so; memory is read for the rest only.
///
/// Errors: [`Stop::Exception`] if the instruction cannot be fetched, or is none, or its operand cannot be read;
/// [`Stop::Unsupported`] if the decoder does not know it; [`Stop::Retry`]; [`Stop::Failed`].
pub fn identify<C: Cpu, B: Bus>(cpu: &C, bus: &mut B, bytes: &[u8]) -> Result<Found, Stop> {
    let mode = Mode::of(cpu);
    let decoded = fetch(cpu, bus, mode, bytes)?;
    let kind = match decoded.instruction.mnemonic() {
        Mnemonic::Lmsw => match operand(cpu, mode, &decoded.instruction, 0) {
            Operand::Gpr(gpr) => Intercepted::Lmsw(gpr.read(cpu) as u16),
            Operand::Memory(at) => {
                let span = memory::span(cpu, bus, mode, at.segment, at.offset, 2, false)?;
                Intercepted::Lmsw(span.load(bus)? as u16)
            }
            _ => Intercepted::Other,
        },
        _ => kind(&decoded.instruction),
    };
    Ok(Found {
        kind,
        length: decoded.instruction.len() as u8,
        next_rip: decoded.next,
    })
}

fn kind(instruction: &Instruction) -> Intercepted {
    let register = |operand: u32| {
        instruction
            .try_op_register(operand)
            .unwrap_or(Register::None)
    };
    match instruction.mnemonic() {
        Mnemonic::Cpuid => Intercepted::Cpuid,
        Mnemonic::Rdmsr => Intercepted::Rdmsr,
        Mnemonic::Wrmsr => Intercepted::Wrmsr,
        Mnemonic::Rdtsc => Intercepted::Rdtsc,
        Mnemonic::Rdtscp => Intercepted::Rdtscp,
        Mnemonic::Rdpmc => Intercepted::Rdpmc,
        Mnemonic::Hlt => Intercepted::Hlt,
        Mnemonic::Pause => Intercepted::Pause,
        Mnemonic::Vmcall => Intercepted::Vmcall,
        Mnemonic::Vmmcall => Intercepted::Vmmcall,
        Mnemonic::Xsetbv => Intercepted::Xsetbv,
        Mnemonic::Invd => Intercepted::Invd,
        Mnemonic::Wbinvd => Intercepted::Wbinvd,
        Mnemonic::Wbnoinvd => Intercepted::Wbnoinvd,
        Mnemonic::Invlpg => Intercepted::Invlpg,
        Mnemonic::Monitor | Mnemonic::Monitorx => Intercepted::Monitor,
        Mnemonic::Mwait | Mnemonic::Mwaitx => Intercepted::Mwait,
        Mnemonic::In | Mnemonic::Out => Intercepted::Port,
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => Intercepted::StringPort,
        Mnemonic::Mov => kind_of_mov(register(0), register(1)),
        Mnemonic::Clts => Intercepted::Clts,
        Mnemonic::Int3 => Intercepted::Int3,
        Mnemonic::Into => Intercepted::Into,
        Mnemonic::Int1 => Intercepted::Icebp,
        Mnemonic::Vmrun
        | Mnemonic::Vmload
        | Mnemonic::Vmsave
        | Mnemonic::Stgi
        | Mnemonic::Clgi
        | Mnemonic::Skinit
        | Mnemonic::Invlpga
        | Mnemonic::Vmclear
        | Mnemonic::Vmlaunch
        | Mnemonic::Vmresume
        | Mnemonic::Vmptrld
        | Mnemonic::Vmptrst
        | Mnemonic::Vmread
        | Mnemonic::Vmwrite
        | Mnemonic::Vmxoff
        | Mnemonic::Vmxon
        | Mnemonic::Vmfunc
        | Mnemonic::Invept
        | Mnemonic::Invvpid => Intercepted::Virtualisation,
        _ => Intercepted::Other,
    }
}

fn kind_of_mov(to: Register, from: Register) -> Intercepted {
    let control = |r: Register| number_in(r, Register::CR0);
    let debug = |r: Register| number_in(r, Register::DR0);
    let gpr = |r: Register| number(r).unwrap_or(0);
    if let Some(number) = control(to) {
        Intercepted::WriteControl {
            number,
            gpr: gpr(from),
        }
    } else if let Some(number) = control(from) {
        Intercepted::ReadControl {
            number,
            gpr: gpr(to),
        }
    } else if let Some(number) = debug(to) {
        Intercepted::WriteDebug {
            number,
            gpr: gpr(from),
        }
    } else if let Some(number) = debug(from) {
        Intercepted::ReadDebug {
            number,
            gpr: gpr(to),
        }
    } else {
        Intercepted::Other
    }
}

/// The register's number in the bank of 16 that starts with `first`.
fn number_in(register: Register, first: Register) -> Option<u8> {
    let number = (register as u32).checked_sub(first as u32)?;
    (number < 16).then_some(number as u8)
}

#[cfg(test)]
mod tests;
