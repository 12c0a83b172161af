//! Power State Coordination Interface calls (Arm DEN 0022), versions 0.1, 0.2, 1.0 and 1.1.

/// What a PSCI call returns to the caller in w0/x0, when it is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum PsciError {
    /// The function does not exist here.
    NotSupported = -1,
    /// An argument is invalid, as for a vCPU that does not exist.
    InvalidParameters = -2,
    /// The caller may not ask this.
    Denied = -3,
    /// The vCPU is on.
    AlreadyOn = -4,
    /// The vCPU is about to be on.
    OnPending = -5,
    /// Something failed inside.
    InternalFailure = -6,
    /// There is no trusted OS on the vCPU.
    NotPresent = -7,
    /// The vCPU is disabled.
    Disabled = -8,
    /// The entry point is not an address the vCPU could start at.
    InvalidAddress = -9,
}

/// Answer of a PSCI call that returns: a value (0 is success) or an error.
pub type PsciResult = Result<u32, PsciError>;

impl PsciError {
    /// The register value: sign-extended, as SMCCC wants of a 32-bit result.
    pub const fn to_register(self) -> u64 {
        self as i32 as i64 as u64
    }
}

/// The state `AFFINITY_INFO` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AffinityState {
    /// At least one vCPU of the instance is on.
    On = 0,
    /// All vCPUs of the instance are off.
    Off = 1,
    /// A vCPU is about to be on.
    OnPending = 2,
}

/// The level of the instance `AFFINITY_INFO` asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityLevel {
    /// One vCPU.
    Zero,
    /// All vCPUs with the same affinity fields from this level (1..=3) up.
    Group(u8),
    /// No such level; the answer is [`PsciError::InvalidParameters`].
    Invalid(u64),
}

impl AffinityLevel {
    const fn from_register(level: u64) -> Self {
        match level {
            0 => Self::Zero,
            1..=3 => Self::Group(level as u8),
            _ => Self::Invalid(level),
        }
    }

    /// The affinity fields of an `MPIDR_EL1` that must match at this level; `None` if the level does not exist.
    pub const fn mask(self) -> Option<u64> {
        match self {
            Self::Zero => Some(0xff_00ff_ffff),
            Self::Group(1) => Some(0xff_00ff_ff00),
            Self::Group(2) => Some(0xff_00ff_0000),
            Self::Group(_) => Some(0xff_0000_0000),
            Self::Invalid(_) => None,
        }
    }
}

/// A PSCI call with its arguments.
///
/// Arguments of calls with 32-bit numbers are cut to 32 bits. Nothing is resolved yet: an affinity number may name
/// no vCPU, an entry point may be anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PsciCall {
    /// `PSCI_VERSION`: answer [`PsciCall::VERSION`].
    Version,
    /// `CPU_SUSPEND`: a standby state may be answered by blocking until an interrupt and then success.
    CpuSuspend {
        /// The state asked for.
        power_state: u32,
        /// Where to wake from a power-down state.
        entry: u64,
        /// Passed in x0 on waking from a power-down state.
        context: u64,
    },
    /// `CPU_OFF`.
    CpuOff,
    /// `CPU_ON`.
    CpuOn {
        /// Affinity fields of the vCPU.
        target: u64,
        /// Its first PC; in AArch32 the lowest bit asks for T32.
        entry: u64,
        /// Its first x0.
        context: u64,
        /// The entry point and the context are 64 bits wide.
        sixty_four: bool,
    },
    /// `AFFINITY_INFO`.
    AffinityInfo {
        /// Affinity fields of the instance.
        target: u64,
        /// The instance's level.
        level: AffinityLevel,
    },
    /// `MIGRATE_INFO_TYPE`: answer [`PsciCall::NO_TRUSTED_OS`].
    MigrateInfoType,
    /// `SYSTEM_OFF`.
    SystemOff,
    /// `SYSTEM_RESET`.
    SystemReset,
    /// `SYSTEM_RESET2`.
    SystemReset2 {
        /// 0 for a warm reset; vendor types have bit 31 set.
        reset_type: u32,
        /// Meaning depends on the type.
        cookie: u64,
    },
    /// `PSCI_FEATURES`: which function the caller asks about. See [`PsciCall::features`].
    Features {
        /// The function's number.
        function: u32,
    },
    /// A function of the PSCI range that Oxen does not offer (`MIGRATE`, `MEM_PROTECT`, statistics, freezes, ...):
    /// answer [`PsciError::NotSupported`].
    NotOffered(u32),
}

