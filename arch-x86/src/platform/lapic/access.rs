//! Accesses to registers: by memory in xAPIC mode, by MSRs in x2APIC mode.
//!
//! Registers are numbered as in x2APIC mode, MSR 0x800 plus the number. In memory each has 16 bytes, of which the first 4 count.

use super::super::message::Destination;
use super::registers::{Registers, SVR_ENABLED, SVR_FOCUS, Source, error, lvt};
use super::timer::Now;
use super::{Effect, Lapic, Mode, logical_x2apic_id};
use crate::emulate::Exception;

/// The version register: an integrated APIC whose local vector table has 6 entries.
const VERSION: u32 = 5 << 16 | 0x14;
/// Bits of the interrupt command register's lower half that software writes: all but delivery status and reserved ones.
const COMMAND_BITS: u32 = 0x000c_cfff;
/// Bits of the divide configuration register.
const DIVIDE_BITS: u32 = 0xb;
/// Bits of the destination format register that are always set.
const FORMAT_ONES: u32 = 0x0fff_ffff;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Id,
    Version,
    TaskPriority,
    /// Of Pentium and P6 CPUs: reads as 0.
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    /// Remote reads do not exist: reads as 0.
    RemoteRead,
    LogicalDestination,
    DestinationFormat,
    Spurious,
    InService(u8),
    TriggerMode(u8),
    Request(u8),
    ErrorStatus,
    Command,
    CommandHigh,
    Entry(Source),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
}

impl Register {
    /// The register with a number, in a mode.
    const fn new(number: u8, x2apic: bool) -> Option<Self> {
        Some(match number {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x09 if !x2apic => Self::ArbitrationPriority,
            0x0a => Self::ProcessorPriority,
            0x0b => Self::EndOfInterrupt,
            0x0c if !x2apic => Self::RemoteRead,
            0x0d => Self::LogicalDestination,
            0x0e if !x2apic => Self::DestinationFormat,
            0x0f => Self::Spurious,
            0x10..=0x17 => Self::InService(number & 7),
            0x18..=0x1f => Self::TriggerMode(number & 7),
            0x20..=0x27 => Self::Request(number & 7),
            0x28 => Self::ErrorStatus,
            0x30 => Self::Command,
            0x31 if !x2apic => Self::CommandHigh,
            0x32 => Self::Entry(Source::Timer),
            0x33 => Self::Entry(Source::Thermal),
            0x34 => Self::Entry(Source::Performance),
            0x35 => Self::Entry(Source::Lint0),
            0x36 => Self::Entry(Source::Lint1),
            0x37 => Self::Entry(Source::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f if x2apic => Self::SelfIpi,
            _ => return None,
        })
    }
}

/// An access under way.
struct Access<'a> {
    lapic: &'a Lapic,
    registers: &'a mut Registers,
    now: &'a Now,
    x2apic: bool,
}

impl Access<'_> {
    /// What a register reads; those that cannot be read read as 0.
    fn read(&self, register: Register) -> u64 {
        let registers = &*self.registers;
        let id = self.lapic.config.id;
        let value = match register {
            Register::Id if self.x2apic => id,
            Register::Id => id << 24,
            Register::Version => VERSION,
            Register::TaskPriority => registers.tpr.into(),
            Register::ProcessorPriority => registers.processor_priority().into(),
            Register::LogicalDestination if self.x2apic => logical_x2apic_id(id),
            Register::LogicalDestination => u32::from(registers.logical) << 24,
            Register::DestinationFormat => registers.format,
            Register::Spurious => registers.svr,
            Register::InService(n) => registers.service.0[usize::from(n)],
            Register::TriggerMode(n) => self.lapic.level.word(n),
            Register::Request(n) => self.lapic.requests.word(n),
            Register::ErrorStatus => registers.errors,
            Register::Command if self.x2apic => return registers.command,
            Register::Command => registers.command as u32,
            Register::CommandHigh => (registers.command >> 32) as u32,
            Register::Entry(source) => registers.entry(source),
            Register::InitialCount => registers.timer.initial(),
            Register::CurrentCount => registers.timer.count(self.now.time),
            Register::Divide => registers.timer.divide(),
            Register::ArbitrationPriority
            | Register::RemoteRead
            | Register::EndOfInterrupt
            | Register::SelfIpi => 0,
        };
        value.into()
    }

    /// Writes a register; what is reserved of the value, and what is read-only, is of no account.
    fn write(&mut self, register: Register, value: u64) -> Effect {
        let inbox = self.lapic.inbox();
        let low = value as u32;
        let registers = &mut *self.registers;
        match register {
            Register::TaskPriority => registers.set_task_priority(low as u8),
            Register::EndOfInterrupt => return registers.end(&inbox),
            Register::LogicalDestination if !self.x2apic => registers.logical = (low >> 24) as u8,
            Register::DestinationFormat => registers.format = low | FORMAT_ONES,
            Register::Spurious => {
                let focus = if self.x2apic { 0 } else { SVR_FOCUS };
                return registers.set_spurious(low & (SVR_ENABLED | focus | 0xff));
            }
            Register::ErrorStatus => registers.latch_errors(),
            Register::Command => {
                let logical = low >> 11 & 1 != 0;
                let high = if self.x2apic {
                    value >> 32
                } else {
                    registers.command >> 32
                };
                registers.command = high << 32 | u64::from(low & COMMAND_BITS);
                let destination = if self.x2apic {
                    Destination::from_x2apic(high as u32, logical)
                } else {
                    Destination::from_xapic((high >> 24) as u8, logical)
                };
                return registers.send(&inbox, destination);
            }
            Register::CommandHigh => {
                registers.command =
                    u64::from(low & 0xff00_0000) << 32 | registers.command & 0xffff_ffff;
            }
            Register::Entry(source) => {
                let known = source.writable(self.lapic.config.tsc_deadline);
                return registers.set_entry(&inbox, source, low & known, self.now);
            }
            Register::InitialCount => {
                registers.timer.set_initial(low, self.now.time);
                return registers.rearm(&inbox, self.now);
            }
            Register::Divide => {
                registers.timer.set_divide(low & DIVIDE_BITS, self.now.time);
                return registers.rearm(&inbox, self.now);
            }
            Register::SelfIpi => return registers.send_to_self(&inbox, low as u8),
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::LogicalDestination
            | Register::InService(_)
            | Register::TriggerMode(_)
            | Register::Request(_)
            | Register::CurrentCount => {}
        }
        Effect::None
    }

    /// The bits that WRMSR may set in a register; `None` if it cannot be written.
    const fn legal_bits(&self, register: Register) -> Option<u64> {
        Some(match register {
            Register::TaskPriority | Register::SelfIpi => 0xff,
            Register::EndOfInterrupt | Register::ErrorStatus => 0,
            Register::Spurious => (SVR_ENABLED | 0xff) as u64,
            Register::Command => 0xffff_ffff << 32 | COMMAND_BITS as u64,
            Register::Entry(source) => {
                let writable = source.writable(self.lapic.config.tsc_deadline);
                (writable | source.read_only()) as u64
            }
            Register::InitialCount => 0xffff_ffff,
            Register::Divide => DIVIDE_BITS as u64,
            _ => return None,
        })
    }
}

