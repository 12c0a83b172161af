//! What the host has, and where.

use core::sync::atomic::Ordering::SeqCst;

use xen_abi::Handle;
use xen_abi::domctl::{DomainInfo, Scheduler};
use xen_abi::physdev::PciDevice;
use xen_abi::sysctl::*;
use xen_abi::versioned::Wire;
use xen_abi::xen::Hypercall;
use xen_core::soft::{Machine, Step};
use xen_core::{DomainConfig, Error, PAGE_SIZE};

use super::super::{Guest, LIST, NOWHERE, World, err};
use super::{FULL, MACHINE, ask};

fn null_or(at: u64) -> Handle {
    Handle(at)
}

#[test]
fn physinfo() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let frames = world.machine.hv.frames;
    one.domain().claim.set(77).unwrap();
    for interface in FULL {
        let mut info = PhysInfo::absent();
        assert_eq!(ask!(&dom0, PHYSINFO, interface, &mut info), 0);
        assert_eq!((info.nr_cpus, info.max_cpu_id), (2, 1));
        assert_eq!((info.nr_nodes, info.max_node_id), (1, 0));
        assert_eq!(info.total_pages, frames.total_frames());
        assert_eq!(info.free_pages, frames.free_frames());
        assert_eq!(info.outstanding_pages, 77);
        assert_eq!(info.max_mfn, frames.end().0 - 1);
        assert!(info.capabilities.contains(PhysCaps::HVM | PhysCaps::HAP));
        // Callers before 4.16 know nothing of grant tables' versions.
        let grants = PhysCaps::GNTTAB_V1 | PhysCaps::GNTTAB_V2;
        let known = interface >= Interface::V14;
        assert_eq!(info.capabilities.contains(grants), known);
    }
    world.end([dom0, one]);
}

/// Lists domains: their identifiers and pages.
fn list(guest: &Guest<'_>, interface: Interface, first: u16, max: u32) -> Vec<(u16, u64)> {
    let mut args = GetDomainInfoList {
        first_domain: first,
        max_domains: max,
        buffer: Handle(LIST),
        num_domains: 0,
    };
    assert_eq!(ask!(guest, GETDOMAININFOLIST, interface, &mut args), 0);
    let stride = DomainInfo::size(interface.domctl(), MACHINE);
    (0..args.num_domains as usize)
        .map(|n| {
            let bytes = guest.bytes(LIST + (n * stride) as u64, stride);
            let info = DomainInfo::read(&bytes, interface.domctl(), MACHINE).unwrap();
            (info.domain, info.tot_pages)
        })
        .collect()
}

#[test]
fn domains_are_listed() {
    let world = World::new();
    let dom0 = world.guest(0);
    let store = world.guest_with(DomainConfig {
        xenstore: true,
        ..Machine::config(5)
    });
    let one = world.guest(9);
    one.domain().charge_pages(3).unwrap();
    let all = [(0, 32), (5, 32), (9, 35)];
    for interface in FULL {
        for guest in [&dom0, &store] {
            assert_eq!(list(guest, interface, 0, 10), all);
            assert_eq!(list(guest, interface, 1, 10), all[1..]);
            assert_eq!(list(guest, interface, 5, 1), all[1..2]);
            assert_eq!(list(guest, interface, 10, 4), []);
            assert_eq!(list(guest, interface, u16::MAX, 4), []);
            assert_eq!(list(guest, interface, 0, 0), []);
        }
        let mut args = GetDomainInfoList::absent();
        (args.buffer, args.max_domains) = (Handle(NOWHERE), 3);
        let result = ask!(&dom0, GETDOMAININFOLIST, interface, &mut args);
        assert_eq!(result, err(Error::Fault));
        assert_eq!(
            ask!(&one, GETDOMAININFOLIST, interface, &mut args),
            err(Error::Perm)
        );
        // That is all that a domain may see for the sake of xenstore.
        let mut info = PhysInfo::absent();
        assert_eq!(
            ask!(&store, PHYSINFO, interface, &mut info),
            err(Error::Perm)
        );
    }
    one.domain().uncharge_pages(3);
    world.end([dom0, store, one]);
}

#[test]
fn the_stride_is_the_callers() {
    let sizes = FULL.map(|i| DomainInfo::size(i.domctl(), MACHINE));
    assert_eq!(sizes, [104, 112, 112, 112]);
}

#[test]
fn the_scheduler() {
    let world = World::new();
    let dom0 = world.guest(0);
    for interface in Interface::ALL {
        let mut args = SchedId::absent();
        assert_eq!(ask!(&dom0, SCHED_ID, interface, &mut args), 0);
        let kind = world.machine.hv.sched.kind();
        assert_eq!(args.sched_id, Scheduler(kind.id()));
    }
    world.end([dom0]);
}

