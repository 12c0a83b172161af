use super::*;
use crate::policy::FeatureSet;
use crate::policy::cpuid::{Capabilities, GuestKind, Machine};
use crate::policy::leaves::{CpuidResult, EXTENDED, Leaves};
use proptest::prelude::*;

const GP: Exception = Exception::GP0;

fn policy() -> CpuidPolicy {
    let ones = CpuidResult {
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    let host = Leaves::read(|leaf, subleaf| match (leaf, subleaf) {
        (0 | EXTENDED, _) => CpuidResult {
            eax: leaf + 0x21,
            ..ones
        },
        (0xd, 0) => CpuidResult {
            eax: 0x207,
            edx: 0,
            ..ones
        },
        (leaf, _) if leaf == EXTENDED + 8 => CpuidResult {
            eax: 0x3028,
            ..ones
        },
        _ => ones,
    });
    let machine = Machine {
        capabilities: Capabilities::all(),
        xcr0: 0x207,
        arch_capabilities: 0,
        physical_bits: 48,
    };
    CpuidPolicy::new(&host, &machine, GuestKind::Hardware)
}

const PE: u64 = 1;
const ET: u64 = 1 << 4;
const WP: u64 = 1 << 16;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;
const PCIDE: u64 = 1 << 17;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;

fn control(cr0: u64, cr4: u64, efer: u64, code_is_long: bool) -> Control {
    Control {
        cr0: Cr0Flags::from_bits_retain(cr0 | ET),
        cr3: 0,
        cr4: Cr4Flags::from_bits_retain(cr4),
        efer: EferFlags::from_bits_retain(efer),
        code_is_long,
    }
}

#[test]
fn paging_is_entered_and_left_in_order() {
    let (lma, legacy) = (LME | LMA, 0);
    // CR0, CR4, EFER, CS.L, new CR0; new EFER and whether pointers are loaded, or #GP.
    let cases = [
        // Real mode to protected mode and back.
        (0, 0, 0, false, PE, Ok((0, false))),
        (PE, 0, 0, false, 0, Ok((0, false))),
        // Paging of 32 bits; of PAE.
        (PE, 0, legacy, false, PE | PG, Ok((0, false))),
        (PE, PAE, legacy, false, PE | PG, Ok((0, true))),
        (0, 0, legacy, false, PG, Err(GP)),
        // Long mode: needs PAE, and code that is not 64-bit yet.
        (PE, PAE, LME, false, PE | PG, Ok((lma, false))),
        (PE, 0, LME, false, PE | PG, Err(GP)),
        (PE, PAE, LME, true, PE | PG, Err(GP)),
        // And out, from compatibility mode, without PCIDE.
        (PE | PG, PAE, lma, false, PE, Ok((LME, false))),
        (PE | PG, PAE, lma, true, PE, Err(GP)),
        (PE | PG, PAE | PCIDE, lma, false, PE, Err(GP)),
        (PE | PG, PAE, lma, true, PE | PG | WP, Ok((lma, false))),
        // Caches.
        (PE, 0, 0, false, PE | CD | NW, Ok((0, false))),
        (PE, 0, 0, false, PE | CD, Ok((0, false))),
        (PE, 0, 0, false, PE | NW, Err(GP)),
        (PE | PG, PAE, 0, false, PE | PG | CD, Ok((0, true))),
        // Beyond 32 bits; reserved bits below are dropped.
        (PE, 0, 0, false, PE | 1 << 32, Err(GP)),
        (PE, 0, 0, false, PE | 1 << 6 | 1 << 20, Ok((0, false))),
    ];
    for (n, (cr0, cr4, efer, long, value, expected)) in cases.into_iter().enumerate() {
        let result = control(cr0, cr4, efer, long).write_cr0(value);
        let short = result.map(|c| (c.control.efer.bits(), c.load_pdptes));
        assert_eq!(short, expected, "{n}");
        if let Ok(change) = result {
            let known = PE | WP | NW | CD | PG;
            assert_eq!(change.control.cr0.bits(), value & known | ET, "{n}");
        }
    }
}

#[test]
fn machine_status_is_the_low_half_byte() {
    let state = control(PE | WP, 0, 0, false);
    let new = |value| state.load_machine_status(value).unwrap().control.cr0.bits();
    assert_eq!(new(0xfff0), PE | WP | ET, "PE stays");
    assert_eq!(new(0x000e), PE | WP | ET | 0xe);
    let ts = control(PE | 8, 0, 0, false);
    assert_eq!(ts.clear_task_switched().control.cr0.bits(), PE | ET);
    let real = control(0, 0, 0, false);
    assert_eq!(
        real.load_machine_status(1).unwrap().control.cr0.bits(),
        PE | ET
    );
}

#[test]
fn cr4_has_what_the_policy_has() {
    let policy = policy();
    let (smep, smap, pge, pse, osxsave) = (1 << 20, 1 << 21, 1 << 7, 1 << 4, 1 << 18);
    let long = |cr4| control(PE | PG, PAE | cr4, LME | LMA, true);
    let cases = [
        (
            long(0),
            PAE | pge | smep | smap | osxsave,
            Ok((false, true)),
        ),
        (long(0), PAE | osxsave, Ok((false, false))),
        (long(0), 0, Err(GP)),
        (long(0), PAE | LA57, Err(GP)),
        (long(0), PAE | PCIDE, Ok((false, true))),
        (long(PCIDE), PAE, Ok((false, true))),
        (control(PE | PG, PAE, 0, false), PAE | PCIDE, Err(GP)),
        // VMXE, SMXE, KL, CET, PKS, and bits that nobody knows.
        (long(0), PAE | 1 << 13, Err(GP)),
        (long(0), PAE | 1 << 14, Err(GP)),
        (long(0), PAE | 1 << 19, Err(GP)),
        (long(0), PAE | 1 << 23, Err(GP)),
        (long(0), PAE | 1 << 24, Err(GP)),
        (long(0), PAE | 1 << 15, Err(GP)),
        (long(0), PAE | 1 << 32, Err(GP)),
        (long(0), PAE | 1 << 63, Err(GP)),
        // Pointers are loaded when PAE paging starts or its properties change.
        (control(PE | PG, 0, 0, false), PAE, Ok((true, true))),
        (control(PE | PG, PAE, 0, false), PAE | pse, Ok((true, true))),
        (
            control(PE | PG, PAE, 0, false),
            PAE | smep,
            Ok((true, true)),
        ),
        (
            control(PE | PG, PAE, 0, false),
            PAE | osxsave,
            Ok((false, false)),
        ),
        (control(PE, 0, 0, false), PAE, Ok((false, true))),
    ];
    for (n, (state, value, expected)) in cases.into_iter().enumerate() {
        let result = state.write_cr4(value, &policy);
        let short = result.map(|c| (c.load_pdptes, c.flush));
        assert_eq!(short, expected, "{n}");
    }
    // PCIDE needs PCID 0.
    let mut state = long(0);
    state.cr3 = 0x1001;
    assert_eq!(state.write_cr4(PAE | PCIDE, &policy), Err(GP));
    // A feature less is a bit less.
    let mut features = FeatureSet([u32::MAX; 19]);
    features.set(Feature::Smap, false);
    let less = policy.with_features(&features);
    assert_eq!(long(0).write_cr4(PAE | smap, &less), Err(GP));
}

#[test]
fn cr3_is_as_wide_as_the_mode() {
    let policy = policy();
    let long = control(PE | PG, PAE, LME | LMA, true);
    let tagged = control(PE | PG, PAE | PCIDE, LME | LMA, true);
    let pae = control(PE | PG, PAE, 0, false);
    let no_flush = 1 << 63;
    let cases = [
        (long, 0xff_ffff_ffff, Ok((0xff_ffff_ffff, false, true))),
        (long, 1 << 40, Err(GP)),
        (long, no_flush | 0x1000, Err(GP)),
        (tagged, no_flush | 0x1005, Ok((0x1005, false, false))),
        (tagged, 0x1005, Ok((0x1005, false, true))),
        (tagged, no_flush | 1 << 62, Err(GP)),
        (pae, 0x1_0000_1020, Ok((0x1020, true, true))),
    ];
    for (n, (state, value, expected)) in cases.into_iter().enumerate() {
        let result = state.write_cr3(value, &policy);
        let short = result.map(|c| (c.control.cr3, c.load_pdptes, c.flush));
        assert_eq!(short, expected, "{n}");
    }
}

#[test]
fn efer_has_what_the_policy_has() {
    let policy = policy();
    let off = control(PE, PAE, 0, false);
    let long = control(PE | PG, PAE, LME | LMA, true);
    let cases = [
        (off, LME | NXE | 1, Ok(LME | NXE | 1)),
        (off, LME | LMA, Ok(LME)),
        (long, LME | 1, Ok(LME | LMA | 1)),
        (long, NXE, Err(GP)),
        (off, 1 << 12, Err(GP)),
        (off, 1 << 13, Err(GP)),
        (off, 1 << 15, Err(GP)),
        (off, 2, Err(GP)),
        (off, 1 << 63, Err(GP)),
        (off, 1 << 14, Ok(1 << 14)),
    ];
    for (n, (state, value, expected)) in cases.into_iter().enumerate() {
        let result = state.write_efer(value, &policy);
        assert_eq!(result.map(|c| c.control.efer.bits()), expected, "{n}");
    }
    assert!(long.write_efer(LME | NXE, &policy).unwrap().flush);
}

#[test]
fn extended_control_is_checked() {
    let policy = policy();
    let on = control(PE, 1 << 18, 0, false);
    let undefined = Exception::InvalidOpcode;
    let cases = [
        (0, 1, 0, on, Ok(1)),
        (0, 7, 0, on, Ok(7)),
        (0, 0x207, 0, on, Ok(0x207)),
        (0, 0x203, 0, on, Ok(0x203)),
        (0, 6, 0, on, Err(GP)),
        (0, 5, 0, on, Err(GP)),
        (0, 0xe7, 0, on, Err(GP)),
        (0, 0x1f, 0, on, Err(GP)),
        (0, 1 << 63 | 1, 0, on, Err(GP)),
        (1, 1, 0, on, Err(GP)),
        (0, 1, 3, on, Err(GP)),
        (0, 1, 0, control(PE, 0, 0, false), Err(undefined)),
    ];
    for (n, (index, value, cpl, state, expected)) in cases.into_iter().enumerate() {
        assert_eq!(
            write_xcr(index, value, cpl, &state, &policy),
            expected,
            "{n}"
        );
    }
}

#[test]
fn debug_registers_and_task_priority_are_checked() {
    let (with, without) = (Cr4Flags::DEBUGGING_EXTENSIONS, Cr4Flags::empty());
    assert_eq!(debug_register(3, with), Ok(3));
    assert_eq!(debug_register(4, without), Ok(6));
    assert_eq!(debug_register(5, without), Ok(7));
    assert_eq!(debug_register(5, with), Err(Exception::InvalidOpcode));
    assert_eq!(debug_register(8, without), Err(Exception::InvalidOpcode));
    assert_eq!(check_dr6(0), Ok(0xffff_0ff0));
    assert_eq!(check_dr6(0xffff_ffff), Ok(0xffff_efff));
    assert_eq!(check_dr6(1 << 32), Err(GP));
    assert_eq!(check_dr7(0), Ok(0x400));
    assert_eq!(check_dr7(0xffff_ffff), Ok(0xffff_27ff));
    assert_eq!(check_dr7(1 << 32), Err(GP));
    assert_eq!(check_cr8(15), Ok(15));
    assert_eq!(check_cr8(16), Err(GP));
}

/// What holds in every state that a CPU can be in.
fn is_consistent(c: &Control, policy: &CpuidPolicy) -> bool {
    let has = |flag| c.cr0.contains(flag);
    let paging = has(Cr0Flags::PAGING);
    let lme = c.efer.contains(EferFlags::LONG_MODE_ENABLE);
    let lma = c.efer.contains(EferFlags::LONG_MODE_ACTIVE);
    (!paging || has(Cr0Flags::PROTECTED_MODE_ENABLE))
        && (!has(Cr0Flags::NOT_WRITE_THROUGH) || has(Cr0Flags::CACHE_DISABLE))
        && lma == (lme && paging)
        && (!lma || c.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION))
        && (!c.cr4.contains(Cr4Flags::PCID) || lma)
        && Control::cr4_bits(policy).contains(c.cr4)
        && Control::efer_bits(policy).contains(c.efer)
}

