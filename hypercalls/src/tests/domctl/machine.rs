//! What only an architecture can tell: contexts, policies, clocks, pages.

use xen_abi::Handle;
use xen_abi::domctl::{
    AddressSize, CpuPolicy, CpuidLeaf, HvmContext, HvmContextPartial, HypercallInit, MsrEntry,
    SendTrigger, Trigger, TscInfo, TscMode,
};
use xen_core::Error;
use xen_core::soft::Call;

use super::*;
use crate::tests::{FREE, LIST, NOWHERE, err};

#[test]
fn contexts() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let at = |id, cmd, size, at| {
        let mut args = HvmContext {
            size,
            buffer: Handle(at),
        };
        let result = dom0.domctl_at(cmd, V, id, &mut args);
        (result, args.size)
    };
    let (get, set) = (DomctlCmd::GETHVMCONTEXT, DomctlCmd::SETHVMCONTEXT);
    assert_eq!(at(1, get, 0, 0), (0, 4), "the size");
    assert_eq!(at(1, get, 3, LIST), (err(Error::NoSpc), 3));
    assert_eq!(at(1, get, 99, LIST), (0, 4));
    assert_eq!(dom0.bytes(LIST, 4), b"SOFT");
    assert_eq!(at(1, get, 99, NOWHERE).0, err(Error::Fault));
    dom0.put(LIST, b"SOFT and more");
    assert_eq!(at(1, set, 13, LIST).0, 0);
    assert_eq!(at(1, get, 0, 0), (0, 13));
    assert_eq!(at(1, set, 3, LIST).0, err(Error::Inval));
    assert_eq!(at(1, set, u32::MAX, LIST).0, err(Error::NoMem));
    assert_eq!(at(1, set, 13, NOWHERE).0, err(Error::Fault));
    for cmd in [get, set] {
        assert_eq!(at(0, cmd, 13, LIST).0, err(Error::Inval), "its own");
    }
    world.end([dom0]);
}

#[test]
fn single_records() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 2));
    let get = |kind, instance, bufsz, at| {
        let mut args = HvmContextPartial {
            kind,
            instance,
            bufsz,
            buffer: Handle(at),
        };
        let cmd = DomctlCmd::GETHVMCONTEXT_PARTIAL;
        let result = dom0.domctl_at(cmd, V, 1, &mut args);
        (result, args.bufsz)
    };
    assert_eq!(get(2, 1, 0, 0), (0, 16));
    assert_eq!(get(2, 1, 100, LIST), (0, 16));
    assert_eq!(dom0.bytes(LIST, 16), [1; 16]);
    assert_eq!(get(2, 1, 15, LIST), (err(Error::NoSpc), 15));
    assert_eq!(get(2, 1, 16, NOWHERE), (err(Error::Fault), 16));
    assert_eq!(get(2, 2, 16, LIST).0, err(Error::NoEnt));
    assert_eq!(get(2, 1 << 16, 16, LIST).0, err(Error::NoEnt));
    assert_eq!(get(9, 0, 16, LIST).0, err(Error::Inval));
    assert_eq!(get(1 << 16 | 1, 0, 16, LIST).0, err(Error::Inval));
    world.end([dom0]);
}

fn leaf(leaf: u32, a: u32) -> CpuidLeaf {
    CpuidLeaf {
        leaf,
        subleaf: u32::MAX,
        a,
        b: 0,
        c: 0,
        d: 0,
    }
}

