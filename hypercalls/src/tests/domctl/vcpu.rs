//! vCPUs: where they run, their registers.

use xen_abi::Handle;
use xen_abi::domctl::{
    AffinityFlags, GetVcpuInfo, VcpuAffinity, VcpuContext, X86_VCPU_CONTEXT_SIZE,
};
use xen_abi::versioned::Bitmap;
use xen_core::{Error, VcpuId};

use super::*;
use crate::tests::{LIST, NOWHERE, err};

const SET: DomctlCmd = DomctlCmd::SETVCPUAFFINITY;
const GET: DomctlCmd = DomctlCmd::GETVCPUAFFINITY;
const SOFT: u64 = LIST + 0x100;
const BOTH: AffinityFlags = AffinityFlags::HARD.union(AffinityFlags::SOFT);

fn affinity(vcpu: u32, flags: AffinityFlags, bits: u32) -> VcpuAffinity {
    let map = |at| Bitmap {
        bitmap: Handle(at),
        nr_bits: bits,
    };
    VcpuAffinity {
        vcpu,
        flags,
        cpumap_hard: map(LIST),
        cpumap_soft: map(SOFT),
    }
}

#[test]
fn affinities_are_set_and_told() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 2));
    let maps = |at| dom0.get::<[u8; 4]>(at);
    let put = |hard: [u8; 4], soft: [u8; 4]| {
        dom0.put(LIST, &hard);
        dom0.put(SOFT, &soft);
    };
    // Two CPUs, of which maps have many more.
    put([0xff; 4], [0xff; 4]);
    assert_eq!(dom0.domctl(GET, 1, affinity(1, BOTH, 32)), 0);
    assert_eq!((maps(LIST), maps(SOFT)), ([3, 0, 0, 0], [3, 0, 0, 0]));
    put([0xfe, 0, 0, 0], [0xf3, 0, 0, 0]);
    assert_eq!(dom0.domctl(SET, 1, affinity(1, BOTH, 8)), 0);
    // In effect: what there is, and of that what it may.
    assert_eq!((maps(LIST)[0], maps(SOFT)[0]), (2, 2));
    put([0; 4], [0; 4]);
    assert_eq!(dom0.domctl(GET, 1, affinity(1, BOTH, 8)), 0);
    assert_eq!((maps(LIST)[0], maps(SOFT)[0]), (0xfe, 0xf3));
    // One of the two.
    put([1, 0xff, 0xff, 0xff], [0xaa; 4]);
    let hard = affinity(1, AffinityFlags::HARD, 20);
    assert_eq!(dom0.domctl(SET, 1, hard), 0);
    assert_eq!((maps(LIST), maps(SOFT)), ([1, 0, 0, 0xff], [0xaa; 4]));
    assert_eq!(dom0.domctl(GET, 1, affinity(1, BOTH, 3)), 0);
    assert_eq!((maps(LIST)[0], maps(SOFT)[0]), (1, 3));
    // The other vCPU has its own.
    assert_eq!(dom0.domctl(GET, 1, affinity(0, BOTH, 32)), 0);
    assert_eq!(maps(LIST), [3, 0, 0, 0]);
    let slot = world.domain(1).vcpu(VcpuId(1)).unwrap().slot().unwrap();
    let hard = world.machine.hv.sched.affinity(slot).unwrap().0;
    assert!(hard.contains(CpuId(0)) && !hard.contains(CpuId(1)));
    world.end([dom0]);
}

#[test]
fn affinities_that_are_refused_change_nothing() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let inval = err(Error::Inval);
    dom0.put(LIST, &[1u8, 0]);
    dom0.put(SOFT, &[3u8, 0]);
    assert_eq!(dom0.domctl(SET, 1, affinity(0, BOTH, 16)), 0);
    dom0.put(LIST, &[2u8, 0]);
    for cmd in [SET, GET] {
        let ask = |args| dom0.domctl(cmd, 1, args);
        assert_eq!(ask(affinity(1, BOTH, 8)), inval);
        assert_eq!(ask(affinity(0, AffinityFlags::empty(), 8)), inval);
        let unknown = AffinityFlags::from_bits_retain(9);
        assert_eq!(ask(affinity(0, unknown, 8)), inval);
        let mut args = affinity(0, BOTH, 8);
        args.cpumap_soft.bitmap = Handle(0);
        assert_eq!(ask(args), inval);
        args.flags = AffinityFlags::SOFT;
        args.cpumap_soft.bitmap = Handle(NOWHERE);
        assert_eq!(ask(args), err(Error::Fault));
    }
    // Nowhere to run, or to like.
    dom0.put(LIST, &[0xf0u8, 0]);
    assert_eq!(dom0.domctl(SET, 1, affinity(0, BOTH, 8)), inval);
    assert_eq!(dom0.domctl(SET, 1, affinity(0, BOTH, 0)), inval);
    dom0.put(LIST, &[2u8, 0]);
    dom0.put(SOFT, &[0xf0u8, 0]);
    assert_eq!(dom0.domctl(SET, 1, affinity(0, BOTH, 8)), inval);
    dom0.put(SOFT, &[3u8, 0]);
    let huge = affinity(0, AffinityFlags::HARD, u32::MAX);
    assert_eq!(dom0.domctl(GET, 1, huge), inval);
    assert_eq!(dom0.domctl(GET, 1, affinity(0, BOTH, 8)), 0);
    assert_eq!(dom0.get::<u8>(LIST), 1);
    // A vCPU that was not made.
    assert_eq!(dom0.create(V, 2, |w| w.max_vcpus = 2), Ok(2));
    assert_eq!(dom0.domctl(GET, 2, affinity(1, BOTH, 8)), err(Error::Srch));
    world.end([dom0]);
}

