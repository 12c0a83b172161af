//! Tests of the console.

use log::{Level, LevelFilter, Log, Record};

use super::Console;
use super::input::{Event, Focus, Input};
use super::ring::SIZE;
use crate::DomainId;

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
    console.clear_ring();
    assert_eq!(console.read_ring(0, &mut buffer).1, 0);
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
