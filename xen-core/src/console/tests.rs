//! Tests of the console.

use log::{Level, LevelFilter, Log, Record};

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::input::{Event, Focus, Input};
use super::ring::{Ring, SIZE};
use super::{Clock, Console, GUEST, Levels, Timestamps, stamp};
use crate::{DomainId, Time};

fn text(console: &Console) -> String {
    let mut bytes = vec![0; SIZE];
    let (_, n) = console.read_ring(0, &mut bytes);
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

#[test]
fn each_line_of_the_hypervisor_has_the_prefix() {
    let console = Console::new();
    console.print(format_args!("one\ntwo {}", 2));
    console.print(format_args!("three\n"));
    assert_eq!(text(&console), "(XEN) one\n(XEN) two 2\n(XEN) three\n");
}

#[test]
fn levels_decide_what_is_shown() {
    let console = Console::new();
    console.set_levels(LevelFilter::Warn, LevelFilter::Error);
    for (level, message) in [(Level::Info, "info"), (Level::Warn, "warn")] {
        console.log(
            &Record::builder()
                .level(level)
                .args(format_args!("{message}"))
                .build(),
        );
    }
    console.write_guest(DomainId(1), b"not shown");
    assert_eq!(text(&console), "(XEN) warn\n");
    console.set_levels(LevelFilter::Warn, LevelFilter::Info);
    console.write_guest(DomainId(1), b"he\x1bl\xfflo");
    assert_eq!(text(&console), "(XEN) warn\n(d1) hello\n");
}

#[test]
fn the_ring_keeps_the_latest_and_can_be_read_on() {
    let console = Console::new();
    console.set_to_ring(true);
    console.write_hardware_domain(&[b'a'; SIZE]);
    console.write_hardware_domain(b"xyz");
    let mut buffer = [0; 4];
    assert_eq!(console.read_ring(0, &mut buffer), (7, 4));
    assert_eq!(&buffer, b"aaaa");
    assert_eq!(
        console.read_ring(SIZE as u64, &mut buffer),
        (SIZE as u64 + 3, 3)
    );
    assert_eq!(&buffer[..3], b"xyz");
    console.forget_ring(u64::MAX);
    assert_eq!(console.read_ring(0, &mut buffer).1, 0);
}

#[test]
fn a_reader_finds_its_place_again() {
    let console = Console::new();
    console.set_to_ring(true);
    assert_eq!(console.ring_span(), 0..0);
    assert_eq!(console.ring_position(5), 0);
    console.write_hardware_domain(&[b'a'; SIZE + 10]);
    let end = SIZE as u64 + 10;
    assert_eq!(console.ring_span(), 10..end);
    for (index, position) in [(10, 10), (77, 77), (end as u32, end)] {
        assert_eq!(console.ring_position(index), position);
    }
    // What is lost, and what never was.
    for index in [0, 9, end as u32 + 1, u32::MAX] {
        assert_eq!(console.ring_position(index), 10);
    }
    console.forget_ring(5);
    assert_eq!(console.ring_span(), 10..end);
    console.forget_ring(100);
    assert_eq!(console.ring_span(), 100..end);
    assert_eq!(console.ring_position(99), 100);
}

#[cfg(feature = "mgmt_hypercalls")]
#[test]
fn news_is_what_nobody_was_told_of() {
    let machine = crate::soft::Machine::new(64, 1);
    let console = machine.hv.console;
    assert!(!console.has_news());
    console.print(format_args!("something"));
    assert!(console.has_news());
    console.announce_ring(&machine.hv);
    assert!(!console.has_news());
}

#[test]
fn a_line_attached_later_gets_what_was_printed_before() {
    static SEEN: spin::Mutex<Vec<u8>> = spin::Mutex::new(Vec::new());
    let console = Console::new();
    console.print(format_args!("early"));
    console.attach(|bytes| SEEN.lock().extend_from_slice(bytes));
    console.print(format_args!("late"));
    assert_eq!(*SEEN.lock(), b"(XEN) early\n(XEN) late\n");
}

#[test]
fn three_switch_characters_in_a_row_change_the_focus() {
    let mut input = Input::new();
    let mut feed = |bytes: &[u8]| -> Vec<Event> {
        bytes.iter().for_each(|b| input.receive(*b));
        core::iter::from_fn(|| input.next_event()).collect()
    };
    assert_eq!(feed(b"\x01\x01x"), [Event::Dom0; 3]);
    assert_eq!(feed(b"\x01\x01\x01h").last(), Some(&Event::Key(b'h')));
    assert_eq!(feed(b"\x01q"), [Event::Key(b'q')]);
    assert_eq!(feed(b"\x01\x01\x01"), [Event::Switched(Focus::Dom0)]);
    let mut got = [0; 16];
    assert_eq!(input.read(&mut got), 5);
    assert_eq!(&got[..5], b"\x01\x01x\x01\x01");
}

#[test]
fn input_that_nobody_reads_is_dropped_not_kept_for_ever() {
    let console = Console::new();
    (0..1000).for_each(|_| console.receive(b'x'));
    let mut bytes = [0; 1000];
    assert_eq!(console.read_input(&mut bytes), 0);
}

fn record(console: &Console, level: Level, target: &str, message: &str) {
    console.log(
        &Record::builder()
            .level(level)
            .target(target)
            .args(format_args!("{message}"))
            .build(),
    );
}

#[test]
fn messages_about_guests_have_levels_of_their_own() {
    let console = Console::new();
    console.set_levels(LevelFilter::Info, LevelFilter::Error);
    record(&console, Level::Warn, GUEST, "about a guest");
    record(&console, Level::Error, GUEST, "an error");
    record(&console, Level::Info, "elsewhere", "its own");
    assert_eq!(text(&console), "(XEN) an error\n(XEN) its own\n");
}

#[test]
fn limited_messages_do_not_flood_the_console() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let console = Console::new();
    let levels = Levels {
        always: LevelFilter::Warn,
        limited: LevelFilter::Info,
    };
    console.set_levels(levels, levels);
    let lines = |console: &Console| text(console).lines().count();
    // Before there is a clock nothing is kept back.
    (0..30).for_each(|_| record(&console, Level::Info, "", "early"));
    assert_eq!(lines(&console), 30);
    console.forget_ring(u64::MAX);
    console.set_clock(Clock {
        now: || Time(NOW.load(Ordering::Relaxed)),
        ticks: || 0,
    });
    for _ in 0..30 {
        record(&console, Level::Info, "", "limited");
        console.write_guest(DomainId(1), b"shares the limit");
        record(&console, Level::Warn, "", "always");
        record(&console, Level::Debug, "", "never");
    }
    assert_eq!(lines(&console), 10 + 30);
    console.forget_ring(u64::MAX);
    // One each five seconds, with the number of those that were not shown.
    for _ in 0..2 {
        NOW.fetch_add(5_000_000_000, Ordering::Relaxed);
        (0..4).for_each(|_| record(&console, Level::Info, "", "limited"));
    }
    assert_eq!(
        text(&console),
        "(XEN) 50 messages suppressed\n(XEN) limited\n(XEN) 3 messages suppressed\n(XEN) limited\n"
    );
}

