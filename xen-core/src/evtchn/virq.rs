//! Virtual interrupts: events that the hypervisor itself raises.

use core::sync::atomic::Ordering;

use xen_abi::xen::Virq;

use super::EventChannels;
use super::channel::State;
use crate::{Arch, Domain, DomainId, Error, Hypervisor, Port, Result, Vcpu, VcpuId};

/// Number of VIRQs (`NR_VIRQS` of public header `xen.h`).
pub(super) const NR_VIRQS: usize = 24;

/// How far a VIRQ reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Each vCPU has its own.
    Vcpu,
    /// There is one in the machine.
    Global,
}

/// How far a VIRQ reaches; `None` for a number that stands for none.
pub(super) fn scope(virq: u32) -> Option<Scope> {
    match Virq(virq) {
        // The first of the architecture's own is the machine check on x86 and unused on Arm.
        Virq::ARCH_0 => Some(Scope::Global),
        v if v.is_global() => Some(Scope::Global),
        Virq::TIMER | Virq::DEBUG | Virq::XENPMU => Some(Scope::Vcpu),
        Virq(17..=23) => Some(Scope::Vcpu),
        _ => None,
    }
}

/// Raises a VIRQ of a vCPU's own, if it is bound.
pub fn raise_virq<A: Arch>(hv: &Hypervisor<A>, vcpu: &Vcpu<A>, virq: u32) {
    let domain = &vcpu.domain;
    domain.evtchn.raise_bound(hv, domain, vcpu.id, virq);
}

/// Raises a global VIRQ in the domain that handles it: domain 0, unless [`set_virq_handler`] said otherwise. Nothing
/// happens if that domain did not bind it.
pub fn raise_global_virq<A: Arch>(hv: &Hypervisor<A>, virq: u32) {
    let Some(dom0) = hv.domains.get(DomainId::DOM0) else {
        return;
    };
    let handler = dom0
        .evtchn
        .handlers
        .get(virq as usize)
        .map_or(0, |h| h.load(Ordering::Acquire));
    let domain = match handler.checked_sub(1) {
        None => Some(dom0),
        Some(id) => hv.domains.get(DomainId(id as u16)),
    };
    if let Some(domain) = domain {
        domain.evtchn.raise_bound(hv, &domain, VcpuId(0), virq);
    }
}

/// Makes `domain` the one that handles a global VIRQ, until it ends; then it is domain 0 again.
///
/// Errors: [`Error::Inval`] for a VIRQ that is not global or a dying domain; [`Error::Srch`] without domain 0.
pub fn set_virq_handler<A: Arch>(hv: &Hypervisor<A>, virq: u32, domain: &Domain<A>) -> Result<()> {
    if scope(virq) != Some(Scope::Global) {
        return Err(Error::Inval);
    }
    let dom0 = hv.domains.get(DomainId::DOM0).ok_or(Error::Srch)?;
    let handler = dom0
        .evtchn
        .handlers
        .get(virq as usize)
        .ok_or(Error::Inval)?;
    // Under the lock, a dying domain has either closed its ports or will take itself out.
    let ports = domain.evtchn.ports.lock();
    if ports.closed {
        return Err(Error::Inval);
    }
    let value = if domain.id() == DomainId::DOM0 {
        0
    } else {
        u32::from(domain.id().0) + 1
    };
    handler.store(value, Ordering::Release);
    Ok(())
}

/// Whether `domain` is the one that a global VIRQ is raised in, and has bound it.
pub fn handles_virq<A: Arch>(hv: &Hypervisor<A>, virq: u32, domain: &Domain<A>) -> bool {
    let Some(dom0) = hv.domains.get(DomainId::DOM0) else {
        return false;
    };
    let handler = dom0.evtchn.handlers.get(virq as usize);
    let handler = match handler.map_or(0, |h| h.load(Ordering::Acquire)) {
        0 => DomainId::DOM0,
        id => DomainId((id - 1) as u16),
    };
    let bound = domain.evtchn.virq_slot(VcpuId(0), virq);
    handler == domain.id() && bound.is_some_and(|port| port.load(Ordering::Acquire) != 0)
}

impl<A: Arch> EventChannels<A> {
    /// Where the port of a VIRQ is noted.
    pub(super) fn virq_slot(
        &self,
        vcpu: VcpuId,
        virq: u32,
    ) -> Option<&core::sync::atomic::AtomicU32> {
        self.virqs.get(vcpu.0 as usize)?.get(virq as usize)
    }

    fn raise_bound(&self, hv: &Hypervisor<A>, domain: &Domain<A>, vcpu: VcpuId, virq: u32) {
        let port = self
            .virq_slot(vcpu, virq)
            .map_or(0, |slot| slot.load(Ordering::Acquire));
        if port == 0 {
            return;
        }
        let Some(channel) = self.channel(Port(port)) else {
            return;
        };
        let state = channel.state.lock();
        // The port may have been closed, and bound to something else, since the slot was read.
        if let State::Virq(bound, to) = &*state
            && (*bound, *to) == (virq, vcpu)
        {
            self.set_pending(hv, domain, Port(port), channel);
        }
    }

    /// Raises the event of a physical interrupt of `domain`; false if it is not bound.
    pub fn raise_pirq(&self, hv: &Hypervisor<A>, domain: &Domain<A>, pirq: u32) -> bool {
        let Some(port) = self.ports.lock().pirqs.get(&pirq).copied() else {
            return false;
        };
        let Some(channel) = self.channel(port) else {
            return false;
        };
        let state = channel.state.lock();
        let bound = matches!(&*state, State::Pirq(bound) if *bound == pirq);
        if bound {
            self.set_pending(hv, domain, port, channel);
        }
        bound
    }

    /// Gives the global VIRQs that this dying domain handled back to domain 0.
    pub(super) fn give_back_virqs(hv: &Hypervisor<A>, domain: &Domain<A>) {
        if let Some(dom0) = hv.domains.get(DomainId::DOM0) {
            let value = u32::from(domain.id().0) + 1;
            for handler in &dom0.evtchn.handlers {
                let _ = handler.compare_exchange(value, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}
