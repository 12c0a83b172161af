//! Execution of one instruction.
//!
//! What is emulated is what compilers and operating systems use on devices' memory: moves of all widths, arithmetic, bit and
//! exchange instructions with a memory operand, string instructions, port I/O, stack operations with a memory operand, and
//! SSE and AVX moves. The steps are always the same: find out where operands are, with every check; read; compute; write; then
//! change registers, which cannot fail.

use iced_x86::{Instruction, Mnemonic};
use x86_64::registers::rflags::RFlags;

use super::cpu::{Bus, Cpu, Opcode, Stop};
use super::decode::{Mode, fetch};
use super::exception::Exception;
use super::memory::{Span, linear, span};
use super::operand::{Effective, Operand, operand};

mod integer;
mod port;
mod stack;
mod string;
#[cfg(test)]
mod tests;
mod vector;

/// How far an instruction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete: RIP is behind it.
    Done {
        /// RFLAGS.TF was set: [`super::Exception::Debug`] is due, with DR6.BS.
        single_step: bool,
    },
    /// A repeated string instruction did a bounded number of elements and has more to do: the registers hold its progress,
    /// RIP is still at it. The guest may be entered, with any interrupt that is due, and will execute the rest.
    Partial {
        /// As for [`Self::Done`]: the trap comes after each element.
        single_step: bool,
    },
}

/// Executes the instruction at RIP.
///
/// `bytes` is what the hardware fetched of it, if it says so; memory is read for the rest only. Data breakpoints are not looked at.
///
/// Errors: [`Stop`]. Registers and memory are as before, except for the elements that a repeated string instruction completed.
pub fn execute<C: Cpu, B: Bus>(cpu: &mut C, bus: &mut B, bytes: &[u8]) -> Result<Outcome, Stop> {
    let mode = Mode::of(cpu);
    let decoded = fetch(cpu, bus, mode, bytes)?;
    let mut run = Run {
        cpu,
        bus,
        mode,
        instruction: decoded.instruction,
        opcode: decoded.opcode,
        next: decoded.next,
    };
    if let Some(outcome) = string::execute(&mut run)? {
        return Ok(outcome);
    }
    let known = integer::execute(&mut run)?
        || port::execute(&mut run)?
        || stack::execute(&mut run)?
        || vector::execute(&mut run)?
        || run.hint()?;
    if known {
        Ok(run.retire())
    } else {
        Err(run.unsupported())
    }
}

/// An instruction that is being executed.
struct Run<'a, C, B> {
    cpu: &'a mut C,
    bus: &'a mut B,
    mode: Mode,
    instruction: Instruction,
    opcode: Opcode,
    /// Where the next instruction is.
    next: u64,
}

impl<C: Cpu, B: Bus> Run<'_, C, B> {
    fn operand(&self, n: u32) -> Operand {
        operand(self.cpu, self.mode, &self.instruction, n)
    }

    fn unsupported(&self) -> Stop {
        Stop::Unsupported(self.opcode)
    }

    /// Finds the places of a memory operand.
    fn span(&mut self, at: Effective, size: usize, write: bool) -> Result<Span, Stop> {
        let (cpu, bus) = (&*self.cpu, &mut *self.bus);
        span(cpu, bus, self.mode, at.segment, at.offset, size, write)
    }

    /// Checks that a memory operand lies on a multiple of its size, as some instructions demand whatever RFLAGS.AC says.
    ///
    /// Errors: #GP(0), and what segmentation raises.
    fn check_alignment(&self, at: Effective, size: usize, write: bool) -> Result<(), Stop> {
        let at = linear(self.cpu, self.mode, at.segment, at.offset, size, write)?;
        if at.is_multiple_of(size as u64) {
            Ok(())
        } else {
            Err(Exception::GP0.into())
        }
    }

    /// The instruction is complete.
    fn retire(&mut self) -> Outcome {
        let flags = self.cpu.rflags();
        self.cpu.set_rip(self.next);
        self.cpu.set_rflags(flags - RFlags::RESUME_FLAG);
        self.cpu.retired();
        Outcome::Done {
            single_step: flags.contains(RFlags::TRAP_FLAG),
        }
    }

    /// Instructions on cache lines that have no effect on a device, beyond that the address has to be readable, and those that are
    /// undefined by definition.
    fn hint(&mut self) -> Result<bool, Stop> {
        match self.instruction.mnemonic() {
            Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => {
                let Operand::Memory(at) = self.operand(0) else {
                    return Ok(false);
                };
                self.span(at, 1, false)?;
                Ok(true)
            }
            Mnemonic::Prefetch
            | Mnemonic::Prefetchw
            | Mnemonic::Prefetchwt1
            | Mnemonic::Prefetchnta
            | Mnemonic::Prefetcht0
            | Mnemonic::Prefetcht1
            | Mnemonic::Prefetcht2
            | Mnemonic::Cldemote
            | Mnemonic::Nop => Ok(true),
            Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => Err(Exception::InvalidOpcode.into()),
            _ => Ok(false),
        }
    }
}
