use super::*;
use proptest::prelude::*;

#[derive(Default)]
struct World {
    sent: Vec<Message>,
    host: Vec<HostAction>,
    refuses: bool,
}

impl Surroundings for World {
    fn send(&mut self, message: &Message) -> bool {
        if !self.refuses {
            self.sent.push(*message);
        }
        !self.refuses
    }
    fn host(&mut self, action: HostAction) {
        self.host.push(action);
    }
}

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;
const LOW: u32 = 1 << 13;

fn set(ioapic: &mut IoApic, pin: u8, low: u32, world: &mut World) {
    select(ioapic, 0x10 + 2 * pin, world);
    ioapic.write_memory(0x10, &low.to_le_bytes(), world);
}

fn select(ioapic: &mut IoApic, index: u8, world: &mut World) {
    ioapic.write_memory(0, &u32::from(index).to_le_bytes(), world);
}

fn get(ioapic: &mut IoApic, index: u8) -> u32 {
    select(ioapic, index, &mut World::default());
    let mut word = [0; 4];
    ioapic.read_memory(0x10, &mut word);
    u32::from_le_bytes(word)
}

#[test]
fn registers() {
    let mut world = World::default();
    let mut ioapic = IoApic::new(2, 24, 8).unwrap();
    assert_eq!(get(&mut ioapic, 0), 2 << 24);
    assert_eq!(get(&mut ioapic, 1), 7 << 16 | 0x20);
    assert_eq!(get(&mut ioapic, 2), 2 << 24);
    assert_eq!(get(&mut ioapic, 3), 0);
    assert_eq!(get(&mut ioapic, 0x1e), MASKED);
    assert_eq!(get(&mut ioapic, 0x20), 0);
    assert_eq!(get(&mut ioapic, 0xff), 0);
    select(&mut ioapic, 0, &mut world);
    ioapic.write_memory(0x10, &0xf500_0001u32.to_le_bytes(), &mut world);
    assert_eq!(get(&mut ioapic, 0), 5 << 24);
    // Read-only and reserved bits.
    select(&mut ioapic, 0x10, &mut world);
    ioapic.write_memory(0x10, &0xffff_ffffu32.to_le_bytes(), &mut world);
    assert_eq!(get(&mut ioapic, 0x10), 0x0001_afff);
    select(&mut ioapic, 0x11, &mut world);
    ioapic.write_memory(0x10, &0xffff_ffffu32.to_le_bytes(), &mut world);
    assert_eq!(get(&mut ioapic, 0x11), 0xfffe_0000);
    // Parts of the window cannot be written.
    ioapic.write_memory(0x10, &[0, 0], &mut world);
    assert_eq!(get(&mut ioapic, 0x11), 0xfffe_0000);
    assert_eq!(
        (
            ioapic.pin(23),
            ioapic.pin(24),
            ioapic.pin(31),
            ioapic.pin(32)
        ),
        (None, Some(0), Some(7), None)
    );
    assert!(world.sent.is_empty() && world.host.is_empty());
    assert_eq!(IoApic::new(0, 0, 0).err(), Some(Error::Inval));
    assert_eq!(IoApic::new(0, 0, MAX_PINS + 1).err(), Some(Error::Inval));
    assert_eq!(IoApic::new(0, u32::MAX, 2).err(), Some(Error::Inval));
}

#[test]
fn the_machine_s_pin_follows_the_entry() {
    let mut world = World::default();
    let mut ioapic = IoApic::new(0, 0, 24).unwrap();
    assert_eq!(ioapic.host_interrupt(9, &mut world), Err(Error::Inval));
    set(&mut ioapic, 9, MASKED | LEVEL | LOW | 0x31, &mut world);
    assert!(world.host.is_empty());
    set(&mut ioapic, 9, LEVEL | LOW | 0x31, &mut world);
    let route = |trigger, active_low| HostAction::Route {
        gsi: 9,
        trigger,
        active_low,
    };
    assert_eq!(world.host, [route(Trigger::Level, true)]);
    // Once is enough.
    set(&mut ioapic, 9, MASKED | LEVEL | LOW | 0x31, &mut world);
    set(&mut ioapic, 9, LEVEL | LOW | 0x32, &mut world);
    assert_eq!(world.host.len(), 1);
    set(&mut ioapic, 9, 0x32, &mut world);
    assert_eq!(world.host[1], route(Trigger::Edge, false));
    assert!(world.sent.is_empty());
}

#[test]
fn a_level_is_delivered_once_until_it_ends() {
    let mut world = World::default();
    let mut ioapic = IoApic::new(0, 16, 24).unwrap();
    set(&mut ioapic, 4, LEVEL | 0x31, &mut world);
    ioapic.host_interrupt(4, &mut world).unwrap();
    ioapic.host_interrupt(4, &mut world).unwrap();
    assert_eq!(world.sent.len(), 1);
    assert_eq!(
        (world.sent[0].vector, world.sent[0].trigger),
        (0x31, Trigger::Level)
    );
    assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR, REMOTE_IRR);
    ioapic.end_of_interrupt(0x30, &mut world);
    assert_eq!(world.host.len(), 1);
    ioapic.write_memory(0x40, &[0x31, 0, 0, 0], &mut world);
    assert_eq!(world.host[1], HostAction::End { gsi: 20 });
    assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR, 0);
    // It comes again while the guest has it masked, and is there when it unmasks.
    set(&mut ioapic, 4, MASKED | LEVEL | 0x31, &mut world);
    ioapic.host_interrupt(4, &mut world).unwrap();
    assert_eq!(world.sent.len(), 1);
    set(&mut ioapic, 4, LEVEL | 0x31, &mut world);
    assert_eq!(world.sent.len(), 2);
    // Mask and edge: how software without the EOI register ends it.
    set(&mut ioapic, 4, MASKED | 0x31, &mut world);
    set(&mut ioapic, 4, LEVEL | 0x31, &mut world);
    assert_eq!(world.host[2..], [HostAction::End { gsi: 20 }]);
    assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR, 0);
}

