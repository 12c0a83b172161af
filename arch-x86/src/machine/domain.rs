//! What is x86's of a domain.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU8, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;
use spin::{Once, RwLock};
use xen_abi::hvm_params::{HvmParam, NR_PARAMS};
use xen_core::{DomainConfig, Error, Result};

use super::hardware::Hardware;
use super::passthrough::Passthrough;
use super::tsc::Ratio;
use crate::host::clock;
use crate::platform::upcall::Callback;
use crate::policy::CpuidPolicy;

/// x86's part of a domain.
pub struct X86Domain {
    /// What its vCPUs see of the CPU.
    pub policy: CpuidPolicy,
    /// It reaches the machine's devices.
    hardware: bool,
    /// The vector that announces events on all vCPUs; 0 is none.
    callback: AtomicU8,
    /// Ports of the machine that its vCPUs reach without exits.
    ports: RwLock<Vec<RangeInclusive<u16>>>,
    /// How fast its time-stamp counters are, if not as the host's.
    tsc: Once<Tsc>,
    passthrough: Option<Box<Passthrough>>,
}

/// How fast a domain's time-stamp counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsc {
    /// In Hz.
    pub hz: u64,
    /// What the host's is multiplied with for that ([`super::X86::tsc_ratio`]).
    pub ratio: Ratio,
}

impl X86Domain {
    /// `hardware`: what the domain that owns the machine's devices drives through Oxen.
    ///
    /// Errors: [`Error::Inval`] for hardware that cannot be so; [`Error::NoMem`].
    pub(super) fn new(
        config: &DomainConfig,
        policy: &CpuidPolicy,
        hardware: Option<&Hardware>,
    ) -> Result<Self> {
        let ports = hardware.map(|hardware| hardware.ports.direct());
        let passthrough = hardware.map(|hardware| Passthrough::new(hardware).map(Box::new));
        Ok(Self {
            policy: policy.clone(),
            hardware: config.hardware,
            callback: AtomicU8::new(0),
            ports: RwLock::new(ports.unwrap_or_default()),
            tsc: Once::new(),
            passthrough: passthrough.transpose()?,
        })
    }

    /// What is between the domain and the machine's devices, for the one that owns them.
    pub(super) fn passthrough(&self) -> Option<&Passthrough> {
        self.passthrough.as_deref()
    }

    /// How fast its time-stamp counters are: as the host's, unless [`Self::set_tsc`] said something else.
    pub fn tsc(&self) -> Tsc {
        self.tsc.get().copied().unwrap_or_else(|| Tsc {
            hz: clock::frequency(),
            ratio: Ratio::ONE,
        })
    }

    /// Sets how fast the time-stamp counters of vCPUs that are made from now on are; it counts once.
    pub fn set_tsc(&self, tsc: Tsc) {
        self.tsc.call_once(|| tsc);
    }

    /// The vector that announces events on all vCPUs.
    pub fn callback(&self) -> Option<u8> {
        match self.callback.load(Ordering::Relaxed) {
            0 => None,
            vector => Some(vector),
        }
    }

