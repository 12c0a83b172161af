//! Random guests and devices against what the architecture says of each interrupt alone.

use super::ops::{EDGES, INTIDS, Op, PHYSICAL, VCPUS, op};
use super::sim::{Machine, versions};
use crate::decode::{AccessSize, SgiReg};
use crate::vgic::{CpuInterface, GicVersion, Region};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use xen_core::VcpuId;

/// What the architecture says of one interrupt, with no list registers in sight.
#[derive(Clone, Debug, Default)]
struct Ref {
    enabled: bool,
    group1: bool,
    edge: bool,
    line: bool,
    latch: bool,
    sources: BTreeSet<u8>,
    active: bool,
    priority: u8,
    target: u32,
}

impl Ref {
    fn pending(&self) -> bool {
        self.latch || !self.sources.is_empty() || !self.edge && self.line
    }
}

struct World {
    machine: Machine,
    version: GicVersion,
    groups: u8,
    /// By vCPU (0 for SPIs) and number.
    irqs: BTreeMap<(u32, u32), Ref>,
}

fn key(vcpu: VcpuId, intid: u32) -> (u32, u32) {
    (if intid < 32 { vcpu.0 } else { 0 }, intid)
}

impl World {
    fn new(version: GicVersion, lr_count: usize, lazy: bool) -> Self {
        let mut machine = Machine::new(version, VCPUS, lr_count);
        for intid in PHYSICAL {
            machine
                .vgic
                .map_hw(intid, intid + 100, &machine.host)
                .unwrap();
        }
        let mut irqs = BTreeMap::new();
        for vcpu in machine.vcpus() {
            machine.write32(vcpu, Region::Dist, 0, 3);
            for intid in INTIDS {
                machine.write_bit(vcpu, 0x100, intid);
                machine.set_priority(vcpu, intid, 0x80);
                if EDGES.contains(&intid) {
                    machine.set_edge(vcpu, intid, true);
                }
                let state = Ref {
                    enabled: true,
                    group1: version == GicVersion::V3,
                    edge: intid < 16 || EDGES.contains(&intid),
                    priority: 0x80,
                    target: if intid < 32 { vcpu.0 } else { 0 },
                    ..Ref::default()
                };
                irqs.insert(key(vcpu, intid), state);
            }
        }
        machine.lazy = lazy;
        Self {
            machine,
            version,
            groups: 3,
            irqs,
        }
    }

    fn irq(&mut self, vcpu: VcpuId, intid: u32) -> &mut Ref {
        self.irqs.get_mut(&key(vcpu, intid)).unwrap()
    }

    fn sourced(&self, intid: u32) -> bool {
        self.version == GicVersion::V2 && intid < 16
    }

    fn deliverable(&self, vcpu: VcpuId) -> impl Iterator<Item = (u32, &Ref)> {
        self.irqs.iter().filter_map(move |(&(_, intid), irq)| {
            let forwarded =
                self.groups >> irq.group1 as u8 & 1 != 0 && irq.enabled && irq.target == vcpu.0;
            (forwarded && irq.pending() && !irq.active).then_some((intid, irq))
        })
    }

