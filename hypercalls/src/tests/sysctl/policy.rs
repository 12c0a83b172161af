//! CPU features and policies. The software machine has feature sets 0 to 3 of three words, and policies 0 to 4, without 2, of
//! one leaf more than their index and one register.

use xen_abi::Handle;
use xen_abi::domctl::{CpuidLeaf, MsrEntry};
use xen_abi::sysctl::*;
use xen_abi::versioned::Wire;
use xen_core::Error;

use super::super::{LIST, NOWHERE, World, err};
use super::{FULL, ask};

#[test]
fn features() {
    let world = World::new();
    let dom0 = world.guest(0);
    for interface in FULL {
        let ask = |index, room, at| {
            let mut args = CpuFeatureset {
                index: FeaturesetIndex(index),
                nr_features: room,
                features: Handle(at),
            };
            dom0.put(LIST, &[1u32; 4]);
            let result = ask!(&dom0, GET_CPU_FEATURESET, interface, &mut args);
            (result, args.nr_features, dom0.get::<[u32; 4]>(LIST))
        };
        let pattern = 0x5555_5555;
        assert_eq!(ask(1, 0, 0), (0, 3, [1; 4]));
        assert_eq!(ask(99, 9, 0), (0, 3, [1; 4]));
        assert_eq!(ask(2, 4, LIST), (0, 3, [2, pattern, !2, 1]));
        assert_eq!(ask(2, 3, LIST), (0, 3, [2, pattern, !2, 1]));
        // As much as there is room for, and that it is not all.
        assert_eq!(ask(3, 2, LIST), (err(Error::NoBufs), 2, [3, pattern, 1, 1]));
        assert_eq!(ask(3, 0, LIST), (err(Error::NoBufs), 0, [1; 4]));
        assert_eq!(ask(4, 3, LIST).0, err(Error::Inval));
        assert_eq!(ask(u32::MAX, 3, LIST).0, err(Error::Inval));
        assert_eq!(ask(1, 3, NOWHERE).0, err(Error::Fault));
    }
    let mut caps = CpuLevellingCaps::absent();
    assert_eq!(
        ask!(&dom0, GET_CPU_LEVELLING_CAPS, Interface::V15, &mut caps),
        0
    );
    assert!(caps.caps.is_empty());
    world.end([dom0]);
}

#[test]
fn policies() {
    let world = World::new();
    let dom0 = world.guest(0);
    const MSRS: u64 = LIST + 0x800;
    for interface in FULL {
        let ask = |index, leaves: (u32, u64), msrs: (u32, u64)| {
            let mut args = SystemCpuPolicy {
                index: CpuPolicyIndex(index),
                nr_leaves: leaves.0,
                nr_msrs: msrs.0,
                leaves: Handle(leaves.1),
                msrs: Handle(msrs.1),
            };
            let result = ask!(&dom0, GET_CPU_POLICY, interface, &mut args);
            (result, args.nr_leaves, args.nr_msrs)
        };
        // The most that any has.
        assert_eq!(ask(1, (0, 0), (0, 0)), (0, 5, 1));
        assert_eq!(ask(3, (5, LIST), (2, MSRS)), (0, 4, 1));
        let leaves: [CpuidLeaf; 4] = dom0.get(LIST);
        assert!((0..).zip(&leaves).all(|(n, l)| (l.leaf, l.a) == (n, 3)));
        let msr: MsrEntry = dom0.get(MSRS);
        assert_eq!((msr.idx, msr.val), (0xce, 3));
        assert_eq!(ask(3, (4, LIST), (0, 0)), (0, 4, 1));
        assert_eq!(ask(3, (0, 0), (1, MSRS)), (0, 5, 1));
        assert_eq!(ask(3, (3, LIST), (1, MSRS)).0, err(Error::NoBufs));
        assert_eq!(ask(3, (4, LIST), (0, MSRS)).0, err(Error::NoBufs));
        assert_eq!(ask(3, (4, NOWHERE), (1, MSRS)).0, err(Error::Fault));
        assert_eq!(ask(2, (4, LIST), (1, MSRS)).0, err(Error::OpNotSupp));
        for unknown in [5, 6, u32::MAX] {
            assert_eq!(ask(unknown, (0, 0), (0, 0)).0, err(Error::Inval));
        }
    }
    world.end([dom0]);
}
