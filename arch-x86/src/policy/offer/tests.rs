use super::*;

#[test]
fn taking_one_out_takes_out_what_needs_it() {
    let mut set = FeatureSet::of(Feature::ALL);
    set.set(Sse3, false);
    clear_dependents(&mut set);
    for gone in [Ssse3, Sse41, Sse42, Sse4a] {
        assert!(!set.has(gone), "{gone:?}");
    }
    for there in [Sse2, Avx, Lm] {
        assert!(set.has(there), "{there:?}");
    }
    set.set(Fpu, false);
    clear_dependents(&mut set);
    for gone in [Mmx, Fxsr, Sse2, Lm, Xsave, Avx512Fp16, Pku, La57, Invpcid] {
        assert!(!set.has(gone), "{gone:?}");
    }
    assert!(set.has(Apic));
}

#[test]
fn the_table_has_no_circles_and_names_each_feature_once() {
    for (n, (feature, needs)) in NEEDS.iter().enumerate() {
        assert!(!needs.contains(feature));
        assert!(
            NEEDS[..n].iter().all(|(other, _)| other != feature),
            "{feature:?}"
        );
        // A set of all a feature needs, and what that needs, and itself, stays whole.
        let mut set = FeatureSet::of(&[*feature]);
        for _ in 0..16 {
            for (one, needs) in NEEDS {
                if set.has(*one) {
                    set = set.union(&FeatureSet::of(needs));
                }
            }
        }
        let before = set;
        clear_dependents(&mut set);
        assert_eq!(set, before, "{feature:?}");
    }
}
