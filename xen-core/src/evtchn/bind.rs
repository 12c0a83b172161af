//! Binding ports to what sends through them.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::event_channel::{FIFO_PRIORITY_DEFAULT, FIFO_PRIORITY_MIN};

use super::EventChannels;
use super::channel::{Channel, State};
use super::ports::{Ports, lock_pair};
use super::virq::{Scope, scope};
use crate::{Arch, Domain, DomainId, Error, Hypervisor, Port, Result, VcpuId};

impl<A: Arch> EventChannels<A> {
    /// Finds a free port and makes its channel; nothing is taken yet.
    ///
    /// Errors: [`Error::NoSpc`] without one; [`Error::Inval`] for a dying domain; [`Error::NoMem`].
    fn find_port(&self, ports: &mut Ports) -> Result<(Port, &Channel<A>)> {
        if ports.closed {
            return Err(Error::Inval);
        }
        let limit = self.limit();
        // A port whose word still is in a queue would be announced at once, or by the wrong queue.
        let port = {
            let delivery = self.delivery.read();
            ports.find_free(|port| {
                port.0 >= limit || delivery.fifo.as_ref().is_none_or(|f| !f.is_linked(port))
            })
        };
        let port = port.filter(|p| p.0 < limit).ok_or(Error::NoSpc)?;
        Ok((port, self.make_channel(port)?))
    }

    /// Takes a port that [`EventChannels::find_port`] found.
    fn occupy(
        &self,
        ports: &mut Ports,
        port: Port,
        channel: &Channel<A>,
        state: State<A>,
        vcpu: VcpuId,
    ) {
        ports.take(port);
        channel.set_notify(vcpu);
        channel.set_priority(FIFO_PRIORITY_DEFAULT as u8);
        channel.early.store(false, Ordering::Relaxed);
        // A free channel's state holds nothing that could need locks when it is dropped.
        drop(channel.replace(state));
    }

    /// Makes the vCPU one that ports may notify.
    ///
    /// Errors: [`Error::NoEnt`] if it does not exist; [`Error::Inval`] for a dying domain.
    fn notifiable(&self, domain: &Domain<A>, vcpu: VcpuId) -> Result<()> {
        let vcpu = domain.vcpu(vcpu).ok_or(Error::NoEnt)?;
        self.attach_vcpu(&vcpu)
    }

    /// Allocates a port to which `remote` may connect.
    ///
    /// Errors: [`Error::NoSpc`] without a free port; [`Error::Inval`] for a dying domain; [`Error::NoMem`].
    pub fn alloc_unbound(&self, remote: DomainId) -> Result<Port> {
        let mut ports = self.ports.lock();
        let (port, channel) = self.find_port(&mut ports)?;
        self.occupy(&mut ports, port, channel, State::Unbound(remote), VcpuId(0));
        Ok(port)
    }

    /// Connects a new port of `domain`, whose channels these are, to a port of `remote` (which may be the same
    /// domain) that waits for it. The new port is pending at once: what was sent before has been lost.
    ///
    /// Errors: [`Error::Inval`] if the remote port does not wait for this domain, or one of them is dying;
    /// [`Error::NoSpc`] without a free port; [`Error::NoMem`].
    pub fn bind_interdomain(
        &self,
        hv: &Hypervisor<A>,
        domain: &Arc<Domain<A>>,
        remote: &Arc<Domain<A>>,
        remote_port: Port,
    ) -> Result<Port> {
        let theirs = &remote.evtchn;
        let (mut ports, other) = lock_pair(&self.ports, Some(&theirs.ports));
        if other.as_ref().is_some_and(|o| o.closed) {
            return Err(Error::Inval);
        }
        let far = theirs.channel(remote_port).ok_or(Error::Inval)?;
        if !matches!(&*far.state.lock(), State::Unbound(waits_for) if *waits_for == domain.id()) {
            return Err(Error::Inval);
        }
        let (port, near) = self.find_port(&mut ports)?;
        self.occupy(
            &mut ports,
            port,
            near,
            State::Interdomain(remote.clone(), remote_port),
            VcpuId(0),
        );
        drop(far.replace(State::Interdomain(domain.clone(), port)));
        self.set_pending(hv, domain, port, near);
        Ok(port)
    }