impl Lapic {
    fn access<R>(&self, now: &Now, x2apic: bool, f: impl FnOnce(&mut Access<'_>) -> R) -> R {
        let mut registers = self.registers.lock();
        // An interrupt that is due comes before what the access does to the timer.
        registers.tick(&self.inbox(), now);
        let result = f(&mut Access {
            lapic: self,
            registers: &mut registers,
            now,
            x2apic,
        });
        self.publish(&registers);
        result
    }

    /// Reads bytes of the page of registers. Beyond a register's first 4 bytes, and where there is none, they are 0; the
    /// latter is noted as an error.
    pub fn read_memory(&self, offset: u16, to: &mut [u8], now: &Now) {
        to.fill(0);
        if self.mode() != Mode::Xapic {
            return to.fill(0xff);
        }
        self.access(now, false, |access| {
            let mut failed = false;
            for (n, byte) in to.iter_mut().enumerate() {
                let at = usize::from(offset & 0xfff) + n;
                match u8::try_from(at / 16)
                    .ok()
                    .and_then(|number| Register::new(number, false))
                {
                    Some(register) if at % 16 < 4 => {
                        *byte = access.read(register).to_le_bytes()[at % 4];
                    }
                    Some(_) => {}
                    None => failed = true,
                }
            }
            if failed {
                let inbox = access.lapic.inbox();
                access.registers.fail(&inbox, error::ILLEGAL_REGISTER);
            }
        });
    }

    /// Writes bytes to the page of registers. All have to be of one register: of 1 or 2 bytes the others are what the
    /// register reads. Writes to anything else are lost, as the manuals leave open.
    pub fn write_memory(&self, offset: u16, from: &[u8], now: &Now) -> Effect {
        if self.mode() != Mode::Xapic {
            return Effect::None;
        }
        let start = usize::from(offset & 0xf);
        self.access(now, false, |access| {
            let Some(register) = Register::new((offset >> 4 & 0xff) as u8, false) else {
                let inbox = access.lapic.inbox();
                access.registers.fail(&inbox, error::ILLEGAL_REGISTER);
                return Effect::None;
            };
            let mut word = (access.read(register) as u32).to_le_bytes();
            let Some(bytes) = start
                .checked_add(from.len())
                .and_then(|end| word.get_mut(start..end))
            else {
                return Effect::None;
            };
            bytes.copy_from_slice(from);
            access.write(register, u32::from_le_bytes(word).into())
        })
    }

    /// RDMSR of register `number`.
    ///
    /// # Errors
    /// #GP(0) outside of x2APIC mode, for registers that are not there, and for those that cannot be read.
    pub fn read_msr(&self, number: u8, now: &Now) -> Result<u64, Exception> {
        let register = match self.mode() {
            Mode::X2apic => Register::new(number, true).ok_or(Exception::GP0)?,
            Mode::Disabled | Mode::Xapic => return Err(Exception::GP0),
        };
        if matches!(register, Register::EndOfInterrupt | Register::SelfIpi) {
            return Err(Exception::GP0);
        }
        Ok(self.access(now, true, |access| access.read(register)))
    }

    /// WRMSR of register `number`.
    ///
    /// # Errors
    /// #GP(0) outside of x2APIC mode, for registers that are not there or cannot be written, and for reserved bits and
    /// modes; nothing has changed then.
    pub fn write_msr(&self, number: u8, value: u64, now: &Now) -> Result<Effect, Exception> {
        let register = match self.mode() {
            Mode::X2apic => Register::new(number, true).ok_or(Exception::GP0)?,
            Mode::Disabled | Mode::Xapic => return Err(Exception::GP0),
        };
        self.access(now, true, |access| {
            let legal = access.legal_bits(register).ok_or(Exception::GP0)?;
            // Both bits of the timer's mode are no mode.
            let no_mode = u64::from(lvt::PERIODIC | lvt::TSC_DEADLINE);
            let timer = register == Register::Entry(Source::Timer);
            if value & !legal != 0 || timer && value & no_mode == no_mode {
                return Err(Exception::GP0);
            }
            Ok(access.write(register, value))
        })
    }
}
