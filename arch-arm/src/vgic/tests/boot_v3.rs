//! What an operating system's driver for a GICv3 does to get going.

use super::sim::Machine;
use crate::decode::{AccessSize, SgiReg, mpidr_of};
use crate::vgic::{GicVersion, REDIST_STRIDE, Region, redist_at};
use xen_core::VcpuId;

const DIST: Region = Region::Dist;
const PRIORITIES: u32 = 0xa0a0_a0a0;
const VCPUS: u32 = 18;

/// Walks the redistributors for the one of `vcpu`, as its CPU does.
fn find_redistributor(m: &Machine, vcpu: VcpuId) -> Region {
    let mpidr = mpidr_of(vcpu);
    let own = mpidr & 0xff_ffff | (mpidr >> 32 & 0xff) << 24;
    let mut at = 0;
    loop {
        let (which, offset) = redist_at(at, VCPUS).unwrap();
        assert_eq!(offset, 0);
        let region = Region::Redist(which);
        assert_eq!(m.read32(vcpu, region, 0xffe8) & 0xf0, 0x30);
        let typer = m
            .vgic
            .mmio_read(vcpu, region, 8, AccessSize::Double)
            .unwrap();
        if typer >> 32 == own {
            assert_eq!(typer & 0b11, 0, "no LPIs, physical or virtual");
            return region;
        }
        assert_eq!(typer >> 4 & 1, 0, "the last one was not ours");
        at += REDIST_STRIDE;
    }
}

fn bring_up_cpu(m: &mut Machine, vcpu: VcpuId) {
    let region = find_redistributor(m, vcpu);
    assert_eq!(region, Region::Redist(vcpu));
    let waker = m.read32(vcpu, region, 0x14);
    m.write32(vcpu, region, 0x14, waker & !0b10);
    assert_eq!(
        m.read32(vcpu, region, 0x14) & 0b100,
        0,
        "its children are awake"
    );
    m.write32(vcpu, region, 0x1_0080, !0);
    m.write32(vcpu, region, 0x1_0380, !0);
    m.write32(vcpu, region, 0x1_0180, !0);
    for n in (0..32).step_by(4) {
        m.write32(vcpu, region, 0x1_0400 + n, PRIORITIES);
    }
    assert_eq!(m.read32(vcpu, region, 0) & 1 << 3, 0, "no write is pending");
    m.write32(vcpu, region, 0x1_0100, 0xff);
}

fn bring_up() -> Machine {
    let mut m = Machine::new(GicVersion::V3, VCPUS, 4);
    let boot = VcpuId(0);
    assert_eq!(m.read32(boot, DIST, 0xffe8) & 0xf0, 0x30);
    let typer = m.read32(boot, DIST, 4);
    let lines = 32 * ((typer & 0x1f) + 1);
    assert_eq!((lines, typer >> 19 & 0x1f, typer >> 17 & 1), (96, 9, 0));
    m.write32(boot, DIST, 0, 0);
    assert_eq!(m.read32(boot, DIST, 0) & 1 << 31, 0, "no write is pending");
    for n in (32..lines).step_by(32) {
        m.write32(boot, DIST, 0x80 + u64::from(n / 8), !0);
    }
    for n in (32..lines).step_by(16) {
        m.write32(boot, DIST, 0xc00 + u64::from(n / 4), 0);
    }
    for n in (32..lines).step_by(4) {
        m.write32(boot, DIST, 0x400 + u64::from(n), PRIORITIES);
    }
    for n in (32..lines).step_by(32) {
        m.write32(boot, DIST, 0x380 + u64::from(n / 8), !0);
        m.write32(boot, DIST, 0x180 + u64::from(n / 8), !0);
    }
    m.write32(boot, DIST, 0, 0b1_0011);
    assert_eq!(m.read32(boot, DIST, 0), 0x53);
    for spi in 32..lines {
        m.write(
            boot,
            DIST,
            0x6000 + u64::from(spi) * 8,
            AccessSize::Double,
            0,
        );
    }
    for vcpu in m.vcpus() {
        bring_up_cpu(&mut m, vcpu);
    }
    m
}

#[test]
fn device_and_timer_interrupts_arrive() {
    let mut m = bring_up();
    let boot = VcpuId(0);
    m.set_edge(boot, 47, true);
    m.write_bit(boot, 0x100, 47);
    m.write_bit(boot, 0x100, 27);
    let kicks = m
        .vgic
        .pulse(None, 47)
        .unwrap()
        .union(m.vgic.set_line(Some(boot), 27, true).unwrap());
    m.kick(kicks);
    let timer = m.ack(boot).unwrap();
    assert_eq!(
        (timer.intid, timer.priority, timer.group1),
        (27, 0xa0, true)
    );
    let kicks = m.vgic.set_line(Some(boot), 27, false).unwrap();
    m.kick(kicks);
    m.eoi(boot).unwrap();
    assert_eq!(m.ack(boot).unwrap().intid, 47);
    m.eoi(boot).unwrap();
    assert_eq!(m.ack(boot), None);
}

#[test]
fn interrupts_move_to_another_cpu_and_cpus_call_each_other() {
    let mut m = bring_up();
    let (boot, far) = (VcpuId(0), VcpuId(17));
    m.write(
        boot,
        DIST,
        0x6000 + 40 * 8,
        AccessSize::Double,
        mpidr_of(far) & 0xff_00ff_ffff,
    );
    m.write_bit(boot, 0x100, 40);
    let kicks = m.vgic.set_line(None, 40, true).unwrap();
    m.kick(kicks);
    assert_eq!(m.ack(boot), None);
    assert_eq!(m.ack(far).unwrap().intid, 40);
    let kicks = m.vgic.set_line(None, 40, false).unwrap();
    m.kick(kicks);
    m.eoi(far).unwrap();
    // Affinity 1.1: second of the second cluster; then everybody else.
    let kicks = m
        .vgic
        .sgi1r(boot, 1 << 16 | 3 << 24 | 0b10, SgiReg::Sgi1)
        .unwrap();
    m.kick(kicks);
    assert_eq!(m.ack(far).unwrap().intid, 3);
    m.eoi(far).unwrap();
    let kicks = m.vgic.sgi1r(far, 1 << 40 | 2 << 24, SgiReg::Sgi1).unwrap();
    m.kick(kicks);
    for vcpu in m.vcpus() {
        assert_eq!(m.ack(vcpu).map(|a| a.intid), (vcpu != far).then_some(2));
    }
}