#[test]
fn what_nobody_accepts_is_tried_again() {
    let mut world = World {
        refuses: true,
        ..World::default()
    };
    let mut ioapic = IoApic::new(0, 0, 24).unwrap();
    set(&mut ioapic, 4, LEVEL | 0x31, &mut world);
    ioapic.host_interrupt(4, &mut world).unwrap();
    assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR, 0);
    world.refuses = false;
    ioapic.retry(&mut world);
    assert_eq!(world.sent.len(), 1);
    ioapic.retry(&mut world);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn edges() {
    let mut world = World::default();
    let mut ioapic = IoApic::new(0, 0, 24).unwrap();
    // A virtual line at a masked pin is lost.
    ioapic.set_line(1, true, &mut world).unwrap();
    set(&mut ioapic, 1, 0x31, &mut world);
    ioapic.set_line(1, true, &mut world).unwrap();
    assert!(world.sent.is_empty());
    ioapic.set_line(1, false, &mut world).unwrap();
    ioapic.set_line(1, true, &mut world).unwrap();
    assert_eq!(world.sent.len(), 1);
    ioapic.end_of_interrupt(0x31, &mut world);
    assert_eq!(world.sent.len(), 1);
    // An NMI is an edge, even if the entry says otherwise.
    set(&mut ioapic, 2, LEVEL | 4 << 8, &mut world);
    ioapic.host_interrupt(2, &mut world).unwrap();
    ioapic.host_interrupt(2, &mut world).unwrap();
    assert_eq!(world.sent.len(), 3);
    assert_eq!(ioapic.set_line(24, true, &mut world), Err(Error::Inval));
}

#[test]
fn a_virtual_line_stays_asserted() {
    let mut world = World::default();
    let mut ioapic = IoApic::new(0, 0, 24).unwrap();
    set(&mut ioapic, 1, LEVEL | 0x31, &mut world);
    world.host.clear();
    ioapic.set_line(1, true, &mut world).unwrap();
    assert_eq!(world.sent.len(), 1);
    // The guest ends it and the device still asserts it.
    ioapic.end_of_interrupt(0x31, &mut world);
    assert_eq!(world.sent.len(), 2);
    ioapic.set_line(1, false, &mut world).unwrap();
    ioapic.end_of_interrupt(0x31, &mut world);
    assert_eq!((world.sent.len(), world.host.len()), (2, 0));
    assert!(!ioapic.entry(1).unwrap().is_outstanding());
}

proptest! {
    // A model of the machine's pin: its level, and whether an interrupt of it is with the hypervisor. Whatever the guest does
    // with a level-triggered entry, once it has it unmasked and ends what it gets, each assertion has been delivered.
    #[test]
    fn no_level_is_lost(steps in prop::collection::vec(0u8..6, 0..60)) {
        let mut world = World::default();
        let mut ioapic = IoApic::new(0, 0, 1).unwrap();
        let (mut device, mut held, mut routed) = (false, false, false);
        let settle = |ioapic: &mut IoApic, world: &mut World, device: bool, held: &mut bool, routed: &mut bool| {
            for action in world.host.drain(..) {
                match action {
                    HostAction::Route { .. } => *routed = true,
                    HostAction::End { .. } => {
                        assert!(*held);
                        *held = false;
                    }
                }
            }
            if device && *routed && !*held {
                *held = true;
                ioapic.host_interrupt(0, world).unwrap();
            }
        };
        for step in steps.into_iter().chain([2]) {
            match step {
                0 => device = true,
                1 => device = false,
                2 => set(&mut ioapic, 0, LEVEL | 0x31, &mut world),
                3 => set(&mut ioapic, 0, MASKED | LEVEL | 0x31, &mut world),
                4 => set(&mut ioapic, 0, MASKED | 0x31, &mut world),
                _ => ioapic.end_of_interrupt(0x31, &mut world),
            }
            settle(&mut ioapic, &mut world, device, &mut held, &mut routed);
        }
        // Now the guest works off what there is.
        for _ in 0..3 {
            prop_assert_eq!(ioapic.entry(0).unwrap().is_outstanding(), held);
            if device {
                prop_assert!(held && !world.sent.is_empty());
                world.sent.clear();
            }
            ioapic.end_of_interrupt(0x31, &mut world);
            settle(&mut ioapic, &mut world, device, &mut held, &mut routed);
        }
        device = false;
        ioapic.end_of_interrupt(0x31, &mut world);
        settle(&mut ioapic, &mut world, device, &mut held, &mut routed);
        prop_assert!(!held);
    }
}
