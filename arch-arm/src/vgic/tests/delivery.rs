//! Single situations of delivery, step by step.

use super::sim::{Machine, versions};
use crate::decode::AccessSize;
use crate::host::gic::{LrSource, LrState};
use crate::vgic::{Config, CpuInterface, GicVersion, LrImage, Region, VGic, VcpuSet};
use xen_core::{Error, VcpuId};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);
const NONE: VcpuSet = VcpuSet::EMPTY;
const NPIE: u32 = 1 << 3;

pub(super) fn machines(lr_count: usize) -> impl Iterator<Item = Machine> {
    versions().into_iter().map(move |version| {
        let mut m = Machine::new(version, 2, lr_count);
        for intid in [20, 40, 41, 42, 43] {
            for vcpu in [V0, V1] {
                m.enable(vcpu, intid);
            }
        }
        m.lazy = true;
        m
    })
}

pub(super) fn states(image: &LrImage) -> Vec<(u32, LrState)> {
    image.used().iter().map(|lr| (lr.virq, lr.state)).collect()
}

#[test]
fn an_input_wakes_its_target_once() {
    for m in machines(4) {
        assert_eq!(m.vgic.set_line(None, 40, true), Ok(VcpuSet::one(V0)));
        assert_eq!(m.vgic.set_line(None, 40, true), Ok(NONE));
        assert_eq!(m.vgic.set_line(Some(V1), 20, true), Ok(VcpuSet::one(V1)));
        assert!(m.vgic.has_pending(V1, &CpuInterface::OPEN));
        let masked = CpuInterface {
            priority_mask: 0,
            ..CpuInterface::OPEN
        };
        assert!(!m.vgic.has_pending(V1, &masked));
        assert_eq!(m.vgic.set_line(Some(V1), 20, false), Ok(NONE));
        assert!(!m.vgic.has_pending(V1, &CpuInterface::OPEN));
    }
}

#[test]
fn inputs_that_are_not_there_are_refused() {
    for m in machines(4) {
        for (vcpu, intid) in [
            (Some(V0), 3),
            (None, 20),
            (Some(VcpuId(2)), 20),
            (None, 96),
            (None, 1023),
            (None, u32::MAX),
        ] {
            assert_eq!(m.vgic.set_line(vcpu, intid, true), Err(Error::Inval));
            assert_eq!(m.vgic.pulse(vcpu, intid), Err(Error::Inval));
        }
        assert_eq!(
            m.vgic.inject_hw(40),
            Err(Error::Inval),
            "nothing physical is behind it"
        );
        assert_eq!(m.vgic.unmap_hw(40, &m.host), Err(Error::NoEnt));
        assert_eq!(m.vgic.map_hw(20, 50, &m.host), Err(Error::Inval));
    }
}

#[test]
fn shapes_that_are_refused() {
    for version in versions() {
        let most = if version == GicVersion::V2 { 8 } else { 128 };
        for (vcpus, spis) in [(0, 32), (most + 1, 32), (1, 993)] {
            assert_eq!(
                VGic::new(Config {
                    version,
                    vcpus,
                    spis
                })
                .err(),
                Some(Error::Inval)
            );
        }
        let largest = VGic::new(Config {
            version,
            vcpus: most,
            spis: 992,
        })
        .unwrap();
        assert_eq!(largest.end(), 1020);
        assert_eq!(largest.pulse(None, 1020), Err(Error::Inval));
        assert_eq!(
            VGic::new(Config {
                version,
                vcpus: 1,
                spis: 33
            })
            .unwrap()
            .end(),
            96
        );
    }
}

#[test]
fn without_work_no_lock_is_taken() {
    for mut m in machines(4) {
        m.exit(V0);
        assert!(!m.vgic.is_dirty(V0));
        let mut image = LrImage::new();
        let _spis = m.vgic.spis.lock();
        let _own = m.vgic.banks[0].irqs.lock();
        m.vgic.flush(V0, 4, &mut image);
        assert!(image.used().is_empty());
        assert_eq!(m.vgic.sync(V0, &mut image, 0, &m.host), NONE);
        assert!(!m.vgic.has_pending(V0, &CpuInterface::OPEN));
        assert_eq!(m.vgic.set_line(Some(V0), 20, false), Ok(NONE));
    }
}

#[test]
fn a_level_that_falls_before_it_is_seen_is_withdrawn() {
    for mut m in machines(4) {
        let _ = m.vgic.set_line(None, 40, true).unwrap();
        m.enter(V0);
        assert_eq!(
            m.cpu(V0).lrs[0].source,
            LrSource::Software { eoi: true, cpu: 0 }
        );
        assert_eq!(m.vgic.set_line(None, 40, false), Ok(VcpuSet::one(V0)));
        m.exit(V0);
        assert!(m.cpu(V0).lrs.is_empty());
    }
}

