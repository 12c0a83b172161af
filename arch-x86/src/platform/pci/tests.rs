use super::function::{Function, Intercept};
use super::*;
use crate::platform::message::{DeliveryMode, Destination, Trigger};
use proptest::prelude::*;
use std::vec::Vec;
use xen_core::GuestPhysAddr;

const SBDF: Sbdf = Sbdf {
    segment: 0,
    bus: 3,
    devfn: 0x28,
};

#[test]
fn ports() {
    let mut address = ConfigAddress::default();
    address.write(0x7fff_ffff);
    assert_eq!(address.access(0, 4, true), None);
    address.write(0xf503_2847);
    assert_eq!(address.read(), 0x8503_2844);
    let access = |byte, size, extended| {
        address
            .access(byte, size, extended)
            .map(|a| (a.function, a.offset, a.size))
    };
    assert_eq!(access(0, 4, false), Some((SBDF, 0x44, 4)));
    assert_eq!(access(2, 2, false), Some((SBDF, 0x46, 2)));
    assert_eq!(access(3, 1, true), Some((SBDF, 0x547, 1)));
    assert_eq!(access(3, 2, false), None);
    assert_eq!(access(4, 1, false), None);
}

#[test]
fn memory() {
    let mcfg = Mcfg {
        base: GuestPhysAddr(0xe000_0000),
        segment: 1,
        first_bus: 2,
        last_bus: 4,
    };
    let access = |at, size| mcfg.access(GuestPhysAddr(at), size);
    let expected = Access {
        function: Sbdf { segment: 1, ..SBDF },
        offset: 0xffc,
        size: 4,
    };
    assert_eq!(access(0xe032_8ffc, 4), Some(expected));
    assert_eq!(access(0xe032_8ffd, 4), None);
    assert_eq!(access(0xe032_8ff8, 8), None);
    assert_eq!(access(0xe01f_ffff, 1), None);
    assert_eq!(access(0xe050_0000, 1), None);
    assert_eq!(access(0xdfff_ffff, 1), None);
    assert!(access(0xe04f_ffff, 1).is_some());
}

/// Configuration space with capabilities at their places.
fn space(capabilities: &[(u16, &[u32])]) -> Vec<u32> {
    let mut words = vec![0u32; 64];
    words[1] = 1 << 20 | 2;
    let mut last = 0x34 / 4;
    for (offset, content) in capabilities {
        let at = usize::from(*offset) / 4;
        let shift = if last == 0x34 / 4 { 0 } else { 8 };
        words[last] |= u32::from(*offset) << shift;
        words[at..at + content.len()].copy_from_slice(content);
        last = at;
    }
    words
}

fn scan(words: &[u32]) -> Function {
    Function::scan(SBDF, |offset| words[usize::from(offset) / 4]).unwrap()
}

fn write(function: &mut Function, offset: u16, size: u8, value: u32) -> Intercept {
    function.write(&Access::new(SBDF, offset, size).unwrap(), value)
}

fn action(intercept: Intercept) -> Option<Action> {
    match intercept {
        Intercept::PassThrough(action) | Intercept::Here { action, .. } => action,
    }
}

fn read(function: &Function, offset: u16, size: u8) -> Option<u32> {
    match function.read(&Access::new(SBDF, offset, size).unwrap()) {
        Intercept::Here { value, .. } => Some(value),
        Intercept::PassThrough(_) => None,
    }
}

fn to(vector: u8) -> Option<Message> {
    Some(Message {
        destination: Destination::Physical(4),
        mode: DeliveryMode::Fixed,
        vector,
        trigger: Trigger::Edge,
    })
}

#[test]
fn msi() {
    let words = space(&[(0x40, &[0x0001]), (0x50, &[5 | 0x0186 << 16])]);
    let mut function = scan(&words);
    assert!(function.msix.is_none());
    // The capability is on in the machine, or it is not: the guest sees what it wrote itself.
    assert_eq!(read(&function, 0x52, 2), Some(0x186));
    assert_eq!(read(&function, 0x50, 1), Some(5));
    assert_eq!(read(&function, 0x40, 4), None);
    // Pending bits and what is behind.
    assert_eq!(
        (read(&function, 0x64, 4), read(&function, 0x68, 4)),
        (None, None)
    );
    assert_eq!(action(write(&mut function, 0x54, 4, 0xfee0_4003)), None);
    assert_eq!(read(&function, 0x54, 4), Some(0xfee0_4000));
    assert_eq!(action(write(&mut function, 0x58, 4, 0)), None);
    assert_eq!(action(write(&mut function, 0x5c, 2, 0x41)), None);
    assert_eq!(
        action(write(&mut function, 0x52, 2, 0xffff & !0x60)),
        Some(Action::MsiEnable {
            vectors: 2,
            message: to(0x40)
        })
    );
    assert_eq!(read(&function, 0x52, 2), Some(0x197));
    let msi = function.msi.unwrap();
    assert_eq!((msi.message(1), msi.message(2)), (to(0x41), None));
    assert_eq!(
        action(write(&mut function, 0x5c, 2, 0x51)),
        Some(Action::MsiUpdate { message: to(0x50) })
    );
    assert_eq!(action(write(&mut function, 0x5c, 2, 0x51)), None);
    assert_eq!(
        action(write(&mut function, 0x60, 4, 2)),
        Some(Action::MsiMask { masked: 2 })
    );
    assert!(function.msi.unwrap().is_masked(1) && !function.msi.unwrap().is_masked(0));
    // More vectors than there are.
    assert_eq!(
        action(write(&mut function, 0x52, 2, 0x71)),
        Some(Action::MsiEnable {
            vectors: 8,
            message: to(0x50)
        })
    );
    // An address that is not local APICs'.
    assert_eq!(
        action(write(&mut function, 0x58, 4, 1)),
        Some(Action::MsiUpdate { message: None })
    );
    assert_eq!(
        action(write(&mut function, 0x52, 2, 0)),
        Some(Action::MsiDisable)
    );
}

