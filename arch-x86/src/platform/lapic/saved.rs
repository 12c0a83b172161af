//! The whole state as plain data, to be moved to another machine.

use core::sync::atomic::Ordering;

use xen_core::{Error, Result};

use super::registers::{SVR_ENABLED, SVR_FOCUS, Source};
use super::timer::{Mode as TimerMode, Now};
use super::{BASE_X2APIC, FIRST_VECTOR, Lapic, Mode, Vectors};

/// The state of a local APIC. Times are relative, but for the TSC deadline, which is the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct Saved {
    pub base: u64,
    pub task_priority: u8,
    /// Bits 31:24 of the logical destination register; xAPIC mode only.
    pub logical_destination: u8,
    pub destination_format: u32,
    pub spurious: u32,
    pub requests: Vectors,
    pub in_service: Vectors,
    pub trigger_mode: Vectors,
    pub error_status: u32,
    /// Errors since the error status register was written to.
    pub new_errors: u32,
    pub command: u64,
    /// Timer, thermal, performance, LINT0, LINT1, error.
    pub entries: [u32; 6],
    pub timer_divide: u32,
    pub timer_initial: u32,
    pub timer_count: u32,
    pub tsc_deadline: u64,
}

impl Lapic {
    /// The state at a time.
    pub fn save(&self, now: &Now) -> Saved {
        let mut registers = self.registers.lock();
        registers.tick(&self.inbox(), now);
        Saved {
            base: self.base(),
            task_priority: registers.tpr,
            logical_destination: registers.logical,
            destination_format: registers.format,
            spurious: registers.svr,
            requests: self.requests.get(),
            in_service: registers.service,
            trigger_mode: self.level.get(),
            error_status: registers.errors,
            new_errors: registers.new_errors,
            command: registers.command,
            entries: registers.entries,
            timer_divide: registers.timer.divide(),
            timer_initial: registers.timer.initial(),
            timer_count: registers.timer.count(now.time),
            tsc_deadline: registers.timer.tsc_deadline(),
        }
    }

    /// Takes over a state; the timer is to be armed for [`Lapic::deadline`] then.
    ///
    /// # Errors
    /// [`Error::Inval`] for one that an APIC made like this one cannot be in; nothing has changed then.
    pub fn restore(&self, saved: &Saved, now: &Now) -> Result<()> {
        let mode = Mode::from_base(saved.base);
        let x2apic = saved.base & BASE_X2APIC != 0;
        let no_request_below = |set: &Vectors| set.0[0] & ((1 << FIRST_VECTOR) - 1) == 0;
        let enabled = saved.spurious & SVR_ENABLED != 0;
        let entries = Source::ALL
            .iter()
            .zip(saved.entries)
            .all(|(source, entry)| {
                let known = source.writable(self.config.tsc_deadline);
                let masked = entry & super::registers::lvt::MASKED != 0;
                entry & !known == 0 && (masked || enabled)
            });
        let legal = (!x2apic || self.config.x2apic && mode == Mode::X2apic)
            && saved.destination_format & 0x0fff_ffff == 0x0fff_ffff
            && saved.spurious & !(SVR_ENABLED | SVR_FOCUS | 0xff) == 0
            && no_request_below(&saved.requests)
            && no_request_below(&saved.in_service)
            && entries;
        if !legal {
            return Err(Error::Inval);
        }
        let mut registers = self.registers.lock();
        self.base.store(saved.base, Ordering::SeqCst);
        registers.tpr = saved.task_priority;
        registers.logical = saved.logical_destination;
        registers.format = saved.destination_format;
        registers.svr = saved.spurious;
        registers.service = saved.in_service;
        registers.errors = saved.error_status;
        registers.new_errors = saved.new_errors;
        registers.command = saved.command;
        registers.entries = saved.entries;
        let timer_mode = TimerMode::from_lvt(saved.entries[Source::Timer as usize]);
        registers.timer.set_mode(timer_mode, now.time);
        registers.timer.restore(saved, now.time);
        self.level.replace(&saved.trigger_mode);
        self.requests.replace(&saved.requests);
        self.publish(&registers);
        Ok(())
    }
}
