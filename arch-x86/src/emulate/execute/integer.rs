//! Moves, arithmetic and exchanges of general-purpose registers and memory.

use iced_x86::Mnemonic;
use x86_64::registers::rflags::RFlags;

use super::Run;
use crate::emulate::alu::{self, Binary, Bit, Shift, Unary};
use crate::emulate::cpu::{Bus, Cpu, Stop};
use crate::emulate::memory::Span;
use crate::emulate::operand::{Effective, Gpr, Operand, mask, memory_size, sign_extend};
use crate::hypercall::gpr;

/// How often an atomic operation on memory is tried before other vCPUs are left to finish theirs.
const ATTEMPTS: usize = 64;

/// Where a value comes from or goes to, after every check.
#[derive(Clone, Copy)]
enum Place {
    Gpr(Gpr),
    Memory(Span),
}

impl Place {
    fn size(&self) -> usize {
        match self {
            Self::Gpr(gpr) => gpr.size,
            Self::Memory(span) => span.len(),
        }
    }
}

/// Executes it if it is one of these; says whether it was.
pub(super) fn execute<C: Cpu, B: Bus>(run: &mut Run<'_, C, B>) -> Result<bool, Stop> {
    match run.instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti | Mnemonic::Movdiri => run.mov(|v, _| v),
        Mnemonic::Movzx => run.mov(|v, _| v),
        Mnemonic::Movsx | Mnemonic::Movsxd => run.mov(sign_extend),
        Mnemonic::Movbe => run.mov(|v, size| v.swap_bytes() >> (64 - 8 * size)),
        Mnemonic::Xchg => run.exchange(),
        Mnemonic::Xadd => run.exchange_and_add(),
        Mnemonic::Cmpxchg => run.compare_and_exchange(),
        Mnemonic::Cmpxchg8b => run.compare_and_exchange_pair(4),
        Mnemonic::Cmpxchg16b => run.compare_and_exchange_pair(8),
        Mnemonic::Add => run.binary(Binary::Add),
        Mnemonic::Or => run.binary(Binary::Or),
        Mnemonic::Adc => run.binary(Binary::Adc),
        Mnemonic::Sbb => run.binary(Binary::Sbb),
        Mnemonic::And => run.binary(Binary::And),
        Mnemonic::Sub => run.binary(Binary::Sub),
        Mnemonic::Xor => run.binary(Binary::Xor),
        Mnemonic::Cmp => run.binary(Binary::Cmp),
        Mnemonic::Test => run.binary(Binary::Test),
        Mnemonic::Inc => run.unary(Unary::Inc),
        Mnemonic::Dec => run.unary(Unary::Dec),
        Mnemonic::Neg => run.unary(Unary::Neg),
        Mnemonic::Not => run.unary(Unary::Not),
        Mnemonic::Rol => run.shift(Shift::Rol),
        Mnemonic::Ror => run.shift(Shift::Ror),
        Mnemonic::Rcl => run.shift(Shift::Rcl),
        Mnemonic::Rcr => run.shift(Shift::Rcr),
        Mnemonic::Shl | Mnemonic::Sal => run.shift(Shift::Shl),
        Mnemonic::Shr => run.shift(Shift::Shr),
        Mnemonic::Sar => run.shift(Shift::Sar),
        Mnemonic::Shld => run.double_shift(true),
        Mnemonic::Shrd => run.double_shift(false),
        Mnemonic::Bt => run.bit(Bit::Test),
        Mnemonic::Bts => run.bit(Bit::Set),
        Mnemonic::Btr => run.bit(Bit::Reset),
        Mnemonic::Btc => run.bit(Bit::Complement),
        Mnemonic::Mul => run.multiply(false),
        Mnemonic::Imul if run.instruction.op_count() == 1 => run.multiply(true),
        Mnemonic::Imul => run.signed_multiply(),
        mnemonic => match condition(mnemonic) {
            Some((Conditional::Set, code)) => run.set(code),
            Some((Conditional::Move, code)) => run.conditional_move(code),
            None => Ok(false),
        },
    }
}

/// Instructions with a condition.
enum Conditional {
    Set,
    Move,
}

