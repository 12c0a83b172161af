//! Access to guest memory: by copy, page by page, with a reference on each frame while it is touched.

#[cfg(test)]
mod tests;

use crate::p2m::P2mType;
use crate::{
    Arch, Domain, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, PAGE_SIZE, Result, Vcpu,
    mem::{FrameRef, Page},
};

impl<A: Arch> Domain<A> {
    /// Reads guest-physical memory.
    ///
    /// Errors: [`crate::Error::Fault`] where there is no memory; part of `to` may have been filled.
    pub fn read_physical(&self, address: GuestPhysAddr, to: &mut [u8]) -> Result<()> {
        let mut at = address;
        let mut left = to;
        while !left.is_empty() {
            let offset = at.page_offset() as usize;
            let n = left.len().min(PAGE_SIZE as usize - offset);
            let (now, rest) = left.split_at_mut(n);
            let (frame, _) = self.p2m.frame(Gfn::containing(at), false)?;
            frame.page().read(offset, now);
            at = GuestPhysAddr(at.0.wrapping_add(n as u64));
            left = rest;
        }
        Ok(())
    }

    /// Writes guest-physical memory.
    ///
    /// Errors: [`crate::Error::Fault`] where there is no writable memory; part may have been written.
    pub fn write_physical(&self, address: GuestPhysAddr, from: &[u8]) -> Result<()> {
        let mut at = address;
        let mut left = from;
        while !left.is_empty() {
            let offset = at.page_offset() as usize;
            let n = left.len().min(PAGE_SIZE as usize - offset);
            let (now, rest) = left.split_at(n);
            let (frame, _) = self.p2m.frame(Gfn::containing(at), true)?;
            frame.page().write(offset, now);
            at = GuestPhysAddr(at.0.wrapping_add(n as u64));
            left = rest;
        }
        Ok(())
    }

    /// A reference to the domain's own memory at `gfn`, writable, for a structure that stays shared.
    ///
    /// Errors: [`crate::Error::Fault`]; [`crate::Error::Inval`] if it is not its own memory.
    pub fn own_frame(&self, gfn: Gfn) -> Result<FrameRef> {
        match self.p2m.frame(gfn, true)? {
            (frame, P2mType::RamRw) => Ok(frame),
            _ => Err(crate::Error::Inval),
        }
    }
}

impl<A: Arch> Hypervisor<A> {
    /// Reads the memory of a vCPU, loaded on this CPU, at a virtual address.
    ///
    /// Errors: [`crate::Error::Fault`]; part of `to` may have been filled.
    pub fn copy_from_virtual(
        &self,
        vcpu: &Vcpu<A>,
        context: &mut A::Context,
        address: GuestVirtAddr,
        to: &mut [u8],
    ) -> Result<()> {
        let mut left = to;
        self.for_pages(
            vcpu,
            context,
            address,
            left.len(),
            false,
            |page, offset, n| {
                let (now, rest) = core::mem::take(&mut left).split_at_mut(n);
                page.read(offset, now);
                left = rest;
            },
        )
    }

    /// Writes the memory of a vCPU, loaded on this CPU, at a virtual address.
    ///
    /// Errors: [`crate::Error::Fault`]; part may have been written.
    pub fn copy_to_virtual(
        &self,
        vcpu: &Vcpu<A>,
        context: &mut A::Context,
        address: GuestVirtAddr,
        from: &[u8],
    ) -> Result<()> {
        let mut left = from;
        self.for_pages(
            vcpu,
            context,
            address,
            left.len(),
            true,
            |page, offset, n| {
                let (now, rest) = left.split_at(n);
                page.write(offset, now);
                left = rest;
            },
        )
    }

    fn for_pages(
        &self,
        vcpu: &Vcpu<A>,
        context: &mut A::Context,
        address: GuestVirtAddr,
        len: usize,
        write: bool,
        mut each: impl FnMut(Page<'_>, usize, usize),
    ) -> Result<()> {
        let mut at = address;
        let mut left = len;
        while left > 0 {
            let offset = at.page_offset() as usize;
            let n = left.min(PAGE_SIZE as usize - offset);
            let gpa = self.arch.translate(context, at, write)?;
            let (frame, _) = vcpu.domain.p2m.frame(Gfn::containing(gpa), write)?;
            each(frame.page(), offset, n);
            at = GuestVirtAddr(at.0.wrapping_add(n as u64));
            left -= n;
        }
        Ok(())
    }
}
