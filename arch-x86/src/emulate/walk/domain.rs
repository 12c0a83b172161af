//! Page tables in a domain's memory.

use core::sync::atomic::Ordering;

use xen_core::{Arch, Domain, Error, Gfn, GuestPhysAddr};

use super::{EntrySize, PhysicalMemory};

impl<A: Arch> PhysicalMemory for Domain<A> {
    fn load(&self, at: GuestPhysAddr, size: EntrySize) -> Result<u64, Error> {
        let (frame, _) = self.p2m.frame(Gfn::containing(at), false)?;
        let offset = at.page_offset() as usize;
        Ok(match size {
            EntrySize::Four => u64::from(frame.page().load_u32(offset, Ordering::Acquire)),
            EntrySize::Eight => frame.page().load_u64(offset, Ordering::Acquire),
        })
    }

    fn compare_exchange(
        &self,
        at: GuestPhysAddr,
        size: EntrySize,
        current: u64,
        new: u64,
    ) -> Result<bool, Error> {
        let (frame, _) = self.p2m.frame(Gfn::containing(at), true)?;
        let offset = at.page_offset() as usize;
        Ok(match size {
            EntrySize::Four => frame
                .page()
                .compare_exchange_u32(offset, current as u32, new as u32)
                .is_ok(),
            EntrySize::Eight => frame
                .page()
                .compare_exchange_u64(offset, current, new)
                .is_ok(),
        })
    }
}
