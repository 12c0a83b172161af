//! Limits, pools, types of frames, nodes, colours, caches.

use xen_abi::Handle;
use xen_abi::domctl::{
    CacheFlush, GetPageFrameInfo3, LogDirtyMode, NodeAffinity, PFINFO_NOTAB, PFINFO_XTAB,
    PagingMempool, SetLlcColors, ShadowCmd, ShadowOp,
};
use xen_abi::versioned::Bitmap;
use xen_core::p2m::P2mType;
use xen_core::{Error, Gfn, PAGE_SIZE};

use super::*;
use crate::tests::{FREE, LIST, NOWHERE, err};

#[test]
fn limits() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    for (max_memkb, pages) in [(0, 0), (3, 0), (4, 1), (1 << 20, 1 << 18)] {
        let limit = MaxMem { max_memkb };
        assert_eq!(dom0.domctl(DomctlCmd::MAX_MEM, 1, limit), 0);
        assert_eq!(domain.max_pages(), pages);
        assert_eq!(domain.pages(), 8, "what it has stays");
    }
    let most = MaxMem {
        max_memkb: u64::MAX,
    };
    assert_eq!(dom0.domctl(DomctlCmd::MAX_MEM, 1, most), 0);
    drop(domain);
    world.end([dom0]);
}

#[test]
fn pools_in_bytes() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let get = || {
        let told = dom0.ask(
            DomctlCmd::GET_PAGING_MEMPOOL_SIZE,
            1,
            PagingMempool { size: 7 },
        );
        told.map(|t| t.size)
    };
    let set = |size| {
        dom0.domctl(
            DomctlCmd::SET_PAGING_MEMPOOL_SIZE,
            1,
            PagingMempool { size },
        )
    };
    assert_eq!(get(), Ok(256 * PAGE_SIZE));
    assert_eq!(set(1 << 20), 0);
    assert_eq!(get(), Ok(1 << 20));
    assert_eq!(set(2 << 20), 0);
    assert_eq!(set(4097), err(Error::Inval));
    assert_eq!(set(1 << 40), err(Error::NoMem));
    assert_eq!(set(u64::MAX - 0xfff), err(Error::NoMem));
    assert_eq!(get(), Ok(2 << 20));
    // It shrinks to what is in use.
    let (used, _) = domain.p2m.pool();
    assert_eq!(set(0), 0);
    assert_eq!(get(), Ok(used * PAGE_SIZE));
    let frame = domain.p2m.frame(Gfn(0), false).unwrap().0;
    let far = domain.p2m.map_new(Gfn(1 << 14), frame, P2mType::Shared);
    assert_eq!(far, Err(Error::NoMem));
    // Older callers have another operation for it.
    for version in [Interface::V12, Interface::V14] {
        let mut size = PagingMempool { size: 0 };
        let cmd = DomctlCmd::GET_PAGING_MEMPOOL_SIZE;
        assert_eq!(
            dom0.domctl_at(cmd, version, 1, &mut size),
            err(Error::NoSys)
        );
    }
    drop(domain);
    world.end([dom0]);
}

