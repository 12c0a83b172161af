//! What an operating system's driver for a GICv2 does to get going.

use super::sim::Machine;
use crate::decode::AccessSize;
use crate::vgic::{GicVersion, Region};
use xen_core::VcpuId;

const DIST: Region = Region::Dist;
const PRIORITIES: u32 = 0xa0a0_a0a0;

/// Each CPU's own part.
fn bring_up_cpu(m: &mut Machine, vcpu: VcpuId) {
    // The CPU learns its number from the target bytes of its own interrupts.
    let mask = (0..32)
        .step_by(4)
        .map(|n| m.read32(vcpu, DIST, 0x800 + n))
        .find(|v| *v != 0)
        .unwrap();
    assert_eq!(mask, 0x0101_0101 << vcpu.0);
    m.write32(vcpu, DIST, 0x380, !0);
    m.write32(vcpu, DIST, 0x180, 0xffff_0000);
    m.write32(vcpu, DIST, 0x100, 0x0000_ffff);
    for n in (0..32).step_by(4) {
        m.write32(vcpu, DIST, 0x400 + n, PRIORITIES);
    }
}

fn bring_up() -> Machine {
    let mut m = Machine::new(GicVersion::V2, 2, 4);
    let boot = VcpuId(0);
    let lines = 32 * ((m.read32(boot, DIST, 4) & 0x1f) + 1);
    assert_eq!(lines, 96);
    m.write32(boot, DIST, 0, 0);
    for spi in (32..lines).step_by(4) {
        m.write32(boot, DIST, 0x800 + u64::from(spi), 0x0101_0101);
        m.write32(boot, DIST, 0x400 + u64::from(spi), PRIORITIES);
    }
    for n in (32..lines).step_by(16) {
        m.write32(boot, DIST, 0xc00 + u64::from(n / 4), 0);
    }
    for n in (32..lines).step_by(32) {
        m.write32(boot, DIST, 0x380 + u64::from(n / 8), !0);
        m.write32(boot, DIST, 0x180 + u64::from(n / 8), !0);
    }
    m.write32(boot, DIST, 0, 1);
    bring_up_cpu(&mut m, boot);
    bring_up_cpu(&mut m, VcpuId(1));
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
        (27, 0xa0, false)
    );
    let kicks = m.vgic.set_line(Some(boot), 27, false).unwrap();
    m.kick(kicks);
    m.eoi(boot).unwrap();
    assert_eq!(m.ack(boot).unwrap().intid, 47);
    m.eoi(boot).unwrap();
    assert_eq!(m.ack(boot), None);
}

#[test]
fn interrupts_move_to_the_other_cpu_and_cpus_call_each_other() {
    let mut m = bring_up();
    let (boot, second) = (VcpuId(0), VcpuId(1));
    m.write(boot, DIST, 0x800 + 40, AccessSize::Byte, 0b10);
    m.write_bit(boot, 0x100, 40);
    let kicks = m.vgic.set_line(None, 40, true).unwrap();
    m.kick(kicks);
    assert_eq!(m.ack(boot), None);
    assert_eq!(m.ack(second).unwrap().intid, 40);
    m.write32(boot, DIST, 0xf00, 0b10 << 16 | 5);
    assert_eq!(m.ack(second), None, "the same priority does not preempt");
    let kicks = m.vgic.set_line(None, 40, false).unwrap();
    m.kick(kicks);
    m.eoi(second).unwrap();
    let call = m.ack(second).unwrap();
    assert_eq!((call.intid, call.source), (5, 0));
    m.eoi(second).unwrap();
    assert_eq!(m.ack(second), None);
}