#[test]
fn a_level_that_stays_comes_again_at_its_end() {
    for mut m in machines(4) {
        let _ = m.vgic.set_line(None, 40, true).unwrap();
        m.enter(V0);
        for _ in 0..3 {
            assert_eq!(m.ack(V0).unwrap().intid, 40);
            assert_eq!(m.ack(V0), None);
            m.eoi(V0).unwrap();
        }
        assert_eq!(m.ack(V0).unwrap().intid, 40);
        assert_eq!(
            m.vgic.set_line(None, 40, false),
            Ok(VcpuSet::one(V0)),
            "it need not ask at its end any more"
        );
        m.exit(V0);
        assert_eq!(
            m.cpu(V0).lrs[0].source,
            LrSource::Software { eoi: false, cpu: 0 }
        );
        m.eoi(V0).unwrap();
        assert_eq!(m.ack(V0), None);
    }
}

#[test]
fn a_message_on_a_level_sensitive_interrupt_comes_once_and_costs_one_exit() {
    for mut m in machines(4) {
        assert_eq!(m.vgic.pulse(Some(V0), 20), Ok(VcpuSet::one(V0)));
        m.exit(V0);
        assert_eq!(
            m.cpu(V0).lrs[0].source,
            LrSource::Software { eoi: false, cpu: 0 }
        );
        m.exit(V0);
        assert_eq!(m.ack(V0).unwrap().intid, 20);
        m.eoi(V0).unwrap();
        m.exit(V0);
        assert!(m.cpu(V0).lrs.is_empty());
    }
}

#[test]
fn disabling_what_another_vcpu_holds_takes_it_back() {
    for mut m in machines(4) {
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.enter(V0);
        let kicks = m
            .vgic
            .mmio_write(V1, Region::Dist, 0x184, AccessSize::Word, 1 << 8, &m.host);
        assert_eq!(kicks, Ok(VcpuSet::one(V0)));
        m.exit(V0);
        assert!(m.cpu(V0).lrs.is_empty());
        assert!(m.read_bit(V1, 0x200, 40), "and keeps it pending");
    }
}

#[test]
fn an_spi_sent_elsewhere_moves_when_it_is_out_of_the_list_register() {
    for mut m in machines(4) {
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.enter(V0);
        m.set_target(V1, 40, V1);
        assert!(m.kicked.contains(V0) && !m.kicked.contains(V1));
        m.exit(V1);
        assert!(m.cpu(V1).lrs.is_empty());
        m.exit(V0);
        assert!(m.kicked.contains(V1) && m.cpu(V0).lrs.is_empty());
        m.exit(V1);
        assert_eq!(m.ack(V1).unwrap().intid, 40);
        // While it is handled it stays where it is, and what comes meanwhile goes on afterwards.
        m.set_target(V0, 40, V0);
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.exit(V0);
        m.exit(V1);
        assert!(m.cpu(V0).lrs.is_empty());
        m.eoi(V1).unwrap();
        m.deliver_kicks();
        assert_eq!(m.ack(V0).unwrap().intid, 40);
    }
}

#[test]
fn more_than_fits_comes_in_the_order_of_priority() {
    for mut m in machines(2) {
        for (intid, priority) in [(40, 0x60), (41, 0x40), (42, 0x80), (43, 0x20)] {
            m.set_priority(V0, intid, priority);
            let _ = m.vgic.pulse(None, intid).unwrap();
        }
        m.leave(V0);
        let mut image = LrImage::new();
        m.vgic.flush(V0, 2, &mut image);
        assert!(m.vgic.is_dirty(V0), "there is more");
        assert_eq!(
            states(&image),
            [(43, LrState::PENDING), (41, LrState::PENDING)]
        );
        assert_eq!(image.hcr(), NPIE);
        let _ = m.vgic.sync(V0, &mut image, 0, &m.host);
        m.enter(V0);
        for intid in [43, 41, 40, 42] {
            assert_eq!(m.ack(V0).unwrap().intid, intid);
            m.eoi(V0).unwrap();
        }
    }
}

#[test]
fn the_guest_may_set_and_clear_the_active_state() {
    for mut m in machines(4) {
        let _ = m.vgic.pulse(None, 40).unwrap();
        m.enter(V0);
        m.write_bit(V1, 0x300, 40);
        assert!(m.read_bit(V1, 0x300, 40) && m.kicked.contains(V0));
        m.exit(V0);
        assert!(m.cpu(V0).lrs[0].state.contains(LrState::ACTIVE));
        assert_eq!(
            m.ack(V0),
            None,
            "it is being handled, as far as the controller knows"
        );
        m.write_bit(V1, 0x380, 40);
        assert!(!m.read_bit(V1, 0x300, 40));
        m.exit(V0);
        assert_eq!(m.ack(V0).unwrap().intid, 40);
    }
}