    /// Binds a VIRQ of a vCPU of `domain`, whose channels these are, to a new port, which notifies that vCPU.
    ///
    /// Errors: [`Error::Inval`] for an unknown VIRQ, a global one and another vCPU than 0, or a dying domain;
    /// [`Error::NoEnt`] for a vCPU that does not exist; [`Error::Exist`] if it is bound; [`Error::NoSpc`] without
    /// a free port; [`Error::NoMem`].
    pub fn bind_virq(&self, domain: &Domain<A>, virq: u32, vcpu: VcpuId) -> Result<Port> {
        if scope(virq).ok_or(Error::Inval)? == Scope::Global && vcpu != VcpuId(0) {
            return Err(Error::Inval);
        }
        self.notifiable(domain, vcpu)?;
        let slot = self.virq_slot(vcpu, virq).ok_or(Error::NoEnt)?;
        let mut ports = self.ports.lock();
        if slot.load(Ordering::Relaxed) != 0 {
            return Err(Error::Exist);
        }
        let (port, channel) = self.find_port(&mut ports)?;
        self.occupy(&mut ports, port, channel, State::Virq(virq, vcpu), vcpu);
        slot.store(port.0, Ordering::Release);
        Ok(port)
    }

    /// Allocates a port through which vCPUs of `domain`, whose channels these are, notify `vcpu`.
    ///
    /// Errors: [`Error::NoEnt`] for a vCPU that does not exist; [`Error::NoSpc`] without a free port;
    /// [`Error::Inval`] for a dying domain; [`Error::NoMem`].
    pub fn bind_ipi(&self, domain: &Domain<A>, vcpu: VcpuId) -> Result<Port> {
        self.notifiable(domain, vcpu)?;
        let mut ports = self.ports.lock();
        let (port, channel) = self.find_port(&mut ports)?;
        self.occupy(&mut ports, port, channel, State::Ipi, vcpu);
        Ok(port)
    }

    /// Binds a physical interrupt of `domain`, whose channels these are, to a new port; `share` if others may
    /// bind it too.
    ///
    /// Errors: [`Error::Exist`] if it is bound; what [`Arch::bind_pirq`] says; [`Error::NoSpc`] without a free
    /// port; [`Error::Inval`] for a dying domain; [`Error::NoMem`].
    pub fn bind_pirq(
        &self,
        hv: &Hypervisor<A>,
        domain: &Domain<A>,
        pirq: u32,
        share: bool,
    ) -> Result<Port> {
        let mut ports = self.ports.lock();
        if ports.pirqs.contains_key(&pirq) {
            return Err(Error::Exist);
        }
        let (port, channel) = self.find_port(&mut ports)?;
        // All that can fail else has been done: what the architecture bound needs no undoing.
        hv.arch.bind_pirq(domain, pirq, share)?;
        self.occupy(&mut ports, port, channel, State::Pirq(pirq), VcpuId(0));
        ports.pirqs.insert(pirq, port);
        Ok(port)
    }

    /// Chooses which vCPU of `domain`, whose channels these are, a port notifies.
    ///
    /// Errors: [`Error::NoEnt`] for a vCPU that does not exist; [`Error::Inval`] for a port that is not in use
    /// or belongs to one vCPU.
    pub fn bind_vcpu(&self, domain: &Domain<A>, port: Port, vcpu: VcpuId) -> Result<()> {
        self.notifiable(domain, vcpu)?;
        let _ports = self.ports.lock();
        let channel = self.channel(port).ok_or(Error::Inval)?;
        match &*channel.state.lock() {
            State::Unbound(_) | State::Interdomain(..) | State::Pirq(_) => {}
            State::Virq(virq, _) if scope(*virq) == Some(Scope::Global) => {}
            State::Free | State::Reserved | State::Virq(..) | State::Ipi => {
                return Err(Error::Inval);
            }
        }
        channel.set_notify(vcpu);
        Ok(())
    }

    /// Sets the priority, from 0 (first) to 15, that a port has in queues it is linked into from now on.
    ///
    /// Errors: [`Error::NoSys`] while events are not delivered by FIFO; [`Error::Inval`] for a port that does not
    /// exist or a priority out of range.
    pub fn set_priority(&self, port: Port, priority: u32) -> Result<()> {
        let _ports = self.ports.lock();
        let channel = self.channel(port).ok_or(Error::Inval)?;
        if self.delivery.read().fifo.is_none() {
            return Err(Error::NoSys);
        }
        if priority > FIFO_PRIORITY_MIN {
            return Err(Error::Inval);
        }
        channel.set_priority(priority as u8);
        Ok(())
    }
}
