//! Interrupt commands and messages between APICs.

use super::super::*;
use super::{NOW, enabled, lapic, put, x2apic};
use crate::platform::message::Message;
use std::vec::Vec;
use xen_core::VcpuId;

/// Delivers, and says who had to be told what.
fn send(ipi: &Ipi, sender: u32, lapics: &[Lapic]) -> (bool, Vec<(u32, Arrival)>) {
    let mut told = Vec::new();
    let all = lapics
        .iter()
        .enumerate()
        .map(|(n, lapic)| (VcpuId(n as u32), lapic));
    let accepted = ipi.deliver(VcpuId(sender), all, |vcpu, arrival| {
        told.push((vcpu.0, arrival))
    });
    (accepted, told)
}

fn command(lapic: &Lapic, high: u32, low: u32) -> Option<Ipi> {
    let effect = if lapic.mode() == Mode::X2apic {
        lapic
            .write_msr(0x30, u64::from(high) << 32 | u64::from(low), &NOW)
            .unwrap()
    } else {
        assert_eq!(put(lapic, 0x310, high << 24), Effect::None);
        put(lapic, 0x300, low)
    };
    match effect {
        Effect::Ipi(ipi) => Some(ipi),
        Effect::None => None,
        other => panic!("{other:?}"),
    }
}

/// Intel SDM volume 3, "Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC Interrupt Command Register".
#[test]
fn commands() {
    const OTHERS: u32 = 3 << 18;
    let lapics: Vec<_> = (0..3).map(|n| enabled(2 * n)).collect();
    let who = |high, low| {
        let ipi = command(&lapics[0], high, low)?;
        Some(send(&ipi, 0, &lapics).1)
    };
    use Arrival::*;
    assert_eq!(who(2, 0x41), Some(vec![(1, Interrupt)]));
    assert_eq!(who(1, 0x41), Some(vec![]));
    assert_eq!(
        who(0xff, 0x41),
        Some(vec![(0, Interrupt), (1, Interrupt), (2, Interrupt)])
    );
    assert_eq!(
        who(0, 0x41 | OTHERS),
        Some(vec![(1, Interrupt), (2, Interrupt)])
    );
    assert_eq!(who(9, 0x41 | 1 << 18), Some(vec![(0, Interrupt)]));
    assert_eq!(who(9, 0x41 | 2 << 18).map(|told| told.len()), Some(3));
    assert_eq!(who(4, 4 << 8), Some(vec![(2, Nmi)]));
    assert_eq!(who(4, 5 << 8 | 1 << 14 | 1 << 15), Some(vec![(2, Init)]));
    assert_eq!(
        who(0, 5 << 8 | OTHERS | 1 << 14),
        Some(vec![(1, Init), (2, Init)])
    );
    assert_eq!(who(4, 6 << 8 | 0x9a), Some(vec![(2, Startup(0x9a))]));
    // INIT de-assert, SMI, remote read, reserved, and combinations that are not valid.
    for low in [
        5 << 8 | 1 << 15,
        5 << 8 | 1 << 15 | 2 << 18,
        2 << 8,
        3 << 8,
        7 << 8 | 0x41,
        5 << 8 | 1 << 18 | 1 << 14,
        6 << 8 | 2 << 18,
        1 << 8 | 1 << 18 | 0x41,
    ] {
        assert_eq!(who(4, low), None, "{low:#x}");
    }
    // Nobody enabled: INIT and the like reach them all the same.
    let asleep = [lapic(0), lapic(2)];
    let ipi = command(&lapics[0], 2, 0x41).unwrap();
    assert_eq!(send(&ipi, 0, &asleep), (false, vec![]));
    let ipi = command(&lapics[0], 2, 6 << 8 | 8).unwrap();
    assert_eq!(send(&ipi, 0, &asleep), (true, vec![(1, Startup(8))]));
}

#[test]
fn logical_destinations() {
    let lapics: Vec<_> = (0..3).map(|n| enabled(2 * n)).collect();
    for (n, lapic) in lapics.iter().enumerate() {
        let _: Effect = put(lapic, 0xd0, 1 << (24 + n));
    }
    let who = |dest| {
        let ipi = command(&lapics[0], dest, 0x41 | 1 << 11).unwrap();
        send(&ipi, 0, &lapics)
            .1
            .iter()
            .map(|(n, _)| *n)
            .collect::<Vec<_>>()
    };
    assert_eq!(who(5), [0, 2]);
    assert_eq!(who(0xff), [0, 1, 2]);
    assert_eq!(who(8), []);
    // Clusters: 1:1, 1:2, 2:1.
    for (lapic, logical) in lapics.iter().zip([0x11u32, 0x12, 0x21]) {
        let _: Effect = put(lapic, 0xd0, logical << 24);
        let _: Effect = put(lapic, 0xe0, 0);
    }
    assert_eq!(who(0x13), [0, 1]);
    assert_eq!(who(0x21), [2]);
    assert_eq!(who(0xf1), [0, 2]);
    assert_eq!(who(0x31), []);
    // x2APIC.
    let lapics: Vec<_> = [0, 0x0e, 0x13, 0x123].map(x2apic).into();
    let who = |high, mode: u32| {
        let ipi = command(&lapics[0], high, 0x41 | mode).unwrap();
        send(&ipi, 0, &lapics)
            .1
            .iter()
            .map(|(n, _)| *n)
            .collect::<Vec<_>>()
    };
    let logical = 1u32 << 11;
    assert_eq!(who(0xffff, logical), [0, 1]);
    assert_eq!(who(0x0001_0008, logical), [2]);
    assert_eq!(who(0x0012_0008, logical), [3]);
    assert_eq!(who(0x0012_0004, logical), []);
    assert_eq!(who(u32::MAX, logical), [0, 1, 2, 3]);
    assert_eq!(who(0x123, 0), [3]);
    assert_eq!(who(0xff, 0), []);
    assert_eq!(who(u32::MAX, 0), [0, 1, 2, 3]);
    assert_eq!(
        lapics[2]
            .write_msr(0x3f, 0x55, &NOW)
            .map(|effect| match effect {
                Effect::Ipi(ipi) => send(&ipi, 2, &lapics).1,
                _ => vec![],
            }),
        Ok(vec![(2, Arrival::Interrupt)])
    );
}

#[test]
fn the_least_urgent_takes_it() {
    let lapics: Vec<_> = (0..3).map(|n| enabled(2 * n)).collect();
    lapics[0].set_task_priority(5);
    lapics[1].set_task_priority(2);
    lapics[2].set_task_priority(3);
    let message = Message {
        destination: Destination::All,
        mode: DeliveryMode::LowestPriority,
        vector: 0x61,
        trigger: Trigger::Level,
    };
    let mut told = Vec::new();
    let all = lapics
        .iter()
        .enumerate()
        .map(|(n, lapic)| (VcpuId(n as u32), lapic));
    assert!(deliver(&message, all.clone(), |vcpu, _| told.push(vcpu.0)));
    let _: Effect = put(&lapics[1], 0xf0, 0);
    assert!(deliver(&message, all, |vcpu, _| told.push(vcpu.0)));
    assert_eq!(told, [1, 2]);
}
