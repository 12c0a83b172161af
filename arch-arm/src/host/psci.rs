//! Client of the firmware's Power State Coordination Interface (DEN 0022).

use xen_core::{Error, Result};

/// The instruction that reaches the firmware; the device tree's `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// SMC: firmware at EL3.
    Smc,
    /// HVC: another hypervisor below (Oxen runs nested).
    Hvc,
}

impl Conduit {
    /// The conduit that a device tree's `method` names.
    pub fn from_method(method: &str) -> Option<Self> {
        match method {
            "smc" => Some(Self::Smc),
            "hvc" => Some(Self::Hvc),
            _ => None,
        }
    }
}

/// State of a CPU as the firmware sees it (AFFINITY_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityState {
    /// The CPU runs.
    On,
    /// The CPU is off.
    Off,
    /// CPU_ON was called and the CPU is not there yet.
    OnPending,
}

#[allow(
    dead_code,
    reason = "the calls are made on arm64 alone; the numbers are tested everywhere"
)]
mod function {
    pub(super) const VERSION: u32 = 0x8400_0000;
    pub(super) const CPU_OFF: u32 = 0x8400_0002;
    pub(super) const CPU_ON: u32 = 0xc400_0003;
    pub(super) const AFFINITY_INFO: u32 = 0xc400_0004;
    pub(super) const SYSTEM_OFF: u32 = 0x8400_0008;
    pub(super) const SYSTEM_RESET: u32 = 0x8400_0009;
}

/// A handle to the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    conduit: Conduit,
}

/// Turns a PSCI return code (section 5.2.2) into a result; codes from 0 up are values.
#[allow(dead_code, reason = "used on arm64 alone; tested everywhere")]
fn check(code: i32) -> Result<u32> {
    Err(match code {
        0.. => return Ok(code as u32),
        -1 => Error::NoSys,      // NOT_SUPPORTED
        -2 | -9 => Error::Inval, // INVALID_PARAMETERS, INVALID_ADDRESS
        -3 => Error::Perm,       // DENIED
        -4 => Error::Exist,      // ALREADY_ON
        -5 => Error::Busy,       // ON_PENDING
        -7 => Error::NoDev,      // NOT_PRESENT
        -8 => Error::OpNotSupp,  // DISABLED
        _ => Error::Io,          // INTERNAL_FAILURE and what is not known
    })
}

impl Psci {
    /// The firmware behind `conduit`.
    pub const fn new(conduit: Conduit) -> Self {
        Self { conduit }
    }

    /// The conduit.
    pub const fn conduit(&self) -> Conduit {
        self.conduit
    }
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "SMC and HVC")]
mod calls {
    use super::*;
    use core::arch::asm;
    use xen_core::HostPhysAddr;

    impl Psci {
        fn call(&self, function: u32, a1: u64, a2: u64, a3: u64) -> i32 {
            let result: u64;
            // SAFETY: the calls made here follow the SMC calling convention (DEN 0028): x0 to x17 may change and
            // nothing else does. CPU_ON's entry point is vouched for by the caller of `cpu_on`.
            unsafe {
                match self.conduit {
                    Conduit::Smc => asm!("smc #0",
                        inout("x0") u64::from(function) => result, inout("x1") a1 => _, inout("x2") a2 => _,
                        inout("x3") a3 => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
                        out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
                        out("x15") _, out("x16") _, out("x17") _, options(nostack)),
                    Conduit::Hvc => asm!("hvc #0",
                        inout("x0") u64::from(function) => result, inout("x1") a1 => _, inout("x2") a2 => _,
                        inout("x3") a3 => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
                        out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
                        out("x15") _, out("x16") _, out("x17") _, options(nostack)),
                }
            }
            result as i32
        }

        /// Makes a call of the SMC calling convention that takes one argument and changes nothing of the
        /// hypervisor's: asking for features, mitigating speculation.
        pub fn smccc(&self, function: u32, argument: u64) -> i32 {
            self.call(function, argument, 0, 0)
        }

        /// Version of the interface: major and minor number.
        ///
        /// # Errors
        /// As the firmware answers; [`Error::NoSys`] for PSCI 0.1.
        pub fn version(&self) -> Result<(u16, u16)> {
            let v = check(self.call(function::VERSION, 0, 0, 0))?;
            Ok(((v >> 16) as u16, v as u16))
        }

        /// Starts the CPU with affinity `mpidr` at `entry` with the MMU off and `context` in x0.
        ///
        /// # Safety
        /// `entry` must be code that copes with a CPU in that state, and `context` what it expects.
        ///
        /// # Errors
        /// As the firmware answers: [`Error::Exist`] if it runs, [`Error::Busy`] if it is about to,
        /// [`Error::Inval`] for CPUs and addresses that are not there.
        pub unsafe fn cpu_on(&self, mpidr: u64, entry: HostPhysAddr, context: u64) -> Result<()> {
            check(self.call(function::CPU_ON, mpidr, entry.0, context)).map(drop)
        }

        /// Switches this CPU off. Returns only if the firmware refuses.
        pub fn cpu_off(&self) -> Error {
            check(self.call(function::CPU_OFF, 0, 0, 0))
                .err()
                .unwrap_or(Error::Io)
        }

        /// State of the CPU with affinity `mpidr`.
        ///
        /// # Errors
        /// As the firmware answers.
        pub fn affinity_info(&self, mpidr: u64) -> Result<AffinityState> {
            match check(self.call(function::AFFINITY_INFO, mpidr, 0, 0))? {
                0 => Ok(AffinityState::On),
                1 => Ok(AffinityState::Off),
                2 => Ok(AffinityState::OnPending),
                _ => Err(Error::Io),
            }
        }

        /// Switches the machine off. Returns only if the firmware refuses.
        pub fn system_off(&self) -> Error {
            check(self.call(function::SYSTEM_OFF, 0, 0, 0))
                .err()
                .unwrap_or(Error::Io)
        }

        /// Restarts the machine. Returns only if the firmware refuses.
        pub fn system_reset(&self) -> Error {
            check(self.call(function::SYSTEM_RESET, 0, 0, 0))
                .err()
                .unwrap_or(Error::Io)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_errors() {
        assert_eq!(check(0), Ok(0));
        assert_eq!(check(0x1_0001), Ok(0x1_0001));
        assert_eq!(check(-1), Err(Error::NoSys));
        assert_eq!(check(-4), Err(Error::Exist));
        assert_eq!(check(i32::MIN), Err(Error::Io));
    }

    #[test]
    fn numbers_are_those_of_the_standard() {
        // Fast calls (bit 31) of the standard secure service (owner 4); 64-bit ones have bit 30.
        for f in [
            function::VERSION,
            function::CPU_OFF,
            function::SYSTEM_OFF,
            function::SYSTEM_RESET,
        ] {
            assert_eq!(f >> 24, 0x84);
        }
        for f in [function::CPU_ON, function::AFFINITY_INFO] {
            assert_eq!(f >> 24, 0xc4);
        }
    }

    #[test]
    fn conduits() {
        assert_eq!(Conduit::from_method("smc"), Some(Conduit::Smc));
        assert_eq!(Conduit::from_method("hvc"), Some(Conduit::Hvc));
        assert_eq!(Conduit::from_method(""), None);
    }
}
