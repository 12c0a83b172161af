//! Event channels without their delivery.

use guest_rt::hypercall::{op, plain};
use guest_rt::tests::Tests;
use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, EvtchnSend,
    EvtchnState, Status,
};
use xen_abi::xen::{DOMID_SELF, Hypercall, Virq};
use zerocopy::FromZeros;

use super::*;

pub(crate) fn run(t: &mut Tests) {
    const E: Hypercall = Hypercall::EVENT_CHANNEL_OP;
    let mut listen = AllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    t.expect("allocate", op(E, EvtchnOp::ALLOC_UNBOUND.0, &mut listen), 0);
    t.check("port is not 0", listen.port != 0);
    let mut send = EvtchnSend { port: listen.port };
    t.expect("send to nobody yet", op(E, EvtchnOp::SEND.0, &mut send), 0);
    let mut connect = BindInterdomain {
        remote_dom: DOMID_SELF,
        pad: 0,
        remote_port: listen.port,
        local_port: 0,
    };
    t.expect(
        "connect",
        op(E, EvtchnOp::BIND_INTERDOMAIN.0, &mut connect),
        0,
    );
    t.expect(
        "connect twice",
        op(E, EvtchnOp::BIND_INTERDOMAIN.0, &mut connect),
        EINVAL,
    );
    let mut status = Status::new_zeroed();
    (status.dom, status.port) = (DOMID_SELF, connect.local_port);
    t.expect("status", op(E, EvtchnOp::STATUS.0, &mut status), 0);
    t.expect("is connected", status.status, EvtchnState::INTERDOMAIN);
    t.expect("to the other port", status.remote_port, listen.port);
    send.port = connect.local_port;
    t.expect("send", op(E, EvtchnOp::SEND.0, &mut send), 0);
    let mut close = Close {
        port: connect.local_port,
    };
    t.expect("close", op(E, EvtchnOp::CLOSE.0, &mut close), 0);
    t.expect("close twice", op(E, EvtchnOp::CLOSE.0, &mut close), EINVAL);
    status.port = listen.port;
    op(E, EvtchnOp::STATUS.0, &mut status);
    t.expect("the peer waits again", status.status, EvtchnState::UNBOUND);
    send.port = 0;
    t.expect("port 0", op(E, EvtchnOp::SEND.0, &mut send), EINVAL);
    send.port = u32::MAX;
    t.expect("port too large", op(E, EvtchnOp::SEND.0, &mut send), EINVAL);

    let mut ipi = BindIpi { vcpu: 0, port: 0 };
    t.expect("bind IPI", op(E, EvtchnOp::BIND_IPI.0, &mut ipi), 0);
    let mut bind = BindVcpu {
        port: ipi.port,
        vcpu: 0,
    };
    t.expect(
        "an IPI stays",
        op(E, EvtchnOp::BIND_VCPU.0, &mut bind),
        EINVAL,
    );
    ipi.vcpu = 4000;
    t.expect(
        "IPI of no vCPU",
        op(E, EvtchnOp::BIND_IPI.0, &mut ipi),
        ENOENT,
    );
    let mut virq = BindVirq {
        virq: Virq::TIMER,
        vcpu: 0,
        port: 0,
    };
    t.expect("bind VIRQ", op(E, EvtchnOp::BIND_VIRQ.0, &mut virq), 0);
    t.expect(
        "bind VIRQ twice",
        op(E, EvtchnOp::BIND_VIRQ.0, &mut virq),
        -17,
    );
    virq.virq = Virq(24);
    t.expect(
        "unknown VIRQ",
        op(E, EvtchnOp::BIND_VIRQ.0, &mut virq),
        EINVAL,
    );
    t.expect("unknown operation", plain(E, 99, 0), ENOSYS);
    t.expect("bad pointer", plain(E, EvtchnOp::SEND.0, NOWHERE), EFAULT);
}
