//! What guests and devices do at random.

use proptest::prelude::*;
use xen_core::VcpuId;

pub(super) const VCPUS: u32 = 3;
/// Of each kind a few, so that they meet: SGIs, PPIs, SPIs; the last two of these are physical.
pub(super) const INTIDS: [u32; 9] = [0, 7, 20, 27, 33, 34, 64, 70, 71];
pub(super) const PHYSICAL: [u32; 2] = [70, 71];
/// Besides the SGIs, what starts as edge-triggered.
pub(super) const EDGES: [u32; 4] = [27, 34, 64, 71];

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Line {
        vcpu: VcpuId,
        intid: u32,
        level: bool,
    },
    Pulse {
        vcpu: VcpuId,
        intid: u32,
    },
    Physical {
        intid: u32,
    },
    Sgi {
        from: VcpuId,
        to: u8,
        id: u32,
    },
    Enable {
        vcpu: VcpuId,
        intid: u32,
        on: bool,
    },
    ClearPending {
        vcpu: VcpuId,
        intid: u32,
    },
    SetPending {
        vcpu: VcpuId,
        intid: u32,
    },
    Priority {
        vcpu: VcpuId,
        intid: u32,
        priority: u8,
    },
    Group {
        vcpu: VcpuId,
        intid: u32,
        group1: bool,
    },
    Edge {
        vcpu: VcpuId,
        intid: u32,
        edge: bool,
    },
    Target {
        vcpu: VcpuId,
        intid: u32,
        to: VcpuId,
    },
    Control {
        vcpu: VcpuId,
        groups: u8,
    },
    Ack {
        vcpu: VcpuId,
    },
    End {
        vcpu: VcpuId,
    },
    Exit {
        vcpu: VcpuId,
    },
    Compare,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let vcpu = || (0..VCPUS).prop_map(VcpuId);
    let from = |first: u32| {
        let some: Vec<u32> = INTIDS.into_iter().filter(|&n| n >= first).collect();
        prop::sample::select(some)
    };
    prop_oneof![
        4 => (vcpu(), from(16), any::<bool>()).prop_map(|(vcpu, intid, level)| Op::Line { vcpu, intid, level }),
        4 => (vcpu(), from(16)).prop_map(|(vcpu, intid)| Op::Pulse { vcpu, intid }),
        4 => prop::sample::select(PHYSICAL.to_vec()).prop_map(|intid| Op::Physical { intid }),
        4 => (vcpu(), 0u8..8, prop::sample::select(vec![0u32, 7])).prop_map(|(from, to, id)| Op::Sgi { from, to, id }),
        1 => (vcpu(), from(0), any::<bool>()).prop_map(|(vcpu, intid, on)| Op::Enable { vcpu, intid, on }),
        3 => (vcpu(), from(0)).prop_map(|(vcpu, intid)| Op::ClearPending { vcpu, intid }),
        1 => (vcpu(), from(0)).prop_map(|(vcpu, intid)| Op::SetPending { vcpu, intid }),
        1 => (vcpu(), from(0), 0u8..4).prop_map(|(vcpu, intid, p)| Op::Priority { vcpu, intid, priority: p << 6 }),
        2 => (vcpu(), from(0), any::<bool>()).prop_map(|(vcpu, intid, group1)| Op::Group { vcpu, intid, group1 }),
        1 => (vcpu(), from(16), any::<bool>()).prop_map(|(vcpu, intid, edge)| Op::Edge { vcpu, intid, edge }),
        3 => (vcpu(), from(32), vcpu()).prop_map(|(vcpu, intid, to)| Op::Target { vcpu, intid, to }),
        1 => (vcpu(), 0u8..4).prop_map(|(vcpu, groups)| Op::Control { vcpu, groups }),
        10 => vcpu().prop_map(|vcpu| Op::Ack { vcpu }),
        8 => vcpu().prop_map(|vcpu| Op::End { vcpu }),
        2 => vcpu().prop_map(|vcpu| Op::Exit { vcpu }),
        2 => Just(Op::Compare),
    ]
}