    /// Applies an input or a register write to both sides.
    fn apply(&mut self, op: Op) {
        let version = self.version;
        let sourced = |intid| version == GicVersion::V2 && intid < 16;
        let m = &mut self.machine;
        match op {
            Op::Line { vcpu, intid, level } => {
                let kicks = m.vgic.set_line(Some(vcpu), intid, level).unwrap();
                m.kick(kicks);
                let irq = self.irq(vcpu, intid);
                irq.latch |= irq.edge && level && !irq.line;
                irq.line = level;
            }
            Op::Pulse { vcpu, intid } => {
                let kicks = m.vgic.pulse(Some(vcpu), intid).unwrap();
                m.kick(kicks);
                self.irq(vcpu, intid).latch = true;
            }
            Op::Physical { intid } => {
                if m.host.take(intid + 100) {
                    let kicks = m.vgic.inject_hw(intid).unwrap();
                    m.kick(kicks);
                    self.irq(VcpuId(0), intid).latch = true;
                }
            }
            Op::Sgi { from, to, id } => {
                if self.version == GicVersion::V2 {
                    m.write32(from, Region::Dist, 0xf00, u32::from(to) << 16 | id);
                } else {
                    m.leave(from);
                    let value = u64::from(id) << 24 | u64::from(to);
                    let kicks = m.vgic.sgi1r(from, value, SgiReg::Sgi1).unwrap();
                    m.enter(from);
                    m.kick(kicks);
                }
                for vcpu in (0..VCPUS).filter(|v| to >> v & 1 != 0).map(VcpuId) {
                    let sourced = sourced(id);
                    let irq = self.irq(vcpu, id);
                    if sourced {
                        irq.sources.insert(from.0 as u8);
                    } else {
                        irq.latch = true;
                    }
                }
            }
            Op::Enable { vcpu, intid, on } => {
                m.write_bit(vcpu, if on { 0x100 } else { 0x180 }, intid);
                self.irq(vcpu, intid).enabled = on;
            }
            Op::ClearPending { vcpu, intid } => {
                if sourced(intid) {
                    m.write(
                        vcpu,
                        Region::Dist,
                        0xf10 + u64::from(intid),
                        AccessSize::Byte,
                        0b110,
                    );
                    self.irq(vcpu, intid).sources.retain(|s| *s == 0);
                } else {
                    m.write_bit(vcpu, 0x280, intid);
                    self.irq(vcpu, intid).latch = false;
                }
            }
            Op::SetPending { vcpu, intid } => {
                if sourced(intid) {
                    m.write(
                        vcpu,
                        Region::Dist,
                        0xf20 + u64::from(intid),
                        AccessSize::Byte,
                        0b101,
                    );
                    self.irq(vcpu, intid).sources.extend([0, 2]);
                } else {
                    m.write_bit(vcpu, 0x200, intid);
                    self.irq(vcpu, intid).latch = true;
                }
            }
            Op::Priority {
                vcpu,
                intid,
                priority,
            } => {
                // The guest's handlers would no longer nest by priority.
                if !self.irqs[&key(vcpu, intid)].active {
                    m.set_priority(vcpu, intid, priority);
                    self.irq(vcpu, intid).priority = priority;
                }
            }
            Op::Group {
                vcpu,
                intid,
                group1,
            } => {
                let (region, frame) = m.home(vcpu, intid);
                let offset = frame + 0x80 + u64::from(intid / 32 * 4);
                let old = m.read32(vcpu, region, offset);
                let bit = 1 << (intid % 32);
                m.write32(
                    vcpu,
                    region,
                    offset,
                    if group1 { old | bit } else { old & !bit },
                );
                self.irq(vcpu, intid).group1 = group1;
            }
            Op::Edge { vcpu, intid, edge } => {
                m.set_edge(vcpu, intid, edge);
                self.irq(vcpu, intid).edge = edge;
            }
            Op::Target { vcpu, intid, to } => {
                m.set_target(vcpu, intid, to);
                self.irq(vcpu, intid).target = to.0;
            }
            Op::Control { vcpu, groups } => {
                m.write32(vcpu, Region::Dist, 0, groups.into());
                self.groups = groups;
            }
            Op::Exit { vcpu } => {
                m.exit(vcpu);
                m.kick(crate::vgic::VcpuSet::EMPTY);
            }
            Op::Ack { .. } | Op::End { .. } | Op::Compare => {
                unreachable!("not from outside the guest")
            }
        }
    }

    /// Acknowledges; what comes must be among the most urgent of what the reference has.
    fn ack(&mut self, vcpu: VcpuId) -> bool {
        let running = self.machine.cpu(vcpu).running_priority();
        let best = self
            .deliverable(vcpu)
            .map(|(_, irq)| irq.priority)
            .min()
            .filter(|p| *p < running);
        let got = self.machine.ack(vcpu);
        let Some(acked) = got else {
            assert_eq!(
                best,
                None,
                "{vcpu:?} was not given {:?}",
                self.deliverable(vcpu).collect::<Vec<_>>()
            );
            return false;
        };
        assert_eq!(Some(acked.priority), best, "{vcpu:?} got {acked:?}");
        assert!(
            self.deliverable(vcpu).any(|(n, _)| n == acked.intid),
            "{vcpu:?} got {acked:?} out of nowhere"
        );
        let sourced = self.sourced(acked.intid);
        let irq = self.irq(vcpu, acked.intid);
        assert_eq!(acked.group1, irq.group1);
        irq.active = true;
        if sourced {
            assert!(
                irq.sources.remove(&acked.source),
                "SGI {acked:?} from nobody"
            );
        } else {
            irq.latch = false;
        }
        true
    }

    fn end(&mut self, vcpu: VcpuId) -> bool {
        let Some(ended) = self.machine.eoi(vcpu) else {
            return false;
        };
        let irq = self.irq(vcpu, ended.intid);
        assert!(irq.active);
        irq.active = false;
        true
    }

    /// What both sides show of each interrupt.
    fn compare(&mut self) {
        for vcpu in self.machine.vcpus() {
            // Only outside the guest the model knows all.
            self.machine.leave(vcpu);
        }
        for (&(vcpu, intid), irq) in &self.irqs {
            let vcpu = VcpuId(vcpu);
            let shows = |base| self.machine.read_bit(vcpu, base, intid);
            assert_eq!(shows(0x100), irq.enabled, "enable of {intid}");
            assert_eq!(shows(0x200), irq.pending(), "pending of {intid}");
            assert_eq!(shows(0x300), irq.active, "active of {intid}");
            assert_eq!(shows(0x80), irq.group1, "group of {intid}");
            if PHYSICAL.contains(&intid)
                && self.machine.host.active.borrow().contains(&(intid + 100))
            {
                assert!(
                    irq.latch || irq.active,
                    "nobody will ever end the physical {intid}"
                );
            }
        }
        for vcpu in self.machine.vcpus() {
            let interface = CpuInterface {
                running: self.machine.cpu(vcpu).running_priority(),
                ..CpuInterface::OPEN
            };
            let expected = self
                .deliverable(vcpu)
                .any(|(_, irq)| irq.priority < interface.running);
            assert_eq!(self.machine.vgic.has_pending(vcpu, &interface), expected);
            self.machine.enter(vcpu);
        }
        self.machine.kick(crate::vgic::VcpuSet::EMPTY);
    }

