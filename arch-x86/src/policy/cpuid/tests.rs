use super::*;
use crate::policy::feature::Feature::*;
use crate::policy::xen_leaves::{HvmFeatures, TscInfo};
use crate::policy::xstate::Component;
use proptest::prelude::*;
use xen_core::{DomainId, VcpuId};

/// A host of this vendor whose leaves are all ones, except for numbers of leaves.
pub(crate) fn everything(vendor: &[u8; 12]) -> Leaves {
    let word =
        |n: usize| u32::from_le_bytes([vendor[n], vendor[n + 1], vendor[n + 2], vendor[n + 3]]);
    let name = |eax| CpuidResult {
        eax,
        ebx: word(0),
        edx: word(4),
        ecx: word(8),
    };
    let ones = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    let state = |size, offset, aligned| CpuidResult {
        eax: size,
        ebx: offset,
        ecx: u32::from(aligned) << 1,
        edx: 0,
    };
    Leaves::read(|leaf, subleaf| match (leaf, subleaf) {
        (0, _) => name(0x1f),
        (EXTENDED, _) => name(EXTENDED + 0x28),
        (7, 0) => CpuidResult { eax: 2, ..ones },
        (0xd, 0) => CpuidResult { eax: 0x2e7, ..ones },
        (0xd, 2) => state(256, 576, false),
        (0xd, 5) => state(64, 1088, false),
        (0xd, 6) => state(512, 1152, false),
        (0xd, 7) => state(1024, 1664, false),
        (0xd, 9) => state(8, 2688, false),
        (0xd, 2..) => CpuidResult::default(),
        (0x8000_0008, _) => CpuidResult {
            eax: 0x0039_3034,
            ..ones
        },
        _ => ones,
    })
}

pub(crate) fn machine() -> Machine {
    Machine {
        capabilities: Capabilities::all(),
        xcr0: 0x2e7,
        arch_capabilities: u64::MAX,
        physical_bits: 48,
    }
}

pub(crate) fn amd() -> CpuidPolicy {
    CpuidPolicy::new(
        &everything(b"AuthenticAMD"),
        &machine(),
        GuestKind::Hardware,
    )
}

pub(crate) fn intel() -> CpuidPolicy {
    CpuidPolicy::new(
        &everything(b"GenuineIntel"),
        &machine(),
        GuestKind::Ordinary,
    )
}

fn vcpu(id: u32) -> VcpuView {
    VcpuView {
        vcpus: 4,
        cr4: Cr4Flags::empty(),
        xcr0: 1,
        xss: 0,
        apic_enabled: true,
        identity: Identity {
            version: (4, 20),
            domain: DomainId(0),
            vcpu: VcpuId(id),
            features: HvmFeatures::UPCALL_VECTOR,
            tsc: TscInfo::default(),
        },
    }
}

#[test]
fn nothing_is_advertised_that_is_not_virtualised() {
    for policy in [amd(), intel()] {
        for feature in [
            Vmx,
            Svm,
            Monitor,
            Monitorx,
            Smx,
            Eist,
            Tm1,
            Tm2,
            Ds,
            Dtes64,
            Dscpl,
            Pbe,
            Acpi,
            Pdcm,
            Dca,
            Xtpr,
            Extapic,
            Ibs,
            Skinit,
            Wdt,
            Lwp,
            NodeidMsr,
            Osvw,
            Sgx,
            Pqm,
            Pqe,
            Mpx,
            ProcTrace,
            Rtm,
            Hle,
            Tsxldtrk,
            CetSs,
            CetIbt,
            CetSss,
            Enqcmd,
            La57,
            HwPstate,
            Cpb,
            Efro,
            Wbnoinvd,
            VirtSsbd,
            AmdPpin,
            IntelPpin,
            CoreCaps,
            Hybrid,
            AutoIbrs,
            SrsoMsrFix,
            TsxCtrl,
            McuCtrl,
            MiscPkgCtrl,
            EnergyFiltering,
            Doitm,
            XapicStatus,
            OvrclkStatus,
            GdsCtrl,
            FbClearCtrl,
            SkipL1dfl,
            SrbdsCtrl,
            TsxForceAbort,
            Osxsave,
            Ospke,
            Htt,
            CmpLegacy,
            Movdiri,
            Movdir64b,
        ] {
            assert!(!policy.has(feature), "{feature:?}");
        }
        // Bits without a name are not passed on.
        let named = FeatureSet::of(Feature::ALL);
        assert!(policy.features().is_subset(&named));
        // Leaves of MWAIT, performance counters, DCA, SVM, SGX, tracing, AMX.
        for leaf in [
            3,
            5,
            9,
            0xa,
            0xc,
            0x12,
            0x14,
            0x1d,
            0x1e,
            0x1f,
            0x8000_000a,
            0x8000_001b,
            0x8000_001f,
        ] {
            assert_eq!(
                policy.cpuid(leaf, 0, &vcpu(0)),
                CpuidResult::default(),
                "{leaf:#x}"
            );
        }
        assert_eq!(
            policy.cpuid(6, 0, &vcpu(0)).eax,
            4,
            "of power management, ARAT alone"
        );
        assert_eq!(policy.cpuid(0, 0, &vcpu(0)).eax, 0xd);
    }
}

