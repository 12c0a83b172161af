use super::*;
use crate::policy::cpuid::{Capabilities, GuestKind, Machine};
use crate::policy::leaves::{CpuidResult, EXTENDED, Leaves};
use crate::policy::{FeatureSet, mtrr};
use proptest::prelude::*;
use x86_64::registers::control::{Cr0Flags, EferFlags};

const GP: Exception = Exception::GP0;

fn policy(vendor: &[u8; 12]) -> CpuidPolicy {
    let word =
        |n: usize| u32::from_le_bytes([vendor[n], vendor[n + 1], vendor[n + 2], vendor[n + 3]]);
    let ones = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    let host = Leaves::read(|leaf, subleaf| match (leaf, subleaf) {
        (0 | EXTENDED, _) => CpuidResult {
            eax: leaf + 0x21,
            ebx: word(0),
            edx: word(4),
            ecx: word(8),
        },
        (0xd, 0) => CpuidResult {
            eax: 7,
            edx: 0,
            ..ones
        },
        (EXTENDED.., _) if leaf == EXTENDED + 8 => CpuidResult {
            eax: 0x3028,
            ..ones
        },
        _ => ones,
    });
    let machine = Machine {
        capabilities: Capabilities::all(),
        xcr0: 7,
        arch_capabilities: 1,
        physical_bits: 48,
    };
    CpuidPolicy::new(&host, &machine, GuestKind::Hardware)
}

fn amd() -> CpuidPolicy {
    policy(b"AuthenticAMD")
}

fn intel() -> CpuidPolicy {
    policy(b"GenuineIntel")
}

fn context(policy: &CpuidPolicy) -> MsrContext<'_> {
    MsrContext {
        policy,
        control: Control {
            cr0: Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING,
            cr3: 0,
            cr4: Cr4Flags::PHYSICAL_ADDRESS_EXTENSION,
            efer: EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE,
            code_is_long: true,
        },
        apic_base: 0xfee0_0900,
        microcode_revision: 0x0a00_1234,
        debug_control: 3,
        relaxed: false,
    }
}

/// The same with only these features taken out.
fn without(policy: &CpuidPolicy, features: &[Feature]) -> CpuidPolicy {
    let mut set = FeatureSet([u32::MAX; 19]);
    for feature in features {
        set.set(*feature, false);
    }
    policy.with_features(&set)
}

#[test]
fn what_linux_touches_at_boot_is_there() {
    let (amd, intel) = (amd(), intel());
    let common = [
        number::TSC,
        number::APIC_BASE,
        number::TSC_ADJUST,
        number::MICROCODE_REVISION,
        number::MTRR_CAP,
        number::SYSENTER_CS,
        number::MCG_CAP,
        number::MCG_STATUS,
        number::PAT,
        number::EFER,
        number::STAR,
        number::LSTAR,
        number::CSTAR,
        number::SF_MASK,
        number::FS_BASE,
        number::GS_BASE,
        number::KERNEL_GS_BASE,
        number::TSC_AUX,
        number::XSS,
        number::SPEC_CTRL,
        0x200,
        0x250,
        0x2ff,
    ];
    for policy in [&amd, &intel] {
        for msr in common {
            assert!(
                Msrs::default().read(msr, &context(policy)).is_ok(),
                "{msr:#x}"
            );
        }
    }
    let amd_only = [
        number::SYSCFG,
        number::HWCR,
        number::NB_CFG,
        number::DE_CFG,
        number::VM_CR,
        number::MMIO_CONF_BASE,
        number::INT_PENDING,
    ];
    let intel_only = [
        number::MISC_ENABLE,
        number::PLATFORM_INFO,
        number::PLATFORM_ID,
        number::FEATURE_CONTROL,
    ];
    for (there, missing, msrs) in [
        (&amd, &intel, &amd_only[..]),
        (&intel, &amd, &intel_only[..]),
    ] {
        for msr in msrs {
            assert!(
                Msrs::default().read(*msr, &context(there)).is_ok(),
                "{msr:#x}"
            );
            assert_eq!(Msrs::default().read(*msr, &context(missing)), Err(GP));
        }
    }
}