/// Which condition an instruction has: its number in the encoding.
fn condition(mnemonic: Mnemonic) -> Option<(Conditional, u8)> {
    let code = match mnemonic {
        Mnemonic::Seto | Mnemonic::Cmovo => 0,
        Mnemonic::Setno | Mnemonic::Cmovno => 1,
        Mnemonic::Setb | Mnemonic::Cmovb => 2,
        Mnemonic::Setae | Mnemonic::Cmovae => 3,
        Mnemonic::Sete | Mnemonic::Cmove => 4,
        Mnemonic::Setne | Mnemonic::Cmovne => 5,
        Mnemonic::Setbe | Mnemonic::Cmovbe => 6,
        Mnemonic::Seta | Mnemonic::Cmova => 7,
        Mnemonic::Sets | Mnemonic::Cmovs => 8,
        Mnemonic::Setns | Mnemonic::Cmovns => 9,
        Mnemonic::Setp | Mnemonic::Cmovp => 10,
        Mnemonic::Setnp | Mnemonic::Cmovnp => 11,
        Mnemonic::Setl | Mnemonic::Cmovl => 12,
        Mnemonic::Setge | Mnemonic::Cmovge => 13,
        Mnemonic::Setle | Mnemonic::Cmovle => 14,
        Mnemonic::Setg | Mnemonic::Cmovg => 15,
        _ => return None,
    };
    let sets = matches!(
        mnemonic,
        Mnemonic::Seto
            | Mnemonic::Setno
            | Mnemonic::Setb
            | Mnemonic::Setae
            | Mnemonic::Sete
            | Mnemonic::Setne
            | Mnemonic::Setbe
            | Mnemonic::Seta
            | Mnemonic::Sets
            | Mnemonic::Setns
            | Mnemonic::Setp
            | Mnemonic::Setnp
            | Mnemonic::Setl
            | Mnemonic::Setge
            | Mnemonic::Setle
            | Mnemonic::Setg
    );
    let kind = if sets {
        Conditional::Set
    } else {
        Conditional::Move
    };
    Some((kind, code))
}

