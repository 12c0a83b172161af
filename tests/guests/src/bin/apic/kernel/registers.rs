//! What each register reads at reset and after it was written, and which accesses fault.

use guest_rt::hypercall::is_oxen;
use guest_rt::machine::lapic::{self, FIRST_MSR, lvt, registers as r};
use guest_rt::machine::{cpu, faults};
use guest_rt::tests::Tests;

use super::log;
use super::modes::{self, Mode};

const THERMAL: u32 = 0x330;
const PERFORMANCE: u32 = 0x340;
const ENTRIES: [u32; 6] = [r::TIMER, THERMAL, PERFORMANCE, r::LINT0, r::LINT1, r::ERROR];
/// Delivery status: the hardware's.
const STATUS: u32 = 1 << 12;
const REMOTE_IRR: u32 = 1 << 14;
/// Software's switch.
const ON: u32 = 1 << 8;

pub(crate) fn test(t: &mut Tests, mode: Mode) {
    modes::reset(mode);
    at_reset(t, mode);
    switched_off(t);
    lapic::switch_on();
    match mode {
        Mode::Memory => in_memory(t),
        Mode::Msrs => as_msrs(t),
    }
    lapic::switch_on();
    priorities(t);
    errors(t);
    modes::enter(mode);
}

fn at_reset(t: &mut Tests, mode: Mode) {
    let version = lapic::read(r::VERSION);
    t.check("version", (0x10..0x20).contains(&(version & 0xff)));
    t.check("number of local vectors", version >> 16 & 0xff >= 4);
    for (what, register, value) in [
        ("priority", r::TASK_PRIORITY, 0),
        ("processor priority", r::PROCESSOR_PRIORITY, 0),
        ("spurious", r::SPURIOUS, 0xff),
        ("errors", r::ERRORS, 0),
        ("initial count", r::INITIAL, 0),
        ("current count", r::CURRENT, 0),
        ("divisor", r::DIVIDE, 0),
    ] {
        t.expect(what, lapic::read(register), value);
    }
    for entry in ENTRIES {
        t.expect("a local vector", lapic::read(entry), lvt::MASKED);
    }
    for n in 0..8 {
        for register in [r::IN_SERVICE, r::TRIGGER, r::REQUESTED] {
            t.expect("vectors", lapic::read(register + n * 16), 0);
        }
    }
    if mode == Mode::Memory {
        t.expect(
            "logical destination",
            lapic::read(r::LOGICAL_DESTINATION),
            0,
        );
        t.expect("format", lapic::read(r::DESTINATION_FORMAT), u32::MAX);
    } else {
        let id = lapic::id();
        let logical = id >> 4 << 16 | 1 << (id & 15);
        t.expect(
            "logical destination",
            lapic::read(r::LOGICAL_DESTINATION),
            logical,
        );
    }
}

/// With software's switch off local vectors stay masked, and commands are carried out all the same.
fn switched_off(t: &mut Tests) {
    for entry in ENTRIES {
        lapic::write(entry, 0x80);
        t.expect("masked", lapic::read(entry), lvt::MASKED | 0x80);
    }
    lapic::write(r::SPURIOUS, ON | 0xff);
    for entry in ENTRIES {
        t.expect("still masked", lapic::read(entry), lvt::MASKED | 0x80);
        lapic::write(entry, 0x80);
        t.expect("unmasked", lapic::read(entry), 0x80);
    }
    lapic::write(r::SPURIOUS, 0xff);
    for entry in ENTRIES {
        t.expect(
            "masked by the switch",
            lapic::read(entry),
            lvt::MASKED | 0x80,
        );
    }
}

/// Reserved bits are ignored here.
fn in_memory(t: &mut Tests) {
    let fields = lvt::MASKED | 0xff;
    let pins = fields | 7 << 8 | 1 << 13 | 1 << 15;
    for (what, register, value) in [
        ("priority", r::TASK_PRIORITY, 0xff),
        ("logical destination", r::LOGICAL_DESTINATION, 0xff00_0000),
        ("destination", r::COMMAND_DESTINATION, 0xff00_0000),
        ("spurious", r::SPURIOUS, 0x3ff),
        ("divisor", r::DIVIDE, 0xb),
        ("thermal", THERMAL, fields | 7 << 8),
        ("performance", PERFORMANCE, fields | 7 << 8),
        ("pin 0", r::LINT0, pins),
        ("pin 1", r::LINT1, pins),
        ("error", r::ERROR, fields),
    ] {
        lapic::write(register, u32::MAX);
        t.expect(what, lapic::read(register) & !STATUS & !REMOTE_IRR, value);
        lapic::write(register, 0);
    }
    lapic::write(r::TASK_PRIORITY, 0);
    lapic::write(r::DESTINATION_FORMAT, 0);
    t.expect(
        "cluster format",
        lapic::read(r::DESTINATION_FORMAT),
        0x0fff_ffff,
    );
    lapic::write(r::DESTINATION_FORMAT, u32::MAX);
    // Read-only ones.
    for register in [
        r::VERSION,
        r::PROCESSOR_PRIORITY,
        r::CURRENT,
        r::IN_SERVICE,
        r::REQUESTED,
    ] {
        let before = lapic::read(register);
        lapic::write(register, !before);
        t.expect("a read-only register", lapic::read(register), before);
    }
}

