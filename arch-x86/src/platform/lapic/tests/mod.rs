//! Registers, priorities, local interrupts and the timer.

use super::registers::lvt;
use super::*;
use xen_core::Time;

mod messages;
mod states;

const NOW: Now = Now {
    time: Time(1_000_000),
    tsc: 5_000_000,
};

fn lapic(id: u32) -> Lapic {
    Lapic::new(Config {
        id,
        boot_cpu: id == 0,
        x2apic: true,
        tsc_deadline: true,
    })
}

fn enabled(id: u32) -> Lapic {
    let lapic = lapic(id);
    assert_eq!(put(&lapic, 0xf0, 0x1ff), Effect::None);
    lapic
}

fn x2apic(id: u32) -> Lapic {
    let lapic = enabled(id);
    assert_eq!(lapic.set_base(lapic.base() | BASE_X2APIC), Ok(Effect::None));
    lapic
}

fn get(lapic: &Lapic, offset: u16) -> u32 {
    get_at(lapic, offset, &NOW)
}

fn get_at(lapic: &Lapic, offset: u16, now: &Now) -> u32 {
    let mut word = [0; 4];
    lapic.read_memory(offset, &mut word, now);
    u32::from_le_bytes(word)
}

fn put(lapic: &Lapic, offset: u16, value: u32) -> Effect {
    lapic.write_memory(offset, &value.to_le_bytes(), &NOW)
}

/// Intel SDM volume 3, "Local APIC State After Power-Up or Reset".
#[test]
fn after_power_up() {
    let lapic = lapic(6);
    let table = [
        (0x20, 6 << 24),
        (0x30, 0x0005_0014),
        (0x80, 0),
        (0x90, 0),
        (0xa0, 0),
        (0xb0, 0),
        (0xc0, 0),
        (0xd0, 0),
        (0xe0, u32::MAX),
        (0xf0, 0xff),
        (0x100, 0),
        (0x1f0, 0),
        (0x270, 0),
        (0x280, 0),
        (0x300, 0),
        (0x310, 0),
        (0x320, 0x10000),
        (0x330, 0x10000),
        (0x340, 0x10000),
        (0x350, 0x10000),
        (0x360, 0x10000),
        (0x370, 0x10000),
        (0x380, 0),
        (0x390, 0),
        (0x3e0, 0),
    ];
    for (offset, value) in table {
        assert_eq!(get(&lapic, offset), value, "{offset:#x}");
    }
    assert_eq!((lapic.base(), lapic.mode()), (0xfee0_0800, Mode::Xapic));
    assert_eq!(
        super::Lapic::new(Config {
            boot_cpu: true,
            ..*lapic.config()
        })
        .base(),
        0xfee0_0900
    );
    assert!(!lapic.accept(0x40, Trigger::Edge));
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.register_at(GuestPhysAddr(0xfee0_03f8)), Some(0x3f8));
    assert_eq!(lapic.register_at(GuestPhysAddr(0xfee0_1000)), None);
}

/// What each register in memory keeps of a write of all ones, enabled by software.
#[test]
fn writable_bits() {
    let table = [
        (0x20, 2 << 24),
        (0x30, 0x0005_0014),
        (0x80, 0xff),
        (0xd0, 0xff00_0000),
        (0xe0, u32::MAX),
        (0xf0, 0x3ff),
        (0x100, 0),
        (0x180, 0),
        (0x200, 0),
        (0x310, 0xff00_0000),
        (0x330, 0x107ff),
        (0x340, 0x107ff),
        (0x350, 0x1a7ff),
        (0x360, 0x1a7ff),
        (0x370, 0x100ff),
        (0x380, u32::MAX),
        (0x3e0, 0xb),
    ];
    for (offset, value) in table {
        let lapic = enabled(2);
        let _: Effect = put(&lapic, offset, u32::MAX);
        assert_eq!(get(&lapic, offset), value, "{offset:#x}");
    }
    let lapic = enabled(2);
    assert_eq!(put(&lapic, 0xe0, 0), Effect::None);
    assert_eq!(get(&lapic, 0xe0), 0x0fff_ffff);
    assert_eq!(put(&lapic, 0x320, 0x5ffff), Effect::Timer(None));
    assert_eq!(get(&lapic, 0x320), 0x500ff);
}

