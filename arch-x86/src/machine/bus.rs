//! Memory, devices and ports as a vCPU reaches them, for emulation.

use alloc::sync::Arc;

use xen_core::mem::Page;
use xen_core::{Error, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, Vcpu};

use super::{X86, devices, lapic};
use crate::backend::HvmBackend;
use crate::emulate::walk::Paging;
use crate::emulate::{Access, Bus, Place, Stop, walk};

/// A vCPU's view of the world.
pub(super) struct DomainBus<'a, B: HvmBackend> {
    pub(super) hv: &'a Hypervisor<X86<B>>,
    pub(super) vcpu: &'a Arc<Vcpu<X86<B>>>,
    /// How it translates addresses.
    pub(super) paging: Paging,
}

impl<B: HvmBackend> DomainBus<'_, B> {
    /// What is at a guest-physical address: memory, or something that only the hypervisor can answer for. What the
    /// domain may only read counts as a device where it is written to: the writes are lost.
    fn place(&self, at: GuestPhysAddr, write: bool) -> Result<Place, Stop> {
        match self.vcpu.domain.p2m.lookup(Gfn::containing(at)) {
            None => Ok(Place::Device(at)),
            // Instructions that reach devices of the machine do not exit. Together with a device of ours in one
            // instruction they cannot be carried out.
            Some(entry) if !entry.kind.holds_frames() => Err(Stop::Failed(Error::OpNotSupp)),
            Some(entry) if write && !entry.kind.writable() => Ok(Place::Device(at)),
            Some(_) => Ok(Place::Memory(at)),
        }
    }
}

impl<B: HvmBackend> Bus for DomainBus<'_, B> {
    fn translate(&mut self, linear: u64, access: Access) -> Result<Place, Stop> {
        let domain = &*self.vcpu.domain;
        let found = walk(&self.paging, domain, GuestVirtAddr(linear), access)
            .map_err(|denied| denied.stop(linear))?;
        self.place(found.address, access.write)
    }

    fn read(&mut self, at: Place, to: &mut [u8]) -> Result<(), Stop> {
        match at {
            Place::Memory(at) => self
                .vcpu
                .domain
                .read_physical(at, to)
                .map_err(|_| Stop::Retry),
            // It may be memory that can be read.
            Place::Device(at) if self.vcpu.domain.read_physical(at, to).is_ok() => Ok(()),
            Place::Device(at) => {
                if !lapic::read_memory(self.vcpu, at, to) {
                    devices::read(self.hv, self.vcpu, at, to);
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, at: Place, from: &[u8]) -> Result<(), Stop> {
        match at {
            Place::Memory(at) => self
                .vcpu
                .domain
                .write_physical(at, from)
                .map_err(|_| Stop::Retry),
            Place::Device(at) => {
                if !lapic::write_memory(self.hv, self.vcpu, at, from) {
                    devices::write(self.hv, self.vcpu, at, from);
                }
                Ok(())
            }
        }
    }

    fn compare_exchange(
        &mut self,
        at: Place,
        size: usize,
        current: u64,
        new: u64,
    ) -> Result<bool, Stop> {
        let Place::Memory(at) = at else {
            return Err(Stop::Failed(Error::OpNotSupp));
        };
        let frame = self.vcpu.domain.p2m.frame(Gfn::containing(at), true);
        let (frame, _) = frame.map_err(|_| Stop::Retry)?;
        let offset = at.page_offset() as usize;
        exchange(frame.page(), offset, size, current, new).ok_or(Stop::Failed(Error::Inval))
    }

    fn port_in(&mut self, port: u16, size: usize) -> Result<u32, Stop> {
        Ok(devices::port_in(self.hv, self.vcpu, port, size as u8))
    }

    fn port_out(&mut self, port: u16, size: usize, value: u32) -> Result<(), Stop> {
        devices::port_out(self.hv, self.vcpu, port, size as u8, value);
        Ok(())
    }
}

/// Replaces `size` bytes if they are `current`; `None` for a size or alignment that there is not.
fn exchange(page: Page<'_>, offset: usize, size: usize, current: u64, new: u64) -> Option<bool> {
    if !offset.is_multiple_of(size.max(1)) {
        return None;
    }
    Some(match size {
        1 => page
            .compare_exchange_u8(offset, current as u8, new as u8)
            .is_ok(),
        2 => page
            .compare_exchange_u16(offset, current as u16, new as u16)
            .is_ok(),
        4 => page
            .compare_exchange_u32(offset, current as u32, new as u32)
            .is_ok(),
        8 => page.compare_exchange_u64(offset, current, new).is_ok(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xen_core::DomainId;
    use xen_core::mem::SoftFrames;

    proptest! {
        #[test]
        fn only_the_bytes_named_change(
            before: [u8; 16], at in 0usize..8, size in prop::sample::select(&[1usize, 2, 4, 8][..]), right: bool, new: u64
        ) {
            let memory = SoftFrames::new(8);
            let frame = memory.frames().alloc_page(DomainId::XEN).unwrap();
            frame.page().write(0, &before);
            let mut word = [0; 8];
            word[..size].copy_from_slice(&before[at..at + size]);
            let current = u64::from_le_bytes(word) ^ u64::from(!right);
            let result = exchange(frame.page(), at, size, current, new);
            let mut expected = before;
            if at % size != 0 {
                prop_assert_eq!(result, None);
            } else {
                prop_assert_eq!(result, Some(right));
                if right {
                    expected[at..at + size].copy_from_slice(&new.to_le_bytes()[..size]);
                }
            }
            let mut after = [0; 16];
            frame.page().read(0, &mut after);
            prop_assert_eq!(after, expected);
        }
    }
}
