//! dom0's memory: guest frames are machine frames, so that devices find what the kernel tells them.
#![expect(unsafe_code, reason = "arranges memory that nobody owns yet")]

use alloc::sync::Arc;

use arch_x86::backend::HvmBackend;
use arch_x86::host::mmu;
use arch_x86::machine::X86;
use boot::pvh::elf::Target;
use boot::pvh::memory_map::Dom0Memory;
use boot::pvh::place::Room;
use boot::pvh::plan::Plan;
use boot::range::PhysRange;
use xen_core::mem::Frames;
use xen_core::p2m::P2mType;
use xen_core::{Domain, DomainId, Error, Gfn, GuestPhysAddr, Mfn, PAGE_SHIFT, Result};

/// Everything of dom0's memory that is RAM.
pub(super) fn ram(memory: &Dom0Memory) -> impl Iterator<Item = PhysRange> {
    memory.ram.iter().copied().chain(memory.tables)
}

fn frames_of(range: &PhysRange) -> (Mfn, u64) {
    let first = Mfn::containing(range.start());
    (first, range.size() >> PAGE_SHIFT)
}

/// Moves the ramdisk, which is at `from`, to its place, gives dom0's memory to it and everything else that is `free` to the
/// allocator. With `scrub` nothing is left of what the firmware had in dom0's memory.
pub(super) fn divide(
    frames: &Frames,
    plan: &Plan,
    ramdisk: &[u8],
    free: &[PhysRange],
    scrub: bool,
) -> Result<()> {
    if let Some(place) = &plan.ramdisk {
        let to = mmu::phys_to_virt(place.start()).ok_or(Error::Fault)?;
        // SAFETY: the place is free RAM, of this size at least, that the direct map shows. The module may be there, too,
        // which is why this is a move; it is not looked at again. The unpacked kernel is elsewhere.
        unsafe { core::ptr::copy(ramdisk.as_ptr(), to, ramdisk.len()) };
    }
    if scrub {
        let mut rest = Room::new(&ram(&plan.memory).collect::<alloc::vec::Vec<_>>());
        if let Some(place) = &plan.ramdisk {
            rest.remove(place);
        }
        for range in rest.free() {
            let at = mmu::phys_to_virt(range.start()).ok_or(Error::Fault)?;
            // SAFETY: free RAM that the direct map shows.
            unsafe { at.write_bytes(0, range.size() as usize) };
        }
    }
    for range in ram(&plan.memory) {
        let (first, count) = frames_of(&range);
        frames.assign(DomainId::DOM0, first, count)?;
    }
    release(frames, free);
    Ok(())
}

/// Gives what no domain got of `ranges` to the allocator.
pub(super) fn release(frames: &Frames, ranges: &[PhysRange]) {
    for range in ranges {
        let (first, count) = frames_of(range);
        frames.release(first, count);
    }
}

/// Maps dom0's memory, the firmware's, and devices.
pub(super) fn map<B: HvmBackend>(domain: &Arc<Domain<X86<B>>>, memory: &Dom0Memory) -> Result<()> {
    for range in ram(memory) {
        let (first, count) = frames_of(&range);
        domain.charge_pages(count)?;
        domain.p2m.map(Gfn(first.0), first, count, P2mType::RamRw)?;
    }
    let limit = 1 << domain.p2m.gfn_bits();
    for range in memory.identity.iter().chain(&memory.holes) {
        let (first, count) = frames_of(range);
        if first.0 + count > limit {
            log::warn!("{range} is out of dom0's reach");
            continue;
        }
        domain.p2m.map(Gfn(first.0), first, count, P2mType::Mmio)?;
    }
    Ok(())
}

/// dom0's memory, for the kernel.
pub(super) struct Guest<'a, B: HvmBackend>(pub(super) &'a Domain<X86<B>>);

impl<B: HvmBackend> Target for Guest<'_, B> {
    fn write(&mut self, at: GuestPhysAddr, bytes: &[u8]) -> Result<()> {
        self.0.write_physical(at, bytes)
    }

    fn zero(&mut self, at: GuestPhysAddr, size: u64) -> Result<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < size {
            let at = GuestPhysAddr(at.0 + done);
            let n = (size - done).min(ZEROES.len() as u64 - at.page_offset());
            let piece = ZEROES.get(..n as usize).ok_or(Error::Inval)?;
            self.0.write_physical(at, piece)?;
            done += n;
        }
        Ok(())
    }
}
