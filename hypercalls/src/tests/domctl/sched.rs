//! Scheduling parameters.

use xen_abi::Handle;
use xen_abi::domctl::{SchedCredit, SchedParams, SchedVcpus, Scheduler, SchedulerCmd, SchedulerOp};
use xen_core::sched::Params;
use xen_core::{Error, VcpuId};

use super::*;
use crate::tests::{LIST, NOBODY, err};

const OP: DomctlCmd = DomctlCmd::SCHEDULER_OP;

fn op(sched_id: Scheduler, cmd: SchedulerCmd, weight: u16, cap: u16) -> SchedulerOp {
    SchedulerOp {
        sched_id,
        cmd,
        params: SchedParams::Credit(SchedCredit { weight, cap }),
    }
}

#[test]
fn shares() {
    let world = World::new();
    let dom0 = world.guest(0);
    let domain = dom0.build(1, 2);
    let credit2 = Scheduler::CREDIT2;
    let get = || {
        let told = dom0.ask(OP, 1, op(credit2, SchedulerCmd::GET_INFO, 1, 1));
        match told.unwrap().params {
            SchedParams::Credit(SchedCredit { weight, cap }) => (weight, cap),
            other => panic!("{other:?}"),
        }
    };
    let put = |weight, cap| dom0.domctl(OP, 1, op(credit2, SchedulerCmd::PUT_INFO, weight, cap));
    let unit = |n| {
        let slot = domain.vcpu(VcpuId(n)).unwrap().slot().unwrap();
        world.machine.hv.sched.params(slot).unwrap()
    };
    assert_eq!(get(), (256, 0));
    assert_eq!(put(1000, 150), 0);
    assert_eq!(get(), (1000, 150));
    // Each vCPU has its part of the limit.
    for n in 0..2 {
        let part = Params {
            weight: 1000,
            cap: 75,
        };
        assert_eq!(unit(n), part);
    }
    // Values that keep what is there.
    assert_eq!(put(0, 33), 0);
    assert_eq!(get(), (1000, 33));
    assert_eq!(unit(1).cap, 17, "no less in all");
    assert_eq!(put(7, u16::MAX), 0);
    assert_eq!(get(), (7, 33));
    assert_eq!(put(7, 0), 0);
    assert_eq!(unit(0), Params { weight: 7, cap: 0 });
    drop(domain);
    world.end([dom0]);
}

#[test]
fn a_share_is_for_vcpus_to_come_too() {
    let world = World::new();
    let dom0 = world.guest(0);
    assert_eq!(dom0.create(V, 1, |w| w.max_vcpus = 4), Ok(1));
    let put = op(Scheduler::CREDIT2, SchedulerCmd::PUT_INFO, 512, 100);
    assert_eq!(dom0.domctl(OP, 1, put), 0);
    let make = MaxVcpus { max: 4 };
    assert_eq!(dom0.domctl(DomctlCmd::MAX_VCPUS, 1, make), 0);
    for vcpu in world.domain(1).vcpus() {
        let params = world.machine.hv.sched.params(vcpu.slot().unwrap());
        let part = Params {
            weight: 512,
            cap: 25,
        };
        assert_eq!(params, Ok(part));
    }
    world.end([dom0]);
}

#[test]
fn what_is_refused() {
    let world = World::new();
    let dom0 = world.guest(0);
    drop(dom0.build(1, 1));
    let inval = err(Error::Inval);
    for scheduler in [0, 5, 7, 8, 9, u32::MAX] {
        for cmd in [SchedulerCmd::PUT_INFO, SchedulerCmd::GET_INFO] {
            let other = op(Scheduler(scheduler), cmd, 256, 0);
            assert_eq!(dom0.domctl(OP, 1, other), inval);
        }
    }
    for cmd in [SchedulerCmd::PUT_VCPU_INFO, SchedulerCmd::GET_VCPU_INFO] {
        let vcpus = SchedulerOp {
            sched_id: Scheduler::CREDIT2,
            cmd,
            params: SchedParams::Vcpus(SchedVcpus {
                vcpus: Handle(LIST),
                nr_vcpus: 1,
            }),
        };
        assert_eq!(dom0.domctl(OP, 1, vcpus), inval);
    }
    let unknown = op(Scheduler::CREDIT2, SchedulerCmd(4), 1, 1);
    assert_eq!(dom0.domctl(OP, 1, unknown), inval);
    let nobody = op(Scheduler::CREDIT2, SchedulerCmd::GET_INFO, 1, 1);
    assert_eq!(dom0.domctl(OP, NOBODY, nobody), err(Error::Srch));
    world.end([dom0]);
}
