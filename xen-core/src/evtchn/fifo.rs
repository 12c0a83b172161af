//! FIFO delivery: a word per port in pages of the guest's, linked into a queue per vCPU and priority.
//!
//! The head of each queue and a word of bits that say which queues have something are in a control block per vCPU. The
//! guest takes events off the heads; the hypervisor appends to the tails, which only it knows. A queue is empty when
//! the tail's word is no longer `LINKED`. All words can be changed by the guest at any time: they decide only what the
//! guest itself gets to see, links are never followed here, and each loop has a bound.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use spin::Mutex;
use xen_abi::event_channel::{
    FIFO_BUSY, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_MAX_QUEUES, FIFO_NR_CHANNELS,
    FIFO_PENDING, FIFO_WORDS_PER_PAGE,
};

use super::boxed;
use super::channel::Channel;
use super::delivery::note_lost;
use crate::mem::{FrameRef, Page};
use crate::{Arch, Error, Hypervisor, PAGE_SIZE, Port, Result, Vcpu, VcpuId};

const PENDING: u32 = 1 << FIFO_PENDING;
const MASKED: u32 = 1 << FIFO_MASKED;
const LINKED: u32 = 1 << FIFO_LINKED;
const BUSY: u32 = 1 << FIFO_BUSY;

/// Most pages of event words.
const MAX_PAGES: usize = (FIFO_NR_CHANNELS / FIFO_WORDS_PER_PAGE) as usize;
/// Size in bytes of a control block (`evtchn_fifo_control_block`).
const BLOCK_SIZE: u64 = 72;
/// Offset in it of the bits of the queues that have something.
const READY: usize = 0;
/// Offset in it of the queues' heads, 32 bits each.
const HEADS: usize = 8;
/// How often to try to set a link while the guest changes the word.
const LINK_TRIES: usize = 8;

/// A vCPU's control block.
struct Block {
    frame: FrameRef,
    offset: usize,
}

/// What became of an attempt to append to a queue.
#[derive(PartialEq, Eq)]
enum Append {
    /// The tail leads to the port now.
    Linked,
    /// The queue was empty.
    Empty,
    /// The guest kept changing the tail's word.
    Lost,
}

/// A domain's FIFO structures.
pub(super) struct Fifo {
    blocks: Box<[Option<Block>]>,
    /// The tail of each queue, 0 for none, by vCPU and priority.
    tails: Box<[Mutex<u32>]>,
    /// The pages of event words.
    pages: Vec<FrameRef>,
}

impl Fifo {
    /// No control blocks and no words yet.
    pub(super) fn new(vcpus: u32) -> Result<Self> {
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(MAX_PAGES)
            .map_err(|_| Error::NoMem)?;
        let vcpus = vcpus as usize;
        Ok(Self {
            blocks: boxed(vcpus, |_| Ok(None))?,
            tails: boxed(vcpus * FIFO_MAX_QUEUES as usize, |_| Ok(Mutex::new(0)))?,
            pages,
        })
    }

    /// Checks where in its page a control block is to be.
    pub(super) fn check_offset(offset: u32) -> Result<usize> {
        if u64::from(offset) > PAGE_SIZE - BLOCK_SIZE || !offset.is_multiple_of(8) {
            return Err(Error::Inval);
        }
        Ok(offset as usize)
    }

    /// Places a vCPU's control block, once.
    pub(super) fn place_block(
        &mut self,
        vcpu: VcpuId,
        frame: FrameRef,
        offset: usize,
    ) -> Result<()> {
        match self.blocks.get_mut(vcpu.0 as usize) {
            Some(place @ None) => {
                *place = Some(Block { frame, offset });
                Ok(())
            }
            _ => Err(Error::Inval),
        }
    }

    /// Whether another page of words can be added.
    pub(super) fn check_room(&self) -> Result<()> {
        if self.pages.len() < MAX_PAGES {
            Ok(())
        } else {
            Err(Error::NoSpc)
        }
    }

    /// Adds a page of words; returns the ports that it holds. There is room, as the caller knows.
    pub(super) fn add_page(&mut self, frame: FrameRef) -> Range<u32> {
        let first = self.pages.len() as u32 * FIFO_WORDS_PER_PAGE;
        self.pages.push(frame);
        first..first + FIFO_WORDS_PER_PAGE
    }

    /// The page and offset of a port's word.
    #[inline]
    fn word(&self, port: Port) -> Option<(Page<'_>, usize)> {
        let frame = self.pages.get((port.0 / FIFO_WORDS_PER_PAGE) as usize)?;
        Some((frame.page(), (port.0 % FIFO_WORDS_PER_PAGE) as usize * 4))
    }

    fn test(&self, port: Port, bit: u32) -> Option<bool> {
        self.word(port)
            .map(|(page, at)| page.load_u32(at, Ordering::SeqCst) & bit != 0)
    }

    /// Whether a port is pending.
    pub(super) fn is_pending<A: Arch>(&self, port: Port, channel: &Channel<A>) -> bool {
        self.test(port, PENDING)
            .unwrap_or_else(|| channel.early.load(Ordering::SeqCst))
    }

