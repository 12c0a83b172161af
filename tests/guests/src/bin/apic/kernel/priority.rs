//! Which interrupt comes first, and which one interrupts another.

use core::sync::atomic::{AtomicBool, Ordering};

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::interrupts::register;
use guest_rt::machine::lapic::{self, Target, registers as r};
use guest_rt::machine::{self as m, cpu};
use guest_rt::tests::Tests;

use super::log::{self, END};
use super::modes::Mode;

/// What the outer handler saw.
static SAW: AtomicBool = AtomicBool::new(false);

pub(crate) fn test(t: &mut Tests, _: Mode) {
    for vector in [0x20, 0x30, 0x38, 0x48, 0x55, 0x60, 0x77, 0xef] {
        register(vector, log::vector);
    }
    log::take(0);
    in_order(t);
    once(t);
    held_back(t);
    nested(t);
    not_before_the_end(t);
}

fn send(vectors: &[u8]) {
    for vector in vectors {
        lapic::send(*vector, Target::Me);
    }
}

/// The highest of those that wait comes first.
fn in_order(t: &mut Tests) {
    send(&[0x30, 0xef, 0x20, 0x60, 0x38]);
    t.check(
        "requested",
        lapic::is_requested(0x20) && lapic::is_requested(0xef),
    );
    t.check("all come", log::arrive(5));
    t.expect(
        "by priority",
        log::take(0),
        log::just(&[0xef, 0x60, 0x38, 0x30, 0x20]),
    );
}

/// A vector that waits does not wait twice.
fn once(t: &mut Tests) {
    send(&[0x55, 0x55, 0x55]);
    t.check("it comes", log::arrive(1));
    log::settle();
    t.expect("once", log::take(0), log::just(&[0x55]));
}

/// The task priority holds back its class and all below, by either of its names.
fn held_back(t: &mut Tests) {
    // QEMU ends itself when CR8 is written while a hypervisor waits for the priority to become low enough.
    for by_cr8 in [false, true].into_iter().take(1 + usize::from(is_oxen())) {
        let set = |priority: u32| {
            if by_cr8 {
                cpu::set_cr8((priority >> 4).into());
            } else {
                lapic::write(r::TASK_PRIORITY, priority);
            }
        };
        // Xen asks the CPU to say when the priority is low enough. QEMU's says so too early for the same class.
        let same_class = if is_oxen() { 0x50 } else { 0x60 };
        let above = if is_oxen() { 0x60 } else { 0x77 };
        set(same_class);
        send(&[0x55, above, 0x30]);
        t.check("one is above", log::arrive(1));
        log::settle();
        t.expect("the others wait", log::take(0), log::just(&[above.into()]));
        t.check(
            "requested",
            lapic::is_requested(0x55) && lapic::is_requested(0x30),
        );
        set(0x40);
        t.check("another one", log::arrive(1));
        log::settle();
        t.expect("its class is above", log::take(0), log::just(&[0x55]));
        set(0);
        t.check("the last one", log::arrive(1));
        t.expect("nothing holds it", log::take(0), log::just(&[0x30]));
    }
}

fn outer(vector: u8) {
    log::note(vector.into());
    let priority = lapic::read(r::PROCESSOR_PRIORITY);
    SAW.store(
        lapic::is_in_service(vector) && !lapic::is_requested(vector) && priority == 0x40,
        Ordering::SeqCst,
    );
    send(&[0x48, 0x60, 0x30]);
    m::unmask();
    m::mask();
    log::note(u16::from(vector) | END);
}

/// What is more urgent interrupts a handler that lets it; the same class does not.
fn nested(t: &mut Tests) {
    register(0x40, outer);
    send(&[0x40]);
    t.check("all come", log::arrive(5));
    t.expect(
        "the urgent one inside, the others behind",
        log::take(0),
        log::just(&[0x40, 0x60, 0x40 | END, 0x48, 0x30]),
    );
    t.check("in service meanwhile", SAW.load(Ordering::SeqCst));
    t.check("and no more", !lapic::is_in_service(0x40));
    t.expect("no priority", lapic::read(r::PROCESSOR_PRIORITY), 0);
}

fn again(vector: u8) {
    log::note(vector.into());
    if log::count(0) < 4 {
        send(&[vector]);
        m::unmask();
        m::mask();
    }
    log::note(u16::from(vector) | END);
}

/// A vector in service comes again behind its end, not inside.
fn not_before_the_end(t: &mut Tests) {
    const V: u16 = 0x44;
    register(V as u8, again);
    send(&[V as u8]);
    t.check("both come", log::arrive(6));
    t.expect(
        "one behind the other",
        log::take(0),
        log::just(&[V, V | END, V, V | END, V, V | END]),
    );
    // Ends without an interrupt in service change nothing.
    lapic::end_interrupt();
    t.expect("no priority", lapic::read(r::PROCESSOR_PRIORITY), 0);
}