#[test]
fn guests_have_what_the_hypervisor_does() {
    for policy in [amd(), intel()] {
        for feature in [
            Hypervisor,
            Apic,
            X2apic,
            TscDeadline,
            TscAdjust,
            Mtrr,
            Pat,
            Lm,
            Nx,
            Page1gb,
            Avx512f,
            Pku,
            Rdtscp,
            Pcid,
            Smep,
            Smap,
            Fsgsbase,
            Xsaves,
            Syscall,
        ] {
            assert!(policy.has(feature), "{feature:?}");
        }
    }
    // Only what stays on its host can rely on the TSC's rate.
    assert!(amd().has(Itsc));
    assert!(!intel().has(Itsc));
    // A host without anything: what the hypervisor does by itself is there all the same.
    let mut bare = Leaves::default();
    bare.basic[0].eax = 1;
    let empty = CpuidPolicy::new(
        &bare,
        &Machine {
            capabilities: Capabilities::X2APIC,
            ..Machine::default()
        },
        GuestKind::Hardware,
    );
    assert!(
        empty.has(Hypervisor) && !empty.has(Apic),
        "an APIC needs MSRs"
    );
}

#[test]
fn capabilities_switch_features() {
    let host = everything(b"AuthenticAMD");
    let none = Machine {
        capabilities: Capabilities::empty(),
        ..machine()
    };
    let policy = CpuidPolicy::new(&host, &none, GuestKind::Hardware);
    for feature in [
        X2apic,
        TscDeadline,
        Rdtscp,
        Rdpid,
        TscAdjust,
        Ibpb,
        Ibrs,
        AmdSsbd,
        Xsaves,
        Itsc,
        Dbext,
        Pcid,
        Invpcid,
    ] {
        assert!(!policy.has(feature), "{feature:?}");
    }
    // Without state that is switched there is no AVX.
    let sse = Machine {
        xcr0: 3,
        ..machine()
    };
    let policy = CpuidPolicy::new(&host, &sse, GuestKind::Hardware);
    assert!(policy.has(Xsave) && policy.has(Sse42));
    for feature in [Avx, Avx2, Fma, F16c, Vaes, Avx512f, Avx512bw, Xop, Pku] {
        assert!(!policy.has(feature), "{feature:?}");
    }
    assert_eq!(policy.xcr0_bits(), 3);
}

#[test]
fn some_bits_follow_the_registers() {
    let policy = intel();
    let mut who = vcpu(0);
    let bits = |who: &VcpuView| {
        let basic = policy.cpuid(1, 0, who);
        (
            basic.ecx >> 27 & 1,
            basic.edx >> 9 & 1,
            policy.cpuid(7, 0, who).ecx >> 4 & 1,
        )
    };
    assert_eq!(bits(&who), (0, 1, 0));
    who.cr4 = Cr4Flags::OSXSAVE | Cr4Flags::PROTECTION_KEY_USER;
    assert_eq!(bits(&who), (1, 1, 1));
    who.apic_enabled = false;
    assert_eq!(bits(&who), (1, 0, 1));
    assert_eq!(amd().cpuid(0x8000_0001, 0, &who).edx >> 9 & 1, 0);
}