#[test]
fn narrow_msi_has_its_data_earlier() {
    let words = space(&[(0xf4, &[5])]);
    let mut function = scan(&words);
    write_all(&mut function, &[(0xf8, 0xfee0_4000), (0xfc, 0x41)]);
    assert_eq!(
        action(write(&mut function, 0xf6, 2, 1)),
        Some(Action::MsiEnable {
            vectors: 1,
            message: to(0x41)
        })
    );
}

fn write_all(function: &mut Function, writes: &[(u16, u32)]) {
    for (offset, value) in writes {
        assert_eq!(action(write(function, *offset, 4, *value)), None);
    }
}

#[test]
fn msix() {
    // 3 entries in BAR 2 at 0x1000, pending bits behind them.
    let words = space(&[(0x70, &[0x11 | 2 << 16, 0x1002, 0x1802])]);
    let mut function = scan(&words);
    let msix = function.msix.as_mut().unwrap();
    assert_eq!(
        (msix.len(), msix.table().at(0xf000_0000)),
        (3, Some(0xf000_1000..0xf000_1030))
    );
    assert_eq!(
        msix.pending().at(0xf000_0000),
        Some(0xf000_1800..0xf000_1808)
    );
    assert_eq!(msix.table().at(u64::MAX - 0x1000), None);
    let entry =
        |msix: &mut msix::Msix, offset, value: u32| msix.write_table(offset, &value.to_le_bytes());
    assert_eq!(entry(msix, 0x10, 0xfee0_4000), None);
    assert_eq!(msix.write_table(0x18, &[0x41, 0, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(msix.message(1), None);
    // It is on, but all masked; then entry 1 alone is not.
    assert_eq!(
        action(write(&mut function, 0x72, 2, 0xc000)),
        Some(Action::MsixControl {
            enabled: true,
            masked: true
        })
    );
    assert_eq!(function.msix.as_ref().unwrap().message(1), None);
    assert_eq!(
        action(write(&mut function, 0x72, 2, 0x87ff)),
        Some(Action::MsixControl {
            enabled: true,
            masked: false
        })
    );
    assert_eq!(read(&function, 0x70, 4), Some(0x8002_0011));
    // Where the table is cannot be changed, and the machine knows.
    assert_eq!(read(&function, 0x74, 4), None);
    let msix = function.msix.as_mut().unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|n| msix.message(n)),
        [None, to(0x41), None, None]
    );
    let change = |message| Some(Action::MsixEntry { index: 1, message });
    assert_eq!(entry(msix, 0x18, 0x42), change(to(0x42)));
    assert_eq!(entry(msix, 0x1c, 0xffff_ffff), change(None));
    assert_eq!(entry(msix, 0x18, 0x43), None);
    let mut word = [0; 8];
    msix.read_table(0x18, &mut word);
    assert_eq!(word, [0x43, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(entry(msix, 0x1c, 0), change(to(0x43)));
    // Beyond the table, and accesses that the specification does not have.
    assert_eq!(entry(msix, 0x30, 0), None);
    assert_eq!(msix.write_table(0x1c, &[1]), None);
    assert_eq!(msix.write_table(0x1c, &[1; 8]), None);
    msix.read_table(0x30, &mut word);
    assert_eq!(word, [0xff; 8]);
}

#[test]
fn addresses_are_looked_at_again() {
    let mut function = scan(&space(&[]));
    assert!(function.decodes_memory());
    let decoding = |memory| Some(Action::Decoding { memory });
    assert_eq!(
        write(&mut function, 0x10, 4, 0),
        Intercept::PassThrough(decoding(true))
    );
    assert_eq!(action(write(&mut function, 0x30, 4, 0)), decoding(true));
    assert_eq!(action(write(&mut function, 0x28, 4, 0)), None);
    assert_eq!(action(write(&mut function, 0x04, 2, 0)), decoding(false));
    assert_eq!(action(write(&mut function, 0x10, 4, 0)), None);
    assert_eq!(action(write(&mut function, 0x06, 2, 2)), None);
    assert_eq!(action(write(&mut function, 0x04, 1, 6)), decoding(true));
}

proptest! {
    // Whatever a function says of itself, and whatever is written: no panic, and nothing of the message
    // registers goes through.
    #[test]
    fn nothing_trips(words in prop::collection::vec(any::<u32>(), 64), list in 0x10u32..0x40, kind in 0u32..3,
                     ids in prop::collection::vec((0usize..48, prop::bool::ANY, any::<u8>()), 0..4),
                     writes in prop::collection::vec((0u16..256, prop::sample::select(&[1u8, 2, 4][..]), any::<u32>()), 0..60)) {
        let mut words = words;
        words[1] |= 1 << 20;
        words[3] = kind << 16;
        words[13] = list * 4;
        for (at, x, next) in ids {
            words[16 + at] = words[16 + at] & 0xffff_0000 | u32::from(next) << 8 | if x { 0x11 } else { 5 };
        }
        words[list as usize] = words[list as usize] & !0xff | 5;
        let mut function = scan(&words);
        for (offset, size, value) in writes {
            let Some(access) = Access::new(SBDF, offset, size) else { continue };
            let here = matches!(function.read(&access), Intercept::Here { .. });
            let wrote = matches!(function.write(&access, value), Intercept::Here { .. });
            prop_assert_eq!(here, wrote);
            if let Some(msi) = &function.msi {
                prop_assert!(msi.vectors() <= 32);
            }
        }
    }
}
