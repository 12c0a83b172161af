//! Several CPUs at once: what the flags say without a lock, and the order of the locks.

use super::sim::versions;
use crate::decode::AccessSize;
use crate::host::gic::{ListRegister, LrState};
use crate::vgic::{Config, GicVersion, LrImage, NoHostIrqs, Region, VGic};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use xen_core::VcpuId;

const ROUNDS: u32 = 3000;
const INTIDS: [u32; 3] = [27, 40, 41];

/// A device's count of events, and how many of them its handler has seen.
#[derive(Default)]
struct Events {
    raised: AtomicU32,
    seen: AtomicU32,
}

/// Handles what waits for `vcpu`, as its guest would between an entry and an exit.
fn turn(vgic: &VGic, vcpu: VcpuId, events: &[Events; 3]) -> bool {
    if !vgic.is_dirty(vcpu) {
        return false;
    }
    let mut image = LrImage::new();
    vgic.flush(vcpu, 2, &mut image);
    for (n, lr) in image.used().to_vec().into_iter().enumerate() {
        assert_eq!(lr.state, LrState::PENDING);
        let at = INTIDS.iter().position(|&i| i == lr.virq).unwrap();
        let raised = events[at].raised.load(Ordering::SeqCst);
        events[at].seen.fetch_max(raised, Ordering::SeqCst);
        image.read_back(
            n,
            ListRegister {
                state: LrState::empty(),
                ..lr
            },
        );
    }
    let _ = vgic.sync(vcpu, &mut image, 0, &NoHostIrqs);
    true
}

#[test]
fn no_event_is_lost_between_cpus() {
    for version in versions() {
        let vgic = VGic::new(Config {
            version,
            vcpus: 2,
            spis: 32,
        })
        .unwrap();
        let write = |offset, size, value| {
            vgic.mmio_write(VcpuId(1), Region::Dist, offset, size, value, &NoHostIrqs)
                .map(drop)
                .unwrap();
        };
        write(0, AccessSize::Word, 3);
        write(0x104, AccessSize::Word, 0b11 << 8);
        let (region, frame) = match version {
            GicVersion::V2 => (Region::Dist, 0),
            GicVersion::V3 => (Region::Redist(VcpuId(0)), 0x1_0000),
        };
        vgic.mmio_write(
            VcpuId(0),
            region,
            frame + 0x100,
            AccessSize::Word,
            1 << 27,
            &NoHostIrqs,
        )
        .map(drop)
        .unwrap();
        let events: [Events; 3] = Default::default();
        let stop = AtomicBool::new(false);
        thread::scope(|s| {
            for vcpu in [VcpuId(0), VcpuId(1)] {
                let (vgic, events, stop) = (&vgic, &events, &stop);
                s.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        if !turn(vgic, vcpu, events) {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut devices = Vec::new();
            for (intid, event) in INTIDS.into_iter().zip(&events) {
                let vgic = &vgic;
                devices.push(s.spawn(move || {
                    for _ in 0..ROUNDS {
                        event.raised.fetch_add(1, Ordering::SeqCst);
                        let _ = vgic.pulse(Some(VcpuId(0)), intid).unwrap();
                    }
                }));
            }
            // Meanwhile an SPI is sent to and fro, and everything goes off and on again.
            for n in 0..ROUNDS {
                match version {
                    GicVersion::V2 => write(0x828, AccessSize::Byte, 1 << (n & 1)),
                    GicVersion::V3 => write(0x6140, AccessSize::Double, u64::from(n & 1)),
                }
                write(0, AccessSize::Word, if n % 8 == 0 { 0 } else { 3 });
                write(
                    if n % 4 == 0 { 0x184 } else { 0x104 },
                    AccessSize::Word,
                    1 << 9,
                );
            }
            write(0, AccessSize::Word, 3);
            write(0x104, AccessSize::Word, 1 << 9);
            for device in devices {
                device.join().unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        });
        while turn(&vgic, VcpuId(0), &events) || turn(&vgic, VcpuId(1), &events) {}
        for event in &events {
            assert_eq!(event.seen.load(Ordering::SeqCst), ROUNDS);
        }
    }
}
