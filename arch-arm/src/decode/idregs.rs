//! Identification registers: the host's, and the values a guest gets to see.
//!
//! `HCR_EL2.TID3` traps reads of the whole group `S3_0_C0_C1_0` to `S3_0_C0_C7_7`, including encodings that are not
//! allocated yet. A guest sees the host's value field by field through an allow-list ([`super::idfields`]): a field
//! that is not on it reads as 0, so an extension that is younger than Oxen is hidden until somebody has decided what
//! its state and its traps need.

use super::idfields::{FIELDS, Policy};

/// Number of registers of the group: CRm 1 to 7, Op2 0 to 7.
const COUNT: usize = 7 * 8;

/// A register of the identification group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdReg(u8);

impl IdReg {
    /// `ID_PFR0_EL1`.
    pub const PFR0: Self = Self::at(1, 0);
    /// `ID_PFR1_EL1`.
    pub const PFR1: Self = Self::at(1, 1);
    /// `ID_DFR0_EL1`.
    pub const DFR0: Self = Self::at(1, 2);
    /// `ID_MMFR0_EL1`.
    pub const MMFR0: Self = Self::at(1, 4);
    /// `ID_MMFR1_EL1`.
    pub const MMFR1: Self = Self::at(1, 5);
    /// `ID_MMFR2_EL1`.
    pub const MMFR2: Self = Self::at(1, 6);
    /// `ID_MMFR3_EL1`.
    pub const MMFR3: Self = Self::at(1, 7);
    /// `ID_ISAR0_EL1`.
    pub const ISAR0: Self = Self::at(2, 0);
    /// `ID_ISAR1_EL1`.
    pub const ISAR1: Self = Self::at(2, 1);
    /// `ID_ISAR2_EL1`.
    pub const ISAR2: Self = Self::at(2, 2);
    /// `ID_ISAR3_EL1`.
    pub const ISAR3: Self = Self::at(2, 3);
    /// `ID_ISAR4_EL1`.
    pub const ISAR4: Self = Self::at(2, 4);
    /// `ID_ISAR5_EL1`.
    pub const ISAR5: Self = Self::at(2, 5);
    /// `ID_MMFR4_EL1`.
    pub const MMFR4: Self = Self::at(2, 6);
    /// `ID_ISAR6_EL1`.
    pub const ISAR6: Self = Self::at(2, 7);
    /// `MVFR0_EL1`.
    pub const MVFR0: Self = Self::at(3, 0);
    /// `MVFR1_EL1`.
    pub const MVFR1: Self = Self::at(3, 1);
    /// `MVFR2_EL1`.
    pub const MVFR2: Self = Self::at(3, 2);
    /// `ID_PFR2_EL1`.
    pub const PFR2: Self = Self::at(3, 4);
    /// `ID_MMFR5_EL1`.
    pub const MMFR5: Self = Self::at(3, 6);
    /// `ID_AA64PFR0_EL1`.
    pub const AA64PFR0: Self = Self::at(4, 0);
    /// `ID_AA64PFR1_EL1`.
    pub const AA64PFR1: Self = Self::at(4, 1);
    /// `ID_AA64DFR0_EL1`.
    pub const AA64DFR0: Self = Self::at(5, 0);
    /// `ID_AA64ISAR0_EL1`.
    pub const AA64ISAR0: Self = Self::at(6, 0);
    /// `ID_AA64ISAR1_EL1`.
    pub const AA64ISAR1: Self = Self::at(6, 1);
    /// `ID_AA64ISAR2_EL1`.
    pub const AA64ISAR2: Self = Self::at(6, 2);
    /// `ID_AA64MMFR0_EL1`.
    pub const AA64MMFR0: Self = Self::at(7, 0);
    /// `ID_AA64MMFR1_EL1`.
    pub const AA64MMFR1: Self = Self::at(7, 1);
    /// `ID_AA64MMFR2_EL1`.
    pub const AA64MMFR2: Self = Self::at(7, 2);

    const fn at(crm: u8, op2: u8) -> Self {
        Self((crm - 1) * 8 + op2)
    }

    /// The register `S3_0_C0_C<crm>_<op2>`; `None` outside the group.
    pub const fn new(crm: u8, op2: u8) -> Option<Self> {
        match (crm, op2) {
            (1..=7, 0..=7) => Some(Self::at(crm, op2)),
            _ => None,
        }
    }