#[test]
fn odd_accesses() {
    let lapic = enabled(2);
    let _: Effect = put(&lapic, 0x80, 0x5a);
    let mut bytes = [0; 2];
    lapic.read_memory(0xf1, &mut bytes, &NOW);
    assert_eq!(bytes, [1, 0]);
    assert_eq!(lapic.write_memory(0x80, &[0x60], &NOW), Effect::None);
    assert_eq!(get(&lapic, 0x80), 0x60);
    // Beyond the 4 bytes, and over their end.
    assert_eq!(lapic.write_memory(0x84, &[0x70; 4], &NOW), Effect::None);
    assert_eq!(lapic.write_memory(0x80, &[0x70; 8], &NOW), Effect::None);
    assert_eq!((get(&lapic, 0x80), get(&lapic, 0x84)), (0x60, 0));
    let mut bytes = [9; 8];
    lapic.read_memory(0x80, &mut bytes, &NOW);
    assert_eq!(bytes, [0x60, 0, 0, 0, 0, 0, 0, 0]);
    // In x2APIC mode there is nothing.
    let lapic = x2apic(2);
    assert_eq!(get(&lapic, 0x20), u32::MAX);
    assert_eq!(lapic.register_at(GuestPhysAddr(DEFAULT_BASE)), None);
}

/// Intel SDM volume 3, "Local APIC Register Address Map Supported by x2APIC" and its reserved bits.
#[test]
fn x2apic_registers() {
    let lapic = x2apic(0x25);
    let ro = [
        0x02, 0x03, 0x0a, 0x0d, 0x10, 0x17, 0x18, 0x1f, 0x20, 0x27, 0x39,
    ];
    let legal: [(u8, u64); 14] = [
        (0x08, 0xff),
        (0x0b, 0),
        (0x0f, 0x1ff),
        (0x28, 0),
        (0x30, 0xffff_ffff_000c_cfff),
        (0x32, 0x710ff & !(3 << 17)),
        (0x33, 0x117ff),
        (0x34, 0x117ff),
        (0x35, 0x1f7ff),
        (0x36, 0x1f7ff),
        (0x37, 0x110ff),
        (0x38, 0xffff_ffff),
        (0x3e, 0xb),
        (0x3f, 0xff),
    ];
    for number in 0..=0xff {
        let writable = legal.iter().find(|(n, _)| *n == number);
        let readable = ro.contains(&number)
            || (0x10..=0x27).contains(&number)
            || writable.is_some() && ![0x0b, 0x3f].contains(&number);
        assert_eq!(
            lapic.read_msr(number, &NOW).is_ok(),
            readable,
            "{number:#x}"
        );
        match writable {
            None => assert_eq!(lapic.write_msr(number, 0, &NOW), Err(Exception::GP0)),
            Some((_, bits)) => {
                for bit in 0..64 {
                    let timer_mode = number == 0x32 && (bit == 17 || bit == 18);
                    let lapic = x2apic(0x25);
                    let wrote = lapic.write_msr(number, 1 << bit, &NOW).is_ok();
                    assert_eq!(
                        wrote,
                        bits >> bit & 1 != 0 || timer_mode,
                        "{number:#x} {bit}"
                    );
                }
            }
        }
    }
    assert_eq!(lapic.write_msr(0x32, 3 << 17, &NOW), Err(Exception::GP0));
    assert_eq!(lapic.read_msr(0x02, &NOW), Ok(0x25));
    assert_eq!(lapic.read_msr(0x0d, &NOW), Ok(2 << 16 | 1 << 5));
    assert_eq!(enabled(0).read_msr(0x02, &NOW), Err(Exception::GP0));
    assert_eq!(enabled(0).write_msr(0x08, 0, &NOW), Err(Exception::GP0));
}

/// Intel SDM volume 3, "x2APIC State Transitions".
#[test]
fn modes() {
    let base = |mode| {
        DEFAULT_BASE
            | match mode {
                Mode::Disabled => 0,
                Mode::Xapic => BASE_ENABLED,
                Mode::X2apic => BASE_ENABLED | BASE_X2APIC,
            }
    };
    let modes = [Mode::Disabled, Mode::Xapic, Mode::X2apic];
    for from in modes {
        for to in modes {
            let lapic = enabled(0);
            lapic.set_base(base(from)).map(drop).unwrap();
            let legal = !matches!(
                (from, to),
                (Mode::Disabled, Mode::X2apic) | (Mode::X2apic, Mode::Xapic)
            );
            assert_eq!(lapic.set_base(base(to)).is_ok(), legal, "{from:?} {to:?}");
            assert_eq!(lapic.mode(), if legal { to } else { from });
        }
        let lapic = enabled(0);
        lapic.set_base(base(from)).map(drop).unwrap();
        assert_eq!(
            lapic.set_base(DEFAULT_BASE | BASE_X2APIC),
            Err(Exception::GP0)
        );
    }
    let old = Lapic::new(Config {
        x2apic: false,
        ..*lapic(0).config()
    });
    assert_eq!(old.set_base(base(Mode::X2apic)), Err(Exception::GP0));
    // The state survives the way into x2APIC mode, and is lost by switching off.
    let lapic = enabled(0);
    assert!(lapic.accept(0x41, Trigger::Edge));
    lapic.set_base(base(Mode::X2apic)).map(drop).unwrap();
    assert_eq!(lapic.pending(), Some(0x41));
    assert_eq!(
        lapic.set_base(base(Mode::Disabled)),
        Ok(Effect::Timer(None))
    );
    assert_eq!(
        (lapic.pending(), lapic.is_software_enabled()),
        (None, false)
    );
}

