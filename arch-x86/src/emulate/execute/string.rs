//! String instructions, with and without a repeat prefix.

use iced_x86::{Code, OpKind};
use x86_64::registers::rflags::RFlags;

use super::{Outcome, Run};
use crate::emulate::alu::{self, Binary};
use crate::emulate::cpu::{Bus, Cpu, SegmentName, Stop};
use crate::emulate::memory::{Span, check_ports};
use crate::emulate::operand::{Effective, Gpr, overridden};
use crate::hypercall::gpr;

/// Most elements before the guest gets the chance to take an interrupt.
const CHUNK: usize = 256;

/// What is done with each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Move,
    Store,
    Load,
    Compare,
    Scan,
    Input,
    Output,
}

impl Kind {
    /// It reads memory at RSI.
    const fn has_source(self) -> bool {
        matches!(self, Self::Move | Self::Load | Self::Compare | Self::Output)
    }
    /// It reads or writes memory at RDI.
    const fn has_destination(self) -> bool {
        !matches!(self, Self::Load | Self::Output)
    }
    /// It compares: a repeat prefix has a condition.
    const fn compares(self) -> bool {
        matches!(self, Self::Compare | Self::Scan)
    }
}

/// Which string instruction it is, and bytes of an element.
const fn classify(code: Code) -> Option<(Kind, usize)> {
    Some(match code {
        Code::Movsb_m8_m8 => (Kind::Move, 1),
        Code::Movsw_m16_m16 => (Kind::Move, 2),
        Code::Movsd_m32_m32 => (Kind::Move, 4),
        Code::Movsq_m64_m64 => (Kind::Move, 8),
        Code::Stosb_m8_AL => (Kind::Store, 1),
        Code::Stosw_m16_AX => (Kind::Store, 2),
        Code::Stosd_m32_EAX => (Kind::Store, 4),
        Code::Stosq_m64_RAX => (Kind::Store, 8),
        Code::Lodsb_AL_m8 => (Kind::Load, 1),
        Code::Lodsw_AX_m16 => (Kind::Load, 2),
        Code::Lodsd_EAX_m32 => (Kind::Load, 4),
        Code::Lodsq_RAX_m64 => (Kind::Load, 8),
        Code::Cmpsb_m8_m8 => (Kind::Compare, 1),
        Code::Cmpsw_m16_m16 => (Kind::Compare, 2),
        Code::Cmpsd_m32_m32 => (Kind::Compare, 4),
        Code::Cmpsq_m64_m64 => (Kind::Compare, 8),
        Code::Scasb_AL_m8 => (Kind::Scan, 1),
        Code::Scasw_AX_m16 => (Kind::Scan, 2),
        Code::Scasd_EAX_m32 => (Kind::Scan, 4),
        Code::Scasq_RAX_m64 => (Kind::Scan, 8),
        Code::Insb_m8_DX => (Kind::Input, 1),
        Code::Insw_m16_DX => (Kind::Input, 2),
        Code::Insd_m32_DX => (Kind::Input, 4),
        Code::Outsb_DX_m8 => (Kind::Output, 1),
        Code::Outsw_DX_m16 => (Kind::Output, 2),
        Code::Outsd_DX_m32 => (Kind::Output, 4),
        _ => return None,
    })
}

/// A string instruction that is being executed.
struct Element {
    kind: Kind,
    size: usize,
    address_size: usize,
    source: SegmentName,
}