    /// CRm of the register's encoding, 1..=7.
    pub const fn crm(self) -> u8 {
        self.0 / 8 + 1
    }

    /// Op2 of the register's encoding, 0..=7.
    pub const fn op2(self) -> u8 {
        self.0 % 8
    }

    /// All registers of the group, in the order of their encodings.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..COUNT as u8).map(Self)
    }
}

/// The host's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdRegs([u64; COUNT]);

impl HostIdRegs {
    /// All registers zero; a start for tests and for reading them one by one.
    pub const fn zero() -> Self {
        Self([0; COUNT])
    }

    /// The value of `reg`.
    pub const fn get(&self, reg: IdReg) -> u64 {
        // An `IdReg` is below `COUNT` by construction.
        self.0[reg.0 as usize]
    }

    /// Sets the value of `reg`.
    pub const fn set(&mut self, reg: IdReg, value: u64) {
        self.0[reg.0 as usize] = value;
    }
}

/// What a guest's values depend on beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdConfig {
    /// The guest has a GICv3 with system registers.
    pub gicv3: bool,
    /// Largest guest physical address, in the encoding of `ID_AA64MMFR0_EL1.PARange` (0: 32 bits, 2: 40, 5: 48). The
    /// guest sees this or the host's, whichever is smaller.
    pub pa_range: u8,
}

/// A guest's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestIdRegs([u64; COUNT]);

impl GuestIdRegs {
    /// The values a guest with `config` sees on `host`.
    pub fn new(host: &HostIdRegs, config: IdConfig) -> Self {
        let mut values = [0; COUNT];
        for (reg, fields) in FIELDS {
            let from = host.get(*reg);
            let mut value = 0;
            for field in *fields {
                let seen = from >> field.shift & 0xf;
                let shown = match field.policy {
                    Policy::Pass => seen,
                    Policy::AtMost(most) => seen.min(u64::from(most)),
                    Policy::AtMostSigned(most) => signed(seen).min(i64::from(most)) as u64 & 0xf,
                    Policy::Fixed(value) => u64::from(value),
                    Policy::Gic => u64::from(config.gicv3),
                    Policy::PaRange => seen.min(u64::from(config.pa_range)),
                };
                value |= shown << field.shift;
            }
            values[reg.0 as usize] = value;
        }
        Self(values)
    }

    /// The value of `reg`.
    pub const fn get(&self, reg: IdReg) -> u64 {
        self.0[reg.0 as usize]
    }
}