proptest! {
    // Any sequence of writes goes from consistent states to consistent states.
    #[test]
    fn states_stay_consistent(writes in proptest::collection::vec((0u8..5, any::<u64>()), 1..64)) {
        let policy = policy();
        let mut state = control(0, 0, 0, false);
        for (which, value) in writes {
            let result = match which {
                0 => state.write_cr0(value & (PE | WP | NW | CD | PG | 0xe)),
                1 => state.write_cr4(value & (PAE | PCIDE | 1 << 7 | 1 << 20 | 1 << 13 & value >> 3), &policy),
                2 => state.write_efer(value & (LME | LMA | NXE | 1), &policy),
                3 => state.write_cr3(value, &policy),
                _ => {
                    // A far jump; 64-bit code only in long mode.
                    state.code_is_long = value & 1 != 0 && state.long();
                    continue;
                }
            };
            if let Ok(change) = result {
                state = change.control;
                prop_assert!(!change.load_pdptes || state.has_pdptes());
            }
            prop_assert!(is_consistent(&state, &policy), "{:?}", state);
        }
    }

    #[test]
    fn any_value_has_an_answer(cr0: u64, cr4: u64, efer: u64, cr3: u64, value: u64, long: bool, index: u32) {
        let policy = policy();
        let state = Control { cr3, ..control(cr0, cr4, efer, long) };
        let _ = state.write_cr0(value);
        let _ = state.write_cr3(value, &policy);
        let _ = state.write_cr4(value, &policy);
        let _ = state.write_efer(value, &policy);
        let _ = write_xcr(index & 1, value, 0, &state, &policy);
        let _ = state.load_machine_status(value as u16);
    }
}
