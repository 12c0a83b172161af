//! A domain whose guest frames are machine frames: what it gives away stays its own, and comes back as the very same.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_abi::memory::{AddToPhysmap, MapSpace, MemoryOp, RemoveFromPhysmap};
use xen_abi::xen::Hypercall;
use xen_core::mem::{AllocFlags, SoftFrames};
use xen_core::p2m::P2mType;
use xen_core::soft::Machine;
use xen_core::{
    Domain, DomainConfig, DomainId, Error, Gfn, GuestPhysAddr, Hypervisor, Mfn, PAGE_SIZE, VcpuId,
};
use zerocopy::{Immutable, IntoBytes};

use super::memory::{DECREASE, POPULATE, reservation};
use super::wide::Wide;
use super::{ARG, LIST, SELF, err};

const OWN: usize = 8;

/// A direct-mapped dom0. Besides its own frames it has ordinary ones from guest frame 0 on, for arguments.
struct Direct {
    hv: Hypervisor<Wide>,
    domain: Arc<Domain<Wide>>,
    own: [u64; OWN],
    /// Last, so that it is given back after what uses it.
    memory: SoftFrames,
}

impl Direct {
    fn new() -> Self {
        let memory = SoftFrames::new(2048);
        let hv = Wide::machine(&memory);
        let config = DomainConfig {
            direct_mapped: true,
            ..Machine::config(0)
        };
        let domain = Domain::new(&hv, config).unwrap();
        hv.domains.insert(domain.clone()).unwrap();
        domain.add_vcpu(&hv, VcpuId(0)).unwrap();
        let give = |gfn: Option<u64>| {
            domain.charge_pages(1).unwrap();
            let frame = hv.frames.alloc_page(domain.id()).unwrap();
            let gfn = gfn.unwrap_or(frame.mfn().0);
            let mapped = domain.p2m.map_new(Gfn(gfn), frame, P2mType::RamRw);
            assert_eq!(mapped, Ok(()));
            gfn
        };
        (0..8).for_each(|n| assert_eq!(give(Some(n)), n));
        let own = core::array::from_fn(|_| give(None));
        Self {
            hv,
            domain,
            own,
            memory,
        }
    }

    fn op<T: IntoBytes + Immutable>(&self, op: MemoryOp, arg: &T) -> i64 {
        self.put(ARG, arg);
        let vcpu = self.domain.vcpu(VcpuId(0)).unwrap();
        let mut context = vcpu.context();
        context.number = Hypercall::MEMORY_OP.0;
        context.args = [op.0.into(), ARG, 0, 0, 0];
        for _ in 0..1000 {
            crate::dispatch(&self.hv, &vcpu, &mut context);
            if let Some(result) = context.results.pop() {
                return result;
            }
        }
        panic!("{op:?} goes on for ever");
    }

    fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        let put = self
            .domain
            .write_physical(GuestPhysAddr(at), value.as_bytes());
        assert_eq!(put, Ok(()));
    }

    fn number_at(&self, gfn: u64) -> u64 {
        let mut bytes = [0; 8];
        let at = GuestPhysAddr(gfn * PAGE_SIZE);
        assert_eq!(self.domain.read_physical(at, &mut bytes), Ok(()));
        u64::from_le_bytes(bytes)
    }

    fn change(&self, op: MemoryOp, order: u32, list: &[u64]) -> i64 {
        self.put(LIST, list);
        self.op(op, &reservation(SELF, list.len(), order))
    }

    fn add(&self, space: MapSpace, idx: u64, gpfn: u64) -> i64 {
        let args = AddToPhysmap {
            domid: SELF,
            size: 0,
            space,
            idx,
            gpfn,
        };
        self.op(MemoryOp::ADD_TO_PHYSMAP, &args)
    }

    fn is_mapped(&self, gfn: u64) -> bool {
        self.domain.p2m.lookup(Gfn(gfn)).is_some()
    }

    /// Nothing was lost, and each frame is held exactly once.
    fn end(self) {
        self.change(POPULATE, 0, &self.own);
        for mfn in self.own {
            assert_eq!(self.hv.frames.count(Mfn(mfn)), 1);
            assert_eq!(
                self.domain.p2m.lookup(Gfn(mfn)).map(|e| e.mfn),
                Some(Mfn(mfn))
            );
        }
        self.hv.domains.remove(DomainId(0));
        while self.domain.kill(&self.hv).is_err() {}
        let frames = self.hv.frames;
        drop((self.domain, self.hv));
        assert_eq!(frames.allocated(), []);
        drop(self.memory);
    }
}

#[test]
fn what_is_given_away_is_kept() {
    let dom0 = Direct::new();
    let own = dom0.own;
    let pages = dom0.domain.pages();
    dom0.put(own[1] * PAGE_SIZE, &0x1234u64);
    let free = dom0.hv.frames.free_frames();
    for _ in 0..3 {
        assert_eq!(dom0.change(DECREASE, 0, &own[1..3]), 2);
        assert!(!dom0.is_mapped(own[1]));
        assert_eq!(dom0.change(DECREASE, 0, &own[1..3]), 0);
        assert_eq!(dom0.change(POPULATE, 0, &own[1..3]), 2);
        // Again, where it is mapped already.
        assert_eq!(dom0.change(POPULATE, 0, &own[..3]), 3);
        let gpfn = own[1];
        let remove = RemoveFromPhysmap {
            domid: SELF,
            pad: [0; 6],
            gpfn,
        };
        assert_eq!(dom0.op(MemoryOp::REMOVE_FROM_PHYSMAP, &remove), 0);
        assert_eq!(
            dom0.op(MemoryOp::REMOVE_FROM_PHYSMAP, &remove),
            err(Error::NoEnt)
        );
        assert_eq!(dom0.change(POPULATE, 0, &own[1..2]), 1);
        assert_eq!(dom0.number_at(own[1]), 0x1234);
        assert_eq!(dom0.domain.pages(), pages);
    }
    assert_eq!(dom0.hv.frames.free_frames(), free);
    dom0.end();
}

