//! What of the machine a function needs, and the machine itself.

use core::ops::Range;

use xen_core::p2m::{Entry, P2mType};
use xen_core::{
    Arch, Domain, Error, Gfn, GuestPhysAddr, HostPhysAddr, Hypervisor, Mfn, PAGE_SIZE, Result,
    VcpuId,
};

use super::{Binding, Passthrough, Source};
use crate::backend::HvmBackend;
use crate::host::mmio::Mmio;
use crate::host::pending::Vector;
use crate::host::{cpu, interrupts, mmu, percpu};
use crate::machine::X86;
use crate::platform::message::{Destination, Message};
use crate::platform::pci::Access;
use crate::policy::topology;

/// Addresses that interrupt messages go to, the registers of local APICs among them.
const MESSAGES: Range<u64> = 0xfee0_0000..0xfef0_0000;
/// Where the identifier of a local APIC is in a message's address.
const DESTINATION_SHIFT: u32 = 12;
/// Identifiers of local APICs that a message's address can hold, without interrupt remapping.
const MAX_DESTINATION: u32 = 0xfe;
/// Pages that are mapped at once if nothing speaks against it: a large page.
const BLOCK: u64 = 512;

/// What of the machine a function needs.
pub(in crate::machine) trait Board {
    /// Reads the machine's configuration space.
    fn read(&mut self, access: &Access) -> u32;
    /// Writes it.
    fn write(&mut self, access: &Access, value: u32);
    /// Consecutive vectors of the machine; see [`interrupts::allocate_block`].
    fn allocate(&mut self, count: u8) -> Result<Vector>;
    /// What a vector comes to in the domain.
    fn bind(&mut self, vector: Vector, message: Option<Message>);
    /// Takes a vector back, which no device sends any more.
    fn free(&mut self, vector: Vector);
    /// The address, of 32 bits, that a device has to write to for an interrupt at the CPU where this message is best received.
    fn address(&mut self, message: Option<&Message>) -> u32;
    /// Takes a function's registers away from the domain: whole pages, at these addresses.
    ///
    /// Errors: [`Error::Inval`] for what is not a device's memory; [`Error::NoMem`].
    fn take(&mut self, pages: Range<u64>) -> Result<Mmio>;
}

/// The machine, as a domain's functions need it.
pub(in crate::machine) struct Machine<'a, B: HvmBackend> {
    pub(in crate::machine) hv: &'a Hypervisor<X86<B>>,
    pub(in crate::machine) domain: &'a Domain<X86<B>>,
    pub(in crate::machine) devices: &'a Passthrough,
}

/// The vCPU that a message is likely for. It decides nothing but which CPU is interrupted.
const fn receiver(destination: Destination) -> VcpuId {
    let id = match destination {
        Destination::Physical(id) => topology::vcpu_of(id),
        // The flat model, as operating systems use it.
        Destination::Logical(bits @ 1..=0xff) => Some(VcpuId(bits.trailing_zeros())),
        Destination::Logical(_) | Destination::All => None,
    };
    match id {
        Some(id) => id,
        None => VcpuId(0),
    }
}

impl<B: HvmBackend> Machine<'_, B> {
    /// Whether a frame may be the domain's: it is a device's, or nothing's.
    fn is_open(&self, frame: u64) -> bool {
        let at = frame.saturating_mul(PAGE_SIZE);
        at < cpu::physical_address_mask()
            && !MESSAGES.contains(&at)
            && !self.hv.frames.is_ram(Mfn(frame))
            && self.hv.arch.is_guest_device(Mfn(frame))
            && !self.devices.keeps_page(GuestPhysAddr(at))
    }

    /// The domain touched an address at which nothing is mapped. If there can be a device of the machine, its page, or the
    /// large page around it, is mapped, which this says.
    pub(in crate::machine) fn map_touched(&self, at: GuestPhysAddr) -> bool {
        // Held, so that no function's table is hidden meanwhile.
        let pci = self.devices.pci.lock();
        let wanted = |frame| self.is_open(frame) && !pci.keeps_page(frame * PAGE_SIZE);
        let p2m = &self.domain.p2m;
        let frame = at.0 / PAGE_SIZE;
        if !wanted(frame) {
            return false;
        }
        if p2m.lookup(Gfn(frame)).is_some() {
            return true;
        }
        let map = |frame, count| p2m.map(Gfn(frame), Mfn(frame), count, P2mType::Mmio);
        let first = frame & !(BLOCK - 1);
        let all = (first..first + BLOCK).all(|n| p2m.lookup(Gfn(n)).is_none() && wanted(n));
        all && map(first, BLOCK).is_ok() || map(frame, 1).is_ok()
    }
}

impl<B: HvmBackend> Board for Machine<'_, B> {
    fn read(&mut self, access: &Access) -> u32 {
        self.devices.config.read(access)
    }

    fn write(&mut self, access: &Access, value: u32) {
        self.devices.config.write(access, value);
    }

    fn allocate(&mut self, count: u8) -> Result<Vector> {
        interrupts::allocate_block(count)
    }

    fn bind(&mut self, vector: Vector, message: Option<Message>) {
        let binding = Binding {
            domain: self.domain.id(),
            source: Source::Message(message),
        };
        self.hv.arch.bindings.set(vector, Some(binding));
    }

    fn free(&mut self, vector: Vector) {
        self.hv.arch.bindings.set(vector, None);
        interrupts::free(vector);
    }

    fn address(&mut self, message: Option<&Message>) -> u32 {
        let id = message.map_or(VcpuId(0), |message| receiver(message.destination));
        let cpu = self.domain.vcpu(id).and_then(|vcpu| vcpu.cpu());
        let reachable = |id: &u32| *id <= MAX_DESTINATION;
        let apic = [cpu.unwrap_or(percpu::cpu_id())]
            .into_iter()
            .chain(percpu::online_cpus())
            .find_map(|cpu| percpu::apic_id(cpu).filter(reachable));
        MESSAGES.start as u32 | apic.unwrap_or(0) << DESTINATION_SHIFT
    }

    fn take(&mut self, pages: Range<u64>) -> Result<Mmio> {
        let frames = pages.start / PAGE_SIZE..pages.end.div_ceil(PAGE_SIZE);
        if !frames.clone().all(|frame| self.is_open(frame)) {
            return Err(Error::Inval);
        }
        let size = pages.end - pages.start;
        // SAFETY: a function of the domain has its registers there, of which only Oxen reaches these pages now.
        #[expect(unsafe_code, reason = "maps a function's registers")]
        let registers = unsafe { mmu::map_device(HostPhysAddr(pages.start), size) }?;
        for frame in frames {
            let own = |entry: Entry| match entry.kind {
                P2mType::Mmio => Ok(()),
                _ => Err(Error::Busy),
            };
            match self.domain.p2m.unmap_if(Gfn(frame), own) {
                // What is there is not the machine's.
                Ok(_) | Err(Error::NoEnt | Error::Busy) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(registers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers() {
        assert_eq!(receiver(Destination::Physical(6)), VcpuId(3));
        assert_eq!(receiver(Destination::Physical(7)), VcpuId(0));
        assert_eq!(receiver(Destination::Logical(0x0c)), VcpuId(2));
        assert_eq!(receiver(Destination::Logical(0)), VcpuId(0));
        assert_eq!(receiver(Destination::Logical(0x1_0001)), VcpuId(0));
        assert_eq!(receiver(Destination::All), VcpuId(0));
    }
}