#[test]
fn leaf_d_is_consistent() {
    let policy = amd();
    let mut who = vcpu(0);
    let main = policy.cpuid(0xd, 0, &who);
    assert_eq!((main.eax, main.edx), (0x2e7, 0));
    assert_eq!((main.ebx, main.ecx), (576, 2696));
    who.xcr0 = 7;
    assert_eq!(policy.cpuid(0xd, 0, &who).ebx, 832);
    who.xcr0 = 0xe7;
    assert_eq!(policy.cpuid(0xd, 0, &who).ebx, 2688);
    // Compacted: no gap before AVX-512's state.
    let compact = policy.cpuid(0xd, 1, &who);
    assert_eq!(compact.ebx, 576 + 256 + 64 + 512 + 1024);
    assert_eq!((compact.eax, compact.ecx, compact.edx), (0xf, 0, 0));
    // Sub-leaves are there for components that are.
    for n in 2..70 {
        let there = n < 64 && policy.xcr0_bits() >> n & 1 != 0;
        assert_eq!(
            policy.cpuid(0xd, n, &who) != CpuidResult::default(),
            there,
            "{n}"
        );
    }
    // Without XSAVE it is all zero, and the highest leaf is less.
    let mut without = *policy.features();
    without.set(Xsave, false);
    let policy = policy.with_features(&without);
    assert_eq!(policy.cpuid(0, 0, &who).eax, 0xb);
    assert_eq!(policy.cpuid(0xd, 0, &who), CpuidResult::default());
    assert!(!policy.has(Avx) && !policy.has(Pku) && policy.xcr0_bits() == 0);
}

#[test]
fn topology_is_that_of_the_guest() {
    for policy in [amd(), intel()] {
        let basic = policy.cpuid(1, 0, &vcpu(3));
        assert_eq!(basic.ebx >> 24, 6, "APIC ID");
        assert_eq!(basic.ebx >> 16 & 0xff, 8);
        assert_eq!(basic.edx >> 28 & 1, 1);
        let core = policy.cpuid(0xb, 1, &vcpu(3));
        assert_eq!((core.eax, core.ebx, core.edx), (3, 4, 6));
        let alone = VcpuView {
            vcpus: 1,
            ..vcpu(0)
        };
        assert_eq!(policy.cpuid(1, 0, &alone).edx >> 28 & 1, 0);
    }
    let amd = amd();
    assert_eq!(amd.cpuid(0x8000_0008, 0, &vcpu(0)).ecx, 3 | 3 << 12);
    let node = amd.cpuid(0x8000_001e, 0, &vcpu(3));
    assert_eq!((node.eax, node.ebx, node.ecx), (6, 3, 0));
    assert_eq!(amd.cpuid(0x8000_0001, 0, &vcpu(0)).ecx >> 1 & 1, 1);
    // Intel has none of these.
    let intel = intel();
    assert_eq!(intel.cpuid(0x8000_0000, 0, &vcpu(0)).eax, 0x8000_0008);
    assert_eq!(
        intel.cpuid(0x8000_001e, 0, &vcpu(0)),
        CpuidResult::default()
    );
    assert_eq!(intel.cpuid(0x8000_0008, 0, &vcpu(0)).ecx, 0);
}

#[test]
fn address_widths_are_limited() {
    let amd = amd();
    assert_eq!(amd.physical_bits(), 48);
    assert_eq!(
        amd.cpuid(0x8000_0008, 0, &vcpu(0)).eax,
        0x3030,
        "48 and 48 bits"
    );
}

#[test]
fn amd_repeats_basic_bits() {
    let policy = amd();
    let basic = policy.cpuid(1, 0, &vcpu(0)).edx;
    let extended = policy.cpuid(0x8000_0001, 0, &vcpu(0)).edx;
    assert_eq!(extended & 0x0183_f3ff, basic & 0x0183_f3ff);
    assert_eq!(intel().cpuid(0x8000_0001, 0, &vcpu(0)).edx & 0x0183_f3ff, 0);
}