/// Number of the last function of the range DEN 0022 keeps for PSCI.
const LAST: u32 = 0x1f;
const SMC64: u32 = 0x4000_0000;
const BASE: u32 = 0x8400_0000;

impl PsciCall {
    /// Version 1.1 in the format of `PSCI_VERSION`: major in bits 30:16, minor in 15:0.
    pub const VERSION: u32 = 1 << 16 | 1;
    /// Answer of `MIGRATE_INFO_TYPE`: there is no trusted OS that would have to be migrated.
    pub const NO_TRUSTED_OS: u32 = 2;
    /// The functions with a number in the guest's device tree for version 0.1.
    pub const V01_CPU_SUSPEND: u32 = 0;
    /// See [`Self::V01_CPU_SUSPEND`].
    pub const V01_CPU_OFF: u32 = 1;
    /// See [`Self::V01_CPU_SUSPEND`].
    pub const V01_CPU_ON: u32 = 2;
    /// See [`Self::V01_CPU_SUSPEND`].
    pub const V01_MIGRATE: u32 = 3;

    /// Number of functions [`Self::features`] calls supported, the 32-bit and 64-bit form of one counted apart.
    pub const OFFERED: u32 = 12;

    /// The call of this function number, or `None` if it is no PSCI function. `args` are x1, x2 and x3.
    pub fn decode(function: u32, args: [u64; 3]) -> Option<Self> {
        if let Some(call) = Self::decode_v01(function, args) {
            return Some(call);
        }
        let wide = function & SMC64 != 0;
        let number = (function & !SMC64).checked_sub(BASE)?;
        if number > LAST {
            return None;
        }
        let [a, b, c] = if wide {
            args
        } else {
            args.map(|arg| arg & 0xffff_ffff)
        };
        Some(match (number, wide) {
            (0x00, false) => Self::Version,
            (0x01, _) => Self::CpuSuspend {
                power_state: a as u32,
                entry: b,
                context: c,
            },
            (0x02, false) => Self::CpuOff,
            (0x03, _) => Self::CpuOn {
                target: a,
                entry: b,
                context: c,
                sixty_four: wide,
            },
            (0x04, _) => Self::AffinityInfo {
                target: a,
                level: AffinityLevel::from_register(b),
            },
            (0x06, false) => Self::MigrateInfoType,
            (0x08, false) => Self::SystemOff,
            (0x09, false) => Self::SystemReset,
            (0x0a, false) => Self::Features { function: a as u32 },
            (0x12, _) => Self::SystemReset2 {
                reset_type: a as u32,
                cookie: b,
            },
            // Raw numbers: what is not offered, and what later versions add.
            _ => Self::NotOffered(function),
        })
    }

    /// Version 0.1 has no standard numbers; these are the ones Xen's device trees carry.
    fn decode_v01(function: u32, [a, b, _]: [u64; 3]) -> Option<Self> {
        match function {
            Self::V01_CPU_SUSPEND => Some(Self::CpuSuspend {
                power_state: a as u32,
                entry: b,
                context: 0,
            }),
            Self::V01_CPU_OFF => Some(Self::CpuOff),
            Self::V01_CPU_ON => Some(Self::CpuOn {
                target: a,
                entry: b,
                context: 0,
                sixty_four: true,
            }),
            Self::V01_MIGRATE => Some(Self::NotOffered(function)),
            _ => None,
        }
    }