#[test]
fn pools_in_mebibytes() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    assert_eq!(dom0.create(V, 2, |_| {}), Ok(2));
    for version in VERSIONS {
        let shadow = |id, op, mb| {
            let mut args: ShadowOp = zero();
            (args.op, args.mb) = (op, mb);
            let result = dom0.domctl_at(DomctlCmd::SHADOW_OP, version, id, &mut args);
            if result == 0 {
                Ok(args.mb)
            } else {
                Err(result)
            }
        };
        let (get, set) = (ShadowCmd::GET_ALLOCATION, ShadowCmd::SET_ALLOCATION);
        assert_eq!(shadow(1, set, 2), Ok(2));
        assert_eq!(shadow(1, get, 9), Ok(2));
        assert_eq!(shadow(1, set, 1 << 20), Err(err(Error::NoMem)));
        assert_eq!(shadow(1, set, u32::MAX), Err(err(Error::NoMem)));
        // What is in use, rounded up.
        assert_eq!(shadow(1, set, 0), Ok(1));
        assert_eq!(shadow(1, ShadowCmd::OFF, 5), Ok(5));
        let inval = Err(err(Error::Inval));
        for op in [
            ShadowCmd::ENABLE,
            ShadowCmd::ENABLE_TEST,
            ShadowCmd::CLEAN,
            ShadowCmd::PEEK,
            ShadowCmd(99),
        ] {
            assert_eq!(shadow(1, op, 0), inval);
        }
        let start = shadow(1, ShadowCmd::ENABLE_LOGDIRTY, 0);
        assert_eq!(start, Err(err(Error::OpNotSupp)));
        assert_eq!(shadow(2, get, 0), inval, "no vCPUs");
        assert_eq!(shadow(0, get, 0), inval, "its own");
    }
    let _ = LogDirtyMode::FINAL;
    world.end([dom0]);
}

#[test]
fn types_of_frames() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let shared = domain.shared_info.try_clone().unwrap();
    domain
        .p2m
        .map_new(Gfn(FREE), shared, P2mType::Shared)
        .unwrap();
    let types = |num, at| {
        let args = GetPageFrameInfo3 {
            num,
            array: Handle(at),
        };
        dom0.domctl(DomctlCmd::GETPAGEFRAMEINFO3, 1, args)
    };
    dom0.put(LIST, &[0, 7, 8, FREE, u64::MAX]);
    assert_eq!(types(5, LIST), 0);
    let told = dom0.get::<[u64; 5]>(LIST);
    let [memory, nothing] = [PFINFO_NOTAB, PFINFO_XTAB].map(u64::from);
    assert_eq!(told, [memory, memory, nothing, nothing, nothing]);
    assert_eq!(types(1024, LIST), 0);
    assert_eq!(types(1025, LIST), err(Error::TooBig));
    assert_eq!(types(u64::MAX, LIST), err(Error::TooBig));
    assert_eq!(types(1, NOWHERE), err(Error::Fault));
    assert_eq!(types(0, NOWHERE), 0);
    drop(domain);
    world.end([dom0]);
}

#[test]
fn one_node() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let nodes = |cmd, at, nr_bits| {
        let nodemap = Bitmap {
            bitmap: Handle(at),
            nr_bits,
        };
        dom0.domctl(cmd, 1, NodeAffinity { nodemap })
    };
    let (set, get) = (DomctlCmd::SETNODEAFFINITY, DomctlCmd::GETNODEAFFINITY);
    for (bits, answer) in [
        (1u64, 0),
        (3, 0),
        (2, err(Error::Inval)),
        (0, err(Error::Inval)),
    ] {
        dom0.put(LIST, &bits);
        assert_eq!(nodes(set, LIST, 64), answer);
    }
    dom0.put(LIST, &u64::MAX);
    assert_eq!(nodes(get, LIST, 60), 0);
    assert_eq!(dom0.get::<u64>(LIST), 1);
    for cmd in [set, get] {
        assert_eq!(nodes(cmd, NOWHERE, 64), err(Error::Fault));
    }
    world.end([dom0]);
}

#[test]
fn no_colours_and_no_caches() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    for version in [Interface::V17, Interface::V18] {
        let mut colors: SetLlcColors = zero();
        let cmd = DomctlCmd::SET_LLC_COLORS;
        let result = dom0.domctl_at(cmd, version, 1, &mut colors);
        assert_eq!(result, err(Error::OpNotSupp), "which toolstacks tolerate");
        let mut u = Payload::ZERO;
        u.0[4] = 1;
        let result = dom0.domctl_raw(cmd, version, 1, u).0;
        assert_eq!(result, err(Error::Inval));
    }
    // Not on this machine.
    let flush: CacheFlush = zero();
    let result = dom0.domctl(DomctlCmd::CACHEFLUSH, 1, flush);
    assert_eq!(result, err(Error::NoSys));
    world.end([dom0]);
}
