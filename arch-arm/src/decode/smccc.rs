//! SMC Calling Convention function numbers (Arm DEN 0028) in `HVC #0` and `SMC #0`.
//!
//! A call from a guest is only sorted here. What firmware workarounds a guest is offered depends on the machine and
//! is the caller's to say: offering one the CPU does not need makes a kernel issue it on every exception, tens of
//! thousands of times in a boot.

use super::psci::PsciCall;

/// A 128-bit service identifier as it is returned in w0 to w3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uid(pub [u8; 16]);

impl Uid {
    /// Identifies Xen's hypervisor service (public header `arch-arm/smccc.h`).
    pub const XEN: Self = Self([
        0xa7, 0x18, 0x12, 0xdc, 0xc6, 0x98, 0x43, 0x69, 0x9a, 0xcf, 0x79, 0xd1, 0x8d, 0xde, 0xe6,
        0x67,
    ]);
    /// Identifies Xen's standard secure service, as its guests see it.
    pub const STANDARD: Self = Self([
        0xf8, 0x63, 0x38, 0x6f, 0x4b, 0x39, 0x4c, 0xbd, 0x92, 0x20, 0xce, 0x16, 0x41, 0xe5, 0x9f,
        0x6f,
    ]);

    /// The values of x0 to x3: four bytes each, the first in the low bits.
    pub const fn to_registers(self) -> [u64; 4] {
        let b = &self.0;
        let mut out = [0; 4];
        let mut i = 0;
        while i < 4 {
            out[i] =
                u32::from_le_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]]) as u64;
            i += 1;
        }
        out
    }
}

/// A firmware workaround for a CPU's flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workaround {
    /// `SMCCC_ARCH_WORKAROUND_1`: branch predictor (CVE-2017-5715).
    One,
    /// `SMCCC_ARCH_WORKAROUND_2`: speculative store bypass (CVE-2018-3639).
    Two,
    /// `SMCCC_ARCH_WORKAROUND_3`: branch history (CVE-2022-23960).
    Three,
}

/// A call by number, with the arguments the hypervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmcccCall {
    /// `SMCCC_VERSION`: answer [`SmcccCall::VERSION`].
    Version,
    /// `SMCCC_ARCH_FEATURES`: which function of the architecture service the caller asks about.
    ArchFeatures {
        /// The function's number.
        function: u32,
    },
    /// A workaround is to be applied. If it was not offered, or needs nothing, the answer changes no register.
    ArchWorkaround {
        /// Which.
        which: Workaround,
        /// x1: for [`Workaround::Two`], 0 asks for the mitigation off, else on.
        argument: u32,
    },
    /// A power call.
    Psci(PsciCall),
    /// Call count of the hypervisor service: answer [`SmcccCall::HYPERVISOR_CALLS`].
    HypervisorCallCount,
    /// Identifier of the hypervisor service: answer [`Uid::XEN`].
    HypervisorUid,
    /// Revision of the hypervisor service: answer [`SmcccCall::REVISION`] in x0 and x1.
    HypervisorRevision,
    /// Call count of the standard service.
    StandardCallCount,
    /// Identifier of the standard service: answer [`Uid::STANDARD`].
    StandardUid,
    /// Revision of the standard service: answer [`SmcccCall::REVISION`] in x0 and x1.
    StandardRevision,
    /// A true random number generator call: answer [`SmcccCall::NOT_SUPPORTED`].
    Trng(u32),
    /// Anything else: answer [`SmcccCall::NOT_SUPPORTED`].
    Unknown(u32),
}

impl SmcccCall {
    /// Version 1.1 of the calling convention: major in bits 30:16, minor in 15:0.
    pub const VERSION: u32 = 1 << 16 | 1;
    /// The function does not exist; in x0, all ones.
    pub const NOT_SUPPORTED: u64 = u64::MAX;
    /// `SMCCC_ARCH_FEATURES` of a workaround: the function exists but this CPU does not need it.
    pub const NOT_REQUIRED: u64 = 1;
    /// `SMCCC_ARCH_FEATURES` of [`Workaround::Two`]: the CPU does not need it (-2).
    pub const NOT_REQUIRED_2: u64 = u64::MAX - 1;
    /// Functions of the hypervisor service: count, identifier, revision.
    pub const HYPERVISOR_CALLS: u32 = 3;
    /// Functions of the standard service: count, identifier, revision and the power calls.
    pub const STANDARD_CALLS: u32 = 3 + PsciCall::OFFERED;
    /// Revision 0.1 of both services: major for x0, minor for x1.
    pub const REVISION: [u64; 2] = [0, 1];
    /// `SMCCC_ARCH_FEATURES` function number.
    pub const ARCH_FEATURES: u32 = 0x8000_0001;
    /// `SMCCC_ARCH_WORKAROUND_1` function number.
    pub const WORKAROUND_1: u32 = 0x8000_8000;
    /// `SMCCC_ARCH_WORKAROUND_2` function number.
    pub const WORKAROUND_2: u32 = 0x8000_7fff;
    /// `SMCCC_ARCH_WORKAROUND_3` function number.
    pub const WORKAROUND_3: u32 = 0x8000_3fff;

