//! `event_channel_op`: results that cannot be told.

use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVirq, EvtchnOp, EvtchnState, InitControl, Status,
};
use xen_abi::xen::{Hypercall, Virq};
use xen_core::{Error, PAGE_SIZE};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{Guest, SELF, World, err};

const EVENTS: Hypercall = Hypercall::EVENT_CHANNEL_OP;
/// The argument lies across two pages, of which the caller loses the second one: it can be read, not written.
const ACROSS: u64 = 0x9000 - 4;

/// Makes a call whose argument is gone when the answer is written. The software machine's translation knows no
/// read-only pages, but its p2m does.
fn untold<T: FromBytes + IntoBytes + Immutable>(guest: &Guest<'_>, op: EvtchnOp, arg: &T) -> i64 {
    guest.put(ACROSS, arg);
    let gfn = xen_core::Gfn(9);
    let p2m = &guest.domain().p2m;
    let (frame, _) = p2m.frame(gfn, true).unwrap();
    let readonly = p2m.map_frame(gfn, frame, xen_core::p2m::P2mType::RamRo);
    assert!(readonly.is_ok());
    let result = guest.call(EVENTS, &[op.0.into(), ACROSS]);
    let (frame, _) = p2m.frame(gfn, false).unwrap();
    p2m.map_frame(gfn, frame, xen_core::p2m::P2mType::RamRw)
        .unwrap();
    result
}

fn state(guest: &Guest<'_>, port: u32) -> EvtchnState {
    let mut status = Status::new_zeroed();
    (status.dom, status.port) = (SELF, port);
    assert_eq!(guest.op(EVENTS, EvtchnOp::STATUS.0, &mut status), 0);
    status.status
}

#[test]
fn a_port_that_nobody_knows_of_is_closed() {
    let world = World::new();
    let (dom0, one) = (world.guest(0), world.guest(1));
    let mut unbound = AllocUnbound {
        dom: SELF,
        remote_dom: 1,
        port: 0,
    };
    assert_eq!(dom0.op(EVENTS, EvtchnOp::ALLOC_UNBOUND.0, &mut unbound), 0);
    let fault = err(Error::Fault);
    let before = one.domain().pages();
    for _ in 0..3 {
        let alloc = AllocUnbound {
            dom: SELF,
            remote_dom: 0,
            port: 0,
        };
        assert_eq!(untold(&one, EvtchnOp::ALLOC_UNBOUND, &alloc), fault);
        let bind = BindInterdomain {
            remote_dom: 0,
            pad: 0,
            remote_port: unbound.port,
            local_port: 0,
        };
        assert_eq!(untold(&one, EvtchnOp::BIND_INTERDOMAIN, &bind), fault);
        // The other end waits as before.
        assert_eq!(state(&dom0, unbound.port), EvtchnState::UNBOUND);
        let virq = BindVirq {
            virq: Virq::TIMER,
            vcpu: 0,
            port: 0,
        };
        assert_eq!(untold(&one, EvtchnOp::BIND_VIRQ, &virq), fault);
        let ipi = BindIpi { vcpu: 0, port: 0 };
        assert_eq!(untold(&one, EvtchnOp::BIND_IPI, &ipi), fault);
        for port in 1..64 {
            assert_eq!(state(&one, port), EvtchnState::CLOSED);
        }
    }
    // For another domain, too.
    let alloc = AllocUnbound {
        dom: 1,
        remote_dom: 0,
        port: 0,
    };
    assert_eq!(untold(&dom0, EvtchnOp::ALLOC_UNBOUND, &alloc), fault);
    assert_eq!(state(&one, 1), EvtchnState::CLOSED);
    assert_eq!(one.domain().pages(), before);
    world.end([dom0, one]);
}

#[test]
fn a_control_block_is_placed_when_the_answer_can_be_told() {
    let world = World::new();
    let one = world.guest(1);
    let mut control = InitControl::new_zeroed();
    (control.control_gfn, control.offset, control.vcpu) = (20, 64, 0);
    assert_eq!(
        untold(&one, EvtchnOp::INIT_CONTROL, &control),
        err(Error::Fault)
    );
    // It can be placed again, so it was not placed.
    let result = one.op(EVENTS, EvtchnOp::INIT_CONTROL.0, &mut control);
    assert_eq!((result, control.link_bits), (0, 17));
    let again = one.op(EVENTS, EvtchnOp::INIT_CONTROL.0, &mut control);
    assert_eq!(again, err(Error::Inval));
    assert!(one.is_mapped(ACROSS / PAGE_SIZE));
    world.end([one]);
}