/// Executes it if it is one of these; nothing otherwise.
pub(super) fn execute<C: Cpu, B: Bus>(run: &mut Run<'_, C, B>) -> Result<Option<Outcome>, Stop> {
    let Some((kind, size)) = classify(run.instruction.code()) else {
        return Ok(None);
    };
    let element = Element {
        kind,
        size,
        address_size: address_size(run),
        source: overridden(run.mode, &run.instruction, SegmentName::Ds),
    };
    let repeats = run.instruction.has_rep_prefix() || run.instruction.has_repne_prefix();
    if !repeats {
        run.element(&element)?;
        return Ok(Some(run.retire()));
    }
    let count = Gpr::numbered(gpr::RCX, element.address_size);
    let single_step = run.cpu.rflags().contains(RFlags::TRAP_FLAG);
    let chunk = if single_step { 1 } else { CHUNK };
    for _ in 0..chunk {
        let left = count.read(run.cpu);
        if left == 0 {
            return Ok(Some(run.retire()));
        }
        run.element(&element)?;
        count.write(run.cpu, left - 1);
        let equal = run.cpu.rflags().contains(RFlags::ZERO_FLAG);
        let ends = kind.compares() && equal == run.instruction.has_repne_prefix();
        if left == 1 || ends {
            return Ok(Some(run.retire()));
        }
    }
    Ok(Some(Outcome::Partial { single_step }))
}

/// Bytes of the address registers: the decoder tells them by the kinds of operands.
fn address_size<C: Cpu, B: Bus>(run: &Run<'_, C, B>) -> usize {
    run.instruction
        .op_kinds()
        .find_map(|kind| match kind {
            OpKind::MemorySegSI | OpKind::MemoryESDI => Some(2),
            OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(4),
            OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(8),
            _ => None,
        })
        .unwrap_or(run.mode.bits as usize / 8)
}

impl<C: Cpu, B: Bus> Run<'_, C, B> {
    /// One element, with all its registers but the count.
    fn element(&mut self, element: &Element) -> Result<(), Stop> {
        let (kind, size) = (element.kind, element.size);
        let index = |n| Gpr::numbered(n, element.address_size);
        let (source, destination) = (index(gpr::RSI), index(gpr::RDI));
        let port = self.cpu.gpr(gpr::RDX) as u16;
        if matches!(kind, Kind::Input | Kind::Output) {
            check_ports(self.cpu, self.bus, self.mode, port, size)?;
        }
        let from = if kind.has_source() {
            Some(self.indexed(element.source, source, size, false)?)
        } else {
            None
        };
        let to = if kind.has_destination() {
            let write = !kind.compares();
            Some(self.indexed(SegmentName::Es, destination, size, write)?)
        } else {
            None
        };
        let accumulator = Gpr::numbered(gpr::RAX, size);
        let load = |run: &mut Self, span: &Option<Span>| match span {
            Some(span) => span.load(run.bus),
            None => Ok(accumulator.read(run.cpu)),
        };
        match kind {
            Kind::Move | Kind::Store | Kind::Input => {
                let value = match kind {
                    Kind::Input => u64::from(self.bus.port_in(port, size)?),
                    _ => load(self, &from)?,
                };
                if let Some(to) = to {
                    to.store(self.bus, value)?;
                }
            }
            Kind::Load => {
                let value = load(self, &from)?;
                accumulator.write(self.cpu, value);
            }
            Kind::Compare | Kind::Scan => {
                let (a, b) = (load(self, &from)?, load(self, &to)?);
                let flags = self.cpu.rflags();
                let (_, flags) = alu::binary(Binary::Cmp, size, a, b, flags);
                self.cpu.set_rflags(flags);
            }
            Kind::Output => {
                let value = load(self, &from)?;
                self.bus.port_out(port, size, value as u32)?;
            }
        }
        let backwards = self.cpu.rflags().contains(RFlags::DIRECTION_FLAG);
        let advance = |run: &mut Self, register: Gpr| {
            let old = register.read(run.cpu);
            let new = if backwards {
                old.wrapping_sub(size as u64)
            } else {
                old.wrapping_add(size as u64)
            };
            register.write(run.cpu, new);
        };
        if kind.has_source() {
            advance(self, source);
        }
        if kind.has_destination() {
            advance(self, destination);
        }
        Ok(())
    }

    fn indexed(
        &mut self,
        segment: SegmentName,
        index: Gpr,
        size: usize,
        write: bool,
    ) -> Result<Span, Stop> {
        let at = Effective {
            segment,
            offset: index.read(self.cpu),
            address_size: index.size,
        };
        self.span(at, size, write)
    }
}
