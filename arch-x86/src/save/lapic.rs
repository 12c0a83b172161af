//! The records of a local APIC.

use xen_core::{Error, Result};

use super::record::{LAPIC_REGS_SIZE, Lapic};
use crate::platform::lapic::{Saved, Vectors};

/// Offsets in the page of registers.
mod offset {
    pub(super) const ID: usize = 0x20;
    pub(super) const VERSION: usize = 0x30;
    pub(super) const TASK_PRIORITY: usize = 0x80;
    pub(super) const LOGICAL: usize = 0xd0;
    pub(super) const FORMAT: usize = 0xe0;
    pub(super) const SPURIOUS: usize = 0xf0;
    pub(super) const IN_SERVICE: usize = 0x100;
    pub(super) const TRIGGER_MODE: usize = 0x180;
    pub(super) const REQUEST: usize = 0x200;
    pub(super) const ERRORS: usize = 0x280;
    pub(super) const COMMAND: usize = 0x300;
    pub(super) const COMMAND_HIGH: usize = 0x310;
    pub(super) const ENTRIES: usize = 0x320;
    pub(super) const INITIAL_COUNT: usize = 0x380;
    pub(super) const CURRENT_COUNT: usize = 0x390;
    pub(super) const DIVIDE: usize = 0x3e0;
}

/// Bytes from one register to the next.
const STEP: usize = 16;
/// What the version register reads.
const VERSION: u32 = 0x0005_0014;
/// Bits of entries that software writes: timer, thermal, performance, LINT0, LINT1, error.
const ENTRY_BITS: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
/// An entry is masked.
const MASKED: u32 = 1 << 16;
/// Bits of the spurious vector register; software has enabled the APIC.
const SPURIOUS_BITS: u32 = 0x3ff;
const SPURIOUS_ENABLED: u32 = 1 << 8;
/// Bits of the destination format register that are always set.
const FORMAT_ONES: u32 = 0x0fff_ffff;
/// APIC_BASE: x2APIC mode, enabled.
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
/// [`Lapic::disabled`].
const DISABLED_BY_SOFTWARE: u32 = 1;
const DISABLED_IN_BASE: u32 = 2;

/// A page of registers, as far as there are any.
pub type Registers = [u8; LAPIC_REGS_SIZE];

fn get(page: &Registers, at: usize) -> u32 {
    let bytes = page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn put(page: &mut Registers, at: usize, value: u32) {
    if let Some(bytes) = page.get_mut(at..at + 4) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

/// What a divide configuration register divides by.
const fn divisor(divide: u32) -> u32 {
    let field = divide >> 1 & 4 | divide & 3;
    1 << ((field + 1) & 7)
}

/// The records of an APIC with this ID.
pub fn to_records(saved: &Saved, id: u32) -> (Lapic, Registers) {
    let x2apic = saved.base & BASE_X2APIC != 0;
    let disabled = match saved.spurious & SPURIOUS_ENABLED {
        0 => DISABLED_BY_SOFTWARE,
        _ => 0,
    } | match saved.base & BASE_ENABLED {
        0 => DISABLED_IN_BASE,
        _ => 0,
    };
    let lapic = Lapic {
        apic_base_msr: saved.base,
        disabled,
        timer_divisor: divisor(saved.timer_divide),
        tdt_msr: saved.tsc_deadline,
        pending_esr: saved.new_errors,
        reserved: 0,
    };
    let mut page = [0; LAPIC_REGS_SIZE];
    let logical = match x2apic {
        true => id >> 4 << 16 | 1 << (id & 0xf),
        false => u32::from(saved.logical_destination) << 24,
    };
    for (at, value) in [
        (offset::ID, if x2apic { id } else { id << 24 }),
        (offset::VERSION, VERSION),
        (offset::TASK_PRIORITY, saved.task_priority.into()),
        (offset::LOGICAL, logical),
        (offset::FORMAT, saved.destination_format),
        (offset::SPURIOUS, saved.spurious),
        (offset::ERRORS, saved.error_status),
        (offset::COMMAND, saved.command as u32),
        (offset::COMMAND_HIGH, (saved.command >> 32) as u32),
        (offset::INITIAL_COUNT, saved.timer_initial),
        (offset::CURRENT_COUNT, saved.timer_count),
        (offset::DIVIDE, saved.timer_divide),
    ] {
        put(&mut page, at, value);
    }
    for (base, set) in [
        (offset::IN_SERVICE, &saved.in_service),
        (offset::TRIGGER_MODE, &saved.trigger_mode),
        (offset::REQUEST, &saved.requests),
    ] {
        for (n, word) in set.0.iter().enumerate() {
            put(&mut page, base + n * STEP, *word);
        }
    }
    for (n, entry) in saved.entries.iter().enumerate() {
        put(&mut page, offset::ENTRIES + n * STEP, *entry);
    }
    (lapic, page)
}

/// Takes over what the first record holds.
///
/// # Errors
/// [`Error::Inval`] for a base that cannot be.
pub fn set_hidden(saved: &mut Saved, from: &Lapic) -> Result<()> {
    if from.apic_base_msr & (BASE_ENABLED | BASE_X2APIC) == BASE_X2APIC {
        return Err(Error::Inval);
    }
    saved.base = from.apic_base_msr;
    saved.tsc_deadline = from.tdt_msr;
    saved.new_errors = from.pending_esr & 0xff;
    Ok(())
}

/// Takes over what the registers hold. Bits that are read-only do not count.
pub fn set_registers(saved: &mut Saved, page: &Registers) {
    let vectors = |base: usize| Vectors(core::array::from_fn(|n| get(page, base + n * STEP)));
    saved.task_priority = get(page, offset::TASK_PRIORITY) as u8;
    saved.logical_destination = (get(page, offset::LOGICAL) >> 24) as u8;
    saved.destination_format = get(page, offset::FORMAT) | FORMAT_ONES;
    saved.spurious = get(page, offset::SPURIOUS) & SPURIOUS_BITS;
    saved.in_service = vectors(offset::IN_SERVICE);
    saved.trigger_mode = vectors(offset::TRIGGER_MODE);
    saved.requests = vectors(offset::REQUEST);
    saved.error_status = get(page, offset::ERRORS) & 0xff;
    let high = get(page, offset::COMMAND_HIGH);
    saved.command = u64::from(high) << 32 | u64::from(get(page, offset::COMMAND));
    let masked = match saved.spurious & SPURIOUS_ENABLED {
        0 => MASKED,
        _ => 0,
    };
    for (n, (entry, bits)) in saved.entries.iter_mut().zip(ENTRY_BITS).enumerate() {
        *entry = get(page, offset::ENTRIES + n * STEP) & bits | masked;
    }
    saved.timer_divide = get(page, offset::DIVIDE) & 0xb;
    saved.timer_initial = get(page, offset::INITIAL_COUNT);
    saved.timer_count = get(page, offset::CURRENT_COUNT);
}
