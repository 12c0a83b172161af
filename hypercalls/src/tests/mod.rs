//! Hypercalls on the software machine, from the caller's side: what each operation answers, what it leaves in memory,
//! and that nothing is left behind.

mod builder;
mod console;
mod direct;
mod dispatch;
#[cfg(feature = "mgmt_hypercalls")]
mod domctl;
mod events;
mod grants;
mod hvm;
mod management;
mod memory;
mod memory_map;
#[cfg(feature = "multicall")]
mod multicall;
mod physdev;
mod physmap;
mod platform;
mod random;
mod resource;
mod runstate;
mod sched;
#[cfg(feature = "mgmt_hypercalls")]
mod sysctl;
mod timers;
mod vcpu;
mod version;
mod wide;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use xen_abi::xen::Hypercall;
use xen_core::soft::{Machine, Soft};
use xen_core::{Domain, DomainConfig, Error, Gfn, GuestPhysAddr, PAGE_SIZE, Vcpu, VcpuId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `DOMID_SELF`.
pub(crate) const SELF: u16 = 0x7ff0;
/// A domain that does not exist.
pub(crate) const NOBODY: u16 = 77;
/// Where the argument of a hypercall goes if the test does not care.
pub(crate) const ARG: u64 = 0x1000;
/// Where the lists that arguments point to go.
pub(crate) const LIST: u64 = 0x4000;
/// An address with nothing behind it, outside a guest's memory.
pub(crate) const NOWHERE: u64 = 0x00de_a000;
/// Frames of memory a guest has at the start, from guest frame 0 on.
pub(crate) const PAGES: u64 = 32;
/// A guest frame with nothing behind it.
pub(crate) const FREE: u64 = 0x100;
/// Restarts after which a hypercall is taken not to come to an end.
const PATIENCE: u32 = 100_000;

/// The number a hypercall answers an error with.
pub(crate) const fn err(error: Error) -> i64 {
    error.to_result()
}

/// A machine to be checked for what its guests left behind.
pub(crate) struct World {
    pub(crate) machine: Machine,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_frames(4096)
    }

    pub(crate) fn with_frames(frames: usize) -> Self {
        let machine = Machine::new(frames, 2);
        assert_eq!(machine.hv.frames.allocated(), []);
        // There is no vCPU yet: this does the work that waits on a CPU that starts.
        xen_core::step(&machine.hv, crate::dispatch);
        Self { machine }
    }

    /// A domain with two vCPUs, which are down: they make hypercalls all the same, but run nothing of their own.
    pub(crate) fn guest(&self, id: u16) -> Guest<'_> {
        self.guest_with(Machine::config(id))
    }

    pub(crate) fn guest_with(&self, config: DomainConfig) -> Guest<'_> {
        let hv = &self.machine.hv;
        let domain = Domain::new(hv, config).expect("a domain");
        hv.domains.insert(domain.clone()).expect("a free number");
        for n in 0..PAGES {
            domain.charge_pages(1).expect("room");
            let frame = hv.frames.alloc_page(domain.id()).expect("memory");
            let kind = xen_core::p2m::P2mType::RamRw;
            domain.p2m.map_new(Gfn(n), frame, kind).expect("room");
        }
        for n in 0..2 {
            domain.add_vcpu(hv, VcpuId(n)).expect("a vCPU");
        }
        Guest::of(self, domain, 0)
    }

    /// Destroys all domains; nothing may be left of them.
    pub(crate) fn end<'w>(&'w self, guests: impl IntoIterator<Item = Guest<'w>>) {
        self.machine.hv.arch.yield_every.store(0, SeqCst);
        for guest in guests {
            drop(guest);
        }
        for domain in self.machine.hv.domains.all() {
            self.machine.destroy(domain);
        }
        assert_eq!(self.machine.hv.frames.allocated(), []);
    }

    /// Makes long hypercalls stop at each `n`-th chance; never if 0.
    pub(crate) fn yield_every(&self, n: u32) {
        self.machine.hv.arch.yield_every.store(n, SeqCst);
    }
}

/// A vCPU that makes hypercalls.
pub(crate) struct Guest<'w> {
    pub(crate) world: &'w World,
    pub(crate) vcpu: Arc<Vcpu<Soft>>,
}

impl<'w> Guest<'w> {
    /// vCPU `n` of a domain.
    pub(crate) fn of(world: &'w World, domain: Arc<Domain<Soft>>, n: u32) -> Self {
        let vcpu = domain.vcpu(VcpuId(n)).expect("the vCPU");
        Self { world, vcpu }
    }

    pub(crate) fn domain(&self) -> &Arc<Domain<Soft>> {
        &self.vcpu.domain
    }

    /// Makes a hypercall once: its result, or `None` if it is to be made again.
    pub(crate) fn once(&self, number: Hypercall, args: &[u64]) -> Option<i64> {
        let mut context = self.vcpu.context();
        context.number = number.0;
        context.args = [0; 5];
        context.args[..args.len()].copy_from_slice(args);
        self.go_on(&mut context)
    }

    /// Executes the hypercall in the registers again.
    pub(crate) fn again(&self) -> Option<i64> {
        self.go_on(&mut self.vcpu.context())
    }

    fn go_on(&self, context: &mut xen_core::soft::SoftContext) -> Option<i64> {
        context.results.clear();
        crate::dispatch(&self.world.machine.hv, &self.vcpu, context);
        context.results.pop()
    }

    /// The arguments as a restart left them.
    #[cfg(feature = "multicall")]
    pub(crate) fn args(&self) -> [u64; 5] {
        let context = self.vcpu.context();
        core::array::from_fn(|n| xen_core::Registers::arg(&*context, n))
    }

    /// Makes a hypercall until it is done.
    pub(crate) fn call(&self, number: Hypercall, args: &[u64]) -> i64 {
        let mut result = self.once(number, args);
        for _ in 0..PATIENCE {
            match result {
                Some(result) => return result,
                None => result = self.again(),
            }
        }
        panic!("{number:?} {args:x?} goes on for ever");
    }

    /// Makes a hypercall of the form (operation, address of the argument); the argument comes back changed.
    pub(crate) fn op<T>(&self, number: Hypercall, op: u32, arg: &mut T) -> i64
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.put(ARG, arg);
        let result = self.call(number, &[op.into(), ARG]);
        *arg = self.get(ARG);
        result
    }

    /// How often hypercalls were to be made again so far.
    pub(crate) fn restarts(&self) -> u32 {
        self.vcpu.context().restarts
    }

    pub(crate) fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        let written = self
            .domain()
            .write_physical(GuestPhysAddr(at), value.as_bytes());
        assert_eq!(written, Ok(()));
    }

    pub(crate) fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        let read = self
            .domain()
            .read_physical(GuestPhysAddr(at), value.as_mut_bytes());
        assert_eq!(read, Ok(()));
        value
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.domain().read_physical(GuestPhysAddr(at), &mut bytes);
        assert_eq!(read, Ok(()));
        bytes
    }

    /// Makes the virtual page at `address` lead nowhere.
    pub(crate) fn unmap(&self, address: u64) {
        self.map_page(address, None);
    }

    /// Makes the virtual page at `address` lead to a guest frame.
    pub(crate) fn map_page(&self, address: u64, gfn: Option<u64>) {
        self.vcpu.context().pages.insert(address / PAGE_SIZE, gfn);
    }

    /// Whether a guest frame is mapped.
    pub(crate) fn is_mapped(&self, gfn: u64) -> bool {
        self.domain().p2m.lookup(Gfn(gfn)).is_some()
    }
}
