//! What is x86's of a domain.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;
use spin::{Mutex, Once, RwLock};
use xen_abi::domctl::TscMode;
use xen_abi::hvm_params::{HvmParam, NR_PARAMS};
use xen_core::{DomainConfig, Error, Result, Time};

use super::hardware::Hardware;
use super::passthrough::Passthrough;
use super::tsc::Ratio;
use crate::host::clock;
use crate::platform::port_set::PortSet;
use crate::platform::upcall::Callback;
use crate::policy::CpuidPolicy;

/// x86's part of a domain.
pub struct X86Domain {
    /// What its vCPUs see of the CPU, from their first run on.
    policy: Once<CpuidPolicy>,
    /// What they will see, until then.
    draft: Mutex<CpuidPolicy>,
    /// It reaches the machine's devices.
    hardware: bool,
    /// The vector that announces events on all vCPUs; 0 is none.
    callback: AtomicU8,
    /// Ports of the machine that its vCPUs reach without exits.
    ports: RwLock<PortSet>,
    /// Its time-stamp counters, if not as the host's.
    tsc: RwLock<Option<Tsc>>,
    /// What is added to them in vCPUs that begin, once they are multiplied.
    tsc_base: AtomicU64,
    /// Counts changes that vCPUs have to take over, from 1 on.
    changes: AtomicU32,
    passthrough: Option<Box<Passthrough>>,
}

/// A domain's time-stamp counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsc {
    /// How fast they are, in Hz.
    pub hz: u64,
    /// What the host's is multiplied with for that.
    pub ratio: Ratio,
    /// Reading them exits: the hardware does not multiply so, or the toolstack wants it.
    pub emulated: bool,
    /// How the toolstack wants them.
    pub mode: TscMode,
    /// How often the domain was moved.
    pub incarnation: u32,
    /// When the guest's time was 0, as far as the toolstack knows, in nanoseconds of system time; modulo 2^64.
    pub started: Time,
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
        let mut ports = PortSet::default();
        for range in hardware.iter().flat_map(|hardware| hardware.ports.direct()) {
            ports.insert(range)?;
        }
        let passthrough = hardware.map(|hardware| Passthrough::new(hardware).map(Box::new));
        Ok(Self {
            policy: Once::new(),
            draft: Mutex::new(policy.clone()),
            hardware: config.hardware,
            callback: AtomicU8::new(0),
            ports: RwLock::new(ports),
            tsc: RwLock::new(None),
            tsc_base: AtomicU64::new(0),
            changes: AtomicU32::new(1),
            passthrough: passthrough.transpose()?,
        })
    }

    /// What is between the domain and the machine's devices, for the one that owns them.
    pub(super) fn passthrough(&self) -> Option<&Passthrough> {
        self.passthrough.as_deref()
    }

    /// What its vCPUs see of the CPU. From the first call on it cannot be changed: it is for vCPUs that run.
    pub fn policy(&self) -> &CpuidPolicy {
        self.policy.call_once(|| self.draft.lock().clone())
    }

    /// What its vCPUs see of the CPU, or will see unless it is changed.
    pub fn current_policy(&self) -> CpuidPolicy {
        match self.policy.get() {
            Some(policy) => policy.clone(),
            None => self.draft.lock().clone(),
        }
    }

    /// Changes what its vCPUs will see of the CPU.
    ///
    /// Errors: [`Error::Exist`] once one has run.
    pub(super) fn set_policy(&self, policy: CpuidPolicy) -> Result<()> {
        let mut draft = self.draft.lock();
        if self.policy.is_completed() {
            return Err(Error::Exist);
        }
        *draft = policy;
        Ok(())
    }

    /// Its time-stamp counters: as the host's, unless [`Self::set_tsc`] said something else.
    pub fn tsc(&self) -> Tsc {
        self.tsc.read().unwrap_or_else(|| Tsc {
            hz: clock::frequency(),
            ratio: Ratio::ONE,
            emulated: false,
            mode: TscMode::DEFAULT,
            incarnation: 0,
            started: Time(0),
        })
    }

    /// Sets its time-stamp counters; vCPUs take it over when they are next put on a CPU. None is on one.
    pub(super) fn set_tsc(&self, tsc: Tsc) {
        *self.tsc.write() = Some(tsc);
        self.note_change();
    }

    /// What is added to the time-stamp counter of a vCPU that begins.
    pub(super) fn tsc_base(&self) -> u64 {
        self.tsc_base.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub(super) fn set_tsc_base(&self, base: u64) {
        self.tsc_base.store(base, Ordering::Relaxed);
    }

    /// The number of the last change that vCPUs have to take over.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
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

    /// Lets vCPUs use ports of the machine directly, or no longer, from their next exit on.
    ///
    /// Errors: [`Error::NoMem`], with everything as before.
    pub(super) fn permit_ports(
        &self,
        range: core::ops::RangeInclusive<u16>,
        allow: bool,
    ) -> Result<()> {
        let mut ports = self.ports.write();
        match allow {
            true => ports.insert(range)?,
            false => ports.remove(range)?,
        }
        drop(ports);
        self.note_change();
        Ok(())
    }

    /// The ports that vCPUs use directly.
    pub(super) fn direct_ports(&self) -> Vec<core::ops::RangeInclusive<u16>> {
        self.ports.read().ranges().to_vec()
    }

    /// Whether all of `count` ports from `first` on are the domain's.
    pub(super) fn has_ports(&self, first: u16, count: u32) -> bool {
        self.ports.read().has_all(first, count)
    }

    /// Whether all of the ports of an access are the domain's.
    pub(super) fn may_use(&self, port: u16, size: u8) -> bool {
        self.has_ports(port, size.into())
    }
}