#[test]
fn init_keeps_the_mode() {
    let lapic = x2apic(4);
    assert!(lapic.accept(0x41, Trigger::Edge));
    lapic.set_task_priority(3);
    lapic.init();
    assert_eq!(
        (lapic.mode(), lapic.pending(), lapic.task_priority()),
        (Mode::X2apic, None, 0)
    );
    lapic.reset();
    assert_eq!(lapic.mode(), Mode::Xapic);
}

#[test]
fn a_priority_holds_interrupts_back() {
    let lapic = enabled(0);
    lapic.set_task_priority(4);
    assert_eq!((get(&lapic, 0x80), get(&lapic, 0xa0)), (0x40, 0x40));
    assert!(lapic.accept(0x4f, Trigger::Edge));
    assert_eq!(lapic.pending(), None);
    // What was on its way to the CPU has been held back since: the spurious interrupt, which is never in service.
    assert_eq!(lapic.acknowledge(), 0xff);
    assert!(lapic.accept(0x51, Trigger::Edge));
    assert_eq!(lapic.pending(), Some(0x51));
    assert_eq!(lapic.acknowledge(), 0x51);
    assert_eq!((get(&lapic, 0xa0), get(&lapic, 0x120)), (0x50, 1 << 17));
    assert_eq!(put(&lapic, 0xb0, 0), Effect::None);
    assert_eq!(get(&lapic, 0xa0), 0x40);
    lapic.set_task_priority(3);
    assert_eq!(lapic.pending(), Some(0x4f));
    // The same vector comes again while it is in service: it is held once.
    assert_eq!(lapic.acknowledge(), 0x4f);
    assert!(lapic.accept(0x4f, Trigger::Edge) && lapic.accept(0x4f, Trigger::Edge));
    assert_eq!(lapic.pending(), None);
    let _: Effect = put(&lapic, 0xb0, 0);
    assert_eq!(lapic.acknowledge(), 0x4f);
    let _: Effect = put(&lapic, 0xb0, 0);
    assert_eq!(lapic.pending(), None);
}

#[test]
fn levels_end_at_ioapics() {
    let lapic = enabled(0);
    assert!(lapic.accept(0x31, Trigger::Level));
    assert_eq!(get(&lapic, 0x190), 1 << 17);
    assert_eq!(lapic.acknowledge(), 0x31);
    assert_eq!(put(&lapic, 0xb0, 0), Effect::EndOfInterrupt(0x31));
    assert_eq!(put(&lapic, 0xb0, 0), Effect::None);
    assert!(lapic.accept(0x31, Trigger::Edge));
    assert_eq!(lapic.acknowledge(), 0x31);
    assert_eq!(put(&lapic, 0xb0, 0), Effect::None);
}

#[test]
fn software_disables() {
    let lapic = enabled(0);
    let _: Effect = put(&lapic, 0x320, 0x40);
    assert!(lapic.accept(0x41, Trigger::Edge));
    assert_eq!(put(&lapic, 0xf0, 0xff), Effect::Timer(None));
    assert_eq!(get(&lapic, 0x320), 0x10040);
    let _: Effect = put(&lapic, 0x320, 0x40);
    assert_eq!(get(&lapic, 0x320), 0x10040);
    // What was accepted stays; nothing more is.
    assert_eq!(lapic.pending(), Some(0x41));
    assert!(!lapic.accept(0x42, Trigger::Edge));
}