#[test]
fn nothing_comes_from_a_group_that_is_not_forwarded() {
    for mut m in machines(4) {
        m.write32(V0, Region::Dist, 0, 0);
        assert_eq!(m.vgic.pulse(None, 40), Ok(NONE));
        assert!(!m.vgic.has_pending(V0, &CpuInterface::OPEN));
        let kicks = m
            .vgic
            .mmio_write(V1, Region::Dist, 0, AccessSize::Word, 3, &m.host);
        assert_eq!(kicks, Ok(VcpuSet::one(V0)));
        m.exit(V0);
        assert_eq!(m.cpu(V0).lrs.len(), 1);
        let kicks = m
            .vgic
            .mmio_write(V1, Region::Dist, 0, AccessSize::Word, 0, &m.host);
        assert_eq!(kicks, Ok(VcpuSet::one(V0)));
        m.exit(V0);
        assert!(m.cpu(V0).lrs.is_empty());
    }
}

#[cfg(feature = "gicv2")]
#[test]
fn requests_of_several_vcpus_come_one_by_one_and_are_not_overtaken() {
    use crate::vgic::NoHostIrqs;
    let vgic = VGic::new(Config {
        version: GicVersion::V2,
        vcpus: 3,
        spis: 32,
    })
    .unwrap();
    let write = |vcpu, offset, value| {
        vgic.mmio_write(
            vcpu,
            Region::Dist,
            offset,
            AccessSize::Word,
            value,
            &NoHostIrqs,
        )
    };
    let _ = write(V0, 0, 1).unwrap();
    let _ = write(V0, 0x100, 1 << 20).unwrap();
    // The PPI is less urgent than the SGI.
    let _ = write(V0, 0x414, 0x80).unwrap();
    let _ = vgic.pulse(Some(V0), 20).unwrap();
    assert_eq!(write(V1, 0xf00, 0x0001_0003), Ok(VcpuSet::one(V0)));
    assert_eq!(write(VcpuId(2), 0xf00, 0x0001_0003), Ok(NONE));
    let sources = |n: u64| vgic.mmio_read(V0, Region::Dist, 0xf20 + n, AccessSize::Byte);
    assert_eq!(sources(3), Ok(0b110));

    let mut image = LrImage::new();
    let read_back = |image: &mut LrImage, state| {
        let lr = crate::host::gic::ListRegister {
            state,
            ..image.used()[0]
        };
        image.read_back(0, lr);
        let _ = vgic.sync(V0, image, 0, &NoHostIrqs);
        vgic.flush(V0, 4, image);
    };
    vgic.flush(V0, 4, &mut image);
    assert_eq!(states(&image), [(3, LrState::PENDING)]);
    assert_eq!(
        image.used()[0].source,
        LrSource::Software { eoi: true, cpu: 1 }
    );
    assert_eq!(image.hcr(), NPIE);
    assert_eq!(sources(3), Ok(0b110));

    read_back(&mut image, LrState::ACTIVE);
    assert_eq!(
        states(&image),
        [(3, LrState::ACTIVE)],
        "the PPI must not come between"
    );
    assert_eq!(
        image.used()[0].source,
        LrSource::Software { eoi: true, cpu: 1 }
    );
    assert_eq!(image.hcr(), 0, "the end is what to wait for");
    assert_eq!(sources(3), Ok(0b100));

    read_back(&mut image, LrState::empty());
    assert_eq!(
        states(&image),
        [(3, LrState::PENDING), (20, LrState::PENDING)]
    );
    assert_eq!(
        image.used()[0].source,
        LrSource::Software { eoi: false, cpu: 2 }
    );
    assert_eq!(image.hcr(), 0);
}

#[cfg(feature = "gicv3")]
#[test]
fn sgi_registers_reach_the_groups_they_may() {
    use crate::decode::SgiReg;
    let mut m = Machine::new(GicVersion::V3, 2, 4);
    m.lazy = true;
    m.write32(V0, Region::Dist, 0, 3);
    // SGI 0 of vCPU 1 is in group 0, SGI 1 in group 1.
    m.write32(V1, Region::Redist(V1), 0x1_0080, !1);
    let all = |id: u64| 1 << 40 | id << 24;
    assert_eq!(m.vgic.sgi1r(V0, all(1), SgiReg::Sgi0), Ok(NONE));
    assert_eq!(m.vgic.sgi1r(V0, all(1), SgiReg::Asgi1), Ok(NONE));
    assert_eq!(m.vgic.sgi1r(V0, all(1), SgiReg::Sgi1), Ok(VcpuSet::one(V1)));
    assert_eq!(m.vgic.sgi1r(V0, all(0), SgiReg::Sgi0), Ok(VcpuSet::one(V1)));
    assert_eq!(
        m.vgic.sgi1r(VcpuId(2), all(0), SgiReg::Sgi0),
        Err(Error::Inval)
    );
    m.exit(V1);
    assert_eq!(
        m.cpu(V1)
            .lrs
            .iter()
            .map(|lr| (lr.virq, lr.group1))
            .collect::<Vec<_>>(),
        [(0, false), (1, true)]
    );
}

#[cfg(feature = "gicv2")]
#[test]
fn a_gicv2_has_no_sgi_registers_in_the_cpu() {
    let m = Machine::new(GicVersion::V2, 2, 4);
    assert_eq!(
        m.vgic.sgi1r(V0, 1, crate::decode::SgiReg::Sgi1),
        Err(Error::NoSys)
    );
}
