//! `vcpu_info`: where a vCPU's pending events are announced, in the shared info page or where the guest put it.

use core::sync::atomic::Ordering;

use spin::Once;

use super::Vcpu;
use crate::mem::{FrameRef, Page};
use crate::{Arch, Domain, Error, Gfn, Hypervisor, PAGE_SIZE, Result, VcpuId};

/// Byte offsets in `vcpu_info`, the same on all 64-bit architectures; not all of them have the mask.
const UPCALL_PENDING: usize = 0;
const UPCALL_MASK: usize = 1;
const PENDING_SEL: usize = 8;

/// A vCPU's `vcpu_info`.
pub struct InfoArea {
    /// Offset of the slot in the shared info page, if the vCPU has one there.
    legacy: Option<usize>,
    registered: Once<(FrameRef, usize)>,
}

impl InfoArea {
    pub(super) fn new<A: Arch>(_domain: &Domain<A>, id: VcpuId) -> Self {
        let legacy =
            (id.0 < A::LAYOUT.legacy_vcpus).then(|| id.0 as usize * A::LAYOUT.vcpu_info_size);
        Self {
            legacy,
            registered: Once::new(),
        }
    }

    /// The page and offset of the structure; `None` for a vCPU that has no slot and registered none.
    fn place<'a, A: Arch>(&'a self, vcpu: &'a Vcpu<A>) -> Option<(Page<'a>, usize)> {
        match self.registered.get() {
            Some((frame, offset)) => Some((frame.page(), *offset)),
            None => Some((vcpu.domain.shared_info.page(), self.legacy?)),
        }
    }

    pub(super) fn register<A: Arch>(
        &self,
        hv: &Hypervisor<A>,
        vcpu: &Vcpu<A>,
        gfn: Gfn,
        offset: u32,
    ) -> Result<()> {
        let size = A::LAYOUT.vcpu_info_size as u64;
        if u64::from(offset) > PAGE_SIZE - size || !offset.is_multiple_of(8) {
            return Err(Error::Nxio);
        }
        if self.registered.is_completed() {
            return Err(Error::Busy);
        }
        let (frame, kind) = vcpu.domain.p2m.frame(gfn, true).map_err(|_| Error::Inval)?;
        if !kind.is_ram() {
            return Err(Error::Inval);
        }
        let offset = offset as usize;
        let new = frame.page();
        match self.place(vcpu) {
            Some((old, at)) => {
                for word in (0..A::LAYOUT.vcpu_info_size).step_by(8) {
                    new.store_u64(
                        offset + word,
                        old.load_u64(at + word, Ordering::Relaxed),
                        Ordering::Relaxed,
                    );
                }
            }
            None => {
                for word in (0..A::LAYOUT.vcpu_info_size).step_by(8) {
                    new.store_u64(offset + word, 0, Ordering::Relaxed);
                }
                if A::LAYOUT.upcall_mask {
                    new.store_u8(offset + UPCALL_MASK, 1, Ordering::Relaxed);
                }
            }
        }
        let mut taken = true;
        self.registered.call_once(|| {
            taken = false;
            (frame, offset)
        });
        if taken {
            return Err(Error::Busy);
        }
        // An event may have been announced in the old place while it was copied: announce all again.
        if let Some((page, at)) = self.place(vcpu) {
            page.store_u64(at + PENDING_SEL, u64::MAX, Ordering::Release);
        }
        self.set_upcall(hv, vcpu);
        Ok(())
    }

    /// Announces word `word` of the 2-level pending bits; true if the upcall was not pending before.
    pub fn announce<A: Arch>(&self, hv: &Hypervisor<A>, vcpu: &Vcpu<A>, word: u32) {
        if let Some((page, at)) = self.place(vcpu)
            && page.fetch_or_u64(at + PENDING_SEL, 1 << (word & 63)) & (1 << (word & 63)) == 0
        {
            self.set_upcall(hv, vcpu);
        }
    }

    /// Withdraws what was announced of the 2-level pending bits.
    pub(crate) fn withdraw_words<A: Arch>(&self, vcpu: &Vcpu<A>) {
        if let Some((page, at)) = self.place(vcpu) {
            page.store_u64(at + PENDING_SEL, 0, Ordering::SeqCst);
        }
    }

    /// Makes the upcall pending and the vCPU notice it.
    pub fn set_upcall<A: Arch>(&self, hv: &Hypervisor<A>, vcpu: &Vcpu<A>) {
        let Some((page, at)) = self.place(vcpu) else {
            return;
        };
        match page.compare_exchange_u8(at + UPCALL_PENDING, 0, 1) {
            Ok(_) => {}
            // The guest writes there all the time: one upcall too many is better than one too few.
            Err(0) => page.store_u8(at + UPCALL_PENDING, 1, Ordering::SeqCst),
            Err(_) => return,
        }
        A::raise_upcall(hv, vcpu);
        vcpu.kick(hv);
    }

    /// Whether the upcall is pending.
    pub fn upcall_pending<A: Arch>(&self, vcpu: &Vcpu<A>) -> bool {
        self.place(vcpu)
            .is_some_and(|(page, at)| page.load_u8(at + UPCALL_PENDING, Ordering::SeqCst) != 0)
    }

    /// Whether the upcall is pending and not masked by the guest.
    pub fn upcall_deliverable<A: Arch>(&self, vcpu: &Vcpu<A>) -> bool {
        self.place(vcpu).is_some_and(|(page, at)| {
            page.load_u8(at + UPCALL_PENDING, Ordering::SeqCst) != 0
                && (!A::LAYOUT.upcall_mask || page.load_u8(at + UPCALL_MASK, Ordering::SeqCst) == 0)
        })
    }

    /// Unmasks upcalls, as blocking by `SCHEDOP_block` and `SCHEDOP_poll` does.
    pub fn unmask<A: Arch>(&self, vcpu: &Vcpu<A>) {
        if A::LAYOUT.upcall_mask
            && let Some((page, at)) = self.place(vcpu)
        {
            page.store_u8(at + UPCALL_MASK, 0, Ordering::SeqCst);
        }
    }

    /// The page and offset of the structure, for the architecture's own fields in it.
    pub fn arch_place<'a, A: Arch>(&'a self, vcpu: &'a Vcpu<A>) -> Option<(Page<'a>, usize)> {
        self.place(vcpu)
    }
}
