//! The allow-list of identification register fields, one line per field.
//!
//! Fields are those of Arm ARM D24.2 (`ID_AA64*`) and D24.2/G8.2 (`ID_*`, AArch32). What is missing here reads as 0;
//! in particular:
//! - SVE, SME, MTE, pointer authentication, guarded control stacks: their state is not switched;
//! - RAS, activity monitors, MPAM, performance monitors, profiling, trace, branch records: not virtualised;
//! - EL2, EL3, Secure EL2, realms, nested virtualization, stage-2 properties: guests have no EL2;
//! - limited ordering regions, extended `TCR`/`SCTLR`, permission indirection, memory copy: their registers or
//!   instructions trap, or need an `HCRX_EL2` bit that is off;
//! - WFIT and WFET: Oxen traps WFI and would not know the deadline.

use super::idregs::IdReg;

/// What becomes of a host's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The host's value.
    Pass,
    /// The host's value or this, whichever is smaller.
    AtMost(u8),
    /// The same for a field whose values are signed (0xf is -1: absent).
    AtMostSigned(i8),
    /// This value on every host.
    Fixed(u8),
    /// 1 if the guest has a GICv3, else 0.
    Gic,
    /// The host's value or the configured address size, whichever is smaller.
    PaRange,
}

/// A field of four bits from bit `shift` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) shift: u8,
    pub(super) policy: Policy,
}

const fn pass(shift: u8) -> Field {
    with(shift, Policy::Pass)
}

const fn with(shift: u8, policy: Policy) -> Field {
    Field { shift, policy }
}

/// All eight fields of a 32-bit register.
const ALL32: &[Field] = &[
    pass(0),
    pass(4),
    pass(8),
    pass(12),
    pass(16),
    pass(20),
    pass(24),
    pass(28),
];

pub(super) const FIELDS: &[(IdReg, &[Field])] = &[
    (
        IdReg::AA64PFR0,
        &[
            pass(0),                     // EL0: AArch32 or not
            with(4, Policy::AtMost(1)),  // EL1: AArch64 alone
            pass(16),                    // FP
            pass(20),                    // AdvSIMD
            with(24, Policy::Gic),       // GIC system registers
            pass(48),                    // DIT: data-independent timing
            with(56, Policy::AtMost(1)), // CSV2; 2 announces SCXTNUM_EL0/1, which are not switched
            pass(60),                    // CSV3
        ],
    ),
    (
        IdReg::AA64PFR1,
        &[
            pass(0), // BT: branch target identification, all in SPSR and stage 1
            pass(4), // SSBS
        ],
    ),
    (
        IdReg::AA64DFR0,
        &[
            with(0, Policy::AtMost(6)), // DebugVer: v8.0; the registers are all emulated
            with(12, Policy::Fixed(1)), // BRPs: the least the architecture allows, 2
            with(20, Policy::Fixed(1)), // WRPs: likewise 2
            pass(36),                   // DoubleLock; OSDLR_EL1 ignores writes
        ],
    ),
    (
        IdReg::AA64ISAR0,
        &[
            pass(4),  // AES
            pass(8),  // SHA1
            pass(12), // SHA2
            pass(16), // CRC32
            pass(20), // Atomic: LSE
            pass(28), // RDM
            pass(32), // SHA3
            pass(36), // SM3
            pass(40), // SM4
            pass(44), // DP
            pass(48), // FHM
            pass(52), // TS: flag manipulation
            pass(56), // TLB: outer shareable and range invalidation
            pass(60), // RNDR
        ],
    ),
    (
        IdReg::AA64ISAR1,
        &[
            pass(0),  // DPB
            pass(12), // JSCVT
            pass(16), // FCMA
            pass(20), // LRCPC
            pass(32), // FRINTTS
            pass(36), // SB
            pass(40), // SPECRES
            pass(44), // BF16
            pass(48), // DGH
            pass(52), // I8MM
        ],
    ),
    (
        IdReg::AA64ISAR2,
        &[
            pass(4),  // RPRES
            pass(20), // BC
            pass(28), // CLRBHB
            pass(48), // RPRFM
            pass(52), // CSSC
        ],
    ),
    (
        IdReg::AA64MMFR0,
        &[
            with(0, Policy::PaRange),
            pass(4),                           // ASIDBits
            pass(8),                           // BigEnd
            pass(16),                          // BigEndEL0
            with(20, Policy::AtMost(1)),       // TGran16 without 52-bit addresses
            pass(24),                          // TGran64
            with(28, Policy::AtMostSigned(0)), // TGran4 without 52-bit addresses
            pass(44),                          // ExS
            with(60, Policy::AtMost(1)),       // ECV without the offset of the physical counter
        ],
    ),
    (
        IdReg::AA64MMFR1,
        &[
            with(0, Policy::AtMost(2)), // HAFDBS; the access flag of table entries needs TCR2_EL1
            pass(12),                   // HPDS
            pass(20),                   // PAN
            pass(24),                   // SpecSEI
            pass(36),                   // ETS
            pass(44),                   // AFP
            pass(48),                   // nTLBPA
            pass(60),                   // ECBHB
        ],
    ),
    (
        IdReg::AA64MMFR2,
        &[
            pass(0),                     // CnP
            pass(4),                     // UAO
            pass(8),                     // LSM
            with(16, Policy::AtMost(1)), // VARange
            pass(20),                    // CCIDX: the format of CCSIDR_EL1, which is not trapped
            pass(28),                    // ST: small tables
            pass(32),                    // AT: unaligned single-copy atomicity
            with(36, Policy::AtMost(1)), // IDS
            pass(48),                    // TTL
            pass(52),                    // BBM
            pass(60),                    // E0PD
        ],
    ),
    (
        IdReg::PFR0,
        &[
            pass(0),                     // State0: A32
            pass(4),                     // State1: T32
            pass(8),                     // State2: Jazelle
            pass(12),                    // State3: T32EE
            with(16, Policy::AtMost(1)), // CSV2
            pass(24),                    // DIT
        ],
    ),
    (
        IdReg::PFR1,
        &[
            pass(0),  // ProgMod
            pass(8),  // MProgMod
            pass(16), // GenTimer
            with(28, Policy::Gic),
        ],
    ),
    (
        IdReg::PFR2,
        &[
            pass(0), // CSV3
            pass(4), // SSBS
        ],
    ),
    (IdReg::DFR0, &[with(0, Policy::AtMost(6))]), // CopDbg
    (IdReg::MMFR0, ALL32),
    (IdReg::MMFR1, ALL32),
    (IdReg::MMFR2, ALL32),
    (IdReg::MMFR3, ALL32),
    (
        IdReg::MMFR4,
        &[
            pass(0),  // SpecSEI
            pass(4),  // AC2: ACTLR2
            pass(12), // CnP
            pass(16), // HPDS
            pass(20), // LSM
            pass(24), // CCIDX
        ],
    ),
    (IdReg::MMFR5, &[pass(0)]), // ETS
    (IdReg::ISAR0, ALL32),
    (IdReg::ISAR1, ALL32),
    (IdReg::ISAR2, ALL32),
    (IdReg::ISAR3, ALL32),
    (IdReg::ISAR4, ALL32),
    (IdReg::ISAR5, ALL32),
    (IdReg::ISAR6, ALL32),
    (IdReg::MVFR0, ALL32),
    (IdReg::MVFR1, ALL32),
    (IdReg::MVFR2, ALL32),
];
