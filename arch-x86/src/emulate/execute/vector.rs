//! Moves between vector registers and memory: SSE and AVX, 4 to 32 bytes.

use iced_x86::{Mnemonic, OpKind};
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

use super::Run;
use crate::emulate::cpu::{Bus, Cpu, Stop, VECTOR_BYTES};
use crate::emulate::exception::Exception;
use crate::emulate::memory::MAX_SIZE;
use crate::emulate::operand::{Operand, memory_size};
use crate::policy::xstate::Component;

/// How a move treats alignment and the rest of its destination register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    /// VEX-encoded: what is above the value becomes zero, and the rules of AVX hold.
    vex: bool,
    /// An address that is not a multiple of the size is a #GP(0).
    aligned: bool,
    /// Where in the register the value goes to or comes from.
    part: Part,
}

/// Part of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of it, or the low part; a load clears the rest of the low 16 bytes.
    Low,
    /// Bytes 0 to 7; a load leaves bytes 8 to 15, or takes them from operand 1 with VEX.
    LowHalf,
    /// Bytes 8 to 15; a load leaves bytes 0 to 7, or takes them from operand 1 with VEX.
    HighHalf,
}

fn classify(mnemonic: Mnemonic) -> Option<Move> {
    let (vex, aligned, part) = match mnemonic {
        Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movdqa
        | Mnemonic::Movntps
        | Mnemonic::Movntpd
        | Mnemonic::Movntdq
        | Mnemonic::Movntdqa => (false, true, Part::Low),
        Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqu
        | Mnemonic::Lddqu
        | Mnemonic::Movd
        | Mnemonic::Movq
        | Mnemonic::Movss
        | Mnemonic::Movsd => (false, false, Part::Low),
        Mnemonic::Movlps | Mnemonic::Movlpd => (false, false, Part::LowHalf),
        Mnemonic::Movhps | Mnemonic::Movhpd => (false, false, Part::HighHalf),
        Mnemonic::Vmovaps
        | Mnemonic::Vmovapd
        | Mnemonic::Vmovdqa
        | Mnemonic::Vmovntps
        | Mnemonic::Vmovntpd
        | Mnemonic::Vmovntdq
        | Mnemonic::Vmovntdqa => (true, true, Part::Low),
        Mnemonic::Vmovups
        | Mnemonic::Vmovupd
        | Mnemonic::Vmovdqu
        | Mnemonic::Vlddqu
        | Mnemonic::Vmovd
        | Mnemonic::Vmovq
        | Mnemonic::Vmovss
        | Mnemonic::Vmovsd => (true, false, Part::Low),
        Mnemonic::Vmovlps | Mnemonic::Vmovlpd => (true, false, Part::LowHalf),
        Mnemonic::Vmovhps | Mnemonic::Vmovhpd => (true, false, Part::HighHalf),
        _ => return None,
    };
    Some(Move { vex, aligned, part })
}

/// Executes it if it is one of these with a memory operand; says whether it was.
pub(super) fn execute<C: Cpu, B: Bus>(run: &mut Run<'_, C, B>) -> Result<bool, Stop> {
    let Some(kind) = classify(run.instruction.mnemonic()) else {
        return Ok(false);
    };
    let store = run.instruction.op0_kind() == OpKind::Memory;
    let memory = if store {
        0
    } else {
        run.instruction.op_count().saturating_sub(1)
    };
    let register = if store { 1 } else { 0 };
    let (Operand::Memory(at), Operand::Vector(number, _)) =
        (run.operand(memory), run.operand(register))
    else {
        // Moves between registers, and MMX.
        return Ok(false);
    };
    let Some(size @ 4..=MAX_SIZE) = memory_size(run.instruction.memory_size()) else {
        return Ok(false);
    };
    run.check_vector_state(kind.vex)?;
    if kind.aligned {
        run.check_alignment(at, size, store)?;
    }
    let span = run.span(at, size, store)?;
    let mut value = run.cpu.vector(number);
    let start = if kind.part == Part::HighHalf { 8 } else { 0 };
    if store {
        span.write(run.bus, &value[start..start + size])?;
        return Ok(true);
    }
    let mut loaded = [0; MAX_SIZE];
    span.read(run.bus, &mut loaded[..size])?;
    match kind.part {
        Part::Low => value[..size.max(16)].copy_from_slice(&loaded[..size.max(16)]),
        Part::LowHalf | Part::HighHalf => {
            if let (true, Operand::Vector(other, _)) = (kind.vex, run.operand(1)) {
                value = run.cpu.vector(other);
            }
            value[start..start + size].copy_from_slice(&loaded[..size]);
        }
    }
    if kind.vex {
        value[size.max(16)..].fill(0);
    }
    run.cpu.set_vector(number, value);
    Ok(true)
}

impl<C: Cpu, B: Bus> Run<'_, C, B> {
    /// Whether the guest's system software lets it use vector registers (Intel SDM volume 3, 14.1 and 14.5; APM volume 4, 1.17).
    fn check_vector_state(&self, vex: bool) -> Result<(), Stop> {
        let (cr0, cr4) = (self.cpu.cr0(), self.cpu.cr4());
        let usable = if vex {
            let needed = Component::SSE | Component::AVX;
            self.mode.protected
                && cr4.contains(Cr4Flags::OSXSAVE)
                && Component::from_bits_retain(self.cpu.xcr0()).contains(needed)
        } else {
            !cr0.contains(Cr0Flags::EMULATE_COPROCESSOR) && cr4.contains(Cr4Flags::OSFXSR)
        };
        if !usable {
            Err(Exception::InvalidOpcode.into())
        } else if cr0.contains(Cr0Flags::TASK_SWITCHED) {
            Err(Exception::DeviceNotAvailable.into())
        } else {
            Ok(())
        }
    }
}

// A register holds every value that is moved.
const _: () = assert!(VECTOR_BYTES == MAX_SIZE);
