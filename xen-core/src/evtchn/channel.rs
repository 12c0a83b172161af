//! One end of an event channel.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use spin::Mutex;
use xen_abi::event_channel::{EvtchnState, FIFO_PRIORITY_DEFAULT};

use crate::{Arch, Domain, DomainId, Port, VcpuId};

/// What a port is used for.
pub(super) enum State<A: Arch> {
    /// Nothing.
    Free,
    /// Nothing, for ever: port 0.
    Reserved,
    /// It waits for this domain to connect.
    Unbound(DomainId),
    /// It is connected to a port of this domain, whose channel leads back here.
    Interdomain(Arc<Domain<A>>, Port),
    /// It delivers a virtual interrupt of a vCPU; of a global one, vCPU 0 stands for the domain.
    Virq(u32, VcpuId),
    /// It carries interrupts between vCPUs.
    Ipi,
    /// It delivers a physical interrupt.
    Pirq(u32),
}

/// One port's channel. It exists from the first use of its chunk to the end of the domain's structure.
pub(super) struct Channel<A: Arch> {
    /// Held by who sends through this end for as long as the event is being delivered: a changed state tells
    /// that no delivery by the former one is going on any more.
    pub(super) state: Mutex<State<A>>,
    /// The vCPU to notify.
    notify: AtomicU32,
    /// Its FIFO priority.
    priority: AtomicU8,
    /// Became pending while there was no FIFO event word for it.
    pub(super) early: AtomicBool,
    /// The FIFO queue it was linked into last, by index. Held while linking.
    pub(super) queue: Mutex<u32>,
}

impl<A: Arch> Channel<A> {
    pub(super) const fn new(state: State<A>) -> Self {
        Self {
            state: Mutex::new(state),
            notify: AtomicU32::new(0),
            priority: AtomicU8::new(FIFO_PRIORITY_DEFAULT as u8),
            early: AtomicBool::new(false),
            queue: Mutex::new(0),
        }
    }

    /// Gives it another state; the former one is dropped by the caller once it holds no lock.
    #[must_use = "drop it without locks: it may hold the last reference to a domain"]
    pub(super) fn replace(&self, state: State<A>) -> State<A> {
        core::mem::replace(&mut *self.state.lock(), state)
    }

    /// The vCPU it notifies.
    pub(super) fn notify(&self) -> VcpuId {
        VcpuId(self.notify.load(Ordering::Relaxed))
    }

    pub(super) fn set_notify(&self, vcpu: VcpuId) {
        self.notify.store(vcpu.0, Ordering::Relaxed);
    }

    /// Its FIFO priority, 0 to 15.
    pub(super) fn priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed).into()
    }

    pub(super) fn set_priority(&self, priority: u8) {
        self.priority.store(priority, Ordering::Relaxed);
    }
}

/// What a port is used for, as its domain may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing.
    Closed,
    /// It waits for this domain to connect.
    Unbound(DomainId),
    /// It is connected to a port of this domain.
    Interdomain(DomainId, Port),
    /// It delivers this physical interrupt.
    Pirq(u32),
    /// It delivers this virtual interrupt.
    Virq(u32),
    /// It carries interrupts between vCPUs.
    Ipi,
}

/// What `EVTCHNOP_status` tells of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is used for.
    pub used_for: Use,
    /// The vCPU it notifies.
    pub vcpu: VcpuId,
}

impl Use {
    /// The number that stands for it in `evtchn_status`.
    pub const fn code(self) -> EvtchnState {
        match self {
            Self::Closed => EvtchnState::CLOSED,
            Self::Unbound(_) => EvtchnState::UNBOUND,
            Self::Interdomain(..) => EvtchnState::INTERDOMAIN,
            Self::Pirq(_) => EvtchnState::PIRQ,
            Self::Virq(_) => EvtchnState::VIRQ,
            Self::Ipi => EvtchnState::IPI,
        }
    }
}

impl<A: Arch> From<&State<A>> for Use {
    fn from(state: &State<A>) -> Self {
        match state {
            State::Free | State::Reserved => Self::Closed,
            State::Unbound(remote) => Self::Unbound(*remote),
            State::Interdomain(remote, port) => Self::Interdomain(remote.id(), *port),
            State::Virq(virq, _) => Self::Virq(*virq),
            State::Ipi => Self::Ipi,
            State::Pirq(pirq) => Self::Pirq(*pirq),
        }
    }
}