/// Whether HVM parameter `index` may be set or read, by the domain itself (`own`) or by one that manages it.
///
/// Errors: [`Error::Inval`] for one that does not exist any more, or never did; [`Error::Perm`].
pub(super) fn check_param(index: u32, own: bool, set: bool) -> Result<()> {
    match HvmParam(index) {
        // Toolstacks of 4.14 say here that a domain does not run guests itself; later ones when they make it.
        HvmParam::NESTEDHVM if set && !own => Ok(()),
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
        assert_eq!(check(24, true), [inval, inval]);
        assert_eq!(check(24, false), [ok, inval]);
        assert_eq!(check(35, true), [perm, ok]);
        assert_eq!(check(35, false), [ok, ok]);
    }

    #[test]
    fn a_policy_stays_from_the_first_run_on() {
        let domain = domain();
        let mut leaves = Leaves::default();
        (leaves.basic[0].eax, leaves.basic[1].eax) = (1, 0x00a2_0f10);
        let other = CpuidPolicy::new(&leaves, &Machine::default(), GuestKind::Ordinary);
        assert_ne!(domain.current_policy(), other);
        assert_eq!(domain.set_policy(other.clone()), Ok(()));
        assert_eq!(domain.current_policy(), other);
        assert_eq!(domain.policy(), &other);
        let third = CpuidPolicy::new(&Leaves::default(), &Machine::default(), GuestKind::Ordinary);
        assert_eq!(domain.set_policy(third), Err(Error::Exist));
        assert_eq!(domain.current_policy(), other);
    }

    #[test]
    fn a_port_is_granted_as_a_whole() {
        let domain = domain();
        assert!(!domain.may_use(0x60, 1));
        let before = domain.changes();
        for range in [0x60..=0x60, 0x61..=0x62, 0xfffe..=0xffff] {
            assert_eq!(domain.permit_ports(range, true), Ok(()));
        }
        assert_ne!(domain.changes(), before);
        assert!(domain.may_use(0x60, 1) && domain.may_use(0x60, 2));
        assert!(!domain.may_use(0x60, 4) && !domain.may_use(0x5f, 2));
        assert!(domain.may_use(0xfffe, 2) && !domain.may_use(0xfffe, 4));
        assert_eq!(domain.permit_ports(0x61..=0x61, false), Ok(()));
        assert!(!domain.may_use(0x60, 2) && domain.may_use(0x62, 1));
        assert_eq!(
            domain.direct_ports(),
            [0x60..=0x60, 0x62..=0x62, 0xfffe..=0xffff]
        );
    }
}