#[test]
fn guests_output_is_in_the_ring_if_wanted() {
    static SEEN: spin::Mutex<Vec<u8>> = spin::Mutex::new(Vec::new());
    let console = Console::new();
    console.attach(|bytes| SEEN.lock().extend_from_slice(bytes));
    console.write_hardware_domain(b"one ");
    console.set_to_ring(true);
    console.write_hardware_domain(b"two ");
    assert_eq!(text(&console), "two ");
    assert_eq!(*SEEN.lock(), b"one two ");
}

#[test]
fn lines_have_timestamps() {
    let clock = Clock {
        now: || Time(3_723_045_678_901),
        ticks: || 0x1234_5678,
    };
    let console = Console::new();
    console.set_timestamps(Timestamps::Boot);
    console.print(format_args!("no clock yet"));
    console.set_clock(clock);
    console.print(format_args!("a\nb"));
    assert_eq!(
        text(&console),
        "(XEN) no clock yet\n(XEN) [ 3723.045678] a\n(XEN) [ 3723.045678] b\n"
    );
    // 2026-11-21 15:00:00 UTC.
    let wallclock = 1_795_273_200 * 1_000_000_000;
    for (kind, wallclock, expected) in [
        (Timestamps::None, wallclock, ""),
        (Timestamps::Date, wallclock, "[2026-11-21 16:02:03] "),
        (Timestamps::DateMs, wallclock, "[2026-11-21 16:02:03.045] "),
        (Timestamps::Date, 0, "[ 3723.045678] "),
        (Timestamps::Raw, 0, "[0000000012345678] "),
    ] {
        let mut out = String::new();
        stamp::write(&mut out, kind, clock, wallclock).unwrap();
        assert_eq!(out, expected);
    }
}

#[test]
fn dates_follow_each_other() {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..200_000 {
        assert_eq!(stamp::date(days), (year, month, day));
        let length = match month {
            2 if leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > length {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
}

proptest! {
    /// The ring shows the tail of all that was written, whatever its size was and becomes.
    #[test]
    fn the_ring_is_the_tail_of_what_was_written(
        ops in prop::collection::vec((prop::option::weighted(0.2, 1..3000usize), 0..5000usize), 1..30),
    ) {
        let mut ring = Ring::new();
        let (mut all, mut kept) = (Vec::new(), 0);
        for (n, (size, count)) in ops.into_iter().enumerate() {
            if let Some(size) = size {
                ring.resize(size).unwrap();
            }
            kept = kept.min(ring.size());
            let part: Vec<u8> = (0..count).map(|at| (at * 7 + n) as u8).collect();
            ring.push(&part);
            all.extend_from_slice(&part);
            kept = (kept + count).min(ring.size());
            let mut seen = vec![0; all.len() + 1];
            let (end, count) = ring.read(0, &mut seen);
            prop_assert_eq!(end, all.len() as u64);
            prop_assert_eq!(count, kept);
            prop_assert_eq!(&seen[..count], &all[all.len() - kept..]);
        }
    }
}