    /// The answer of `PSCI_FEATURES` for the PSCI function `function`, as far as this decoder knows: 0 for those a
    /// caller of [`Self::decode`] is expected to serve. `SMCCC_VERSION` also is asked about this way; the answer is
    /// 0 too.
    pub fn features(function: u32) -> PsciResult {
        const SMCCC_VERSION: u32 = 0x8000_0000;
        if function == SMCCC_VERSION {
            return Ok(0);
        }
        // Version 0.1's numbers are no function identifiers.
        if function < BASE {
            return Err(PsciError::NotSupported);
        }
        match Self::decode(function, [0; 3]) {
            Some(
                Self::Version
                | Self::CpuSuspend { .. }
                | Self::CpuOff
                | Self::CpuOn { .. }
                | Self::AffinityInfo { .. }
                | Self::MigrateInfoType
                | Self::SystemOff
                | Self::SystemReset
                | Self::Features { .. },
            ) => Ok(0),
            Some(Self::SystemReset2 { .. } | Self::NotOffered(_)) | None => {
                Err(PsciError::NotSupported)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARGS: [u64; 3] = [0x1_0000_0001, 0xffff_0000_4000_0000, 0x1_2345_6789];

    #[test]
    fn cpu_on_in_both_widths() {
        assert_eq!(
            PsciCall::decode(0xc400_0003, ARGS),
            Some(PsciCall::CpuOn {
                target: 0x1_0000_0001,
                entry: 0xffff_0000_4000_0000,
                context: 0x1_2345_6789,
                sixty_four: true
            })
        );
        assert_eq!(
            PsciCall::decode(0x8400_0003, ARGS),
            Some(PsciCall::CpuOn {
                target: 1,
                entry: 0x4000_0000,
                context: 0x2345_6789,
                sixty_four: false
            })
        );
    }

    #[test]
    fn calls_without_a_64_bit_form() {
        assert_eq!(
            PsciCall::decode(0xc400_0008, ARGS),
            Some(PsciCall::NotOffered(0xc400_0008))
        );
        assert_eq!(
            PsciCall::decode(0x8400_0008, ARGS),
            Some(PsciCall::SystemOff)
        );
    }

    #[test]
    fn other_services_are_not_psci() {
        for f in [
            0x8400_0050,
            0x8400_0020,
            0x8600_ff01,
            0x8000_0000,
            0x84,
            4,
            u32::MAX,
        ] {
            assert_eq!(PsciCall::decode(f, ARGS), None, "{f:#x}");
        }
    }

    #[test]
    fn version_01() {
        assert_eq!(PsciCall::decode(1, ARGS), Some(PsciCall::CpuOff));
        assert!(matches!(
            PsciCall::decode(2, ARGS),
            Some(PsciCall::CpuOn { context: 0, .. })
        ));
        assert_eq!(PsciCall::decode(3, ARGS), Some(PsciCall::NotOffered(3)));
        assert_eq!(PsciCall::features(2), Err(PsciError::NotSupported));
    }

    #[test]
    fn features_count_what_is_offered() {
        let offered = (0..=LAST)
            .flat_map(|n| [BASE + n, BASE + n + SMC64])
            .filter(|f| PsciCall::features(*f).is_ok())
            .count();
        // The wide forms of CPU_SUSPEND, CPU_ON and AFFINITY_INFO are functions of their own.
        assert_eq!(offered as u32, PsciCall::OFFERED);
        assert_eq!(PsciCall::features(0x8000_0000), Ok(0));
        assert_eq!(
            PsciCall::features(0x8400_0012),
            Err(PsciError::NotSupported)
        );
    }

    #[test]
    fn errors_are_sign_extended() {
        assert_eq!(PsciError::NotSupported.to_register(), u64::MAX);
        assert_eq!(PsciError::AlreadyOn.to_register() as i64, -4);
    }

    proptest! {
        #[test]
        fn narrow_calls_carry_nothing_above_32_bits(number in 0u32..=LAST, args: [u64; 3]) {
            let call = PsciCall::decode(BASE + number, args);
            prop_assert!(call.is_some());
            prop_assert_eq!(call, PsciCall::decode(BASE + number, args.map(|a| a & 0xffff_ffff)));
        }
    }
}