#[test]
fn values_are_what_software_expects() {
    let (amd, intel) = (amd(), intel());
    let read = |policy, msr| Msrs::default().read(msr, &context(policy));
    let value = |v| Ok(MsrRead::Value(v));
    assert_eq!(read(&amd, number::MICROCODE_REVISION), value(0x0a00_1234));
    assert_eq!(
        read(&intel, number::MICROCODE_REVISION),
        value(0x0a00_1234 << 32)
    );
    assert_eq!(read(&amd, number::HWCR), value(1 << 24));
    assert_eq!(read(&intel, number::FEATURE_CONTROL), value(1));
    assert_eq!(read(&intel, number::MISC_ENABLE), value(0x1801));
    assert_eq!(read(&amd, number::EFER), value(0x500));
    assert_eq!(read(&intel, number::ARCH_CAPABILITIES), value(1));
    assert_eq!(read(&amd, number::HYPERCALL_PAGE), value(0));
    assert_eq!(read(&amd, number::MCG_CAP), value(0));
    assert_eq!(read(&amd, number::TSC), Ok(MsrRead::Held(Held::Tsc)));
    // Machine-check banks, performance counters, VMX, SVM, thermal, and an MSR of nobody.
    for msr in [
        0x400,
        0xc1,
        0x186,
        0x345,
        0x38f,
        0x480,
        0x19c,
        0xc001_0000,
        0xc001_0117,
        0xc000_0104,
        0x1234_5678,
    ] {
        assert_eq!(read(&amd, msr), Err(GP), "{msr:#x}");
        assert_eq!(read(&intel, msr), Err(GP), "{msr:#x}");
    }
}

#[test]
fn writes_are_checked() {
    let (amd, intel) = (amd(), intel());
    let held = |register, value| Ok(MsrWrite::Held(register, value));
    let kernel = 0xffff_8000_0000_1234;
    let odd = 0x0000_8000_0000_0000;
    // Guest, MSR, value, result.
    let cases = [
        (&amd, number::TSC, u64::MAX, held(Held::Tsc, u64::MAX)),
        (&amd, number::LSTAR, kernel, held(Held::LStar, kernel)),
        (&amd, number::LSTAR, odd, Err(GP)),
        (&amd, number::FS_BASE, odd, Err(GP)),
        (&amd, number::KERNEL_GS_BASE, odd, Err(GP)),
        (&amd, number::SYSENTER_EIP, odd, Err(GP)),
        (
            &amd,
            number::SYSENTER_CS,
            0x1_0000_0010,
            held(Held::SysenterCs, 0x10),
        ),
        (&amd, number::STAR, u64::MAX, held(Held::Star, u64::MAX)),
        (
            &amd,
            number::SF_MASK,
            0x4_7700,
            held(Held::SfMask, 0x4_7700),
        ),
        (&amd, number::SF_MASK, 1 << 32, Err(GP)),
        (&amd, number::TSC_AUX, 5, held(Held::TscAux, 5)),
        (&amd, number::TSC_AUX, 1 << 32, Err(GP)),
        (
            &amd,
            number::PAT,
            0x0407_0106_0007_0406,
            held(Held::Pat, 0x0407_0106_0007_0406),
        ),
        (&amd, number::PAT, 2, Err(GP)),
        (&amd, number::DEBUG_CTL, 3, held(Held::DebugCtl, 3)),
        (&amd, number::DEBUG_CTL, 1 << 6, Err(GP)),
        (&intel, number::SPEC_CTRL, 7, held(Held::SpecCtrl, 7)),
        (&intel, number::SPEC_CTRL, 1 << 8, Err(GP)),
        (
            &amd,
            number::PRED_CMD,
            1,
            Ok(MsrWrite::PredictionCommand(1)),
        ),
        (&amd, number::PRED_CMD, 0, Ok(MsrWrite::Done)),
        (&amd, number::PRED_CMD, 2, Err(GP)),
        (&intel, number::FLUSH_CMD, 1, Ok(MsrWrite::FlushCommand(1))),
        (&amd, number::XSS, 0, Ok(MsrWrite::Done)),
        (&amd, number::XSS, 1, Err(GP)),
        (&amd, number::DE_CFG, 2, Ok(MsrWrite::Done)),
        (&amd, number::DE_CFG, 0, Err(GP)),
        (&amd, number::NB_CFG, 1 << 54 | 1 << 46, Ok(MsrWrite::Done)),
        (&amd, number::NB_CFG, 0, Err(GP)),
        (&amd, number::MICROCODE_REVISION, 0, Err(GP)),
        (&intel, number::MICROCODE_REVISION, 0, Ok(MsrWrite::Done)),
        (&intel, number::ARCH_CAPABILITIES, 1, Err(GP)),
        (&intel, number::FEATURE_CONTROL, 1, Err(GP)),
        (&intel, number::MISC_ENABLE, 0x1800, Ok(MsrWrite::Done)),
        (&intel, number::MISC_ENABLE, 0x1801 | 1 << 34, Err(GP)),
        (&amd, number::MCG_STATUS, 0, Ok(MsrWrite::Done)),
        (&amd, number::MCG_STATUS, 8, Err(GP)),
        (
            &amd,
            number::HYPERCALL_PAGE,
            0x1234_5000,
            Ok(MsrWrite::HypercallPage(0x1_2345)),
        ),
        (&amd, number::HYPERCALL_PAGE, 0x1234_5001, Err(GP)),
        (&amd, number::HYPERCALL_PAGE + 1, 0, Err(GP)),
        (&amd, 0x2ff, 0xc06, Ok(MsrWrite::MemoryTypes)),
        (&amd, 0x2ff, 0xc02, Err(GP)),
        (&amd, number::MTRR_CAP, 0x508, Err(GP)),
        (&amd, 0x79, 0x1000, Err(GP)),
        (&amd, 0xc001_0020, 0x1000, Err(GP)),
        (
            &amd,
            number::DR0_ADDR_MASK,
            0xfff,
            held(Held::DrAddressMask(0), 0xfff),
        ),
        (
            &amd,
            number::DR3_ADDR_MASK,
            0xfff,
            held(Held::DrAddressMask(3), 0xfff),
        ),
    ];
    for (policy, msr, value, expected) in cases {
        let result = Msrs::default().write(msr, value, &context(policy));
        assert_eq!(result, expected, "{msr:#x} {value:#x}");
    }
}

