//! A second place where a guest can have a vCPU's clock (`vcpu_time_info`), beside that in `vcpu_info`.
//!
//! What stands there is the architecture's ([`Arch::time_info`]); where, and how readers can tell that it is being written,
//! is here. It is written on the CPU that the vCPU is on, and nowhere else, so that there is only one writer.

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, Ordering, fence};

use spin::Mutex;
use xen_abi::xen::VcpuTimeInfo;
use zerocopy::{FromBytes, IntoBytes};

use super::Vcpu;
use crate::mem::FrameRef;
use crate::{Arch, Error, Gfn, GuestPhysAddr, GuestVirtAddr, Hypervisor, PAGE_SIZE, Result};

/// Size in bytes of `vcpu_time_info`.
const SIZE: usize = size_of::<VcpuTimeInfo>();
/// Where its version is: odd while it is being written.
const VERSION: usize = core::mem::offset_of!(VcpuTimeInfo, version);

#[derive(Debug, Default)]
enum Area {
    #[default]
    None,
    /// At a virtual address, walked anew at each update.
    Virtual(GuestVirtAddr),
    /// In a page that is held, at an offset.
    Pinned(FrameRef, usize),
}

/// Where a guest wants a vCPU's clock. The last successful registration wins, of either kind.
#[derive(Debug, Default)]
pub struct TimeArea {
    area: Mutex<Area>,
    /// There is an area: spares vCPUs without one the lock.
    wanted: AtomicBool,
    /// It was registered after the vCPU was last put on a CPU, and is to be written.
    due: AtomicBool,
}

impl<A: Arch> Vcpu<A> {
    /// Registers an area by virtual address, in the vCPU's own page tables; 0 unregisters
    /// (`VCPUOP_register_vcpu_time_memory_area`). An address that leads nowhere is no error.
    pub fn register_time_virtual(&self, hv: &Hypervisor<A>, address: GuestVirtAddr) {
        let area = match address.0 {
            0 => Area::None,
            _ => Area::Virtual(address),
        };
        self.install_time_area(hv, area);
    }

    /// Registers an area by physical address; all ones unregister (`VCPUOP_register_vcpu_time_phys_area`).
    ///
    /// Errors: [`Error::Nxio`] if it crosses a page or is misaligned; [`Error::Inval`] if no memory of the domain is there;
    /// [`Error::Access`] if it is read-only.
    pub fn register_time_physical(&self, hv: &Hypervisor<A>, address: GuestPhysAddr) -> Result<()> {
        let area = if address.0 == u64::MAX {
            Area::None
        } else {
            let offset = address.page_offset();
            if offset > PAGE_SIZE - SIZE as u64 || !offset.is_multiple_of(8) {
                return Err(Error::Nxio);
            }
            let found = self.domain.p2m.frame(Gfn::containing(address), false);
            let (frame, kind) = found.map_err(|_| Error::Inval)?;
            if !kind.is_ram() {
                return Err(Error::Inval);
            }
            if !kind.writable() {
                return Err(Error::Access);
            }
            Area::Pinned(frame, offset as usize)
        };
        self.install_time_area(hv, area);
        Ok(())
    }

    fn install_time_area(&self, hv: &Hypervisor<A>, area: Area) {
        let wanted = !matches!(area, Area::None);
        // What was there is let go of without the lock.
        let before = core::mem::replace(&mut *self.time_area.area.lock(), area);
        self.time_area.wanted.store(wanted, Ordering::SeqCst);
        self.time_area.due.store(wanted, Ordering::SeqCst);
        drop(before);
        // If it runs elsewhere it writes there before it runs on; if it does not, when it is next put on a CPU. One of the
        // two sees the other.
        if wanted && let Some(cpu) = self.cpu() {
            hv.reschedule(cpu);
        }
    }

    /// Forgets the area, at the end of the vCPU's life.
    pub(super) fn retire_time_area(&self) {
        let before = core::mem::take(&mut *self.time_area.area.lock());
        self.time_area.wanted.store(false, Ordering::SeqCst);
        drop(before);
    }

    /// Brings the area up to date. `context` is the vCPU's, loaded on this CPU, which is where to call this after a
    /// change of what [`Arch::time_info`] says.
    #[inline]
    pub fn publish_time(&self, hv: &Hypervisor<A>, context: &mut A::Context) {
        if self.time_area.wanted.load(Ordering::SeqCst) {
            self.write_time(hv, context);
        }
    }

    /// As [`Self::publish_time`], if the area is a new one.
    #[inline]
    pub(crate) fn publish_time_if_due(&self, hv: &Hypervisor<A>, context: &mut A::Context) {
        if self.time_area.due.load(Ordering::SeqCst) {
            self.publish_time(hv, context);
        }
    }

    fn write_time(&self, hv: &Hypervisor<A>, context: &mut A::Context) {
        let Some(mut info) = A::time_info(hv, self) else {
            return;
        };
        // Before the area is looked at: one that comes later sets it again.
        self.time_area.due.store(false, Ordering::SeqCst);
        let area = self.time_area.area.lock();
        let mut old = [0; SIZE];
        match &*area {
            Area::None => return,
            Area::Virtual(at) => {
                // The guest is not told when its page has gone: the interface has no way to.
                if hv.copy_from_virtual(self, context, *at, &mut old).is_err() {
                    return;
                }
            }
            Area::Pinned(frame, offset) => frame.page().read(*offset, &mut old),
        }
        let Ok(old) = VcpuTimeInfo::read_from_bytes(&old) else {
            return;
        };
        info.version = old.version;
        if info == old && info.version & 1 == 0 {
            return;
        }
        let odd = info.version | 1;
        info.version = odd;
        let mut write = |at: usize, bytes: &[u8]| match &*area {
            Area::None => {}
            Area::Virtual(address) => {
                let at = GuestVirtAddr(address.0.wrapping_add(at as u64));
                let _ = hv.copy_to_virtual(self, context, at, bytes);
            }
            Area::Pinned(frame, offset) => frame.page().write(offset + at, bytes),
        };
        write(VERSION, odd.as_bytes());
        fence(Ordering::SeqCst);
        write(0, info.as_bytes());
        fence(Ordering::SeqCst);
        write(VERSION, odd.wrapping_add(1).as_bytes());
    }
}
