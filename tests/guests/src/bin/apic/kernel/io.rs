//! The I/O APIC's registers, behind its two words in memory.

use guest_rt::machine::{peek, peek8, poke};
use guest_rt::tests::Tests;

/// Where a PC's first one is.
const AT: u64 = 0xfec0_0000;
const WINDOW: u64 = AT + 0x10;
const ID: u32 = 0;
const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;

/// Bits of an entry's lower half.
pub(crate) mod entry {
    /// Delivery status: the hardware's.
    pub(crate) const STATUS: u32 = 1 << 12;
    /// Active at the low level.
    pub(crate) const LOW: u32 = 1 << 13;
    /// A level-triggered interrupt that was accepted has not ended.
    pub(crate) const REMOTE_IRR: u32 = 1 << 14;
    /// Level-triggered.
    pub(crate) const LEVEL: u32 = 1 << 15;
    /// Masked.
    pub(crate) const MASKED: u32 = 1 << 16;
}

fn read(register: u32) -> u32 {
    poke(AT, register);
    peek(WINDOW)
}

fn write(register: u32, value: u32) {
    poke(AT, register);
    poke(WINDOW, value);
}

/// The lower half of the entry of an interrupt.
pub(crate) fn entry(interrupt: u32) -> u32 {
    read(FIRST_ENTRY + 2 * interrupt)
}

/// Sets the lower half of the entry of an interrupt.
pub(crate) fn set_entry(interrupt: u32, low: u32) {
    write(FIRST_ENTRY + 2 * interrupt, low);
}

/// Sends an interrupt to the APIC of this identifier.
pub(crate) fn set_destination(interrupt: u32, id: u32) {
    write(FIRST_ENTRY + 2 * interrupt + 1, id << 24);
}

pub(crate) fn test(t: &mut Tests) {
    const ENTRY: u32 = 22;
    let version = read(VERSION);
    t.check("version", matches!(version & 0xff, 0x11 | 0x20));
    t.check("entries", version >> 16 & 0xff >= ENTRY);
    for register in [VERSION, FIRST_ENTRY, 0x3f] {
        poke(AT, register);
        t.expect("what is selected", peek(AT), register);
    }
    t.expect("a byte of it", peek8(AT), 0x3f);
    let id = read(ID);
    write(ID, 0x0500_0000);
    t.expect("identifier", read(ID), 0x0500_0000);
    write(ID, id);
    write(VERSION, !version);
    t.expect("the version stays", read(VERSION), version);
    for masked in (0..=ENTRY).filter(|n| *n != 2) {
        t.expect(
            "masked at first",
            entry(masked) & entry::MASKED,
            entry::MASKED,
        );
    }
    let before = (entry(ENTRY), read(FIRST_ENTRY + 2 * ENTRY + 1));
    for value in [0xf9ff, 0x1_a0ff, 0x1_0000, 0x1_0931] {
        let value = value | entry::MASKED;
        set_entry(ENTRY, value | entry::STATUS | entry::REMOTE_IRR);
        let fixed = entry::STATUS | entry::REMOTE_IRR;
        t.expect("an entry", entry(ENTRY), value & !fixed);
    }
    set_destination(ENTRY, 0xa5);
    t.expect(
        "a destination",
        read(FIRST_ENTRY + 2 * ENTRY + 1) >> 24,
        0xa5,
    );
    set_entry(ENTRY, before.0);
    write(FIRST_ENTRY + 2 * ENTRY + 1, before.1);
}