#[test]
fn what_is_kept_is_read_back() {
    let intel = intel();
    let context = context(&intel);
    let mut msrs = Msrs::default();
    for (msr, value) in [
        (number::MISC_ENABLE, 0x1800),
        (number::MCG_STATUS, 5),
        (0x200, 0xc000_0000),
        (0x201, 0xff_c000_0800),
    ] {
        assert!(msrs.write(msr, value, &context).is_ok());
        assert_eq!(msrs.read(msr, &context), Ok(MsrRead::Value(value)));
    }
    assert_eq!(
        msrs.mtrr.memory_type(xen_core::GuestPhysAddr(0xc000_0000)),
        mtrr::MemoryType::Uncacheable
    );
}

#[test]
fn features_bring_their_msrs() {
    let amd = amd();
    for (feature, msr) in [
        (Feature::Rdtscp, number::TSC_AUX),
        (Feature::TscAdjust, number::TSC_ADJUST),
        (Feature::TscDeadline, number::TSC_DEADLINE),
        (Feature::Xsaves, number::XSS),
        (Feature::Sep, number::SYSENTER_EIP),
        (Feature::Mtrr, 0x2ff),
        (Feature::Lm, number::KERNEL_GS_BASE),
        (Feature::Pat, number::PAT),
        (Feature::Dbext, number::DR0_ADDR_MASK),
    ] {
        assert!(Msrs::default().read(msr, &context(&amd)).is_ok());
        let less = without(&amd, &[feature, Feature::Rdpid]);
        let read = Msrs::default().read(msr, &context(&less));
        assert_eq!(read, Err(GP), "{feature:?}");
        let write = Msrs::default().write(msr, 0, &context(&less));
        assert_eq!(write, Err(GP), "{feature:?}");
    }
}