    /// Enables all, lowers the inputs, and lets every guest run until nothing comes any more.
    fn drain(
        &mut self,
        mut ack: impl FnMut(&mut Self, VcpuId) -> bool,
        mut end: impl FnMut(&mut Self, VcpuId) -> bool,
    ) {
        self.apply(Op::Control {
            vcpu: VcpuId(0),
            groups: 3,
        });
        for vcpu in self.machine.vcpus() {
            for intid in INTIDS {
                self.apply(Op::Enable {
                    vcpu,
                    intid,
                    on: true,
                });
                if intid >= 16 {
                    self.apply(Op::Line {
                        vcpu,
                        intid,
                        level: false,
                    });
                }
            }
        }
        self.machine.deliver_kicks();
        let mut more = true;
        while core::mem::take(&mut more) {
            for vcpu in self.machine.vcpus() {
                while ack(self, vcpu) {
                    more = true;
                }
                while end(self, vcpu) {
                    more = true;
                }
                self.machine.deliver_kicks();
            }
        }
        assert!(
            self.machine.host.active.borrow().is_empty(),
            "physical interrupts left active"
        );
        for vcpu in self.machine.vcpus() {
            assert!(!self.machine.vgic.has_pending(vcpu, &CpuInterface::OPEN));
            assert!(
                self.machine
                    .cpu(vcpu)
                    .lrs
                    .iter()
                    .all(|lr| lr.state.is_empty())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Kicks arrive at once: the guest sees exactly what the architecture says, at every step.
    #[test]
    fn guests_see_what_the_architecture_says(lr_count in 1usize..6, ops in prop::collection::vec(op(), 1..120)) {
        for version in versions() {
            let mut world = World::new(version, lr_count, false);
            for &op in &ops {
                match op {
                    Op::Ack { vcpu } => { world.ack(vcpu); }
                    Op::End { vcpu } => { world.end(vcpu); }
                    Op::Compare => world.compare(),
                    op => world.apply(op),
                }
            }
            world.compare();
            world.drain(World::ack, World::end);
            prop_assert!(world.irqs.values().all(|irq| !irq.active && !irq.pending()));
        }
    }

    /// Kicks arrive late and guests go on meanwhile: nothing is lost, nothing comes twice.
    #[test]
    fn late_kicks_lose_and_double_nothing(lr_count in 1usize..6, ops in prop::collection::vec(op(), 1..120)) {
        for version in versions() {
            let mut world = World::new(version, lr_count, true);
            // Level inputs may be seen any number of times, and clearing is a loss.
            let mut raised: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            let mut owed: BTreeSet<(u32, u32)> = BTreeSet::new();
            let mut acked: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            let mut note = |world: &mut World, vcpu, owed: &mut BTreeSet<_>| {
                let Some(got) = world.machine.ack(vcpu) else { return false };
                *acked.entry(key(vcpu, got.intid)).or_default() += 1;
                owed.remove(&key(vcpu, got.intid));
                true
            };
            for &op in &ops {
                let once = match op {
                    Op::Line { .. } | Op::ClearPending { .. } | Op::Edge { .. } | Op::Priority { .. } | Op::Compare => {
                        continue;
                    },
                    Op::Ack { vcpu } => { note(&mut world, vcpu, &mut owed); continue }
                    Op::End { vcpu } => { world.machine.eoi(vcpu); continue }
                    Op::SetPending { vcpu, intid } if !world.sourced(intid) => vec![(vcpu, intid)],
                    Op::SetPending { .. } => continue,
                    Op::Pulse { vcpu, intid } => vec![(vcpu, intid)],
                    Op::Physical { intid } if !world.machine.host.active.borrow().contains(&(intid + 100)) => {
                        vec![(VcpuId(0), intid)]
                    }
                    Op::Sgi { to, id, .. } => (0..VCPUS).filter(|v| to >> v & 1 != 0).map(|v| (VcpuId(v), id)).collect(),
                    _ => vec![],
                };
                world.apply(op);
                for (vcpu, intid) in once {
                    *raised.entry(key(vcpu, intid)).or_default() += 1;
                    owed.insert(key(vcpu, intid));
                }
            }
            world.machine.deliver_kicks();
            world.drain(|w, v| note(w, v, &mut owed), |w, v| w.machine.eoi(v).is_some());
            prop_assert!(owed.is_empty(), "lost {:?}", owed);
            for (which, count) in acked {
                let most = raised.get(&which).copied().unwrap_or(0);
                prop_assert!(count <= most, "{:?} came {} times for {}", which, count, most);
            }
        }
    }
}
