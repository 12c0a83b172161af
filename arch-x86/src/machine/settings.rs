//! What a toolstack changes of a domain, taken over by its vCPUs one by one.

use xen_core::Vcpu;

use super::tsc::Ratio;
use super::{X86, X86Context};
use crate::backend::HvmBackend;
use crate::policy::Feature;
use crate::policy::msr::number;

/// What a vCPU has taken over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Adopted {
    /// The number of the domain's last change that it knows of.
    change: u32,
    /// It reaches ports without exits.
    ports: bool,
}

/// Whether there is something to take over.
pub(super) fn is_stale<B: HvmBackend>(vcpu: &Vcpu<X86<B>>, context: &X86Context<B>) -> bool {
    vcpu.domain.arch.changes() != context.adopted.change
}

/// Takes over what counts from the next load on. The vCPU is loaded nowhere.
pub(super) fn before_load<B: HvmBackend>(
    backend: &B,
    vcpu: &Vcpu<X86<B>>,
    context: &mut X86Context<B>,
) {
    let tsc = vcpu.domain.arch.tsc();
    if let Some((fraction, _)) = backend.tsc_ratio() {
        // One that is emulated is never read by the guest itself.
        let ratio = match tsc.emulated {
            true => Ratio::ONE,
            false => tsc.ratio,
        };
        backend.set_tsc_ratio(&mut context.vcpu, ratio.in_form(fraction));
    }
}

/// Takes over the rest. The vCPU is loaded.
pub(super) fn adopt<B: HvmBackend>(backend: &B, vcpu: &Vcpu<X86<B>>, context: &mut X86Context<B>) {
    let domain = &vcpu.domain.arch;
    // First: what changes from here on is taken over the next time.
    let change = domain.changes();
    let control = &mut context.vcpu;
    backend.set_tsc_exits(control, domain.tsc().emulated);
    backend.set_tsc_offset(control, vcpu.arch.lapic.tsc_offset());
    let hidden = !domain.policy().has(Feature::Rdtscp);
    let exits = backend.set_msr_exits(control, number::TSC_AUX, hidden, true);
    debug_assert!(exits.is_ok());
    let ports = domain.direct_ports();
    if context.adopted.ports {
        backend.set_port_exits(control, 0..=u16::MAX, true);
    }
    context.adopted = Adopted {
        change,
        ports: !ports.is_empty(),
    };
    for range in ports {
        backend.set_port_exits(control, range, false);
    }
}
