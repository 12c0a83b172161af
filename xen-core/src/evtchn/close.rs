//! Closing ports: one, all, and all for ever.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering;

use super::EventChannels;
use super::channel::State;
use super::ports::lock_pair;
use crate::{Arch, Domain, Error, Hypervisor, Port, Result};

/// How often to look again at a port whose peer changed while the locks were taken.
const TRIES: usize = 8;
/// Ports closed between two looks for more urgent work.
const STRIDE: usize = 32;

impl<A: Arch> EventChannels<A> {
    /// Closes a port of `domain`, whose channels these are. A port that was connected to it waits for the domain
    /// again; an event that is pending is withdrawn.
    ///
    /// Errors: [`Error::Inval`] for a port that is not in use; [`Error::Restart`] if the domain's other vCPUs
    /// keep binding it to something else.
    pub fn close(&self, hv: &Hypervisor<A>, domain: &Domain<A>, port: Port) -> Result<()> {
        for _ in 0..TRIES {
            let channel = self.channel(port).ok_or(Error::Inval)?;
            // Which locks are needed depends on the peer, which may change until they are taken.
            let peer = match &*channel.state.lock() {
                State::Interdomain(remote, _) => Some(remote.clone()),
                _ => None,
            };
            if self.close_with(hv, domain, port, peer.as_ref())? {
                return Ok(());
            }
        }
        Err(Error::Restart)
    }

    /// As [`EventChannels::close`]; false if `peer` is not the domain that the port is connected to.
    fn close_with(
        &self,
        hv: &Hypervisor<A>,
        domain: &Domain<A>,
        port: Port,
        peer: Option<&Arc<Domain<A>>>,
    ) -> Result<bool> {
        // Dropped after the locks, since they may hold the last reference to a domain.
        let (_far, _near);
        let (mut ports, _other) = lock_pair(&self.ports, peer.map(|p| &p.evtchn.ports));
        let channel = self.channel(port).ok_or(Error::Inval)?;
        let peer_port = match (&*channel.state.lock(), peer) {
            (State::Free | State::Reserved, _) => return Err(Error::Inval),
            (State::Interdomain(remote, port), Some(peer)) if Arc::ptr_eq(remote, peer) => {
                Some(*port)
            }
            (State::Interdomain(..), _) | (_, Some(_)) => return Ok(false),
            (State::Virq(virq, vcpu), None) => {
                if let Some(slot) = self.virq_slot(*vcpu, *virq) {
                    slot.store(0, Ordering::Release);
                }
                None
            }
            (State::Pirq(pirq), None) => {
                ports.pirqs.remove(pirq);
                hv.arch.unbind_pirq(domain, *pirq);
                None
            }
            (State::Unbound(_) | State::Ipi, None) => None,
        };
        // The far end first: when its state has changed, nothing more comes from there.
        if let (Some(peer), Some(peer_port)) = (peer, peer_port)
            && let Some(far) = peer.evtchn.channel(peer_port)
        {
            _far = far.replace(State::Unbound(domain.id()));
        }
        _near = channel.replace(State::Free);
        self.clear_pending(port, channel);
        channel.set_notify(crate::VcpuId(0));
        ports.give(port);
        Ok(true)
    }

    /// Closes all ports in use, in steps.
    fn close_all(&self, hv: &Hypervisor<A>, domain: &Domain<A>) -> Result<()> {
        let mut next = 0;
        for done in 1usize.. {
            let Some(port) = self.ports.lock().next_used(next, self.count) else {
                break;
            };
            next = port.0 + 1;
            match self.close(hv, domain, port) {
                // Another vCPU may have closed it.
                Ok(()) | Err(Error::Inval) => {}
                Err(error) => return Err(error),
            }
            if done.is_multiple_of(STRIDE) && hv.should_yield() {
                return Err(Error::Restart);
            }
        }
        Ok(())
    }

    /// Closes all ports of `domain`, whose channels these are, and delivers events by the 2-level interface again.
    /// The ports left say how far it got, so it is simply called again. Who resets another domain makes sure that
    /// it is paused.
    ///
    /// Errors: [`Error::Restart`]; [`Error::Inval`] for a dying domain.
    pub fn reset(&self, hv: &Hypervisor<A>, domain: &Domain<A>) -> Result<()> {
        if self.ports.lock().closed {
            return Err(Error::Inval);
        }
        self.close_all(hv, domain)?;
        let _fifo;
        let ports = self.ports.lock();
        if ports.next_used(0, self.count).is_some() {
            // Another vCPU has bound one meanwhile.
            return Err(Error::Restart);
        }
        let mut delivery = self.delivery_mut();
        _fifo = delivery.fifo.take();
        if _fifo.is_some() {
            // Left from before the guest chose FIFO, whose guests do not look there: nothing is pending now, and a
            // bit that is set already would announce nothing.
            for vcpu in domain.vcpus() {
                vcpu.info.withdraw_words(&vcpu);
            }
        }
        Ok(())
    }

    /// Closes all ports of a dying domain, whose channels these are, and releases all guest pages. Nothing can be
    /// bound any more once this was called.
    ///
    /// Errors: [`Error::Restart`].
    pub fn destroy(&self, hv: &Hypervisor<A>, domain: &Domain<A>) -> Result<()> {
        debug_assert!(ptr::eq(self, &domain.evtchn));
        self.ports.lock().closed = true;
        Self::give_back_virqs(hv, domain);
        self.close_all(hv, domain)?;
        // Taken out under the lock, dropped without.
        let rest = self.delivery_mut().close();
        drop(rest);
        Ok(())
    }
}