#[test]
fn idle_time() {
    let world = World::new();
    let dom0 = world.guest(0);
    let ask = |room| {
        let mut args = GetCpuInfo {
            max_cpus: room,
            info: Handle(LIST),
            nr_cpus: 0,
        };
        dom0.put(LIST, &[u64::MAX; 3]);
        assert_eq!(ask!(&dom0, GETCPUINFO, Interface::V15, &mut args), 0);
        (args.nr_cpus, dom0.get::<[u64; 3]>(LIST))
    };
    let (count, before) = ask(8);
    assert_eq!(
        (count, before[2]),
        (2, u64::MAX),
        "writes no more than there are"
    );
    assert_eq!(ask(1).0, 1);
    assert_eq!(ask(1).1[1], u64::MAX);
    assert_eq!(ask(0).0, 0);
    // CPU 0 runs something for a while, and then nothing.
    let worker = Guest::of(&world, dom0.domain().clone(), 1).vcpu;
    worker.context().program.push_back(Step::Spin(3000));
    worker.up(&world.machine.hv);
    drop(worker);
    xen_core::step(&world.machine.hv, crate::dispatch);
    let after = ask(2).1;
    assert_eq!(after[0], before[0]);
    let hv = &world.machine.hv;
    let soon = xen_core::Arch::now(&*hv.arch).0 + 5000;
    assert_eq!(dom0.call(Hypercall::SET_TIMER_OP, &[soon]), 0);
    xen_core::step(hv, crate::dispatch);
    assert!(ask(2).1[0] >= before[0] + 5000);
    let mut args = GetCpuInfo {
        max_cpus: 1,
        info: Handle(NOWHERE),
        nr_cpus: 0,
    };
    let result = ask!(&dom0, GETCPUINFO, Interface::V15, &mut args);
    assert_eq!(result, err(Error::Fault));
    world.end([dom0]);
}

#[test]
fn free_memory_by_address() {
    let world = World::new();
    let dom0 = world.guest(0);
    let free = |min, max, node| {
        let mut args = AvailHeap {
            min_bitwidth: min,
            max_bitwidth: max,
            node,
            avail_bytes: 0,
        };
        assert_eq!(ask!(&dom0, AVAILHEAP, Interface::V13, &mut args), 0);
        args.avail_bytes / PAGE_SIZE
    };
    let frames = world.machine.hv.frames;
    let all = frames.free_frames();
    assert_eq!(free(0, 0, -1), all);
    assert_eq!(free(0, 64, 0), all);
    assert_eq!(free(0, 0, 1), 0);
    let width = 64 - (frames.end().0 - 1).leading_zeros() + 12;
    assert_eq!(free(0, width, -1), all);
    assert_eq!(free(width + 1, 0, -1), 0);
    assert_eq!(free(0, width - 1, -1) + free(width, 0, -1), all);
    assert_eq!(free(u32::MAX, u32::MAX, -1), 0);
    assert_eq!(free(9, 3, -1), 0);
    world.end([dom0]);
}

#[test]
fn where_cpus_are() {
    let world = World::new();
    let dom0 = world.guest(0);
    let ask = |room, at| {
        let mut args = CpuTopoInfo {
            num_cpus: room,
            cputopo: null_or(at),
        };
        let result = ask!(&dom0, CPUTOPOINFO, Interface::V15, &mut args);
        (result, args.num_cpus)
    };
    assert_eq!(ask(0, 0), (0, 2));
    assert_eq!(ask(9, 0), (0, 2));
    dom0.put(LIST, &[u32::MAX; 9]);
    assert_eq!(ask(1, LIST), (err(Error::NoBufs), 2));
    assert_eq!(dom0.get::<u32>(LIST), u32::MAX, "all or nothing");
    assert_eq!(ask(3, LIST), (0, 2));
    let place = |core| CpuTopo {
        core: 0,
        socket: core,
        node: 0,
    };
    assert_eq!(dom0.get::<[CpuTopo; 2]>(LIST), [place(0), place(1)]);
    assert_eq!(dom0.get::<u32>(LIST + 24), u32::MAX);
    assert_eq!(ask(2, NOWHERE).0, err(Error::Fault));
    world.end([dom0]);
}