#[test]
fn errors() {
    let lapic = enabled(0);
    let _: Effect = put(&lapic, 0x370, 0xfe);
    assert_eq!(get(&lapic, 0x40), 0);
    assert_eq!(get(&lapic, 0x280), 0);
    assert_eq!(lapic.acknowledge(), 0xfe);
    let _: Effect = put(&lapic, 0xb0, 0);
    assert_eq!(put(&lapic, 0x280, 0), Effect::None);
    assert_eq!(get(&lapic, 0x280), 0x80);
    assert!(!lapic.accept(15, Trigger::Edge));
    assert_eq!(put(&lapic, 0x300, 15), Effect::None);
    assert_eq!(put(&lapic, 0x280, 0xff), Effect::None);
    assert_eq!(get(&lapic, 0x280), 0x60);
    assert_eq!(put(&lapic, 0x280, 0), Effect::None);
    assert_eq!(get(&lapic, 0x280), 0);
    // An illegal vector for errors is an error without end.
    let _: Effect = put(&lapic, 0x370, 3);
    assert_eq!(get(&lapic, 0x3f0), 0);
    assert_eq!(put(&lapic, 0x280, 0), Effect::None);
    assert_eq!(get(&lapic, 0x280), 0xc0);
}

#[test]
fn local_interrupts() {
    let lapic = enabled(0);
    assert_eq!(lapic.raise(Source::Lint1), None);
    let _: Effect = put(&lapic, 0x360, 4 << 8);
    assert_eq!(lapic.raise(Source::Lint1), Some(Arrival::Nmi));
    let _: Effect = put(&lapic, 0x350, 7 << 8);
    assert_eq!(lapic.raise(Source::Lint0), None);
    let _: Effect = put(&lapic, 0x340, 0x55);
    assert_eq!(lapic.raise(Source::Performance), Some(Arrival::Interrupt));
    assert_eq!(get(&lapic, 0x340), 0x55 | lvt::MASKED);
    assert_eq!(lapic.raise(Source::Performance), None);
    assert_eq!(lapic.acknowledge(), 0x55);
}

fn later(ns: u64) -> Now {
    Now {
        time: Time(NOW.time.0 + ns),
        tsc: NOW.tsc + 3 * ns,
    }
}

#[test]
fn the_timer_interrupts() {
    let lapic = enabled(0);
    let due = |ns| Effect::Timer(Some(Deadline::Time(later(ns).time)));
    let _: Effect = put(&lapic, 0x3e0, 0xb);
    let _: Effect = put(&lapic, 0x320, 0x40);
    assert_eq!(put(&lapic, 0x380, 100), due(1000));
    assert_eq!(get_at(&lapic, 0x390, &later(500)), 50);
    assert_eq!(lapic.pending(), None);
    // Reading at the time is enough.
    assert_eq!(get_at(&lapic, 0x390, &later(1000)), 0);
    assert_eq!(lapic.acknowledge(), 0x40);
    assert_eq!(lapic.tick(&later(1001)), None);
    assert_eq!(lapic.pending(), None);
    let _: Effect = put(&lapic, 0xb0, 0);
    // Masked, it is lost.
    assert_eq!(put(&lapic, 0x380, 100), due(1000));
    assert_eq!(put(&lapic, 0x320, 0x10040), Effect::Timer(None));
    assert_eq!(get_at(&lapic, 0x390, &later(2000)), 0);
    assert_eq!(put(&lapic, 0x320, 0x40), Effect::Timer(None));
    assert_eq!(lapic.pending(), None);
    // Periodic.
    assert_eq!(put(&lapic, 0x320, 0x20040), Effect::Timer(None));
    assert_eq!(put(&lapic, 0x380, 100_000), due(1_000_000));
    assert_eq!(Effect::Timer(lapic.tick(&later(1_000_010))), due(2_000_000));
    assert_eq!(lapic.acknowledge(), 0x40);
    let _: Effect = put(&lapic, 0xb0, 0);
    // A deadline in the past interrupts at once.
    assert_eq!(put(&lapic, 0x320, 0x40040), Effect::Timer(None));
    let armed = Effect::Timer(Some(Deadline::Tsc(NOW.tsc + 1)));
    assert_eq!(lapic.set_tsc_deadline(NOW.tsc + 1, &NOW), armed);
    assert_eq!(
        (lapic.tsc_deadline(&NOW), lapic.deadline()),
        (NOW.tsc + 1, Some(Deadline::Tsc(NOW.tsc + 1)))
    );
    assert_eq!(lapic.set_tsc_deadline(NOW.tsc, &NOW), Effect::Timer(None));
    assert_eq!((lapic.pending(), lapic.tsc_deadline(&NOW)), (Some(0x40), 0));
}