    /// The workaround with this function number.
    pub const fn workaround(function: u32) -> Option<Workaround> {
        match function {
            Self::WORKAROUND_1 => Some(Workaround::One),
            Self::WORKAROUND_2 => Some(Workaround::Two),
            Self::WORKAROUND_3 => Some(Workaround::Three),
            _ => None,
        }
    }

    /// The call in x0 to x3 of the guest: `function` is w0, `args` are x1, x2 and x3.
    ///
    /// From version 1.2 on bit 16 hints that the caller has no SVE state worth keeping; it is no part of the number.
    pub fn decode(x0: u64, args: [u64; 3]) -> Self {
        const FAST: u32 = 1 << 31;
        const SVE_HINT: u32 = 1 << 16;
        let raw = x0 as u32;
        let function = if raw & FAST != 0 {
            raw & !SVE_HINT
        } else {
            raw
        };
        let first = args[0] as u32;
        if let Some(call) = PsciCall::decode(function, args) {
            return Self::Psci(call);
        }
        if let Some(which) = Self::workaround(function) {
            return Self::ArchWorkaround {
                which,
                argument: first,
            };
        }
        match function {
            0x8000_0000 => Self::Version,
            Self::ARCH_FEATURES => Self::ArchFeatures { function: first },
            0x8600_ff00 => Self::HypervisorCallCount,
            0x8600_ff01 => Self::HypervisorUid,
            0x8600_ff03 => Self::HypervisorRevision,
            0x8400_ff00 => Self::StandardCallCount,
            0x8400_ff01 => Self::StandardUid,
            0x8400_ff03 => Self::StandardRevision,
            0x8400_0050..=0x8400_005f | 0xc400_0050..=0xc400_005f => Self::Trng(function),
            _ => Self::Unknown(function),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_linux_guest_asks_first() {
        assert_eq!(
            SmcccCall::decode(0x8400_0000, [0; 3]),
            SmcccCall::Psci(PsciCall::Version)
        );
        assert_eq!(
            SmcccCall::decode(0x8400_000a, [0x8000_0000, 0, 0]),
            SmcccCall::Psci(PsciCall::Features {
                function: 0x8000_0000
            })
        );
        assert_eq!(SmcccCall::decode(0x8000_0000, [0; 3]), SmcccCall::Version);
        assert_eq!(
            SmcccCall::decode(0x8000_0001, [0x8000_8000, 0, 0]),
            SmcccCall::ArchFeatures {
                function: SmcccCall::WORKAROUND_1
            }
        );
        assert_eq!(
            SmcccCall::decode(0x8400_0050, [0; 3]),
            SmcccCall::Trng(0x8400_0050)
        );
        assert_eq!(
            SmcccCall::decode(0x8600_ff01, [0; 3]),
            SmcccCall::HypervisorUid
        );
    }

    #[test]
    fn workarounds() {
        for (number, which) in [
            (0x8000_8000u64, Workaround::One),
            (0x8000_7fff, Workaround::Two),
            (0x8000_3fff, Workaround::Three),
        ] {
            assert_eq!(
                SmcccCall::decode(number, [1, 0, 0]),
                SmcccCall::ArchWorkaround { which, argument: 1 }
            );
        }
    }

    #[test]
    fn the_identifier_is_little_endian_by_register() {
        // Byte 0 of a7 18 12 dc is in the low bits of w0.
        assert_eq!(
            Uid::XEN.to_registers(),
            [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d]
        );
    }

    proptest! {
        #[test]
        fn upper_half_and_sve_hint_do_not_matter(function: u32, high: u32, args: [u64; 3]) {
            let function = function | 1 << 31;
            let base = SmcccCall::decode(u64::from(function & !(1 << 16)), args);
            prop_assert_eq!(SmcccCall::decode(u64::from(function) | u64::from(high) << 32, args), base);
        }
    }
}
