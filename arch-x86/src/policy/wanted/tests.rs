use super::*;
use crate::policy::Feature::*;
use crate::policy::GuestKind;
use crate::policy::cpuid::tests::{everything, machine};
use proptest::prelude::*;
use xen_abi::domctl::CpuidLeaf;

fn pair(vendor: &[u8; 12]) -> (CpuidPolicy, CpuidPolicy) {
    let host = everything(vendor);
    (
        CpuidPolicy::new(&host, &machine(), GuestKind::Hardware),
        CpuidPolicy::new(&host, &machine(), GuestKind::Ordinary),
    )
}

const VENDORS: [&[u8; 12]; 2] = [b"AuthenticAMD", b"GenuineIntel"];

#[test]
fn the_defaults_are_taken_as_they_are() {
    for vendor in VENDORS {
        let (most, default) = pair(vendor);
        assert_eq!(most.chosen(&default.listed()), Ok(default.clone()));
        assert_eq!(most.chosen(&most.listed()), Ok(most.clone()));
        // As a toolstack does it: by lists.
        let mut listed = default.listed();
        let list = default.listed().leaf_list();
        assert_eq!(listed.merge(&list, &default.listed().msr_list()), Ok(()));
        assert_eq!(most.chosen(&listed), Ok(default));
    }
}

#[test]
fn features_are_taken_away_with_what_needs_them() {
    let (most, default) = pair(b"AuthenticAMD");
    let mut wanted = default.listed();
    let mut features = wanted.leaves.features();
    features.set(Avx, false);
    features.set(Itsc, true);
    wanted.leaves.set_features(&features);
    let policy = most.chosen(&wanted).unwrap();
    assert!(default.has(Avx2) && !default.has(Itsc));
    assert!(!policy.has(Avx) && !policy.has(Avx2) && !policy.has(Avx512f));
    assert_eq!(policy.xcr0_bits() & 4, 0);
    // What the host has and guests do not get by default.
    assert!(policy.has(Itsc));
}

#[test]
fn what_the_host_lacks_is_not_given() {
    let (most, default) = pair(b"AuthenticAMD");
    let mut wanted = default.listed();
    let mut features = wanted.leaves.features();
    for feature in [Svm, Vmx, Monitor, Lwp] {
        features.set(feature, true);
    }
    wanted.leaves.set_features(&features);
    assert_eq!(most.chosen(&wanted), Ok(default));
}

#[test]
fn more_leaves_than_there_are_is_an_error_that_says_where() {
    let (most, default) = pair(b"AuthenticAMD");
    let refused = |change: fn(&mut Listed)| {
        let mut wanted = default.listed();
        change(&mut wanted);
        let error = most.chosen(&wanted).unwrap_err();
        (error.error, error.leaf, error.msr)
    };
    let none = u32::MAX;
    assert_eq!(
        refused(|w| w.leaves.basic[0].eax = 0xe),
        (Error::Inval, (0, none), none)
    );
    assert_eq!(
        refused(|w| w.leaves.feature[0].eax = 3),
        (Error::Inval, (7, 0), none)
    );
    assert_eq!(
        refused(|w| w.leaves.extended[0].eax = 0x8000_0022),
        (Error::Inval, (0x8000_0000, none), none)
    );
    assert_eq!(
        refused(|w| w.platform_info = 1 << 31),
        (Error::Inval, (none, none), 0xce)
    );
    assert_eq!(
        refused(|w| w.arch_capabilities = 1 << 63),
        (Error::Inval, (none, none), 0x10a)
    );
}

#[test]
fn a_cpu_can_be_made_to_have_fewer_leaves() {
    let (most, default) = pair(b"AuthenticAMD");
    let mut wanted = default.listed();
    wanted.leaves.basic[0].eax = 6;
    wanted.leaves.extended[0].eax = 0x8000_0004;
    let policy = most.chosen(&wanted).unwrap();
    assert_eq!(policy.leaves().basic[0].eax, 6);
    assert_eq!(policy.leaves().extended[0].eax, 0x8000_0004);
    for feature in [Avx, Xsave, Smep, Fsgsbase, Clzero, Ibpb] {
        assert!(!policy.has(feature), "{feature:?}");
    }
    assert!(policy.has(Sse42) && policy.has(Lm));
    assert_eq!(policy.xcr0_bits(), 0);
}

#[test]
fn the_model_and_its_name_are_the_toolstacks() {
    let (most, default) = pair(b"AuthenticAMD");
    let mut wanted = default.listed();
    wanted.leaves.basic[1].eax = 0xf0a2_cf10;
    wanted.leaves.extended[2].eax = 0x6e65_784f;
    wanted.leaves.extended[8].eax = 0x3024;
    wanted.limits = [0x4000_0002, 0];
    let policy = most.chosen(&wanted).unwrap();
    assert_eq!(policy.leaves().basic[1].eax, 0x00a2_0f10);
    assert_eq!(policy.leaves().extended[2].eax, 0x6e65_784f);
    assert_eq!(policy.physical_bits(), 36);
    assert_eq!(policy.listed().limits, wanted.limits);
}

proptest! {
    // A toolstack may write anything: what comes of it is within the host's, and stable.
    #[test]
    fn nothing_beyond_the_host(
        amd: bool, entries in prop::collection::vec((0usize..200, any::<[u32; 4]>()), 0..30), keep_maxima: bool
    ) {
        let (most, default) = pair(VENDORS[usize::from(!amd)]);
        let mut wanted = default.listed();
        let shape = most.listed().leaf_list();
        let maxima = wanted.leaves.clone();
        for (n, [a, b, c, d]) in entries {
            let leaf = CpuidLeaf { a, b, c, d, ..shape[n % shape.len()] };
            prop_assert_eq!(wanted.merge(&[leaf], &[]), Ok(()));
        }
        if keep_maxima {
            wanted.leaves.basic[0].eax = maxima.basic[0].eax;
            wanted.leaves.feature[0].eax = maxima.feature[0].eax;
            wanted.leaves.extended[0].eax = maxima.extended[0].eax;
        }
        let Ok(policy) = most.chosen(&wanted) else {
            prop_assert!(!keep_maxima);
            return Ok(());
        };
        prop_assert!(policy.features().is_subset(most.features()));
        prop_assert_eq!(policy.xcr0_bits() & !most.xcr0_bits(), 0);
        prop_assert!((32..=most.physical_bits()).contains(&policy.physical_bits()));
        prop_assert_eq!(most.chosen(&policy.listed()), Ok(policy));
    }
}
