use super::*;
use proptest::prelude::*;

fn at(mtrr: &Mtrr, address: u64) -> MemoryType {
    mtrr.memory_type(GuestPhysAddr(address))
}

#[test]
fn a_guest_starts_with_all_of_it_cached() {
    let mtrr = Mtrr::default();
    assert_eq!(at(&mtrr, 0), MemoryType::WriteBack);
    assert_eq!(at(&mtrr, u64::MAX), MemoryType::WriteBack);
    assert_eq!(CAPABILITIES, 0x508);
}

#[test]
fn values_are_checked() {
    let mut mtrr = Mtrr::default();
    let cases = [
        (Register::Default, 0xc06, true),
        (Register::Default, 0x1c06, false),
        (Register::Default, 0xc02, false),
        (Register::Default, 0x1_0000_0c06, false),
        (Register::Fixed(0), 0x0605_0401_0006_0606, true),
        (Register::Fixed(0), 0x0705_0401_0006_0606, false),
        (Register::Base(0), 0xff_ffff_f006, true),
        (Register::Base(0), 0x100_0000_0006, false),
        (Register::Base(0), 0x106, false),
        (Register::Base(0), 0x003, false),
        (Register::Mask(7), 0xff_c000_0800, true),
        (Register::Mask(7), 0xff_c000_0801, false),
        (Register::Mask(7), 0x1ff_c000_0800, false),
    ];
    for (register, value, legal) in cases {
        let old = mtrr.read(register);
        assert_eq!(
            mtrr.write(register, value, 40),
            legal,
            "{register:?} {value:#x}"
        );
        let now = mtrr.read(register);
        assert_eq!(now, if legal { value } else { old });
    }
    assert!(is_valid_pat(0x0007_0406_0007_0406));
    assert!(is_valid_pat(0x0007_0106_0005_0406));
    assert!(!is_valid_pat(0x0007_0206_0007_0406));
    assert!(!is_valid_pat(0x0807_0406_0007_0406));
}

#[test]
fn numbers_of_msrs_are_registers() {
    let cases = [
        (0x200, Some(Register::Base(0))),
        (0x201, Some(Register::Mask(0))),
        (0x20f, Some(Register::Mask(7))),
        (0x210, None),
        (0x250, Some(Register::Fixed(0))),
        (0x251, None),
        (0x258, Some(Register::Fixed(1))),
        (0x259, Some(Register::Fixed(2))),
        (0x268, Some(Register::Fixed(3))),
        (0x26f, Some(Register::Fixed(10))),
        (0x270, None),
        (0x2ff, Some(Register::Default)),
    ];
    for (msr, register) in cases {
        assert_eq!(Register::of_msr(msr), register, "{msr:#x}");
    }
}

#[test]
fn ranges_decide() {
    let mut mtrr = Mtrr::default();
    let mut set = |register, value| assert!(mtrr.write(register, value, 40));
    set(Register::Default, 0xc06);
    // The first 64 KiB are UC, the second WC; VGA memory (0xa0000) is UC, 0xc1000 is WP.
    set(Register::Fixed(0), 0x0606_0606_0606_0100);
    set(Register::Fixed(1), 0x0606_0606_0606_0606);
    set(Register::Fixed(2), 0);
    set(Register::Fixed(3), 0x0606_0606_0606_0506);
    for register in 4..11 {
        set(Register::Fixed(register), 0x0404_0404_0404_0404);
    }
    // 3 to 4 GiB: UC. A frame buffer in it: WC, which loses. 16 GiB to 32: WT, over WB.
    set(Register::Base(0), 0xc000_0000);
    set(Register::Mask(0), 0xff_c000_0800);
    set(Register::Base(1), 0xd000_0001);
    set(Register::Mask(1), 0xff_f000_0800);
    set(Register::Base(2), 0x4_0000_0004);
    set(Register::Mask(2), 0xfc_0000_0800);
    set(Register::Base(3), 0x4_0000_0006);
    set(Register::Mask(3), 0xfc_0000_0800);
    // Off.
    set(Register::Base(4), 0);
    set(Register::Mask(4), 0);
    let cases = [
        (0, MemoryType::Uncacheable),
        (0x1_0000, MemoryType::WriteCombining),
        (0x2_0000, MemoryType::WriteBack),
        (0x9_ffff, MemoryType::WriteBack),
        (0xa_0000, MemoryType::Uncacheable),
        (0xc_0000, MemoryType::WriteBack),
        (0xc_1000, MemoryType::WriteProtected),
        (0xf_ffff, MemoryType::WriteThrough),
        (0x10_0000, MemoryType::WriteBack),
        (0xc000_0000, MemoryType::Uncacheable),
        (0xd000_0000, MemoryType::Uncacheable),
        (0x4_1234_5678, MemoryType::WriteThrough),
        (0x8_0000_0000, MemoryType::WriteBack),
    ];
    for (address, expected) in cases {
        assert_eq!(at(&mtrr, address), expected, "{address:#x}");
    }
    assert!(mtrr.write(Register::Default, 6, 40));
    assert_eq!(at(&mtrr, 0x10_0000), MemoryType::Uncacheable, "off is UC");
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_read_back(msr in 0x200u32..0x300, value: u64, address: u64) {
        let mut mtrr = Mtrr::default();
        if let Some(register) = Register::of_msr(msr)
            && mtrr.write(register, value, 48)
        {
            prop_assert_eq!(mtrr.read(register), value);
        }
        at(&mtrr, address);
    }
}