    /// Whether a port is masked; one without a word is.
    pub(super) fn is_masked(&self, port: Port) -> bool {
        self.test(port, MASKED).unwrap_or(true)
    }

    /// Whether a port's word is in a queue.
    pub(super) fn is_linked(&self, port: Port) -> bool {
        self.test(port, LINKED).unwrap_or(false)
    }

    /// Withdraws a pending event. The word stays in its queue; the guest skips it.
    pub(super) fn clear_pending(&self, port: Port) {
        if let Some((page, at)) = self.word(port) {
            page.fetch_and_u32(at, !PENDING);
        }
    }

    /// Makes a port pending and puts it in a queue of the vCPU's; false if it was pending.
    #[inline]
    pub(super) fn raise<A: Arch>(
        &self,
        hv: &Hypervisor<A>,
        vcpu: Option<&Vcpu<A>>,
        port: Port,
        channel: &Channel<A>,
        lost: &AtomicU32,
    ) -> bool {
        let was = match self.word(port) {
            Some((page, at)) => {
                let old = page.fetch_or_u32(at, PENDING);
                if old & (MASKED | LINKED) == 0 {
                    self.link(hv, vcpu, port, channel, lost);
                }
                old & PENDING != 0
            }
            None => channel.early.swap(true, Ordering::SeqCst),
        };
        if was {
            return false;
        }
        fence(Ordering::SeqCst);
        true
    }

    /// Unmasks a port and, if it is pending, puts it in a queue of the vCPU's.
    pub(super) fn unmask<A: Arch>(
        &self,
        hv: &Hypervisor<A>,
        vcpu: Option<&Vcpu<A>>,
        port: Port,
        channel: &Channel<A>,
        lost: &AtomicU32,
    ) {
        if let Some((page, at)) = self.word(port)
            && page.fetch_and_u32(at, !MASKED) & (PENDING | LINKED) == PENDING
        {
            self.link(hv, vcpu, port, channel, lost);
        }
    }

    /// Puts a port in the queue of the vCPU and priority it has now, unless it still is in one. Without a control
    /// block there is none: the event stays pending, and is linked by the next one or when the guest unmasks it.
    fn link<A: Arch>(
        &self,
        hv: &Hypervisor<A>,
        vcpu: Option<&Vcpu<A>>,
        port: Port,
        channel: &Channel<A>,
        lost: &AtomicU32,
    ) {
        let Some(vcpu) = vcpu else { return };
        let Some(Some(block)) = self.blocks.get(vcpu.id.0 as usize) else {
            return;
        };
        let Some((page, at)) = self.word(port) else {
            return;
        };
        let priority = channel.priority();
        let queue = vcpu.id.0 * FIFO_MAX_QUEUES + priority;

        let mut last = channel.queue.lock();
        let lock = |index: u32| self.tails.get(index as usize).map(|tail| tail.lock());
        let before = if *last < queue { lock(*last) } else { None };
        let Some(mut tail) = lock(queue) else { return };
        let after = if *last > queue { lock(*last) } else { None };

        if page.fetch_or_u32(at, LINKED) & LINKED != 0 {
            return;
        }
        // A queue that ends with this port is empty, but would look as if it were not, with the word linked again.
        if let Some(mut old) = before.or(after)
            && *old == port.0
        {
            *old = 0;
        }
        *last = queue;
        let append = if *tail == 0 || *tail == port.0 {
            Append::Empty
        } else {
            self.append(Port(*tail), port)
        };
        match append {
            Append::Lost => {
                // As if it had never been linked, so that a later event has another chance.
                page.fetch_and_u32(at, !LINKED);
                return note_lost(vcpu, port, lost);
            }
            Append::Empty => {
                let head = block.offset + HEADS + priority as usize * 4;
                block
                    .frame
                    .page()
                    .store_u32(head, port.0, Ordering::Release);
            }
            Append::Linked => {}
        }
        *tail = port.0;
        drop(tail);
        let bit = 1 << priority;
        if append == Append::Empty
            && block.frame.page().fetch_or_u32(block.offset + READY, bit) & bit == 0
        {
            vcpu.info.set_upcall(hv, vcpu);
        }
    }

    /// Makes the word of `tail` lead to `port`, if it still is in its queue.
    fn append(&self, tail: Port, port: Port) -> Append {
        let Some((page, at)) = self.word(tail) else {
            return Append::Empty;
        };
        let mut word = page.load_u32(at, Ordering::Acquire);
        let mut result = Append::Lost;
        for attempt in 0..LINK_TRIES {
            if word & LINKED == 0 {
                result = Append::Empty;
                break;
            }
            let linked = word & !(BUSY | FIFO_LINK_MASK) | port.0;
            match page.compare_exchange_u32(at, word, linked) {
                Ok(_) => return Append::Linked,
                Err(found) => word = found,
            }
            if attempt == 0 {
                // Asks the guest to leave the word alone for a moment.
                word = page.fetch_or_u32(at, BUSY) | BUSY;
            }
        }
        page.fetch_and_u32(at, !BUSY);
        result
    }
}
