//! PUSH and POP with a memory operand or a general-purpose register.

use iced_x86::{Code, Mnemonic};

use super::Run;
use crate::emulate::cpu::{Bus, Cpu, SegmentName, Stop};
use crate::emulate::decode::BIG;
use crate::emulate::memory::Span;
use crate::emulate::operand::{Effective, Gpr, Operand, mask, memory_size};
use crate::hypercall::gpr;

/// Executes it if it is one of these; says whether it was.
pub(super) fn execute<C: Cpu, B: Bus>(run: &mut Run<'_, C, B>) -> Result<bool, Stop> {
    match run.instruction.mnemonic() {
        Mnemonic::Push => run.push(),
        Mnemonic::Pop => run.pop(),
        _ => Ok(false),
    }
}

impl<C: Cpu, B: Bus> Run<'_, C, B> {
    /// The part of RSP that is the stack pointer.
    fn stack_pointer(&self) -> Gpr {
        let size = if self.mode.bits == 64 {
            8
        } else if self.cpu.segment(SegmentName::Ss).attributes & BIG != 0 {
            4
        } else {
            2
        };
        Gpr::numbered(gpr::RSP, size)
    }

    fn top(&self, offset: u64, pointer: Gpr) -> Effective {
        Effective {
            segment: SegmentName::Ss,
            offset: offset & mask(pointer.size),
            address_size: pointer.size,
        }
    }

    /// Bytes of the operand, 2, 4 or 8, if it is one that is emulated.
    fn stack_operand_size(&self, operand: Operand) -> Option<usize> {
        match operand {
            Operand::Gpr(register) => Some(register.size),
            Operand::Memory(_) => memory_size(self.instruction.memory_size()),
            Operand::Immediate(_) => match self.instruction.code() {
                Code::Push_imm16 | Code::Pushw_imm8 => Some(2),
                Code::Pushd_imm32 | Code::Pushd_imm8 => Some(4),
                Code::Pushq_imm32 | Code::Pushq_imm8 => Some(8),
                _ => None,
            },
            _ => None,
        }
    }

    fn push(&mut self) -> Result<bool, Stop> {
        let operand = self.operand(0);
        let Some(size @ (2 | 4 | 8)) = self.stack_operand_size(operand) else {
            return Ok(false);
        };
        let pointer = self.stack_pointer();
        let new = pointer.read(self.cpu).wrapping_sub(size as u64);
        let to = self.span(self.top(new, pointer), size, true)?;
        let value = match operand {
            Operand::Gpr(register) => register.read(self.cpu),
            Operand::Immediate(value) => value,
            Operand::Memory(at) => self.span(at, size, false)?.load(self.bus)?,
            _ => return Ok(false),
        };
        to.store(self.bus, value)?;
        pointer.write(self.cpu, new);
        Ok(true)
    }

    fn pop(&mut self) -> Result<bool, Stop> {
        let operand = self.operand(0);
        let Some(size @ (2 | 4 | 8)) = self.stack_operand_size(operand) else {
            return Ok(false);
        };
        let pointer = self.stack_pointer();
        let old = pointer.read(self.cpu);
        let new = old.wrapping_add(size as u64);
        let from = self.span(self.top(old, pointer), size, false)?;
        match operand {
            Operand::Gpr(register) => {
                let value = from.load(self.bus)?;
                pointer.write(self.cpu, new);
                // Last: POP RSP leaves what was popped.
                register.write(self.cpu, value);
            }
            Operand::Memory(_) => {
                // An address with RSP in it is computed after the increment, which a fault takes back.
                let whole = self.cpu.gpr(gpr::RSP);
                pointer.write(self.cpu, new);
                let result = self.pop_to_memory(&from, size);
                if result.is_err() {
                    self.cpu.set_gpr(gpr::RSP, whole);
                }
                return result;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn pop_to_memory(&mut self, from: &Span, size: usize) -> Result<bool, Stop> {
        let Operand::Memory(at) = self.operand(0) else {
            return Ok(false);
        };
        let to = self.span(at, size, true)?;
        let value = from.load(self.bus)?;
        to.store(self.bus, value)?;
        Ok(true)
    }
}
