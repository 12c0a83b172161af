//! Operations on vCPUs.

use guest_rt::hypercall::{call, is_oxen};
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::vcpu::{RegisterMemoryArea, VcpuOp};
use xen_abi::xen::Hypercall;

use super::*;

pub(crate) fn run(t: &mut Tests) {
    const V: Hypercall = Hypercall::VCPU_OP;
    let vcpu_op = |op: VcpuOp, id: u64, arg: u64| call(V, [op.0.into(), id, arg, 0, 0]);
    static mut AREA: [u64; 8] = [0; 8];
    let area = &raw const AREA as u64;
    let mut register = RegisterMemoryArea { addr: Handle(area) };
    let arg = core::ptr::from_mut(&mut register) as u64;
    t.expect(
        "run state by address",
        vcpu_op(VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA, 0, arg),
        0,
    );
    t.expect("it says running", guest_rt::machine::peek(area), 0);
    t.expect(
        "no such vCPU",
        vcpu_op(VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA, 4000, arg),
        ENOENT,
    );
    arch::vcpu(t);
    if is_oxen() {
        t.expect(
            "run state by physical address",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            0,
        );
        register.addr = Handle((area & !0xfff) + 4090);
        let arg = core::ptr::from_mut(&mut register) as u64;
        t.expect(
            "across a page",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            -6,
        );
        register.addr = Handle(u64::MAX);
        let arg = core::ptr::from_mut(&mut register) as u64;
        t.expect(
            "unregister",
            vcpu_op(VcpuOp::REGISTER_RUNSTATE_PHYS_AREA, 0, arg),
            0,
        );
    }
}
