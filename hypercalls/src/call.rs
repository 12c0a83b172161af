//! What a handler works with: the caller, and copies from and to its memory.

use alloc::sync::Arc;

use xen_core::policy::{self, Verb};
use xen_core::{Arch, Domain, DomainId, Error, GuestVirtAddr, Hypervisor, Result, Vcpu, VcpuId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How a hypercall ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, with this result.
    Done(i64),
    /// To be executed again with these arguments: progress was made, more urgent work waits.
    Restart([u64; 5]),
}

/// Done with result 0.
pub(crate) const DONE: Result<Outcome> = Ok(Outcome::Done(0));

/// A hypercall being handled.
pub struct Call<'a, A: Arch> {
    /// The hypervisor.
    pub hv: &'a Hypervisor<A>,
    /// The calling vCPU, on this CPU.
    pub vcpu: &'a Arc<Vcpu<A>>,
    /// Its registers and page tables; only for copies.
    pub(crate) context: &'a mut A::Context,
}

impl<'a, A: Arch> Call<'a, A> {
    /// The calling domain.
    pub fn domain(&self) -> &'a Arc<Domain<A>> {
        &self.vcpu.domain
    }

    /// Copies a structure out of the caller's memory.
    ///
    /// Errors: [`Error::Fault`].
    pub fn read<T: FromBytes + IntoBytes>(&mut self, address: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.hv.copy_from_virtual(
            self.vcpu,
            self.context,
            GuestVirtAddr(address),
            value.as_mut_bytes(),
        )?;
        Ok(value)
    }

    /// Copies element `index` of an array out of the caller's memory.
    ///
    /// Errors: [`Error::Fault`], also for an address that wraps.
    pub fn read_at<T: FromBytes + IntoBytes>(&mut self, array: u64, index: u64) -> Result<T> {
        self.read(element::<T>(array, index)?)
    }

    /// Copies bytes out of the caller's memory.
    ///
    /// Errors: [`Error::Fault`].
    pub fn read_bytes(&mut self, address: u64, to: &mut [u8]) -> Result<()> {
        self.hv
            .copy_from_virtual(self.vcpu, self.context, GuestVirtAddr(address), to)
    }

    /// Copies a structure into the caller's memory.
    ///
    /// Errors: [`Error::Fault`].
    pub fn write<T: IntoBytes + Immutable>(&mut self, address: u64, value: &T) -> Result<()> {
        self.write_bytes(address, value.as_bytes())
    }

    /// Copies element `index` of an array into the caller's memory.
    ///
    /// Errors: [`Error::Fault`], also for an address that wraps.
    pub fn write_at<T: IntoBytes + Immutable>(
        &mut self,
        array: u64,
        index: u64,
        value: &T,
    ) -> Result<()> {
        self.write(element::<T>(array, index)?, value)
    }

    /// Copies bytes into the caller's memory.
    ///
    /// Errors: [`Error::Fault`].
    pub fn write_bytes(&mut self, address: u64, from: &[u8]) -> Result<()> {
        self.hv
            .copy_to_virtual(self.vcpu, self.context, GuestVirtAddr(address), from)
    }

    /// The domain that `id` names, `DOMID_SELF` included.
    ///
    /// Errors: [`Error::Srch`].
    pub fn domain_by_id(&self, id: u16) -> Result<Arc<Domain<A>>> {
        match DomainId(id) {
            DomainId::SELF => Ok(self.domain().clone()),
            id if id == self.domain().id() => Ok(self.domain().clone()),
            id => self.hv.domains.get(id).ok_or(Error::Srch),
        }
    }

    /// The domain that `id` names where the interface does not take `DOMID_SELF` for a name.
    ///
    /// Errors: [`Error::Srch`].
    pub fn domain_by_number(&self, id: u16) -> Result<Arc<Domain<A>>> {
        if DomainId(id) == DomainId::SELF {
            return Err(Error::Srch);
        }
        self.domain_by_id(id)
    }

    /// The domain that `id` names, if the caller may do `verb` to it.
    ///
    /// Errors: [`Error::Srch`]; [`Error::Perm`].
    pub fn target(&self, id: u16, verb: Verb) -> Result<Arc<Domain<A>>> {
        let target = self.domain_by_id(id)?;
        policy::may(self.domain(), verb, &target)?;
        Ok(target)
    }

    /// Whether the caller may do `verb` to itself or the machine.
    ///
    /// Errors: [`Error::Perm`].
    pub fn may(&self, verb: Verb) -> Result<()> {
        policy::may(self.domain(), verb, self.domain())
    }

    /// A vCPU of the caller.
    ///
    /// Errors: [`Error::NoEnt`].
    pub fn own_vcpu(&self, id: u32) -> Result<Arc<Vcpu<A>>> {
        self.domain().vcpu(VcpuId(id)).ok_or(Error::NoEnt)
    }

    /// Translates an address of the caller for a write.
    pub(crate) fn translate(&mut self, address: GuestVirtAddr) -> Result<xen_core::GuestPhysAddr> {
        self.hv.arch.translate(self.context, address, true)
    }
}

fn element<T>(array: u64, index: u64) -> Result<u64> {
    index
        .checked_mul(size_of::<T>() as u64)
        .and_then(|o| array.checked_add(o))
        .ok_or(Error::Fault)
}
