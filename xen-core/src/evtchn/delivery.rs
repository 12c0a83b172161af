//! How a port becomes pending, whichever way the guest chose.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::RwLockWriteGuard;
use xen_abi::event_channel::FIFO_LINK_BITS;

use super::channel::Channel;
use super::fifo::Fifo;
use super::{EventChannels, boxed, two_level};
use crate::mem::FrameRef;
use crate::{Arch, Domain, Error, Gfn, Hypervisor, Port, Result, Vcpu, VcpuId};

/// Where events are delivered to.
pub(super) struct Delivery<A: Arch> {
    /// The domain's shared info page; gone when the domain is dying.
    shared: Option<FrameRef>,
    /// The vCPUs that ports notify, and those that poll.
    vcpus: Box<[Option<Arc<Vcpu<A>>>]>,
    /// There when the guest has chosen FIFO delivery.
    pub(super) fifo: Option<Fifo>,
}

impl<A: Arch> Delivery<A> {
    pub(super) fn new(vcpus: usize, shared: FrameRef) -> Result<Self> {
        Ok(Self {
            shared: Some(shared),
            vcpus: boxed(vcpus, |_| Ok(None))?,
            fifo: None,
        })
    }

    /// Gives up everything; for the caller to drop without the lock.
    pub(super) fn close(&mut self) -> Self {
        let closed = Self {
            shared: None,
            vcpus: Box::default(),
            fifo: None,
        };
        core::mem::replace(self, closed)
    }

    #[inline]
    fn vcpu(&self, id: VcpuId) -> Option<&Vcpu<A>> {
        self.vcpus.get(id.0 as usize)?.as_deref()
    }
}

