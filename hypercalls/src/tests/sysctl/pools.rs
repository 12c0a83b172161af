//! CPU pools and schedulers.

use xen_abi::Handle;
use xen_abi::domctl::Scheduler;
use xen_abi::sysctl::*;
use xen_abi::versioned::{Bitmap, Wire};
use xen_core::Error;

use super::super::{Guest, LIST, NOBODY, NOWHERE, World, err};
use super::{FULL, ask};

fn pool(
    guest: &Guest<'_>,
    interface: Interface,
    op: u32,
    id: u32,
    change: impl Fn(&mut CpupoolOp),
) -> (i64, CpupoolOp) {
    let mut args = CpupoolOp::absent();
    (args.op, args.cpupool_id) = (CpupoolCmd(op), id);
    args.cpumap = Bitmap {
        bitmap: Handle(LIST),
        nr_bits: 8,
    };
    change(&mut args);
    guest.put(LIST, &[0xa5u8; 300]);
    let result = ask!(guest, CPUPOOL_OP, interface, &mut args);
    (result, args)
}

#[test]
fn there_is_one_pool() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    for interface in FULL {
        let op = |op, id| pool(&dom0, interface, op, id, |_| {});
        let (result, info) = op(3, 0);
        assert_eq!((result, info.cpupool_id, info.n_dom), (0, 0, 2));
        assert_eq!(info.sched_id, Scheduler(world.machine.hv.sched.kind().id()));
        assert_eq!(dom0.bytes(LIST, 2), [0b11, 0xa5]);
        for id in [1, 2, CPUPOOL_ANY] {
            assert_eq!(op(3, id).0, err(Error::NoEnt));
        }
        assert_eq!(op(7, 0).0, 0);
        assert_eq!(dom0.bytes(LIST, 2), [0, 0xa5]);
        for (cmd, id, error) in [
            (1, 0, Error::Exist),
            (1, CPUPOOL_ANY, Error::OpNotSupp),
            (2, 0, Error::Busy),
            (2, 1, Error::NoEnt),
            (4, 0, Error::NoDev),
            (5, 0, Error::OpNotSupp),
            (5, 1, Error::NoEnt),
            (0, 0, Error::NoSys),
            (8, 0, Error::NoSys),
        ] {
            assert_eq!(op(cmd, id).0, err(error), "{cmd} {id}");
        }
        for cpu in [2, CPUPOOL_ANY] {
            let (result, _) = pool(&dom0, interface, 4, 0, |op| op.cpu = cpu);
            assert_eq!(result, err(Error::Inval));
        }
        let (result, _) = pool(&dom0, interface, 5, 0, |op| op.cpu = 2);
        assert_eq!(result, err(Error::Inval));
    }
    world.end([dom0, one]);
}

#[test]
fn domains_stay_in_it() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let go = |domid, id| pool(&dom0, Interface::V13, 6, id, |op| op.domid = domid).0;
    assert_eq!(go(1, 0), 0);
    assert_eq!(go(1, 1), err(Error::NoEnt));
    assert_eq!(go(0, 0), err(Error::Inval));
    for nobody in [u32::from(NOBODY), 0x7ff0, 0x1_0001, u32::MAX] {
        assert_eq!(go(nobody, 0), err(Error::Srch));
    }
    world.end([dom0, one]);
}

#[test]
fn bit_maps_of_any_length() {
    let world = World::new();
    let dom0 = world.guest(0);
    let info = |bits, at| {
        let change = |op: &mut CpupoolOp| {
            op.cpumap = Bitmap {
                bitmap: Handle(at),
                nr_bits: bits,
            };
        };
        pool(&dom0, Interface::V15, 3, 0, change).0
    };
    assert_eq!(info(0, NOWHERE), 0);
    assert_eq!(info(1, LIST), 0);
    assert_eq!(dom0.bytes(LIST, 2), [1, 0xa5]);
    assert_eq!(info(2, LIST), 0);
    assert_eq!(dom0.bytes(LIST, 2), [3, 0xa5]);
    assert_eq!(info(9, LIST), 0);
    assert_eq!(dom0.bytes(LIST, 3), [3, 0, 0xa5]);
    assert_eq!(info(2048, LIST), 0);
    let mut longest = vec![0; 256];
    longest[0] = 3;
    longest.push(0xa5);
    assert_eq!(dom0.bytes(LIST, 257), longest);
    assert_eq!(info(8, NOWHERE), err(Error::Fault));
    assert_eq!(info(u32::MAX, LIST), err(Error::Inval));
    world.end([dom0]);
}

#[test]
fn parameters_of_the_scheduler() {
    let world = World::new();
    let dom0 = world.guest(0);
    let own = Scheduler(world.machine.hv.sched.kind().id());
    assert_eq!(own, Scheduler::CREDIT2);
    for interface in Interface::ALL {
        let op = |cmd, pool, sched_id, limit| {
            let mut args = SchedulerOp {
                cpupool_id: pool,
                sched_id,
                cmd: SchedulerOpCmd(cmd),
                schedule: Schedule::Credit2(Credit2Schedule {
                    ratelimit_us: limit,
                }),
            };
            let result = ask!(&dom0, SCHEDULER_OP, interface, &mut args);
            (result, args.schedule)
        };
        let none = Schedule::Credit2(Credit2Schedule { ratelimit_us: 0 });
        assert_eq!(op(1, 0, own, 7), (0, none));
        assert_eq!(op(0, 0, own, 0).0, 0);
        assert_eq!(op(0, 0, own, 1000).0, err(Error::OpNotSupp));
        for wrong in [99, 500_001, u32::MAX] {
            assert_eq!(op(0, 0, own, wrong).0, err(Error::Inval));
        }
        assert_eq!(op(2, 0, own, 0).0, err(Error::Inval));
        assert_eq!(op(1, 1, own, 0).0, err(Error::Srch));
        assert_eq!(op(1, 0, Scheduler::CREDIT, 0).0, err(Error::Inval));
        assert_eq!(op(1, 0, Scheduler(99), 0).0, err(Error::Inval));
    }
    world.end([dom0]);
}