#[test]
fn nodes() {
    let world = World::new();
    let dom0 = world.guest(0);
    let ask = |room, memory, distance| {
        let mut args = NumaInfo {
            num_nodes: room,
            meminfo: null_or(memory),
            distance: null_or(distance),
        };
        let result = ask!(&dom0, NUMAINFO, Interface::V15, &mut args);
        (result, args.num_nodes)
    };
    assert_eq!(ask(0, 0, 0), (0, 1));
    dom0.put(LIST, &[u64::MAX; 5]);
    assert_eq!(ask(0, LIST, LIST + 16), (err(Error::NoBufs), 1));
    assert_eq!(dom0.get::<u64>(LIST), u64::MAX);
    assert_eq!(ask(4, LIST, LIST + 16), (0, 1));
    let frames = world.machine.hv.frames;
    let memory = MemInfo {
        memsize: frames.total_frames() * PAGE_SIZE,
        memfree: frames.free_frames() * PAGE_SIZE,
    };
    assert_eq!(dom0.get::<MemInfo>(LIST), memory);
    assert_eq!(dom0.get::<[u32; 2]>(LIST + 16), [10, u32::MAX]);
    dom0.put(LIST, &[u64::MAX; 5]);
    assert_eq!(ask(1, 0, LIST), (0, 1));
    assert_eq!(ask(1, NOWHERE, 0).0, err(Error::Fault));
    assert_eq!(ask(1, 0, NOWHERE).0, err(Error::Fault));
    world.end([dom0]);
}

#[test]
fn where_devices_are() {
    let world = World::new();
    let dom0 = world.guest(0);
    let ask = |count, devs, nodes| {
        let mut args = PciTopoInfo {
            num_devs: count,
            devs: Handle(devs),
            nodes: Handle(nodes),
        };
        let result = ask!(&dom0, PCITOPOINFO, Interface::V15, &mut args);
        (result, args.num_devs)
    };
    let device = PciDevice {
        seg: 0,
        bus: 1,
        devfn: 8,
    };
    dom0.put(LIST, &[device; 200]);
    let nodes = LIST + PAGE_SIZE;
    dom0.put(nodes, &[7u32; 201]);
    assert_eq!(ask(3, LIST, nodes), (0, 3));
    assert_eq!(
        dom0.get::<[u32; 4]>(nodes),
        [INVALID_DEV, INVALID_DEV, INVALID_DEV, 7]
    );
    // Long lists are for the caller to go on with.
    world.machine.hv.arch.yield_every.store(1, SeqCst);
    assert_eq!(ask(200, LIST, nodes), (0, 64));
    world.yield_every(0);
    assert_eq!(ask(1, 0, nodes).0, err(Error::Inval));
    assert_eq!(ask(1, LIST, 0).0, err(Error::Inval));
    assert_eq!(ask(1, NOWHERE, nodes).0, err(Error::Fault));
    assert_eq!(ask(1, LIST, NOWHERE).0, err(Error::Fault));
    world.end([dom0]);
}

#[test]
fn nobody_manages_power() {
    let world = World::new();
    let dom0 = world.guest(0);
    let stat = |kind, cpuid| {
        let mut args = GetPmStat {
            kind: PmStat(kind),
            cpuid,
            stats: PmStats::Unknown,
        };
        ask!(&dom0, GET_PMSTAT, Interface::V15, &mut args)
    };
    for kind in [0x11, 0x12, 0x13, 0x21, 0x22, 0x23, 0, 0x31] {
        assert_eq!(stat(kind, 1), err(Error::NoDev), "{kind:#x}");
        assert_eq!(stat(kind, 2), err(Error::Inval), "{kind:#x}");
    }
    assert_eq!(stat(0x17, 0), err(Error::Inval));
    let operation = |cmd, cpuid| {
        let mut args = PmOp {
            cmd: PmCmd(cmd),
            cpuid,
            arg: PmArg::None,
        };
        ask!(&dom0, PM_OP, Interface::V16, &mut args)
    };
    for (cmd, error) in [
        (0x11, Error::NoDev),
        (0x15, Error::NoDev),
        (0x21, Error::OpNotSupp),
        (0x22, Error::OpNotSupp),
        (0x26, Error::NoDev),
        (0x31, Error::NoSys),
        (0, Error::NoSys),
    ] {
        assert_eq!(operation(cmd, 0), err(error), "{cmd:#x}");
    }
    assert_eq!(operation(0x11, 2), err(Error::Inval));
    let hotplug = |op, cpu| {
        let mut args = CpuHotplug {
            cpu,
            op: HotplugOp(op),
        };
        ask!(&dom0, CPU_HOTPLUG, Interface::V15, &mut args)
    };
    for (op, cpu, error) in [
        (0, 0, Error::Exist),
        (0, 2, Error::Inval),
        (1, 0, Error::Inval),
        (1, 1, Error::OpNotSupp),
        (1, u32::MAX, Error::Inval),
        (2, 0, Error::OpNotSupp),
        (9, 0, Error::OpNotSupp),
    ] {
        assert_eq!(hotplug(op, cpu), err(error), "{op} {cpu}");
    }
    world.end([dom0]);
}
