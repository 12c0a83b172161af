//! Virtual SPIs with physical ones behind them.

use super::delivery::{machines, states};
use super::sim::Asked;
use crate::host::gic::{LrSource, LrState};
use crate::vgic::{LrImage, VcpuSet};
use xen_core::{Error, VcpuId};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);
const LRENPIE: u32 = 1 << 2;

#[test]
fn a_handler_that_found_no_room_ends_by_the_count() {
    for mut m in machines(1) {
        m.vgic.map_hw(41, 141, &m.host).unwrap();
        m.set_priority(V0, 41, 0x80);
        assert!(m.host.take(141));
        let _ = m.vgic.inject_hw(41).unwrap();
        m.exit(V0);
        assert_eq!(m.ack(V0).unwrap().intid, 41);
        // More urgent: it gets the only register.
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.leave(V0);
        let mut image = LrImage::new();
        m.vgic.flush(V0, 1, &mut image);
        assert_eq!(
            (states(&image), image.hcr()),
            (vec![(40, LrState::PENDING)], LRENPIE)
        );
        let _ = m.vgic.sync(V0, &mut image, 0, &m.host);
        m.enter(V0);
        m.host.asked.borrow_mut().clear();
        assert_eq!(m.ack(V0).unwrap().intid, 40);
        m.eoi(V0).unwrap();
        assert!(m.read_bit(V0, 0x300, 41));
        // Not in a register, so neither is the physical interrupt's number.
        let mut image = LrImage::new();
        m.leave(V0);
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.vgic.flush(V0, 1, &mut image);
        let _ = m.vgic.sync(V0, &mut image, 1, &m.host);
        assert_eq!(*m.host.asked.borrow(), [Asked::Deactivate(141)]);
        assert!(!m.read_bit(V0, 0x300, 41));
    }
}

#[test]
fn a_physical_interrupt_belongs_to_its_list_register_until_it_is_handled() {
    for mut m in machines(4) {
        m.vgic.map_hw(41, 141, &m.host).unwrap();
        assert_eq!(m.vgic.map_hw(41, 142, &m.host), Err(Error::Busy));
        let order = [
            Asked::Trigger(141, false),
            Asked::Target(141, V0),
            Asked::Enable(141),
        ];
        assert_eq!(*m.host.asked.borrow(), order);
        m.host.asked.borrow_mut().clear();
        assert!(m.host.take(141));
        assert_eq!(m.vgic.inject_hw(41), Ok(VcpuSet::one(V0)));
        for _ in 0..3 {
            m.exit(V0);
            assert_eq!(m.cpu(V0).lrs[0].source, LrSource::Hardware { pirq: 141 });
        }
        m.ack(V0).unwrap();
        m.exit(V0);
        assert_eq!(m.cpu(V0).lrs[0].state, LrState::ACTIVE);
        assert_eq!(m.cpu(V0).lrs[0].source, LrSource::Hardware { pirq: 141 });
        m.eoi(V0).unwrap();
        // The device fires again before the model has heard of the end.
        assert!(m.host.take(141));
        let _ = m.vgic.inject_hw(41).unwrap();
        m.exit(V0);
        assert_eq!(m.cpu(V0).lrs[0].source, LrSource::Hardware { pirq: 141 });
        m.ack(V0).unwrap();
        m.eoi(V0).unwrap();
        assert!(
            m.host.asked.borrow().is_empty(),
            "the guest's own ends were enough"
        );
        assert!(m.host.active.borrow().is_empty());
    }
}

#[test]
fn a_physical_interrupt_follows_the_virtual_one() {
    for mut m in machines(4) {
        m.vgic.map_hw(41, 141, &m.host).unwrap();
        m.host.asked.borrow_mut().clear();
        m.write_bit(V1, 0x180, 41);
        m.write_bit(V1, 0x180, 41);
        m.set_edge(V1, 41, true);
        m.set_target(V1, 41, V1);
        m.write_bit(V1, 0x100, 41);
        let order = [
            Asked::Disable(141),
            Asked::Trigger(141, true),
            Asked::Target(141, V1),
            Asked::Enable(141),
        ];
        assert_eq!(*m.host.asked.borrow(), order);
        // Cleared by the guest: nobody would end it any more.
        assert!(m.host.take(141));
        let _ = m.vgic.inject_hw(41).unwrap();
        m.write_bit(V0, 0x280, 41);
        assert_eq!(m.host.asked.borrow().last(), Some(&Asked::Deactivate(141)));
        assert!(!m.read_bit(V0, 0x200, 41));
    }
}

#[test]
fn a_domain_that_goes_leaves_nothing_active() {
    for mut m in machines(4) {
        for intid in [40, 41, 42] {
            m.vgic.map_hw(intid, intid + 100, &m.host).unwrap();
        }
        for intid in [40, 41] {
            assert!(m.host.take(intid + 100));
            let _ = m.vgic.inject_hw(intid).unwrap();
        }
        // One is pending and one active in a list register, and one waits.
        m.exit(V0);
        m.ack(V0).unwrap();
        assert!(m.host.take(142));
        let _ = m.vgic.inject_hw(42).unwrap();
        m.kicked = m.vgic.unmap_all_hw(&m.host);
        assert_eq!(m.kicked, VcpuSet::one(V0));
        m.deliver_kicks();
        assert!(m.host.active.borrow().is_empty());
        assert_eq!(m.vgic.inject_hw(40), Err(Error::Inval));
        assert!(
            m.cpu(V0)
                .lrs
                .iter()
                .all(|lr| matches!(lr.source, LrSource::Software { .. }))
        );
    }
}
