//! What domains are and do.

use xen_abi::domctl::{
    DomainCapabilities, DomainInfo, DomainInfoFlags, DomainState, DomainStateFlags,
    INVALID_MAX_VCPU_ID,
};
use xen_abi::xen::Virq;
use xen_core::vcpu::Wait;
use xen_core::{Arch, Domain, DomainId, Dying, Error, Hypervisor, Result, evtchn};

use super::Request;
use crate::call::{Call, DONE, Outcome};

/// The CPU pool that all domains are in.
pub(super) const POOL: u32 = 0;
/// Guest frame of the shared info page: it has none until the guest maps it, and may have several.
const NO_FRAME: u64 = u64::MAX;

/// `XEN_DOMCTL_getdomaininfo`.
pub(super) fn domain_info<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    let info = snapshot(call.hv, request.target()?);
    request.encode(&info);
    DONE
}

/// What a domain is and does now, as toolstacks are told it.
pub(crate) fn snapshot<A: Arch>(hv: &Hypervisor<A>, domain: &Domain<A>) -> DomainInfo {
    let now = hv.arch.now();
    let mut max_vcpu_id = INVALID_MAX_VCPU_ID;
    let (mut online, mut cpu_time) = (0, 0u64);
    let (mut blocked, mut running) = (true, false);
    for vcpu in domain.vcpus() {
        max_vcpu_id = vcpu.id.0;
        cpu_time = cpu_time.saturating_add(vcpu.cpu_time(now));
        if vcpu.is_up() {
            online += 1;
            blocked &= vcpu.waits().contains(Wait::BLOCKED);
            running |= vcpu.cpu().is_some();
        }
    }
    // Domains are hardware-virtualised, with second-level page tables: there are no others here.
    let mut flags = DomainInfoFlags::HVM_GUEST | DomainInfoFlags::HAP;
    flags.set(DomainInfoFlags::BLOCKED, online > 0 && blocked);
    flags.set(DomainInfoFlags::RUNNING, running);
    flags.set(DomainInfoFlags::DYING, domain.dying() != Dying::Alive);
    flags.set(DomainInfoFlags::PAUSED, domain.control.is_paused());
    flags.set(DomainInfoFlags::DEBUGGED, domain.control.is_debugged());
    flags.set(DomainInfoFlags::XS_DOMAIN, domain.config.xenstore);
    if let Some(reason) = domain.shut_down() {
        flags = flags.with_shutdown(reason);
    }
    DomainInfo {
        domain: domain.id().0,
        flags,
        tot_pages: domain.pages(),
        max_pages: domain.max_pages(),
        outstanding_pages: domain.claim.pages(),
        shr_pages: 0,
        paged_pages: 0,
        shared_info_frame: NO_FRAME,
        cpu_time,
        nr_online_vcpus: online,
        max_vcpu_id,
        ssidref: 0,
        handle: domain.control.handle(),
        cpupool: POOL,
        gpaddr_bits: A::address_bits(domain),
        arch_config: A::arch_config(domain),
    }
}

/// `XEN_DOMCTL_get_domain_state`: of one domain or, without one, of one that changed; that is for whoever handles
/// `VIRQ_DOM_EXC`.
///
/// Errors: [`Error::Access`] for another; [`Error::NoEnt`] if none has changed.
pub(super) fn domain_state<A: Arch>(
    call: &mut Call<'_, A>,
    request: &mut Request<A>,
) -> Result<Outcome> {
    // All fields are results, but the padding must be zero.
    let mut told: DomainState = request.decode()?;
    told.state = DomainStateFlags::empty();
    told.caps = DomainCapabilities::empty();
    told.unique_id = 0;
    if let Ok(domain) = request.target() {
        describe(domain, &mut told);
    } else {
        if !evtchn::handles_virq(call.hv, Virq::DOM_EXC.0, call.domain()) {
            return Err(Error::Access);
        }
        let DomainId(id) = call.hv.domains.take_changed().ok_or(Error::NoEnt)?;
        if let Some(domain) = call.hv.domains.get(DomainId(id)) {
            describe(&domain, &mut told);
        }
        request.domain = id;
    }
    request.encode(&told);
    DONE
}

fn describe<A: Arch>(domain: &Domain<A>, told: &mut DomainState) {
    told.state = DomainStateFlags::EXIST;
    let dying = domain.dying();
    told.state
        .set(DomainStateFlags::SHUTDOWN, domain.shut_down().is_some());
    told.state
        .set(DomainStateFlags::DYING, dying == Dying::Dying);
    told.state.set(DomainStateFlags::DEAD, dying == Dying::Dead);
    let config = &domain.config;
    told.caps
        .set(DomainCapabilities::CONTROL, config.privileged);
    told.caps.set(DomainCapabilities::HARDWARE, config.hardware);
    told.caps.set(DomainCapabilities::XENSTORE, config.xenstore);
    told.unique_id = domain.control.unique;
}
