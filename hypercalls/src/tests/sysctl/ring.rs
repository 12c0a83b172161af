//! The hypervisor's messages: read, told of, forgotten. Debug keys.

use xen_abi::Handle;
use xen_abi::event_channel::BindVirq;
use xen_abi::sysctl::*;
use xen_abi::versioned::Wire;
use xen_abi::xen::{Hypercall, Virq};
use xen_core::{Error, Port};

use super::super::{Guest, LIST, NOWHERE, World, err};
use super::ask;

/// Reads messages: the text, and the index behind it.
fn read(guest: &Guest<'_>, clear: bool, index: Option<u32>, room: u32) -> (String, u32) {
    let mut args = ReadConsole {
        clear: clear.into(),
        incremental: index.is_some().into(),
        index: index.unwrap_or(0),
        buffer: Handle(LIST),
        count: room,
    };
    assert_eq!(ask!(guest, READCONSOLE, Interface::V15, &mut args), 0);
    let text = guest.bytes(LIST, args.count as usize);
    (String::from_utf8(text).unwrap(), args.index)
}

#[test]
fn messages_are_read_once_or_again() {
    let world = World::new();
    let dom0 = world.guest(0);
    let console = world.machine.hv.console;
    assert_eq!(read(&dom0, false, None, 100), (String::new(), 0));
    console.print(format_args!("one"));
    console.print(format_args!("two"));
    let all = "(XEN) one\n(XEN) two\n";
    assert_eq!(read(&dom0, false, None, 100), (all.into(), 20));
    assert_eq!(read(&dom0, false, None, 3), ("(XE".into(), 3));
    // A reader that goes on where it was.
    let (text, index) = read(&dom0, false, Some(0), 12);
    assert_eq!((&*text, index), (&all[..12], 12));
    let (text, index) = read(&dom0, false, Some(index), 100);
    assert_eq!((&*text, index), (&all[12..], 20));
    assert_eq!(read(&dom0, false, Some(index), 100), (String::new(), 20));
    console.print(format_args!("three"));
    assert_eq!(
        read(&dom0, false, Some(index), 100),
        ("(XEN) three\n".into(), 32)
    );
    // From a place that is not there: from the beginning.
    assert_eq!(read(&dom0, false, Some(33), 9).0, "(XEN) one");
    assert_eq!(read(&dom0, false, Some(u32::MAX), 9).0, "(XEN) one");
    // All is forgotten, not only what was read.
    assert_eq!(read(&dom0, true, None, 9).0, "(XEN) one");
    assert_eq!(read(&dom0, false, None, 100), (String::new(), 32));
    assert_eq!(read(&dom0, false, Some(5), 100), (String::new(), 32));
    world.end([dom0]);
}

#[test]
fn a_full_ring_loses_its_oldest() {
    let world = World::new();
    let dom0 = world.guest(0);
    let console = world.machine.hv.console;
    let line = "x".repeat(1000);
    for _ in 0..40 {
        console.print(format_args!("{line}"));
    }
    let size = console.ring_size();
    let (text, index) = read(&dom0, false, None, 1 << 16);
    assert_eq!((text.len(), index), (size, 40 * 1007));
    assert_eq!(
        read(&dom0, false, Some(index - 9), 100),
        ("x".repeat(8) + "\n", index)
    );
    let mut args = ReadConsole::absent();
    (args.buffer, args.count) = (Handle(NOWHERE), 1);
    let result = ask!(&dom0, READCONSOLE, Interface::V15, &mut args);
    assert_eq!(result, err(Error::Fault));
    world.end([dom0]);
}

#[test]
fn who_listens_is_told_of_messages() {
    let world = World::new();
    let dom0 = world.guest(0);
    let hv = &world.machine.hv;
    let mut bind = BindVirq {
        virq: Virq::CON_RING,
        vcpu: 0,
        port: 0,
    };
    assert_eq!(dom0.op(Hypercall::EVENT_CHANNEL_OP, 1, &mut bind), 0);
    let pending = || dom0.domain().evtchn.is_pending(Port(bind.port));
    xen_core::step(hv, crate::dispatch);
    assert!(!pending());
    hv.console.print(format_args!("something"));
    assert!(!pending(), "not from where any lock may be held");
    xen_core::step(hv, crate::dispatch);
    assert!(pending());
    // Once for what there is, and again for more.
    let page = dom0.domain().shared_info.page();
    let word = 256 + bind.port as usize / 64 * 8;
    page.fetch_and_u64(word, !(1 << (bind.port % 64)));
    xen_core::step(hv, crate::dispatch);
    assert!(!pending());
    // What a vCPU's hypercall says is told of before the vCPU runs on.
    hv.console.print(format_args!("more"));
    Guest::of(&world, dom0.domain().clone(), 1).vcpu.up(hv);
    xen_core::step(hv, crate::dispatch);
    assert!(pending());
    // The CPU lets go of the vCPU.
    xen_core::step(hv, crate::dispatch);
    world.end([dom0]);
}

#[test]
fn keys_are_pressed() {
    let world = World::new();
    let dom0 = world.guest(0);
    let press = |keys: &[u8]| {
        dom0.put(LIST, keys);
        let mut args = DebugKeys {
            keys: Handle(LIST),
            nr_keys: keys.len() as u32,
        };
        ask!(&dom0, DEBUG_KEYS, Interface::V15, &mut args)
    };
    let pressed = || {
        let (text, _) = read(&dom0, true, None, 1 << 15);
        text.matches("pressed").count()
    };
    pressed();
    assert_eq!(press(b"h"), 0);
    assert_eq!(pressed(), 1);
    assert_eq!(press(b"\0"), 0);
    assert_eq!(pressed(), 0);
    // Each once, also when more urgent work comes between.
    world.yield_every(1);
    let before = dom0.restarts();
    assert_eq!(press(b"hah"), 0);
    assert_eq!(dom0.restarts(), before + 2);
    world.yield_every(0);
    assert_eq!(pressed(), 3);
    for (at, count, error) in [(NOWHERE, 1, Error::Fault), (LIST, 257, Error::TooBig)] {
        let mut args = DebugKeys {
            keys: Handle(at),
            nr_keys: count,
        };
        let result = ask!(&dom0, DEBUG_KEYS, Interface::V15, &mut args);
        assert_eq!(result, err(error));
    }
    assert_eq!(pressed(), 0);
    world.end([dom0]);
}
