//! The place of the virtual local APIC: what the machine asks of it.
//!
//! There is none yet. Guests are told so (their CPUID has no APIC), its page is empty, and its MSRs do not exist.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use xen_core::{GuestPhysAddr, Hypervisor, Vcpu};

use super::X86;
use crate::backend::HvmBackend;
use crate::emulate::Exception;
use crate::policy::cpuid::Capabilities;
use crate::policy::xen_leaves::HvmFeatures;

/// What it can, for CPUID.
pub(super) const CAPABILITIES: Capabilities = Capabilities::empty();
/// What of Xen's features hangs on it.
pub(super) const FEATURES: HvmFeatures = HvmFeatures::empty();
/// APIC_BASE after reset, but for the bit of the boot CPU.
const BASE_RESET: u64 = 0xfee0_0000;

/// A vCPU's local APIC.
#[derive(Debug)]
pub(super) struct Lapic {
    base: AtomicU64,
}

impl Lapic {
    pub(super) const fn new() -> Self {
        Self {
            base: AtomicU64::new(BASE_RESET),
        }
    }

    /// APIC_BASE.
    pub(super) fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    /// Whether it is switched on in APIC_BASE.
    pub(super) fn is_enabled(&self) -> bool {
        self.base() >> 11 & 1 != 0
    }

    /// The interrupt that it would deliver now.
    pub(super) const fn pending(&self) -> Option<u8> {
        None
    }

    /// The CPU takes the interrupt.
    pub(super) const fn acknowledge(&self, _vector: u8) {}

    /// The guest wrote to CR8, or a state was loaded.
    pub(super) const fn set_task_priority(&self, _priority: u8) {}

    /// After INIT.
    pub(super) fn reset(&self) {
        self.base.store(BASE_RESET, Ordering::Relaxed);
    }
}

/// Whether its registers are at an address.
pub(super) const fn covers(_lapic: &Lapic, _address: GuestPhysAddr) -> bool {
    false
}

/// RDMSR of an x2APIC register.
///
/// Errors: #GP(0).
pub(super) const fn read_msr<B: HvmBackend>(
    _hv: &Hypervisor<X86<B>>,
    _vcpu: &Arc<Vcpu<X86<B>>>,
    _register: u8,
) -> Result<u64, Exception> {
    Err(Exception::GP0)
}

/// WRMSR of an x2APIC register.
///
/// Errors: #GP(0).
pub(super) const fn write_msr<B: HvmBackend>(
    _hv: &Hypervisor<X86<B>>,
    _vcpu: &Arc<Vcpu<X86<B>>>,
    _register: u8,
    _value: u64,
) -> Result<(), Exception> {
    Err(Exception::GP0)
}

/// Its timer has fired.
pub(super) const fn timer_fired<B: HvmBackend>(
    _hv: &Hypervisor<X86<B>>,
    _vcpu: &Arc<Vcpu<X86<B>>>,
    _timer: u32,
) {
}

/// The vCPU ends.
pub(super) const fn retire<B: HvmBackend>(_hv: &Hypervisor<X86<B>>, _vcpu: &Vcpu<X86<B>>) {}

/// Sends a message to a domain's local APICs, from any CPU. True if one has accepted it.
pub(super) const fn send<B: HvmBackend>(
    _hv: &Hypervisor<X86<B>>,
    _domain: &xen_core::Domain<X86<B>>,
    _message: &crate::platform::message::Message,
) -> bool {
    false
}
