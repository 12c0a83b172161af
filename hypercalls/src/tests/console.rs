//! `console_io`.

use alloc::string::String;
use alloc::vec;

use log::LevelFilter;
use xen_abi::xen::Hypercall;
use xen_core::{Error, PAGE_SIZE};

use super::{Guest, NOWHERE, World, err};

const CONSOLE: Hypercall = Hypercall::CONSOLE_IO;
const AT: u64 = 0x8000;

fn ring(world: &World) -> String {
    let mut bytes = vec![0; 1 << 14];
    let (_, n) = world.machine.hv.console.read_ring(0, &mut bytes);
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

fn write(guest: &Guest<'_>, text: &str) -> i64 {
    guest.put(AT, text.as_bytes());
    guest.call(CONSOLE, &[0, text.len() as u64, AT])
}

#[test]
fn dom0_writes_as_it_likes() {
    let world = World::new();
    world.machine.hv.console.set_to_ring(true);
    let dom0 = world.guest(0);
    assert_eq!(write(&dom0, "Hello,\x07 "), 0);
    assert_eq!(write(&dom0, "world\n"), 0);
    assert_eq!(dom0.call(CONSOLE, &[0, 0, NOWHERE]), 0);
    let long: String = ('a'..='z').cycle().take(3 * PAGE_SIZE as usize).collect();
    assert_eq!(write(&dom0, &long), 0);
    assert_eq!(ring(&world), alloc::format!("Hello,\x07 world\n{long}"));
    world.end([dom0]);
}

#[test]
fn a_bad_buffer() {
    let world = World::new();
    world.machine.hv.console.set_to_ring(true);
    let dom0 = world.guest(0);
    assert_eq!(dom0.call(CONSOLE, &[0, 1, NOWHERE]), err(Error::Fault));
    assert_eq!(dom0.call(CONSOLE, &[0, 10, u64::MAX]), err(Error::Fault));
    dom0.put(AT, &[b'x'; PAGE_SIZE as usize]);
    dom0.unmap(AT + PAGE_SIZE);
    let count = u64::from(u32::MAX);
    assert_eq!(dom0.call(CONSOLE, &[0, count, AT]), err(Error::Fault));
    // What came before was written.
    assert_eq!(ring(&world), "x".repeat(PAGE_SIZE as usize));
    world.end([dom0]);
}

#[test]
fn others_write_if_the_console_shows_them() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    assert_eq!(write(&domu, "no\n"), err(Error::Perm));
    // Whoever may not, is not told about the buffer either.
    assert_eq!(domu.call(CONSOLE, &[0, 1, NOWHERE]), err(Error::Perm));
    let console = world.machine.hv.console;
    console.set_levels(LevelFilter::Info, LevelFilter::Info);
    assert_eq!(write(&domu, "one\n\x1b[2Jtwo\n\nthree"), 0);
    assert_eq!(domu.call(CONSOLE, &[0, 1, NOWHERE]), err(Error::Fault));
    assert_eq!(ring(&world), "(d1) one\n(d1) [2Jtwo\n(d1) three\n");
    // Reading is another matter.
    assert_eq!(domu.call(CONSOLE, &[1, 10, AT]), err(Error::Perm));
    assert_eq!(domu.call(CONSOLE, &[2, 10, AT]), err(Error::Perm));
    world.end([dom0, domu]);
}

#[test]
fn dom0_reads_what_was_typed() {
    let world = World::new();
    let (dom0, domu) = (world.guest(0), world.guest(1));
    let hv = &world.machine.hv;
    let read = |guest: &Guest<'_>, count: u64| guest.call(CONSOLE, &[1, count, AT]);
    assert_eq!(read(&dom0, 10), 0);
    b"hello".iter().for_each(|b| hv.console.receive(*b));
    hv.console.handle_input(hv);
    assert_eq!(read(&domu, 10), err(Error::Perm));
    assert_eq!(read(&dom0, 0), 0);
    assert_eq!(read(&dom0, 1 << 31), err(Error::TooBig));
    assert_eq!(read(&dom0, 2), 2);
    assert_eq!(dom0.bytes(AT, 3), b"he\0");
    assert_eq!(read(&dom0, i32::MAX as u64), 3);
    assert_eq!(dom0.bytes(AT, 4), b"llo\0");
    assert_eq!(read(&dom0, 10), 0);
    assert_eq!(dom0.call(CONSOLE, &[1, 5, NOWHERE]), 0);
    hv.console.receive(b'x');
    hv.console.handle_input(hv);
    assert_eq!(dom0.call(CONSOLE, &[1, 5, NOWHERE]), err(Error::Fault));
    assert_eq!(dom0.call(CONSOLE, &[2, 5, AT]), err(Error::NoSys));
    world.end([dom0, domu]);
}