/// A field of four bits as the signed number some of them are.
const fn signed(nibble: u64) -> i64 {
    ((nibble << 60) as i64) >> 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Features;
    use proptest::prelude::*;

    const CONFIG: IdConfig = IdConfig {
        gicv3: true,
        pa_range: 2,
    };

    /// Every extension Oxen has to hide, in the encodings of the registers of a recent server CPU.
    fn rich() -> HostIdRegs {
        let mut host = HostIdRegs::zero();
        host.set(IdReg::AA64PFR0, 0x2201_1111_2112_1222);
        host.set(IdReg::AA64PFR1, 0x0000_0011_0101_0321);
        host.set(IdReg::AA64DFR0, 0x0000_0110_3053_0619);
        host.set(IdReg::AA64ISAR1, 0x1111_1111_1111_1052);
        host.set(IdReg::AA64ISAR2, 0x0011_0001_1111_5012);
        host.set(IdReg::AA64MMFR0, 0x2100_0222_1011_0026);
        host.set(IdReg::AA64MMFR1, 0x1011_0111_1131_2122);
        host.set(IdReg::AA64MMFR2, 0x1221_1121_0112_1111);
        host
    }

    #[test]
    fn cortex_a57_keeps_what_it_has() {
        let mut host = HostIdRegs::zero();
        host.set(IdReg::AA64PFR0, 0x0100_2222); // EL2 and EL3 in both states, GICv3
        host.set(IdReg::AA64DFR0, 0x1030_5106); // PMUv3, 6 breakpoints, 4 watchpoints
        host.set(IdReg::AA64ISAR0, 0x0001_1120);
        host.set(IdReg::AA64MMFR0, 0x0000_1124);
        let guest = GuestIdRegs::new(&host, CONFIG);
        assert_eq!(guest.get(IdReg::AA64PFR0), 0x0100_0012);
        assert_eq!(guest.get(IdReg::AA64DFR0), 0x0010_1006);
        assert_eq!(guest.get(IdReg::AA64ISAR0), 0x0001_1120);
        assert_eq!(guest.get(IdReg::AA64MMFR0), 0x0000_0122);
    }

    #[test]
    fn a_guest_without_gicv3_does_not_see_one() {
        let guest = GuestIdRegs::new(
            &rich(),
            IdConfig {
                gicv3: false,
                ..CONFIG
            },
        );
        assert_eq!(guest.get(IdReg::AA64PFR0) >> 24 & 0xf, 0);
        assert_eq!(guest.get(IdReg::PFR1) >> 28 & 0xf, 0);
    }

    #[test]
    fn extensions_without_switched_state_are_hidden() {
        let guest = GuestIdRegs::new(&rich(), CONFIG);
        // As if the guest were a hypervisor on the CPU it sees.
        let mut seen = HostIdRegs::zero();
        for reg in IdReg::all() {
            seen.set(reg, guest.get(reg));
        }
        let features = Features::of(&seen);
        assert_eq!(
            features,
            Features {
                pan: true,
                ssbs: true,
                aarch32_el0: true,
                ..Features::default()
            }
        );
        assert_ne!(Features::of(&rich()), features);
        // Pointer authentication, in all three algorithms' fields.
        assert_eq!(guest.get(IdReg::AA64ISAR1) & 0xff00_0ff0, 0);
        assert_eq!(guest.get(IdReg::AA64ISAR2) & 0x0f00_ff00, 0);
    }

    #[test]
    fn signed_fields_do_not_turn_absence_into_presence() {
        let mut host = HostIdRegs::zero();
        // 4 KiB and 64 KiB granules and double lock absent, floating point absent.
        host.set(IdReg::AA64MMFR0, 0xff00_0000);
        host.set(IdReg::AA64DFR0, 0xf0_0000_0000);
        host.set(IdReg::AA64PFR0, 0xff_0000);
        let guest = GuestIdRegs::new(&host, CONFIG);
        assert_eq!(guest.get(IdReg::AA64MMFR0) & 0xff00_0000, 0xff00_0000);
        assert_eq!(guest.get(IdReg::AA64DFR0) >> 36 & 0xf, 0xf);
        assert_eq!(guest.get(IdReg::AA64PFR0) & 0xff_0000, 0xff_0000);
        // 52-bit addresses with 4 KiB pages become 48-bit ones.
        host.set(IdReg::AA64MMFR0, 0x1000_0000);
        let guest = GuestIdRegs::new(&host, CONFIG);
        assert_eq!(guest.get(IdReg::AA64MMFR0) & 0xf000_0000, 0);
    }

    #[test]
    fn encodings_and_registers() {
        assert_eq!(IdReg::new(0, 0), None);
        assert_eq!(IdReg::new(8, 0), None);
        assert_eq!(IdReg::new(4, 0), Some(IdReg::AA64PFR0));
        for reg in IdReg::all() {
            assert_eq!(IdReg::new(reg.crm(), reg.op2()), Some(reg));
        }
        assert_eq!(IdReg::all().count(), COUNT);
    }

    proptest! {
        // Only fields of the table are ever shown, and what the host lacks does not appear (fixed fields aside).
        #[test]
        fn nothing_beyond_the_table(host in proptest::collection::vec(any::<u64>(), COUNT)) {
            let mut regs = HostIdRegs::zero();
            for (reg, value) in IdReg::all().zip(&host) {
                regs.set(reg, *value);
            }
            let guest = GuestIdRegs::new(&regs, CONFIG);
            for reg in IdReg::all() {
                let listed = FIELDS.iter().filter(|(r, _)| *r == reg).flat_map(|(_, fields)| fields.iter());
                let mask = listed.fold(0u64, |mask, field| mask | 0xf << field.shift);
                prop_assert_eq!(guest.get(reg) & !mask, 0);
            }
            prop_assert_eq!(guest.get(IdReg::AA64PFR0) & 0xff00, 0);
            prop_assert_eq!(guest.get(IdReg::AA64DFR0) & 0xf00, 0);
            prop_assert!(guest.get(IdReg::AA64MMFR0) & 0xf <= 2);
        }
    }
}