impl<C: Cpu, B: Bus> Run<'_, C, B> {
    /// Operand `n` as a place of integers, or nothing for other kinds of operands.
    fn place(&mut self, n: u32, write: bool) -> Result<Option<Place>, Stop> {
        match self.operand(n) {
            Operand::Gpr(gpr) => Ok(Some(Place::Gpr(gpr))),
            Operand::Memory(at) => self.memory(at, write),
            _ => Ok(None),
        }
    }

    fn memory(&mut self, at: Effective, write: bool) -> Result<Option<Place>, Stop> {
        match memory_size(self.instruction.memory_size()) {
            Some(size @ 1..=8) => Ok(Some(Place::Memory(self.span(at, size, write)?))),
            _ => Ok(None),
        }
    }

    fn load(&mut self, place: &Place) -> Result<u64, Stop> {
        match place {
            Place::Gpr(gpr) => Ok(gpr.read(self.cpu)),
            Place::Memory(span) => span.load(self.bus),
        }
    }

    fn store(&mut self, place: &Place, value: u64) -> Result<(), Stop> {
        match place {
            Place::Gpr(gpr) => {
                gpr.write(self.cpu, value);
                Ok(())
            }
            Place::Memory(span) => span.store(self.bus, value),
        }
    }

    /// The value of operand `n`, which is only read.
    fn source(&mut self, n: u32) -> Result<Option<u64>, Stop> {
        if let Operand::Immediate(value) = self.operand(n) {
            return Ok(Some(value));
        }
        match self.place(n, false)? {
            Some(place) => self.load(&place).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces the value of a place by what `change` makes of it, atomically if it is memory and `locked`. Returns the old
    /// value, and what `change` returned beside the new one. `change` may run more than once.
    fn modify<T>(
        &mut self,
        place: &Place,
        locked: bool,
        mut change: impl FnMut(u64) -> (u64, T),
    ) -> Result<(u64, T), Stop> {
        let Place::Memory(span) = place else {
            let old = self.load(place)?;
            let (new, more) = change(old);
            self.store(place, new)?;
            return Ok((old, more));
        };
        if !locked || !span.has_memory() {
            let old = span.load(self.bus)?;
            let (new, more) = change(old);
            span.store(self.bus, new)?;
            return Ok((old, more));
        }
        // A locked access that is split between cache lines or pages cannot be done from here.
        let Some(at) = span.atomic() else {
            return Err(self.unsupported());
        };
        for _ in 0..ATTEMPTS {
            let old = span.load(self.bus)?;
            let (new, more) = change(old);
            if self.bus.compare_exchange(at, span.len(), old, new)? {
                return Ok((old, more));
            }
        }
        Err(Stop::Retry)
    }

    fn locked(&self) -> bool {
        self.instruction.has_lock_prefix()
    }

    /// Moves operand 1, converted, to operand 0.
    fn mov(&mut self, convert: impl FnOnce(u64, usize) -> u64) -> Result<bool, Stop> {
        let Some(to) = self.place(0, true)? else {
            return Ok(false);
        };
        let (value, size) = match self.operand(1) {
            Operand::Immediate(value) => (value, 8),
            _ => match self.place(1, false)? {
                Some(from) => (self.load(&from)?, from.size()),
                None => return Ok(false),
            },
        };
        self.store(&to, convert(value, size))?;
        Ok(true)
    }

    fn exchange(&mut self) -> Result<bool, Stop> {
        // Either operand can be the one in memory.
        let (n, other) = match self.operand(0) {
            Operand::Memory(_) => (0, self.operand(1)),
            other => (1, other),
        };
        let (Some(place), Operand::Gpr(gpr)) = (self.place(n, true)?, other) else {
            return Ok(false);
        };
        let new = gpr.read(self.cpu);
        let (old, ()) = self.modify(&place, true, |_| (new, ()))?;
        gpr.write(self.cpu, old);
        Ok(true)
    }

    fn exchange_and_add(&mut self) -> Result<bool, Stop> {
        let (Some(place), Operand::Gpr(gpr)) = (self.place(0, true)?, self.operand(1)) else {
            return Ok(false);
        };
        let (size, addend, flags) = (place.size(), gpr.read(self.cpu), self.cpu.rflags());
        let (old, flags) = if let Place::Gpr(_) = place {
            // The sum is written last: it is what remains if both are the same register.
            let old = self.load(&place)?;
            let (sum, flags) = alu::binary(Binary::Add, size, old, addend, flags);
            gpr.write(self.cpu, old);
            self.store(&place, sum)?;
            self.cpu.set_rflags(flags);
            return Ok(true);
        } else {
            let locked = self.locked();
            self.modify(&place, locked, |old| {
                alu::binary(Binary::Add, size, old, addend, flags)
            })?
        };
        gpr.write(self.cpu, old);
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    fn compare_and_exchange(&mut self) -> Result<bool, Stop> {
        let (Some(place), Operand::Gpr(gpr)) = (self.place(0, true)?, self.operand(1)) else {
            return Ok(false);
        };
        let size = place.size();
        let accumulator = Gpr::numbered(gpr::RAX, size);
        let (expected, new) = (accumulator.read(self.cpu), gpr.read(self.cpu));
        let flags = self.cpu.rflags();
        let locked = self.locked();
        let (old, flags) = self.modify(&place, locked, |old| {
            let (_, flags) = alu::binary(Binary::Cmp, size, expected, old, flags);
            (if old == expected { new } else { old }, flags)
        })?;
        if old != expected {
            accumulator.write(self.cpu, old);
        }
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    /// CMPXCHG8B and CMPXCHG16B, with halves of `half` bytes.
    fn compare_and_exchange_pair(&mut self, half: usize) -> Result<bool, Stop> {
        let Operand::Memory(at) = self.operand(0) else {
            return Ok(false);
        };
        if half == 8 {
            self.check_alignment(at, 16, true)?;
        }
        let span = self.span(at, 2 * half, true)?;
        let pair = |high, low| [Gpr::numbered(low, half), Gpr::numbered(high, half)];
        let expected = pair(gpr::RDX, gpr::RAX).map(|r| r.read(self.cpu));
        let new = pair(gpr::RCX, gpr::RBX).map(|r| r.read(self.cpu));
        let old = if half == 4 {
            let join = |[low, high]: [u64; 2]| low | high << 32;
            let (expected, new) = (join(expected), join(new));
            let locked = self.locked();
            let place = Place::Memory(span);
            let (old, ()) = self.modify(&place, locked, |old| {
                (if old == expected { new } else { old }, ())
            })?;
            [old & mask(4), old >> 32]
        } else {
            if span.has_memory() {
                return Err(self.unsupported());
            }
            let mut bytes = [0; 16];
            span.read(self.bus, &mut bytes)?;
            let old = u128::from_le_bytes(bytes);
            let old = [old as u64, (old >> 64) as u64];
            let written = if old == expected { new } else { old };
            let value = u128::from(written[0]) | u128::from(written[1]) << 64;
            span.write(self.bus, &value.to_le_bytes())?;
            old
        };
        let mut flags = self.cpu.rflags();
        flags.set(RFlags::ZERO_FLAG, old == expected);
        if old != expected {
            let [low, high] = pair(gpr::RDX, gpr::RAX);
            low.write(self.cpu, old[0]);
            high.write(self.cpu, old[1]);
        }
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    fn binary(&mut self, op: Binary) -> Result<bool, Stop> {
        let only_reads = matches!(op, Binary::Cmp | Binary::Test);
        let Some(place) = self.place(0, !only_reads)? else {
            return Ok(false);
        };
        let Some(value) = self.source(1)? else {
            return Ok(false);
        };
        let (size, flags) = (place.size(), self.cpu.rflags());
        let flags = if only_reads {
            let old = self.load(&place)?;
            alu::binary(op, size, old, value, flags).1
        } else {
            let locked = self.locked();
            let change = |old| alu::binary(op, size, old, value, flags);
            self.modify(&place, locked, change)?.1
        };
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    fn unary(&mut self, op: Unary) -> Result<bool, Stop> {
        self.modify_operand(|size, old, flags| alu::unary(op, size, old, flags))
    }

    fn shift(&mut self, op: Shift) -> Result<bool, Stop> {
        let Some(count) = self.source(1)? else {
            return Ok(false);
        };
        self.modify_operand(|size, old, flags| alu::shift(op, size, old, count, flags))
    }

    fn double_shift(&mut self, left: bool) -> Result<bool, Stop> {
        let (Some(filling), Some(count)) = (self.source(1)?, self.source(2)?) else {
            return Ok(false);
        };
        self.modify_operand(|size, old, flags| {
            alu::double_shift(left, size, old, filling, count, flags)
        })
    }

    /// Replaces operand 0, and the flags.
    fn modify_operand(
        &mut self,
        compute: impl Fn(usize, u64, RFlags) -> alu::Computed,
    ) -> Result<bool, Stop> {
        let Some(place) = self.place(0, true)? else {
            return Ok(false);
        };
        let (size, flags, locked) = (place.size(), self.cpu.rflags(), self.locked());
        let (_, flags) = self.modify(&place, locked, |old| compute(size, old, flags))?;
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    fn bit(&mut self, op: Bit) -> Result<bool, Stop> {
        let index = self.operand(1);
        let place = match (self.operand(0), index) {
            // A bit number in a register reaches beyond the operand, in both directions.
            (Operand::Memory(at), Operand::Gpr(register)) => {
                let Some(size) = memory_size(self.instruction.memory_size()) else {
                    return Ok(false);
                };
                let number = sign_extend(register.read(self.cpu), register.size) as i64;
                let units = number.div_euclid(8 * size as i64);
                let offset = at.offset.wrapping_add((units * size as i64) as u64);
                let at = Effective {
                    offset: offset & mask(at.address_size),
                    ..at
                };
                self.memory(at, op != Bit::Test)?
            }
            _ => self.place(0, op != Bit::Test)?,
        };
        let Some(place) = place else {
            return Ok(false);
        };
        let number = match index {
            Operand::Gpr(register) => register.read(self.cpu),
            Operand::Immediate(value) => value,
            _ => return Ok(false),
        };
        let (size, flags) = (place.size(), self.cpu.rflags());
        let flags = if op == Bit::Test {
            let old = self.load(&place)?;
            alu::bit(op, size, old, number, flags).1
        } else {
            let locked = self.locked();
            let change = |old| alu::bit(op, size, old, number, flags);
            self.modify(&place, locked, change)?.1
        };
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    /// MUL and IMUL with one operand: the product goes to AX, or to the pair of D and A.
    fn multiply(&mut self, signed: bool) -> Result<bool, Stop> {
        let Some(place) = self.place(0, false)? else {
            return Ok(false);
        };
        let (size, factor) = (place.size(), self.load(&place)?);
        let accumulator = Gpr::numbered(gpr::RAX, size).read(self.cpu);
        let flags = self.cpu.rflags();
        let (low, high, flags) = alu::wide_multiply(signed, size, accumulator, factor, flags);
        if size == 1 {
            Gpr::numbered(gpr::RAX, 2).write(self.cpu, low | high << 8);
        } else {
            Gpr::numbered(gpr::RAX, size).write(self.cpu, low);
            Gpr::numbered(gpr::RDX, size).write(self.cpu, high);
        }
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    /// IMUL with two or three operands.
    fn signed_multiply(&mut self) -> Result<bool, Stop> {
        let Operand::Gpr(to) = self.operand(0) else {
            return Ok(false);
        };
        let first = if self.instruction.op_count() == 2 {
            Some(to.read(self.cpu))
        } else {
            self.source(2)?
        };
        let (Some(a), Some(b)) = (first, self.source(1)?) else {
            return Ok(false);
        };
        let (product, flags) = alu::signed_multiply(to.size, a, b, self.cpu.rflags());
        to.write(self.cpu, product);
        self.cpu.set_rflags(flags);
        Ok(true)
    }

    fn set(&mut self, code: u8) -> Result<bool, Stop> {
        let Some(place) = self.place(0, true)? else {
            return Ok(false);
        };
        let holds = alu::condition(code, self.cpu.rflags());
        self.store(&place, u64::from(holds))?;
        Ok(true)
    }

    /// CMOVcc: the source is read, and the upper half of a 4-byte register cleared, even if the condition does not hold.
    fn conditional_move(&mut self, code: u8) -> Result<bool, Stop> {
        let (Operand::Gpr(to), Some(value)) = (self.operand(0), self.source(1)?) else {
            return Ok(false);
        };
        let holds = alu::condition(code, self.cpu.rflags());
        let value = if holds { value } else { to.read(self.cpu) };
        to.write(self.cpu, value);
        Ok(true)
    }
}
