//! The scheduler and all smaller ones.

use guest_rt::hypercall::{call, op, plain};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::hvm_op::{HvmOp, Param};
use xen_abi::hvm_params::HvmParam;
use xen_abi::platform::{PlatformCmd, PlatformOp, SetTime64};
use xen_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};
use xen_abi::xen::{DOMID_SELF, Hypercall, MulticallEntry, VmAssistCmd, VmAssistType};
use zerocopy::FromZeros;

use super::*;

pub(crate) fn sched(t: &mut Tests) {
    const S: Hypercall = Hypercall::SCHED_OP;
    t.expect("yield", plain(S, SchedOp::YIELD.0, 0), 0);
    t.expect("unknown operation", plain(S, 99, 0), ENOSYS);
    let mut code = Shutdown {
        reason: ShutdownReason(99),
    };
    t.expect(
        "any shutdown code",
        op(S, SchedOp::SHUTDOWN_CODE.0, &mut code),
        0,
    );
    let mut poll = Poll {
        ports: Handle(0),
        nr_ports: 1000,
        pad: 0,
        timeout: 1,
    };
    t.expect("too many ports", op(S, SchedOp::POLL.0, &mut poll), EINVAL);
    // Its time is over before it begins.
    poll.nr_ports = 0;
    t.expect("poll for nothing", op(S, SchedOp::POLL.0, &mut poll), 0);
    let mut dog = Watchdog { id: 0, timeout: 30 };
    let id = op(S, SchedOp::WATCHDOG.0, &mut dog);
    t.check("watchdog", id > 0);
    dog = Watchdog {
        id: id as u32,
        timeout: 0,
    };
    t.expect("stop it", op(S, SchedOp::WATCHDOG.0, &mut dog), 0);
    dog = Watchdog { id: 77, timeout: 1 };
    t.expect(
        "no such watchdog",
        op(S, SchedOp::WATCHDOG.0, &mut dog),
        EINVAL,
    );
}

pub(crate) fn run(t: &mut Tests) {
    let hvm = |op: HvmOp, param: &mut Param| {
        call(
            Hypercall::HVM_OP,
            [op.0, core::ptr::from_mut(param) as u64, 0, 0, 0],
        )
    };
    let mut param = Param {
        domid: DOMID_SELF,
        pad: 0,
        index: HvmParam::STORE_EVTCHN,
        value: 0,
    };
    t.expect("get parameter", hvm(HvmOp::GET_PARAM, &mut param), 0);
    t.expect(
        "set own parameter",
        hvm(HvmOp::SET_PARAM, &mut param),
        arch::SET_OWN_PARAMETER,
    );
    param.index = HvmParam(3000);
    t.expect(
        "no such parameter",
        hvm(HvmOp::GET_PARAM, &mut param),
        EINVAL,
    );
    (param.domid, param.index) = (NOBODY, HvmParam::STORE_EVTCHN);
    t.expect(
        "parameter of nobody",
        hvm(HvmOp::GET_PARAM, &mut param),
        ESRCH,
    );

    let time = SetTime64 {
        secs: 1,
        nsecs: 0,
        mbz: 1,
        system_time: 0,
    };
    if let Some(mut platform) = PlatformOp::new(PlatformCmd::SETTIME64, &time) {
        t.expect(
            "time with a wrong field",
            op(Hypercall::PLATFORM_OP, 0, &mut platform) != 0,
            true,
        );
        let arg = core::ptr::from_mut(&mut platform) as u64;
        t.expect(
            "wrong field",
            call(Hypercall::PLATFORM_OP, [arg, 0, 0, 0, 0]),
            EINVAL,
        );
        platform.interface_version = 7;
        let arg = core::ptr::from_mut(&mut platform) as u64;
        t.expect(
            "wrong version",
            call(Hypercall::PLATFORM_OP, [arg, 0, 0, 0, 0]),
            EACCES,
        );
    }
    let assist = |cmd: VmAssistCmd, kind: u32| plain(Hypercall::VM_ASSIST, cmd.0, kind.into());
    t.expect(
        "assist",
        assist(VmAssistCmd::ENABLE, VmAssistType::RUNSTATE_UPDATE_FLAG.0),
        0,
    );
    t.expect("unknown assist", assist(VmAssistCmd::ENABLE, 99), EINVAL);

    let mut entries = [MulticallEntry::new_zeroed(); 2];
    entries[0].op = Hypercall::XEN_VERSION;
    entries[1].op = Hypercall(200);
    let list = entries.as_mut_ptr() as u64;
    t.expect(
        "multicall",
        call(Hypercall::MULTICALL, [list, 2, 0, 0, 0]),
        0,
    );
    t.expect("its first result", entries[0].result >> 16, 4);
    t.expect("its second result", entries[1].result as i64, ENOSYS);
    for number in [11, 45, 55, 56, 1 << 40, u64::MAX] {
        t.expect("unknown hypercall", call(Hypercall(number), [0; 5]), ENOSYS);
    }
}
