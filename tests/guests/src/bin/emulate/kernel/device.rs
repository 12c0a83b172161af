//! Registers of emulated devices that keep what is written to them.
//!
//! The local timer's initial count has 4 bytes, which are accessed as one. The message of the disk controller (MSI), which
//! is switched off, has 6 in a row, accessed in any way: the upper half of an address, and data.

use guest_rt::machine::cpu::{in32, out32};
use guest_rt::machine::lapic::{self, lvt, registers as r};
use guest_rt::machine::peek;

/// Ports of PCI configuration.
pub(crate) const ADDRESS: u16 = 0xcf8;
/// See [`ADDRESS`].
pub(crate) const DATA: u16 = 0xcfc;
/// The disk controller: device 31, function 2.
const DISK: u32 = 31 << 11 | 2 << 8;
const MESSAGES: u8 = 5;

/// Selects a word of the disk controller's configuration for [`DATA`].
pub(crate) fn select(offset: u32) {
    out32(ADDRESS, 1 << 31 | DISK | offset & 0xfc);
}

/// Reads a word of the disk controller's configuration by ports.
pub(crate) fn config(offset: u32) -> u32 {
    select(offset);
    in32(DATA)
}

/// Where configuration is in memory: what the chipset's register says.
fn memory() -> u64 {
    const BASE: u32 = 0x60;
    out32(ADDRESS, 1 << 31 | BASE);
    u64::from(in32(DATA)) & 0xf000_0000
}

/// Where the disk controller's configuration is in memory.
pub(crate) fn header() -> u64 {
    memory() + (u64::from(DISK) << 4)
}

/// Offset of the upper half of the message's address in its configuration.
pub(crate) fn message_offset() -> Option<u32> {
    let mut at = config(0x34) & 0xfc;
    while at != 0 {
        let word = config(at);
        if word as u8 == MESSAGES {
            const WIDE: u32 = 1 << 23;
            return (word & WIDE != 0).then_some(at + 8);
        }
        at = word >> 8 & 0xfc;
    }
    None
}

/// Address of the upper half of the message's address in memory, if it has one.
pub(crate) fn message() -> Option<u64> {
    Some(header() + u64::from(message_offset()?))
}

/// Address of the timer's initial count.
pub(crate) fn count() -> u64 {
    lapic::address() + u64::from(r::INITIAL)
}

/// Has the local APIC's registers in memory, and its timer without an interrupt.
pub(crate) fn prepare() {
    let rest = lapic::read_base() & !(lapic::base::ENABLED | lapic::base::X2APIC);
    lapic::set_base(rest);
    lapic::set_base(rest | lapic::base::ENABLED);
    lapic::switch_on();
    lapic::write(r::TIMER, lvt::MASKED);
    peek(count());
}
