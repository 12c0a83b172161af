//! Event channels: the bits that domains, vCPUs and interrupts set for each other.
//!
//! A domain has a table of ports, each of which is one end of a channel ([`channel`]). Sending through a port
//! makes the port at the other end *pending*: in the bitmaps of the shared info page ([`two_level`]) or, once
//! the guest asked for it, in words of its own memory that are linked into queues ([`fifo`]).
//!
//! # Locks, in the order in which they are taken
//! 1. The control lock `ports` of a domain; of two domains the one at the lower address first. It is held by
//!    whatever binds, closes or moves ports, or changes how events are delivered.
//! 2. The `state` of one channel, never of two at a time. A sender holds only this, and holds it until the
//!    event is delivered; so once a state has been changed, no delivery that came from it is going on.
//! 3. `delivery` of the domain that gets the event, shared; exclusively, when the way of delivery changes.
//!    Neither of the locks above is taken under it.
//! 4. For FIFO, a channel's `queue`, then the tails of the one or two queues concerned, the lower index first.
//! 5. What waking a vCPU takes: the scheduler's locks.

mod bind;
mod channel;
mod close;
mod delivery;
mod dump;
mod fifo;
mod ports;
#[cfg(test)]
mod tests;
mod two_level;
mod virq;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use spin::{Mutex, Once, RwLock};
use xen_abi::event_channel::{FIFO_NR_CHANNELS, TWO_LEVEL_NR_CHANNELS};

use crate::mem::FrameRef;
use crate::{Arch, Domain, DomainConfig, Error, Hypervisor, Port, Result};
use channel::{Channel, State};
use delivery::Delivery;
use ports::Ports;
use virq::NR_VIRQS;

pub use channel::{Status, Use};
pub use virq::{handles_virq, raise_global_virq, raise_virq, set_virq_handler};

/// Channels that are made at a time.
const CHUNK: usize = 64;

type Chunk<A> = Box<[Channel<A>]>;

/// A domain's event channels.
pub struct EventChannels<A: Arch> {
    /// The channels by port. A chunk is made when a port in it is first used, and stays: senders look channels up
    /// without a lock.
    chunks: Box<[Once<Chunk<A>>]>,
    /// Number of ports that the domain may have, port 0 included.
    count: u32,
    ports: Mutex<Ports>,
    delivery: RwLock<Delivery<A>>,
    /// The port of each vCPU's VIRQs, 0 for none; global ones are in the row of vCPU 0.
    virqs: Box<[[AtomicU32; NR_VIRQS]]>,
    /// Domain 0's: who handles each global VIRQ in its place, as domain identifier plus 1.
    handlers: [AtomicU32; NR_VIRQS],
    /// Number of vCPUs that wait for ports to become pending.
    pollers: AtomicU32,
    /// Number of events lost because the guest kept changing event words.
    lost: AtomicU32,
}

/// Makes a slice, reporting the lack of memory.
fn boxed<T>(len: usize, mut make: impl FnMut(usize) -> Result<T>) -> Result<Box<[T]>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| Error::NoMem)?;
    for n in 0..len {
        all.push(make(n)?);
    }
    Ok(all.into_boxed_slice())
}

impl<A: Arch> EventChannels<A> {
    /// Makes an empty table that delivers to the domain's shared info page.
    ///
    /// Errors: [`Error::NoMem`].
    pub fn new(config: &DomainConfig, shared: FrameRef) -> Result<Self> {
        let count = config.max_port.saturating_add(1).min(FIFO_NR_CHANNELS);
        let vcpus = config.max_vcpus as usize;
        let this = Self {
            chunks: boxed((count as usize).div_ceil(CHUNK), |_| Ok(Once::new()))?,
            count,
            ports: Mutex::new(Ports::new(count)?),
            delivery: RwLock::new(Delivery::new(vcpus, shared)?),
            virqs: boxed(vcpus, |_| Ok([const { AtomicU32::new(0) }; NR_VIRQS]))?,
            handlers: [const { AtomicU32::new(0) }; NR_VIRQS],
            pollers: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        };
        *this.make_channel(Port(0))?.state.lock() = State::Reserved;
        Ok(this)
    }

    /// The channel of a port, if its chunk was made.
    #[inline]
    fn channel(&self, port: Port) -> Option<&Channel<A>> {
        self.chunks
            .get(port.0 as usize / CHUNK)?
            .get()?
            .get(port.0 as usize % CHUNK)
    }

    /// The channel of a port, whose chunk is made if need be.
    fn make_channel(&self, port: Port) -> Result<&Channel<A>> {
        let chunk = self
            .chunks
            .get(port.0 as usize / CHUNK)
            .ok_or(Error::Inval)?;
        let chunk = chunk.try_call_once(|| boxed(CHUNK, |_| Ok(Channel::new(State::Free))))?;
        chunk.get(port.0 as usize % CHUNK).ok_or(Error::Inval)
    }

    /// Number of ports that can be in use: what the domain was given and its way of delivery can hold.
    fn limit(&self) -> u32 {
        let fifo = self.delivery.read().fifo.is_some();
        self.count.min(if fifo {
            FIFO_NR_CHANNELS
        } else {
            TWO_LEVEL_NR_CHANNELS
        })
    }

    /// Whether the port exists: it, or one near or above it, was once in use.
    pub fn is_valid(&self, port: Port) -> bool {
        self.channel(port).is_some() && port.0 < self.limit()
    }

    /// Sends an event through a port of `domain`, whose channels these are. An event to a port that waits for a
    /// peer goes nowhere, without an error.
    ///
    /// Errors: [`Error::Inval`] for a port through which one cannot send.
    pub fn send(&self, hv: &Hypervisor<A>, domain: &Domain<A>, port: Port) -> Result<()> {
        let channel = self.channel(port).ok_or(Error::Inval)?;
        match &*channel.state.lock() {
            State::Interdomain(remote, peer) => {
                if let Some(channel) = remote.evtchn.channel(*peer) {
                    remote.evtchn.set_pending(hv, remote, *peer, channel);
                }
                Ok(())
            }
            State::Ipi => {
                self.set_pending(hv, domain, port, channel);
                Ok(())
            }
            State::Unbound(_) => Ok(()),
            State::Free | State::Reserved | State::Virq(..) | State::Pirq(_) => Err(Error::Inval),
        }
    }

    /// What a port is used for.
    ///
    /// Errors: [`Error::Inval`] for a port that does not exist.
    pub fn status(&self, port: Port) -> Result<Status> {
        if !self.is_valid(port) {
            return Err(Error::Inval);
        }
        let channel = self.channel(port).ok_or(Error::Inval)?;
        let used_for = Use::from(&*channel.state.lock());
        Ok(Status {
            used_for,
            vcpu: channel.notify(),
        })
    }
}
