//! A level-triggered interrupt, of the chipset's controller of the system-management bus: a transaction with a device that
//! there is not ends at once with an error, which asserts the interrupt until the error is cleared.

use core::sync::atomic::{AtomicU32, Ordering};

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::cpu::{in8, in32, out8, out32};
use guest_rt::machine::interrupts::{forget, register};
use guest_rt::machine::lapic;
use guest_rt::tests::Tests;
use guest_rt::{machine as m, println};

use super::io::{self, entry};
use super::log;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Device 31, function 3.
const FUNCTION: u32 = 1 << 31 | 31 << 11 | 3 << 8;
const CONTROLLER: u32 = 0x2930_8086;
/// Interrupts of PCI devices on this chipset.
const FIRST: u32 = 16;
const LAST: u32 = 23;
/// Vectors of these.
const VECTORS: u8 = 0xb0;

static PORT: AtomicU32 = AtomicU32::new(0);
/// How often the handler leaves the interrupt asserted.
static LEAVE: AtomicU32 = AtomicU32::new(0);
/// The handler masks the entry of its interrupt.
static MASK: AtomicU32 = AtomicU32::new(0);
/// What the handler saw: 1 level-triggered, 2 in service, 4 the entry says so.
static SAW: AtomicU32 = AtomicU32::new(0);

fn config(offset: u32) -> u32 {
    out32(ADDRESS, FUNCTION | offset);
    in32(DATA)
}

fn port(register: u16) -> u16 {
    PORT.load(Ordering::SeqCst) as u16 + register
}

/// Begins a transaction; the interrupt is asserted when it has failed.
fn assert() {
    const COMMAND: u16 = 2;
    const TO: u16 = 4;
    const NOBODY: u8 = 0x7e;
    const QUICK_START: u8 = 1 << 6 | 1;
    out8(port(TO), NOBODY);
    out8(port(COMMAND), QUICK_START);
}

fn clear() {
    out8(port(0), 0xff);
}

fn handler(vector: u8) {
    log::note(vector.into());
    let interrupt = FIRST + u32::from(vector - VECTORS);
    let trigger = lapic::read(lapic::registers::TRIGGER + u32::from(vector / 32) * 16);
    let saw = [
        trigger >> (vector % 32) & 1 != 0,
        lapic::is_in_service(vector),
        io::entry(interrupt) & entry::REMOTE_IRR != 0,
    ];
    let saw = saw
        .iter()
        .enumerate()
        .map(|(n, s)| u32::from(*s) << n)
        .sum();
    SAW.fetch_and(saw, Ordering::SeqCst);
    if MASK.swap(0, Ordering::SeqCst) != 0 {
        let low = io::entry(interrupt) & !(entry::REMOTE_IRR | entry::STATUS);
        io::set_entry(interrupt, low | entry::MASKED);
    } else if LEAVE.load(Ordering::SeqCst) == 0 {
        clear();
    } else {
        LEAVE.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn test(t: &mut Tests) {
    if config(0) != CONTROLLER {
        println!("no controller of that kind");
        return;
    }
    out32(ADDRESS, FUNCTION | 4);
    const IO: u32 = 1;
    out32(DATA, config(4) | IO);
    PORT.store(config(0x20) & 0xffe0, Ordering::SeqCst);
    clear();
    t.expect("nothing asserted", in8(port(0)) & !0x40, 0);
    log::take(0);
    for interrupt in FIRST..=LAST {
        let vector = VECTORS + (interrupt - FIRST) as u8;
        register(vector, handler);
        io::set_destination(interrupt, lapic::id());
        io::set_entry(interrupt, u32::from(vector) | entry::LEVEL | entry::LOW);
    }
    SAW.store(7, Ordering::SeqCst);
    assert();
    let came = log::arrive(1);
    if !came && !is_oxen() {
        // With QEMU's AMD IOMMU no interrupt of the I/O APIC reaches Xen.
        println!("no interrupt of a device arrives");
        return;
    }
    t.check("it comes", came);
    log::settle();
    let first = log::take(0);
    let vector = first[0];
    t.expect("once", first, log::just(&[vector]));
    t.expect("as a level", SAW.load(Ordering::SeqCst), 7);
    let interrupt = FIRST + u32::from(vector).saturating_sub(VECTORS.into());
    t.expect("it ended", io::entry(interrupt) & entry::REMOTE_IRR, 0);
    // Still asserted behind its end: again.
    LEAVE.store(2, Ordering::SeqCst);
    assert();
    t.check("it comes", log::arrive(3));
    log::settle();
    t.expect("until it is cleared", log::take(0), log::just(&[vector; 3]));
    // Masked while it is asserted, and unmasked.
    MASK.store(1, Ordering::SeqCst);
    assert();
    t.check("it comes", log::arrive(1));
    log::settle();
    t.expect("masked", log::take(0), log::just(&[vector]));
    let low = io::entry(interrupt) & !(entry::REMOTE_IRR | entry::STATUS);
    io::set_entry(interrupt, low & !entry::MASKED);
    t.check("unmasked", log::arrive(1));
    log::settle();
    t.expect("once", log::take(0), log::just(&[vector]));
    // Deasserted before anybody takes it: nothing, or one that finds nothing, and then peace.
    assert();
    clear();
    log::settle();
    log::take(0);
    for interrupt in FIRST..=LAST {
        io::set_entry(interrupt, entry::MASKED);
        forget(VECTORS + (interrupt - FIRST) as u8);
    }
    assert();
    log::settle();
    t.expect("all masked", log::take(0), log::just(&[]));
    clear();
    m::mask();
}