#[test]
fn extents_of_several_frames() {
    let dom0 = Direct::new();
    let mut own = dom0.own;
    own.sort_unstable();
    let first = own
        .iter()
        .copied()
        .find(|n| n % 4 == 0 && own.contains(&(n + 3)));
    let first = first.expect("frames are given out in order");
    assert_eq!(dom0.change(DECREASE, 2, &[first]), 1);
    assert!((first..first + 4).all(|n| !dom0.is_mapped(n)));
    // Part of it is there already.
    assert_eq!(dom0.change(POPULATE, 0, &[first + 1]), 1);
    assert_eq!(dom0.change(POPULATE, 2, &[first]), 1);
    dom0.end();
}

#[test]
fn only_its_own_frames_come_back() {
    let dom0 = Direct::new();
    let pages = dom0.domain.pages();
    let other = dom0.hv.frames.alloc_page(DomainId(1)).unwrap();
    let theirs = other.mfn().0;
    let shared = dom0.domain.shared_info.mfn().0;
    let end = dom0.hv.frames.end().0;
    let list = |bad| [dom0.own[0], bad, dom0.own[1]];
    for bad in [
        theirs,
        shared,
        end - 1,
        end,
        1 << 40,
        u64::MAX,
        u64::MAX - 1,
    ] {
        assert_eq!(dom0.change(POPULATE, 0, &list(bad)), 1, "{bad:#x}");
        assert!(!dom0.is_mapped(bad));
    }
    assert_eq!(dom0.domain.pages(), pages);
    drop(other);
    dom0.end();
}

#[test]
fn memory_that_something_is_mapped_over() {
    let dom0 = Direct::new();
    let gfn = dom0.own[0];
    let pages = dom0.domain.pages();
    dom0.put(gfn * PAGE_SIZE, &0x77u64);
    for (space, idx) in [
        (MapSpace::SHARED_INFO, 0),
        (MapSpace::GRANT_TABLE, 0),
        (MapSpace::DEV_MMIO, 2),
    ] {
        // Over memory, and over what is there then.
        assert_eq!(dom0.add(space, idx, gfn), 0);
        assert_eq!(dom0.add(space, idx, gfn), 0);
        assert_eq!(dom0.domain.pages(), pages);
        assert_eq!(dom0.change(POPULATE, 0, &[gfn]), 1);
        assert_eq!(dom0.number_at(gfn), 0x77);
    }
    dom0.end();
}

#[test]
fn no_page_for_the_p2m_changes_nothing() {
    let dom0 = Direct::new();
    // A large entry must be split before a frame of it is taken out.
    let block = dom0
        .hv
        .frames
        .alloc(DomainId(0), 9, AllocFlags::empty())
        .unwrap();
    let first = block.into_raw();
    dom0.domain.charge_pages(512).unwrap();
    dom0.domain
        .p2m
        .map(Gfn(first.0), first, 512, P2mType::RamRw)
        .unwrap();
    let last = || dom0.hv.frames.alloc_page(DomainId(1)).ok();
    let taken: Vec<_> = core::iter::from_fn(last).collect();
    assert_eq!(dom0.change(DECREASE, 0, &[first.0 + 7]), 0);
    drop(taken);
    assert!((0..512).all(|n| dom0.hv.frames.count(Mfn(first.0 + n)) == 1));
    assert_eq!(dom0.change(DECREASE, 0, &[first.0 + 7]), 1);
    assert_eq!(dom0.change(POPULATE, 9, &[first.0]), 1);
    assert!((0..512).all(|n| dom0.hv.frames.count(Mfn(first.0 + n)) == 1));
    dom0.end();
}

#[test]
fn devices() {
    let dom0 = Direct::new();
    let gfn = 1 << 20;
    assert_eq!(dom0.add(MapSpace::DEV_MMIO, 2, gfn), 0);
    assert_eq!(
        dom0.domain.p2m.lookup(Gfn(gfn)).map(|e| (e.mfn, e.kind)),
        Some((Mfn(2), P2mType::Mmio))
    );
    // One that the hypervisor keeps, and memory.
    assert_eq!(dom0.add(MapSpace::DEV_MMIO, 3, gfn), err(Error::Perm));
    assert_eq!(
        dom0.add(MapSpace::DEV_MMIO, dom0.own[0], gfn),
        err(Error::Perm)
    );
    // Numbers that an entry would cut short: they would come out as somebody's memory.
    for high in [47, 48, 52, 62, 63] {
        let beyond = dom0.own[0] & !1 | 1 << high;
        assert_eq!(dom0.add(MapSpace::DEV_MMIO, beyond, gfn), err(Error::Perm));
    }
    // It is no memory to be given back.
    assert_eq!(dom0.change(DECREASE, 0, &[gfn]), 0);
    let remove = RemoveFromPhysmap {
        domid: SELF,
        pad: [0; 6],
        gpfn: gfn,
    };
    assert_eq!(dom0.op(MemoryOp::REMOVE_FROM_PHYSMAP, &remove), 0);
    assert!(!dom0.is_mapped(gfn));
    dom0.end();
}