/// Reserved bits fault here, and so do registers that there are not.
fn as_msrs(t: &mut Tests) {
    let write =
        |register: u32, value: u64| faults(|| cpu::write_msr(FIRST_MSR + register / 16, value));
    let read = |number: u32| {
        faults(|| {
            cpu::read_msr(FIRST_MSR + number);
        })
    };
    for (register, value) in [
        (r::TASK_PRIORITY, 0x100),
        (r::END, 1),
        (r::SPURIOUS, 1 << 16),
        (r::ERRORS, 1),
        (r::COMMAND, 1 << 20),
        (r::TIMER, 1 << 8),
        (r::LINT0, 1 << 17),
        (r::LINT1, 1 << 31),
        (r::ERROR, 1 << 8),
        (r::DIVIDE, 4),
        (r::SELF, 0x100),
        (r::TASK_PRIORITY, 1 << 32),
        (r::TIMER, 1 << 63),
    ] {
        t.expect(
            "a reserved bit faults",
            (register, write(register, value)),
            (register, true),
        );
    }
    for register in [
        r::ID,
        r::VERSION,
        r::PROCESSOR_PRIORITY,
        r::LOGICAL_DESTINATION,
        r::IN_SERVICE,
        r::TRIGGER + 0x70,
        r::REQUESTED + 0x30,
        r::CURRENT,
    ] {
        t.expect(
            "read-only",
            (register, write(register, 0)),
            (register, true),
        );
    }
    for number in [r::END / 16, r::SELF / 16] {
        t.expect("write-only", (number, read(number)), (number, true));
    }
    // Not there: arbitration, remote read, destination format, upper command, and gaps.
    for number in [
        0, 1, 4, 7, 9, 0xc, 0xe, 0x29, 0x2e, 0x31, 0x3a, 0x3d, 0x40, 0x80, 0xff,
    ] {
        t.expect("no such register", (number, read(number)), (number, true));
        t.expect(
            "no such register",
            (number, write(number * 16, 0)),
            (number, true),
        );
    }
    // Xen takes the lower half.
    t.expect(
        "a count that is too large",
        write(r::INITIAL, 1 << 32),
        is_oxen(),
    );
    t.check("a legal value", !write(r::TASK_PRIORITY, 0x20));
    t.expect("is kept", lapic::read(r::TASK_PRIORITY), 0x20);
}

/// The two priorities, and CR8, which is the upper half of one.
fn priorities(t: &mut Tests) {
    for priority in [0x00, 0x0f, 0x10, 0x3c, 0xf0, 0xff] {
        lapic::write(r::TASK_PRIORITY, priority);
        t.expect("CR8", cpu::cr8(), u64::from(priority >> 4));
        t.expect(
            "processor priority",
            lapic::read(r::PROCESSOR_PRIORITY),
            priority,
        );
    }
    lapic::write(r::TASK_PRIORITY, 0);
    for priority in 0..16 {
        cpu::set_cr8(priority);
        t.expect(
            "priority by CR8",
            lapic::read(r::TASK_PRIORITY),
            (priority as u32) << 4,
        );
        t.expect("CR8 reads", cpu::cr8(), priority);
    }
    cpu::set_cr8(0);
    t.expect("no priority", lapic::read(r::TASK_PRIORITY), 0);
}

/// A vector below 16 is an error, which interrupts.
fn errors(t: &mut Tests) {
    const VECTOR: u8 = 0x71;
    /// Of sending or of receiving such a vector: which of the two is the model's choice.
    const ILLEGAL_VECTOR: u32 = 3 << 5;
    guest_rt::machine::interrupts::register(VECTOR, log::vector);
    log::take(0);
    lapic::write(r::ERROR, VECTOR.into());
    lapic::write(r::ERRORS, 0);
    t.expect("no errors yet", lapic::read(r::ERRORS), 0);
    lapic::send(5, lapic::Target::Me);
    t.check("the error interrupts", log::arrive(1));
    t.expect("not latched yet", lapic::read(r::ERRORS), 0);
    lapic::write(r::ERRORS, 0);
    t.check("latched", lapic::read(r::ERRORS) & ILLEGAL_VECTOR != 0);
    lapic::write(r::ERRORS, 0);
    t.expect("gone", lapic::read(r::ERRORS), 0);
    log::settle();
    t.expect("one interrupt", log::take(0), log::just(&[VECTOR.into()]));
    lapic::write(r::ERROR, lvt::MASKED);
    lapic::send(5, lapic::Target::Me);
    log::settle();
    t.expect("masked", log::take(0), log::just(&[]));
    lapic::write(r::ERRORS, 0);
    lapic::write(r::ERRORS, 0);
}