    /// Sets how events are announced (`HVM_PARAM_CALLBACK_IRQ`).
    ///
    /// Kernels whose vCPUs have vectors of their own name a line all the same, for toolstacks to see.
    ///
    /// Errors: [`Error::Inval`] for a way that does not exist.
    pub(super) fn set_callback(&self, value: u64) -> Result<()> {
        let vector = match Callback::decode(value)? {
            Callback::Vector(vector) => vector,
            // There is no line to raise: I/O APICs serve the machine's devices.
            Callback::None | Callback::Gsi(_) | Callback::PciLine { .. } => 0,
        };
        self.callback.store(vector, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it reaches the machine's devices.
    pub const fn is_hardware(&self) -> bool {
        self.hardware
    }

    /// Lets vCPUs that are made from now on use ports of the machine directly.
    pub fn grant_ports(&self, ports: RangeInclusive<u16>) {
        self.ports.write().push(ports);
    }

    /// The ports that vCPUs use directly.
    pub(super) fn direct_ports(&self) -> Vec<RangeInclusive<u16>> {
        self.ports.read().clone()
    }

    /// Whether all of `size` ports from `port` on are the domain's.
    pub(super) fn may_use(&self, port: u16, size: u8) -> bool {
        let ports = self.ports.read();
        (0..u16::from(size)).all(|n| {
            port.checked_add(n)
                .is_some_and(|p| ports.iter().any(|range| range.contains(&p)))
        })
    }
}

/// Whether HVM parameter `index` may be set or read, by the domain itself (`own`) or by one that manages it.
///
/// Errors: [`Error::Inval`] for one that does not exist any more, or never did; [`Error::Perm`].
pub(super) fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
    match HvmParam(index) {
        HvmParam::PAE_ENABLED
        | HvmParam::DM_DOMAIN
        | HvmParam::MEMORY_EVENT_CR0
        | HvmParam::MEMORY_EVENT_CR3
        | HvmParam::MEMORY_EVENT_CR4
        | HvmParam::MEMORY_EVENT_INT3
        | HvmParam::NESTEDHVM
        | HvmParam::MEMORY_EVENT_SINGLE_STEP
        | HvmParam::BUFIOREQ_EVTCHN
        | HvmParam::MEMORY_EVENT_MSR => Err(Error::Inval),
        _ if index >= NR_PARAMS => Err(Error::Inval),
        HvmParam::ALTP2M if set => Err(Error::Exist),
        HvmParam::CALLBACK_IRQ
        | HvmParam::VM86_TSS
        | HvmParam::VM86_TSS_SIZED
        | HvmParam::ACPI_IOPORTS_LOCATION
        | HvmParam::VM_GENERATION_ID_ADDR
        | HvmParam::STORE_EVTCHN
        | HvmParam::CONSOLE_EVTCHN
        | HvmParam::X87_FIP_WIDTH => Ok(()),
        HvmParam::STORE_PFN | HvmParam::CONSOLE_PFN | HvmParam::ALTP2M if !set => Ok(()),
        _ if own => Err(Error::Perm),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{GuestKind, Leaves, Machine};
    use xen_abi::hvm_params::CallbackIrq;
    use xen_core::soft::Machine as Soft;

    fn domain() -> X86Domain {
        let policy = CpuidPolicy::new(&Leaves::default(), &Machine::default(), GuestKind::Hardware);
        X86Domain::new(&Soft::config(0), &policy, None).unwrap()
    }

    #[test]
    fn events_come_by_vector_or_not_at_all() {
        let domain = domain();
        assert_eq!(domain.callback(), None);
        assert_eq!(domain.set_callback(CallbackIrq::vector(0xf3).0), Ok(()));
        assert_eq!(domain.callback(), Some(0xf3));
        assert_eq!(domain.set_callback(9 << 56), Err(Error::Inval));
        assert_eq!(domain.callback(), Some(0xf3));
        // None, GSI 9, and a PCI line.
        for other in [0, 9, 1 << 56 | 3] {
            assert_eq!(domain.set_callback(CallbackIrq::vector(0xf3).0), Ok(()));
            assert_eq!(domain.set_callback(other), Ok(()));
            assert_eq!(domain.callback(), None);
        }
    }

    #[test]
    fn guests_reach_the_parameters_that_are_theirs() {
        let check = |index, own| {
            [
                check_param(index, own, true),
                check_param(index, own, false),
            ]
        };
        let (ok, perm, inval) = (Ok(()), Err(Error::Perm), Err(Error::Inval));
        for index in [0, 2, 15, 18, 19, 34, 36, 37] {
            assert_eq!(check(index, true), [ok, ok]);
        }
        for index in [1, 17] {
            assert_eq!(check(index, true), [perm, ok]);
            assert_eq!(check(index, false), [ok, ok]);
        }
        for index in [5, 9, 10, 12, 31, 38] {
            assert_eq!(check(index, true), [perm, perm]);
            assert_eq!(check(index, false), [ok, ok]);
        }
        for index in [4, 13, 20, 26, 30, 39, u32::MAX] {
            assert_eq!(check(index, true), [inval, inval]);
            assert_eq!(check(index, false), [inval, inval]);
        }
        assert_eq!(check(35, false), [Err(Error::Exist), ok]);
    }

    #[test]
    fn a_port_is_granted_as_a_whole() {
        let domain = domain();
        assert!(!domain.may_use(0x60, 1));
        domain.grant_ports(0x60..=0x60);
        domain.grant_ports(0x61..=0x62);
        domain.grant_ports(0xfffe..=0xffff);
        assert!(domain.may_use(0x60, 1) && domain.may_use(0x60, 2));
        assert!(!domain.may_use(0x60, 4) && !domain.may_use(0x5f, 2));
        assert!(domain.may_use(0xfffe, 2) && !domain.may_use(0xfffe, 4));
    }
}
