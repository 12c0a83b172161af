use super::*;
use crate::policy::cpuid::tests::{amd, everything, intel};
use crate::policy::{CpuidPolicy, GuestKind};
use alloc::vec;
use proptest::prelude::*;

fn leaf(leaf: u32, subleaf: u32) -> CpuidLeaf {
    listed(leaf, subleaf, CpuidResult::default())
}

/// What toolstacks of 4.14 to 4.22 take: leaves, subleaves of those that have them, and the most of all.
#[test]
fn the_shape_is_the_one_that_toolstacks_know() {
    assert_eq!(MAX_LEAVES, 120);
    let full = Listed {
        leaves: everything(b"AuthenticAMD"),
        ..Listed::default()
    };
    let list = full.leaf_list();
    assert_eq!(list.len(), MAX_LEAVES);
    let names: Vec<_> = list.iter().map(|l| (l.leaf, l.subleaf)).collect();
    let mut expected = Vec::new();
    for n in 0..=0xd_u32 {
        let subleaves = match n {
            4 => 6,
            7 => 3,
            0xb => 2,
            0xd => 63,
            _ => {
                expected.push((n, u32::MAX));
                continue;
            }
        };
        expected.extend((0..subleaves).map(|s| (n, s)));
    }
    expected.extend([(0x4000_0000, u32::MAX), (0x4000_0100, u32::MAX)]);
    expected.extend((0x8000_0000..=0x8000_0021).map(|n| (n, u32::MAX)));
    assert_eq!(names, expected);
    let msrs: Vec<_> = full.msr_list().iter().map(|m| (m.idx, m.flags)).collect();
    assert_eq!(msrs, [(0xce, 0), (0x10a, 0)]);
}

#[test]
fn a_small_cpu_has_a_short_list() {
    let mut leaves = Leaves::default();
    leaves.basic[0].eax = 7;
    leaves.feature[0].eax = 0;
    leaves.extended[0].eax = 0x8000_0008;
    let small = Listed {
        leaves,
        ..Listed::default()
    };
    // 0 to 3, 5, 6; 4 with six, 7 with one; the hypervisor's two; nine.
    assert_eq!(small.leaf_list().len(), 6 + 6 + 1 + 2 + 9);
    // Garbage for the highest leaves stays within the shape.
    let mut wild = Listed::default();
    wild.leaves.basic[0].eax = u32::MAX;
    wild.leaves.feature[0].eax = u32::MAX;
    wild.leaves.extended[0].eax = u32::MAX;
    assert_eq!(wild.leaf_list().len(), MAX_LEAVES - 33);
}

#[test]
fn what_is_not_of_the_shape_is_refused_and_named() {
    for (n, s) in [
        (4, 6),
        (7, 3),
        (0xb, 2),
        (0xd, 63),
        (7, u32::MAX),
        (1, 0),
        (0xe, u32::MAX),
        (0x10, u32::MAX),
        (0x4000_0000, 0),
        (0x4000_0001, u32::MAX),
        (0x8000_0000, 0),
        (0x8000_0022, u32::MAX),
        (u32::MAX, u32::MAX),
    ] {
        let error = Listed::default().merge(&[leaf(1, u32::MAX), leaf(n, s)], &[]);
        let expected = PolicyError {
            error: Error::Range,
            leaf: (n, s),
            msr: u32::MAX,
        };
        assert_eq!(error, Err(expected), "{n:#x} {s:#x}");
    }
    let msr = |idx, flags, val| {
        let entry = MsrEntry { idx, flags, val };
        Listed::default()
            .merge(&[], &[entry])
            .map_err(|e| (e.error, e.msr, e.leaf))
    };
    let none = (u32::MAX, u32::MAX);
    assert_eq!(msr(0x10a, 0, u64::MAX), Ok(()));
    assert_eq!(msr(0xce, 0, 1 << 31), Ok(()));
    assert_eq!(msr(0xce, 0, 1 << 32), Err((Error::Overflow, 0xce, none)));
    assert_eq!(msr(0x10a, 1, 0), Err((Error::Inval, 0x10a, none)));
    assert_eq!(msr(0x10, 0, 0), Err((Error::Range, 0x10, none)));
    let many = vec![leaf(1, u32::MAX); MAX_LEAVES + 1];
    let error = Listed::default().merge(&many, &[]).map_err(|e| e.error);
    assert_eq!(error, Err(Error::TooBig));
}

#[test]
fn policies_come_back_as_they_went() {
    let small = CpuidPolicy::new(
        &Leaves::default(),
        &crate::policy::Machine::default(),
        GuestKind::Ordinary,
    );
    for policy in [amd(), intel(), small] {
        let listed = policy.listed();
        let mut back = Listed::default();
        assert_eq!(back.merge(&listed.leaf_list(), &listed.msr_list()), Ok(()));
        // Leaf 0x8000_001d has subleaves that are not exchanged.
        back.leaves.amd_cache = listed.leaves.amd_cache;
        let mut expected = listed;
        expected.leaves.clear_out_of_range();
        assert_eq!(back, expected);
    }
}

proptest! {
    // Whatever is merged, what is listed then can be merged, and is the same.
    #[test]
    fn lists_are_stable(
        entries in prop::collection::vec((0usize..MAX_LEAVES, any::<[u32; 4]>()), 0..40), platform: u32, caps: u64
    ) {
        let shape = Listed { leaves: everything(b"GenuineIntel"), ..Listed::default() }.leaf_list();
        let leaves: Vec<CpuidLeaf> = entries
            .into_iter()
            .map(|(n, [a, b, c, d])| CpuidLeaf { a, b, c, d, ..shape[n] })
            .collect();
        let msrs = [
            MsrEntry { idx: 0xce, flags: 0, val: platform.into() },
            MsrEntry { idx: 0x10a, flags: 0, val: caps },
        ];
        let mut policy = Listed::default();
        prop_assert_eq!(policy.merge(&leaves, &msrs), Ok(()));
        prop_assert_eq!(policy.msr_list(), msrs);
        policy.leaves.clear_out_of_range();
        let list = policy.leaf_list();
        prop_assert!(list.len() <= MAX_LEAVES);
        let mut again = Listed::default();
        prop_assert_eq!(again.merge(&list, &policy.msr_list()), Ok(()));
        prop_assert_eq!(again, policy);
    }
}