#[test]
fn what_is_told_of_a_vcpu() {
    let world = World::new();
    let hv = &world.machine.hv;
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 2);
    let info = |id, vcpu| {
        let mut args: GetVcpuInfo = zero();
        args.vcpu = vcpu;
        dom0.ask(DomctlCmd::GETVCPUINFO, id, args)
    };
    let told = info(1, 1).unwrap();
    assert_eq!((told.online, told.blocked, told.running), (0, 0, 0));
    assert_eq!((told.cpu_time, told.cpu), (0, 0));
    assert_eq!(info(1, 2), Err(err(Error::Inval)));
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    let vcpu = domain.vcpu(VcpuId(1)).unwrap();
    vcpu.up(hv);
    vcpu.context()
        .program
        .push_back(xen_core::soft::Step::Spin(1_000_000));
    world.step_elsewhere();
    let told = info(1, 1).unwrap();
    assert_eq!((told.online, told.blocked, told.running), (1, 1, 0));
    assert_eq!(told.cpu, 1);
    assert!(told.cpu_time >= 1_000_000);
    assert!(dom0.info(1).unwrap().cpu_time >= told.cpu_time);
    assert_eq!(dom0.create(V, 2, |w| w.max_vcpus = 2), Ok(2));
    assert_eq!(info(2, 1), Err(err(Error::Srch)));
    // The CPU finds nothing more to run.
    world.step_elsewhere();
    drop((vcpu, domain));
    world.end([dom0]);
}

fn context(vcpu: u32, at: u64) -> VcpuContext {
    VcpuContext {
        vcpu,
        ctxt: Handle(at),
    }
}

#[test]
fn registers() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 2);
    let vcpu = domain.vcpu(VcpuId(1)).unwrap();
    let set = |args| dom0.domctl(DomctlCmd::SETVCPUCONTEXT, 1, args);
    let get = |args| dom0.domctl(DomctlCmd::GETVCPUCONTEXT, 1, args);
    let mut bytes = [0x5a; X86_VCPU_CONTEXT_SIZE];
    bytes[512] = 1 << 5;
    dom0.put(LIST, &bytes);
    assert_eq!(set(context(1, LIST)), 0);
    assert!(vcpu.is_up() && domain.stopped());
    let to = LIST + 0x2000;
    assert_eq!(get(context(1, to)), 0);
    assert_eq!(dom0.bytes(to, bytes.len()), bytes);
    // Off, by its flags.
    bytes[512] = 0;
    dom0.put(LIST, &bytes);
    assert_eq!(set(context(1, LIST)), 0);
    assert!(!vcpu.is_up());
    // What no vCPU can have.
    dom0.put(LIST, &[0xffu8]);
    assert_eq!(set(context(1, LIST)), err(Error::Inval));
    assert_eq!(set(context(1, NOWHERE)), err(Error::Fault));
    assert_eq!(get(context(1, NOWHERE)), err(Error::Fault));
    assert_eq!(set(context(2, LIST)), err(Error::Inval));
    assert_eq!(get(context(2, LIST)), err(Error::Inval));
    // None at all.
    vcpu.up(&world.machine.hv);
    assert_eq!(set(context(1, 0)), 0);
    assert!(!vcpu.is_up());
    assert_eq!(get(context(1, to)), err(Error::NoData));
    dom0.put(LIST, &bytes);
    assert_eq!(set(context(1, LIST)), 0);
    assert_eq!(get(context(1, to)), 0);
    let own = context(0, LIST);
    assert_eq!(
        dom0.domctl(DomctlCmd::SETVCPUCONTEXT, 0, own),
        err(Error::Inval)
    );
    assert_eq!(
        dom0.domctl(DomctlCmd::GETVCPUCONTEXT, 0, own),
        err(Error::Inval)
    );
    drop((vcpu, domain));
    world.end([dom0]);
}

#[test]
fn registers_are_those_of_a_vcpu_that_does_not_run() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 1);
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    assert_eq!(dom0.order(DomctlCmd::UNPAUSEDOMAIN, 1), 0);
    vcpu.up(&world.machine.hv);
    world.pick_elsewhere();
    let u = payload(V, &context(0, LIST));
    dom0.put_domctl(DomctlCmd::GETVCPUCONTEXT, V, 1, u);
    assert_eq!(dom0.once(Hypercall::DOMCTL, &[ARG]), None);
    world.step_elsewhere();
    assert_eq!(dom0.again(), Some(0));
    assert!(!domain.stopped(), "it goes on");
    drop((vcpu, domain));
    world.end([dom0]);
}
