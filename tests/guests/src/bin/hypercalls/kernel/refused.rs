//! Operations on memory that a translated domain without a toolstack has no use for.

use guest_rt::hypercall::op;
use guest_rt::tests::Tests;
use xen_abi::Handle;
use xen_abi::memory::{AcquireResource, Exchange, GrantTableId, MemoryOp, ResourceType};
use xen_abi::xen::{DOMID_SELF, Hypercall};
use zerocopy::FromZeros;

use super::memory::reservation;
use super::{EINVAL, ENOSYS, EPERM, ESRCH, NOBODY, arch};

const M: Hypercall = Hypercall::MEMORY_OP;

pub(super) fn memory(t: &mut Tests) {
    // Frames cannot be traded: guest frames are no machine frames.
    let gfns = [0u64; 2];
    let mut exchange = Exchange::new_zeroed();
    exchange.input = reservation(&gfns[0], 1, 0, DOMID_SELF);
    exchange.output = reservation(&gfns[1], 1, 0, DOMID_SELF);
    t.expect(
        "exchange",
        op(M, MemoryOp::EXCHANGE.0, &mut exchange),
        arch::no_exchange(),
    );
    for (what, operation) in arch::REFUSED {
        let mut argument = [0u64; 16];
        t.expect(what, op(M, operation.0, &mut argument), ENOSYS);
    }
    arch::memory_maps(t);
    for (what, operation) in [
        ("pages freed by sharing", MemoryOp::GET_SHARING_FREED_PAGES),
        ("pages shared", MemoryOp::GET_SHARING_SHARED_PAGES),
    ] {
        t.expect(what, op(M, operation.0, &mut 0u64), 0);
    }
    resources(t);
}

/// What the hypervisor keeps for a domain: never for the domain itself.
fn resources(t: &mut Tests) {
    let mut ask = |domid, pad, frame, what: &str, expected| {
        let mut resource = AcquireResource::new_zeroed();
        (resource.domid, resource.kind) = (domid, ResourceType::GRANT_TABLE);
        resource.id = GrantTableId::SHARED.0;
        (resource.pad, resource.frame) = (pad, frame);
        resource.frame_list = Handle(0);
        let found = op(M, MemoryOp::ACQUIRE_RESOURCE.0, &mut resource);
        t.expect(what, found, expected);
    };
    ask(0, 0, 0, "its own grant table as a resource", EPERM);
    ask(DOMID_SELF, 0, 0, "the same by another name", ESRCH);
    ask(NOBODY, 0, 0, "a resource of nobody", ESRCH);
    ask(NOBODY, 1, 0, "padding", EINVAL);
    ask(NOBODY, 0, 1 << 32, "a frame beyond all resources", EINVAL);
}
