//! The guest's side of both interfaces, as a kernel does it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use crate::mem::FrameRef;
use crate::soft::{Machine, Soft};
use crate::{Arch, Domain, Gfn, Port, Vcpu, VcpuId};

pub(super) const PENDING: u32 = 1 << 31;
pub(super) const MASKED: u32 = 1 << 30;
pub(super) const LINKED: u32 = 1 << 29;
pub(super) const LINK: u32 = (1 << 17) - 1;

/// Guest frame of the control blocks, one after the other.
pub(super) const BLOCKS: Gfn = Gfn(0);
/// First guest frame of event words.
pub(super) const WORDS: Gfn = Gfn(1);

/// Takes the upcall of a vCPU: whether there was one.
pub(super) fn take_upcall(vcpu: &Vcpu<Soft>) -> bool {
    let Some((page, at)) = vcpu.info.arch_place(vcpu) else {
        return false;
    };
    vcpu.arch.upcall.store(false, SeqCst);
    page.compare_exchange_u8(at, 1, 0).is_ok()
}

pub(super) fn set_mask(domain: &Domain<Soft>, port: u32) {
    let at = Soft::LAYOUT.evtchn_mask + port as usize / 64 * 8;
    domain.shared_info.page().fetch_or_u64(at, 1 << (port % 64));
}

pub(super) fn pending_bit(domain: &Domain<Soft>, port: Port) -> bool {
    let at = Soft::LAYOUT.evtchn_pending + port.0 as usize / 64 * 8;
    domain.shared_info.page().load_u64(at, SeqCst) & 1 << (port.0 % 64) != 0
}

/// Handles all events of a vCPU by the 2-level interface, if its upcall is pending.
pub(super) fn handle_two_level(vcpu: &Vcpu<Soft>) -> Vec<u32> {
    let mut handled = Vec::new();
    let shared = vcpu.domain.shared_info.page();
    while take_upcall(vcpu) {
        let (page, at) = vcpu.info.arch_place(vcpu).unwrap();
        let mut words = page.fetch_and_u64(at + 8, 0);
        while words != 0 {
            let at = words.trailing_zeros() as usize * 8;
            words &= words - 1;
            let mask = shared.load_u64(Soft::LAYOUT.evtchn_mask + at, SeqCst);
            let mut ports = shared.fetch_and_u64(Soft::LAYOUT.evtchn_pending + at, mask) & !mask;
            while ports != 0 {
                handled.push(at as u32 * 8 + ports.trailing_zeros());
                ports &= ports - 1;
            }
        }
    }
    handled
}

/// A kernel that uses the FIFO interface.
pub(super) struct FifoGuest {
    pub(super) domain: Arc<Domain<Soft>>,
    /// What each vCPU knows of its queues: the bits of those that have something, and the heads it got to.
    local: BTreeMap<u32, (u32, [u32; 16])>,
}

impl FifoGuest {
    /// Sets up control blocks for `vcpus` vCPUs and `pages` pages of words.
    pub(super) fn new(
        machine: &Machine,
        domain: &Arc<Domain<Soft>>,
        vcpus: u32,
        pages: u64,
    ) -> Self {
        for page in BLOCKS.0..WORDS.0 + pages {
            domain.p2m.frame(Gfn(page), true).unwrap().0.page().zero();
        }
        for vcpu in 0..vcpus {
            assert_eq!(
                domain
                    .evtchn
                    .init_control(domain, VcpuId(vcpu), BLOCKS, vcpu * 128),
                Ok(17)
            );
        }
        for page in 0..pages {
            assert_eq!(
                domain
                    .evtchn
                    .expand_array(&machine.hv, domain, Gfn(WORDS.0 + page)),
                Ok(())
            );
        }
        Self {
            domain: domain.clone(),
            local: BTreeMap::new(),
        }
    }

    pub(super) fn frame(&self, gfn: Gfn) -> FrameRef {
        self.domain.p2m.frame(gfn, true).unwrap().0
    }

    /// Applies an atomic operation to a port's word; returns the word before.
    pub(super) fn word(&self, port: u32, change: impl Fn(u32) -> u32) -> u32 {
        let frame = self.frame(Gfn(WORDS.0 + u64::from(port) / 1024));
        let at = port as usize % 1024 * 4;
        loop {
            let old = frame.page().load_u32(at, SeqCst);
            if frame
                .page()
                .compare_exchange_u32(at, old, change(old))
                .is_ok()
            {
                return old;
            }
        }
    }

    /// Takes the next event off a vCPU's queues. `Some(None)` is one that is no longer pending or is masked.
    pub(super) fn step(&mut self, vcpu: &Vcpu<Soft>) -> Option<Option<(u32, u32)>> {
        take_upcall(vcpu);
        let frame = self.frame(BLOCKS);
        let block = vcpu.id.0 as usize * 128;
        let (mut ready, mut heads) = self.local.get(&vcpu.id.0).copied().unwrap_or_default();
        ready |= frame.page().fetch_and_u32(block, 0);
        if ready == 0 {
            return None;
        }
        let priority = ready.trailing_zeros();
        let head = &mut heads[priority as usize];
        if *head == 0 {
            *head = frame
                .page()
                .load_u32(block + 8 + priority as usize * 4, SeqCst);
        }
        let port = *head;
        *head = self.word(port, |w| w & !(LINKED | LINK)) & LINK;
        if *head == 0 {
            ready &= !(1 << priority);
        }
        self.local.insert(vcpu.id.0, (ready, heads));
        let word = self.word(port, |w| if w & MASKED == 0 { w & !PENDING } else { w });
        Some((word & (PENDING | MASKED) == PENDING).then_some((port, priority)))
    }

    /// Handles all events of a vCPU: port and priority of the queue.
    pub(super) fn drain(&mut self, vcpu: &Vcpu<Soft>) -> Vec<(u32, u32)> {
        let mut handled = Vec::new();
        while let Some(event) = self.step(vcpu) {
            handled.extend(event);
        }
        handled
    }
}