#[test]
fn the_apic_changes_modes_in_order() {
    let policy = amd();
    let base = 0xfee0_0000u64;
    let (off, on, both, wrong) = (0, 0x800, 0xc00, 0x400);
    // From, to, legal.
    let cases = [
        (off, off, true),
        (off, on, true),
        (off, both, false),
        (on, both, true),
        (on, off, true),
        (both, on, false),
        (both, off, true),
        (both, both, true),
        (on, wrong, false),
        (both, wrong, false),
    ];
    for (from, to, legal) in cases {
        let context = MsrContext {
            apic_base: base | from,
            ..context(&policy)
        };
        let result = Msrs::default().write(number::APIC_BASE, base | to | 0x100, &context);
        assert_eq!(result.is_ok(), legal, "{from:#x} {to:#x}");
    }
    let context = context(&policy);
    let write = |value| {
        Msrs::default()
            .write(number::APIC_BASE, value, &context)
            .is_ok()
    };
    assert!(write(0xff_fee0_0800));
    assert!(!write(0x100_fee0_0800), "beyond 40 bits");
    assert!(!write(0xfee0_0a00), "reserved bit 9");
    let less = without(&policy, &[Feature::X2apic]);
    let context = MsrContext {
        apic_base: base | on,
        ..self::context(&less)
    };
    let result = Msrs::default().write(number::APIC_BASE, base | both, &context);
    assert_eq!(result, Err(GP));
}

#[test]
fn x2apic_registers_are_there_in_that_mode() {
    let policy = amd();
    let xapic = context(&policy);
    assert_eq!(Msrs::default().read(0x802, &xapic), Err(GP));
    let x2apic = MsrContext {
        apic_base: 0xfee0_0c00,
        ..xapic
    };
    assert_eq!(Msrs::default().read(0x802, &x2apic), Ok(MsrRead::X2apic(2)));
    assert_eq!(
        Msrs::default().write(0x80b, 0, &x2apic),
        Ok(MsrWrite::X2apic(0xb, 0))
    );
    assert_eq!(Msrs::default().read(0x900, &x2apic), Err(GP));
}

#[test]
fn efer_goes_through_its_rules() {
    let policy = amd();
    let context = context(&policy);
    let write = |value| Msrs::default().write(number::EFER, value, &context);
    let Ok(MsrWrite::Efer(change)) = write(0xd01) else {
        panic!();
    };
    assert_eq!(change.control.efer.bits(), 0xd01);
    assert_eq!(write(0x1d01), Err(GP), "SVME");
    assert_eq!(write(0), Err(GP), "LME cannot change with paging on");
}

proptest! {
    // No MSR and no value panics; a #GP changes nothing.
    #[test]
    fn any_msr_has_an_answer(msr: u32, value: u64, near in 0u32..0x2000, is_amd: bool, apic_base: u64) {
        let policy = if is_amd { amd() } else { intel() };
        let context = MsrContext { apic_base, ..context(&policy) };
        for msr in [msr, near, 0xc000_0000 | near & 0x1ff, 0xc001_0000 | near, 0x4000_0000 | near & 3] {
            let mut msrs = Msrs::default();
            let _ = msrs.read(msr, &context);
            if msrs.write(msr, value, &context).is_err() {
                prop_assert_eq!(msrs, Msrs::default());
            }
        }
    }
}

#[test]
fn unknown_registers_are_zero_for_those_who_ask_for_it() {
    let policy = amd();
    let strict = context(&policy);
    let relaxed = MsrContext {
        relaxed: true,
        ..strict
    };
    for msr in [0x1b0, 0x611, 0xc001_0299, 0xffff_ffff, 0x2000] {
        assert_eq!(Msrs::default().read(msr, &strict), Err(GP), "{msr:#x}");
        assert_eq!(
            Msrs::default().read(msr, &relaxed),
            Ok(MsrRead::Value(0)),
            "{msr:#x}"
        );
        let mut msrs = Msrs::default();
        assert_eq!(msrs.write(msr, 7, &strict), Err(GP));
        assert_eq!(msrs.write(msr, 7, &relaxed), Ok(MsrWrite::Done));
        assert_eq!(msrs, Msrs::default());
    }
    // Those that are known keep their rules, and Xen's own are not among the unknown.
    for msr in [0x4000_0001, 0x17, 0x802, 0x49] {
        let answer = Msrs::default().read(msr, &relaxed);
        assert_eq!(answer, Msrs::default().read(msr, &strict), "{msr:#x}");
    }
    assert_eq!(Msrs::default().write(0x10a, 0, &relaxed), Err(GP));
}