#[test]
fn xen_is_found() {
    let leaf = amd().cpuid(0x4000_0000, 0, &vcpu(0));
    assert_eq!(leaf.ebx, 0x566e_6558);
    assert_eq!(amd().cpuid(0x4000_0004, 0, &vcpu(2)).ebx, 2);
}

#[test]
fn leaves_beyond_the_highest_are_not_read() {
    let leaves = Leaves::read(|leaf, subleaf| match (leaf, subleaf) {
        (0, 0) => CpuidResult {
            eax: 1,
            ..CpuidResult::default()
        },
        (1, 0) => CpuidResult {
            ecx: 1,
            ..CpuidResult::default()
        },
        // What old CPUs answer: the highest basic leaf.
        (EXTENDED, 0) => CpuidResult {
            eax: 0x543,
            ..CpuidResult::default()
        },
        _ => panic!("{leaf:#x} {subleaf}"),
    });
    assert!(leaves.features().has(Sse3));
    // Sub-leaves of leaf 7 only as far as it says.
    Leaves::read(|leaf, subleaf| {
        assert!(leaf != 7 || subleaf == 0);
        CpuidResult {
            eax: match leaf {
                0 => 7,
                EXTENDED => EXTENDED,
                _ => 0,
            },
            ..CpuidResult::default()
        }
    });
}

proptest! {
    // Whatever the host and the wishes: a policy is a subset, is closed under dependencies, and its leaves say the same.
    #[test]
    fn policies_are_consistent(
        words in any::<[u32; 19]>(),
        wanted in any::<[u32; 19]>(),
        capabilities: u32,
        xcr0: u64,
        is_amd: bool,
    ) {
        let name = if is_amd { b"AuthenticAMD" } else { b"GenuineIntel" };
        let mut host = everything(name);
        host.set_features(&FeatureSet(words));
        let machine = Machine {
            capabilities: Capabilities::from_bits_truncate(capabilities),
            xcr0,
            ..machine()
        };
        let most = CpuidPolicy::new(&host, &machine, GuestKind::Hardware);
        let policy = most.with_features(&FeatureSet(wanted));
        prop_assert!(policy.features().is_subset(most.features()));
        prop_assert!(policy.features().is_subset(&FeatureSet(wanted)));
        let mut closed = *policy.features();
        crate::policy::offer::clear_dependents(&mut closed);
        prop_assert_eq!(&closed, policy.features());
        // The extended state holds what features need, and nothing else.
        let state = Component::from_bits_retain(policy.xcr0_bits());
        prop_assert_eq!(state.contains(Component::AVX), policy.has(Avx));
        prop_assert_eq!(state.contains(Component::AVX512), policy.has(Avx512f));
        prop_assert_eq!(!state.is_empty(), policy.has(Xsave));
        if policy.has(Xsave) {
            prop_assert!(xstate::is_valid(policy.xcr0_bits(), policy.xcr0_bits()));
        }
        // Leaves that are asked for agree with the set.
        let leaves = policy.leaves().features();
        for word in 0..19 {
            if !matches!(word, 2 | 16 | 17) {
                prop_assert_eq!(leaves.0[word], policy.features().0[word], "{}", word);
            }
        }
        // Once more changes nothing.
        prop_assert_eq!(&policy.with_features(&FeatureSet([u32::MAX; 19])), &policy);
    }

    #[test]
    fn any_leaf_has_an_answer(leaf: u32, subleaf: u32, id in 0u32..512, vcpus in 1u32..512, xcr0: u64, xss: u64, cr4: u64) {
        let who = VcpuView { vcpus, xcr0, xss, cr4: Cr4Flags::from_bits_retain(cr4), ..vcpu(id) };
        for leaf in [leaf, leaf & 0x1f, EXTENDED | leaf & 0x3f, 0x4000_0000 | leaf & 7] {
            amd().cpuid(leaf, subleaf & 0x7f, &who);
            intel().cpuid(leaf, subleaf, &who);
        }
    }
}