#[test]
fn policies() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let msrs = LIST + 0x800;
    let call = |cmd, id, nr_leaves, leaves, nr_msrs| {
        let mut args = CpuPolicy {
            nr_leaves,
            nr_msrs,
            leaves: Handle(leaves),
            msrs: Handle(msrs),
            err_leaf: 11,
            err_subleaf: 12,
            err_msr: 13,
        };
        let result = dom0.domctl_at(cmd, V, id, &mut args);
        (result, args)
    };
    let (get, set) = (DomctlCmd::GET_CPU_POLICY, DomctlCmd::SET_CPU_POLICY);
    dom0.put(LIST, [leaf(1, 5), leaf(4, 6)].as_slice());
    assert_eq!(call(set, 1, 2, LIST, 0).0, 0);
    let (result, told) = call(get, 1, 0, 0, 1);
    assert_eq!((result, told.nr_leaves, told.nr_msrs), (0, 2, 1));
    dom0.put(LIST, &[0u8; 96]);
    assert_eq!(call(get, 1, 2, LIST, 1).0, 0);
    let back = [dom0.get::<CpuidLeaf>(LIST), dom0.get(LIST + 24)];
    assert_eq!(back.map(|l| (l.leaf, l.a)), [(1, 5), (4, 6)]);
    assert_eq!(dom0.get::<MsrEntry>(msrs).idx, 0xce);
    assert_eq!(call(get, 1, 1, LIST, 1).0, err(Error::NoBufs));
    assert_eq!(call(get, 1, 2, LIST, 0).0, err(Error::NoBufs));
    assert_eq!(call(get, 1, 2, NOWHERE, 1).0, err(Error::Fault));
    // What cannot be had is named, and nothing of it is done.
    dom0.put(LIST, [leaf(1, 9), leaf(0x40, 0)].as_slice());
    let (result, told) = call(set, 1, 2, LIST, 0);
    assert_eq!(result, err(Error::Range));
    assert_eq!(
        (told.err_leaf, told.err_subleaf, told.err_msr),
        (0x40, u32::MAX, u32::MAX)
    );
    dom0.put(LIST, [leaf(1, 9)].as_slice());
    let bad = MsrEntry {
        idx: 0xce,
        flags: 0,
        val: 1,
    };
    dom0.put(msrs, &bad);
    let (result, told) = call(set, 1, 1, LIST, 1);
    assert_eq!((result, told.err_msr), (err(Error::Inval), 0xce));
    assert_eq!(call(get, 1, 2, LIST, 1).0, 0);
    assert_eq!(dom0.get::<CpuidLeaf>(LIST).a, 5);
    assert_eq!(call(set, 1, 513, LIST, 0).0, err(Error::TooBig));
    assert_eq!(call(set, 1, u32::MAX, LIST, 0).0, err(Error::TooBig));
    assert_eq!(call(set, 1, 1, LIST, 65).0, err(Error::TooBig));
    assert_eq!(call(set, 1, 1, NOWHERE, 0).0, err(Error::Fault));
    assert_eq!(call(set, 0, 1, LIST, 0).0, err(Error::Inval));
    // Not once it has run.
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    assert_eq!(dom0.order(DomctlCmd::PAUSEDOMAIN, 1), 0);
    assert_eq!(call(set, 1, 1, LIST, 0).0, err(Error::Exist));
    world.end([dom0]);
}

#[test]
fn clocks_widths_and_buttons() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 2));
    let info = TscInfo {
        tsc_mode: TscMode::NEVER_EMULATE,
        gtsc_khz: 1_000_000,
        incarnation: 3,
        elapsed_nsec: 1 << 40,
    };
    let set = |id, info| dom0.domctl(DomctlCmd::SETTSCINFO, id, info);
    assert_eq!(set(1, info), 0);
    assert_eq!(dom0.ask(DomctlCmd::GETTSCINFO, 1, zero()), Ok(info));
    let gone = TscInfo {
        tsc_mode: TscMode::PVRDTSCP,
        ..info
    };
    assert_eq!(set(1, gone), err(Error::Inval));
    assert_eq!(set(0, info), err(Error::Inval));
    let own = dom0.ask::<TscInfo>(DomctlCmd::GETTSCINFO, 0, zero());
    assert_eq!(own, Err(err(Error::Inval)));
    for (size, answer) in [(64, 0), (32, err(Error::Inval)), (0, err(Error::Inval))] {
        let width = AddressSize { size };
        assert_eq!(dom0.domctl(DomctlCmd::SET_ADDRESS_SIZE, 1, width), answer);
    }
    let width = dom0.ask(DomctlCmd::GET_ADDRESS_SIZE, 1, AddressSize { size: 0 });
    assert_eq!(width, Ok(AddressSize { size: 64 }));
    let press = |trigger, vcpu| {
        let args = SendTrigger { trigger, vcpu };
        dom0.domctl(DomctlCmd::SENDTRIGGER, 1, args)
    };
    world.machine.hv.arch.take_calls();
    assert_eq!(press(Trigger::NMI, 1), 0);
    let calls = world.machine.hv.arch.take_calls();
    assert!(calls.contains(&Call::Trigger(DomainId(1), 0, 1)));
    assert_eq!(press(Trigger(5), 1), err(Error::Inval));
    assert_eq!(press(Trigger::NMI, 2), err(Error::Srch));
    world.end([dom0]);
}

#[test]
fn hypercall_pages() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let fill = |gmfn| dom0.domctl(DomctlCmd::HYPERCALL_INIT, 1, HypercallInit { gmfn });
    assert_eq!(fill(2), 0);
    let mut page = [0; 4096];
    domain
        .read_physical(xen_core::GuestPhysAddr(0x2000), &mut page)
        .unwrap();
    assert_eq!(page, [0xc3; 4096]);
    let shared = domain.shared_info.try_clone().unwrap();
    let kind = xen_core::p2m::P2mType::Shared;
    domain
        .p2m
        .map_new(xen_core::Gfn(FREE), shared, kind)
        .unwrap();
    for bad in [FREE, FREE + 1, u64::MAX] {
        assert_eq!(fill(bad), err(Error::Access));
    }
    drop(domain);
    world.end([dom0]);
}