impl<A: Arch> EventChannels<A> {
    /// Locks out deliveries.
    pub(super) fn delivery_mut(&self) -> RwLockWriteGuard<'_, Delivery<A>> {
        // An upgradeable guard keeps new readers out: guests cannot starve the writer by sending all the time.
        self.delivery.upgradeable_read().upgrade()
    }

    /// Notes a vCPU that events may have to be announced to.
    pub(super) fn attach_vcpu(&self, vcpu: &Arc<Vcpu<A>>) -> Result<()> {
        if self.delivery.read().vcpu(vcpu.id).is_some() {
            return Ok(());
        }
        let mut delivery = self.delivery_mut();
        let place = delivery
            .vcpus
            .get_mut(vcpu.id.0 as usize)
            .ok_or(Error::Inval)?;
        place.get_or_insert_with(|| vcpu.clone());
        Ok(())
    }

    /// Makes a port of `domain`, whose channels these are, pending. The caller holds the state of a channel that
    /// leads to the port, or the control lock.
    #[inline]
    pub(super) fn set_pending(
        &self,
        hv: &Hypervisor<A>,
        domain: &Domain<A>,
        port: Port,
        channel: &Channel<A>,
    ) {
        let delivery = self.delivery.read();
        match delivery.vcpu(channel.notify()) {
            Some(vcpu) => self.deliver(hv, &delivery, port, channel, Some(vcpu)),
            None => {
                drop(delivery);
                self.set_pending_slow(hv, domain, port, channel);
            }
        }
    }

    /// The vCPU to notify is vCPU 0, made after the port was bound, or not made yet.
    #[cold]
    fn set_pending_slow(
        &self,
        hv: &Hypervisor<A>,
        domain: &Domain<A>,
        port: Port,
        channel: &Channel<A>,
    ) {
        if let Some(vcpu) = domain.vcpu(channel.notify()) {
            let _ = self.attach_vcpu(&vcpu);
        }
        let delivery = self.delivery.read();
        self.deliver(
            hv,
            &delivery,
            port,
            channel,
            delivery.vcpu(channel.notify()),
        );
    }

    #[inline]
    fn deliver(
        &self,
        hv: &Hypervisor<A>,
        delivery: &Delivery<A>,
        port: Port,
        channel: &Channel<A>,
        vcpu: Option<&Vcpu<A>>,
    ) {
        let news = match (&delivery.fifo, &delivery.shared) {
            (Some(fifo), _) => fifo.raise(hv, vcpu, port, channel, &self.lost),
            (None, Some(shared)) => two_level::raise(hv, shared.page(), vcpu, port),
            (None, None) => false,
        };
        // Both ways end in a full fence if there is news, so that either this sees a poller or it sees the event.
        if news && self.pollers.load(Ordering::Relaxed) != 0 {
            Self::wake_pollers(hv, delivery, port);
        }
    }

    #[cold]
    fn wake_pollers(hv: &Hypervisor<A>, delivery: &Delivery<A>, port: Port) {
        for vcpu in delivery.vcpus.iter().flatten() {
            vcpu.poll_wake(hv, port);
        }
    }

    /// A vCPU of the domain starts to wait for ports to become pending.
    pub(crate) fn poll_started(&self, vcpu: &Arc<Vcpu<A>>) {
        // For a dying domain it does not matter.
        let _ = self.attach_vcpu(vcpu);
        self.pollers.fetch_add(1, Ordering::SeqCst);
    }

    /// A vCPU no longer waits.
    pub(crate) fn poll_ended(&self) {
        self.pollers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Number of vCPUs that wait for ports to become pending.
    pub(super) fn polling(&self) -> u32 {
        self.pollers.load(Ordering::SeqCst)
    }

    /// Whether a port is pending; false for one that does not exist.
    pub fn is_pending(&self, port: Port) -> bool {
        let Some(channel) = self.channel(port).filter(|_| port.0 < self.limit()) else {
            return false;
        };
        let delivery = self.delivery.read();
        match (&delivery.fifo, &delivery.shared) {
            (Some(fifo), _) => fifo.is_pending(port, channel),
            (None, Some(shared)) => two_level::is_pending::<A>(shared.page(), port),
            (None, None) => false,
        }
    }

    /// Whether the guest masked a port.
    pub(super) fn is_masked(&self, port: Port) -> bool {
        let delivery = self.delivery.read();
        match (&delivery.fifo, &delivery.shared) {
            (Some(fifo), _) => fifo.is_masked(port),
            (None, Some(shared)) => two_level::is_masked::<A>(shared.page(), port),
            (None, None) => true,
        }
    }

    /// Withdraws a pending event.
    pub(super) fn clear_pending(&self, port: Port, channel: &Channel<A>) {
        channel.early.store(false, Ordering::Relaxed);
        let delivery = self.delivery.read();
        match (&delivery.fifo, &delivery.shared) {
            (Some(fifo), _) => fifo.clear_pending(port),
            (None, Some(shared)) => two_level::clear_pending::<A>(shared.page(), port),
            (None, None) => {}
        }
    }

    /// Unmasks a port of the domain and, if it is pending, announces it.
    ///
    /// Errors: [`Error::Inval`] for a port that does not exist.
    pub fn unmask(&self, hv: &Hypervisor<A>, port: Port) -> Result<()> {
        let channel = self
            .channel(port)
            .filter(|_| port.0 < self.limit())
            .ok_or(Error::Inval)?;
        let delivery = self.delivery.read();
        let vcpu = delivery.vcpu(channel.notify());
        match (&delivery.fifo, &delivery.shared) {
            (Some(fifo), _) => fifo.unmask(hv, vcpu, port, channel, &self.lost),
            (None, Some(shared)) => two_level::unmask(hv, shared.page(), vcpu, port),
            (None, None) => {}
        }
        Ok(())
    }

    /// Places the FIFO control block of a vCPU of `domain`, whose channels these are, at `offset` in guest frame
    /// `gfn`. The first one makes FIFO the way of delivery: ports that are pending are so again when the guest adds
    /// their page of event words. Returns the number of bits of a link.
    ///
    /// Errors, with everything as before: [`Error::NoEnt`] for a vCPU that does not exist; [`Error::Inval`] for a
    /// block that is misaligned, leaves its page, is not the domain's writable memory or was placed before, and
    /// for a dying domain; [`Error::NoMem`].
    pub fn init_control(
        &self,
        domain: &Domain<A>,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<u32> {
        self.attach_vcpu(&domain.vcpu(vcpu).ok_or(Error::NoEnt)?)?;
        let offset = Fifo::check_offset(offset)?;
        let frame = domain.own_frame(gfn).map_err(|_| Error::Inval)?;
        let ports = self.ports.lock();
        if ports.closed {
            return Err(Error::Inval);
        }
        // Only who holds the control lock makes or drops it.
        let first = self.delivery.read().fifo.is_none();
        let new = if first {
            Some(Fifo::new(domain.max_vcpus())?)
        } else {
            None
        };
        let mut delivery = self.delivery_mut();
        let delivery = &mut *delivery;
        if let Some(mut fifo) = new {
            fifo.place_block(vcpu, frame, offset)?;
            if let Some(shared) = &delivery.shared {
                for index in 0..two_level::WORDS {
                    let mut pending = two_level::take_word::<A>(shared.page(), index)
                        & ports.word(index, self.count);
                    while pending != 0 {
                        let port = Port(index as u32 * 64 + pending.trailing_zeros());
                        if let Some(channel) = self.channel(port) {
                            channel.early.store(true, Ordering::Relaxed);
                        }
                        pending &= pending - 1;
                    }
                }
            }
            delivery.fifo = Some(fifo);
        } else if let Some(fifo) = &mut delivery.fifo {
            fifo.place_block(vcpu, frame, offset)?;
        }
        Ok(FIFO_LINK_BITS)
    }

    /// Adds the page at `gfn` of `domain`, whose channels these are, to its FIFO event words.
    ///
    /// Errors: [`Error::OpNotSupp`] while events are not delivered by FIFO; [`Error::NoSpc`] when there are words for
    /// all ports; [`Error::Inval`] for a page that is not the domain's writable memory.
    pub fn expand_array(&self, hv: &Hypervisor<A>, domain: &Domain<A>, gfn: Gfn) -> Result<()> {
        let ports = self.ports.lock();
        let added = {
            let mut delivery = self.delivery_mut();
            let fifo = delivery.fifo.as_mut().ok_or(Error::OpNotSupp)?;
            fifo.check_room()?;
            fifo.add_page(domain.own_frame(gfn).map_err(|_| Error::Inval)?)
        };
        let mut next = added.start;
        while let Some(port) = ports.next_used(next, self.count.min(added.end)) {
            next = port.0 + 1;
            if let Some(channel) = self.channel(port)
                && channel.early.swap(false, Ordering::Relaxed)
            {
                self.set_pending(hv, domain, port, channel);
            }
        }
        Ok(())
    }
}

/// Counts a lost event; says so when the count reaches a power of two, so that a guest cannot flood the log.
#[cold]
pub(super) fn note_lost<A: Arch>(vcpu: &Vcpu<A>, port: Port, lost: &AtomicU32) {
    let count = lost.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if count.is_power_of_two() {
        log::warn!(
            target: crate::console::GUEST,
            "d{}: event words keep changing, port {port} not linked ({count} events lost)",
            vcpu.domain.id()
        );
    }
}
